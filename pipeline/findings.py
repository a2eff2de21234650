"""Evidence in the runs of many masks about how they were written: direction, size of the image, first number.

A text says in which order its pixels follow one another, not how long the image's lines are, so three mistakes show
in how often the runs break when the lines are taken to be of some length:

- written along the other direction: with lines of the other side's length, the shape has far fewer runs across
  (not to be seen in square images, where it is merely mirrored);
- made for images of another size: with lines as long as it takes the runs to repeat, likewise;
- counted from another first number: the many runs that end at the image's border end one pixel off it.

Each mask has one vote, and masks that are the same have one together. A file is called wrong only where many masks
agree and next to none objects: a single mask, or a few, may look like anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.rle import RleFormat, transpose
from pipeline.rle.masks import LONGEST_SIDE

Size = tuple[int, int]

SAMPLED = 100  # masks of a file that are examined, if they have no more edges together than these:
MOST_EDGES = 500_000  # whose directions take half a second
FEWEST = 3  # masks that say something about a file
OBJECTING = 0.1  # of the votes: from here on masks that look right acquit the file
STRIPES = 2.0  # times the runs across, from which a reading is the wrong one; right ones are 20 times better
SMALLER = 1.5  # the same for another size: in images twice as high, each run across is in two parts
AGREEING = 0.8  # share of the masks that must look smaller
SOME = 0.1  # share of the masks that is told of where the others look right
TELLING = 0.1  # share of the masks that must have a direction at all, to judge the others by them
REACHED = 0.9  # of an image: where masks come so far, they are not of a smaller size
REACHING = 0.05  # share of the masks that may do so nevertheless
BORDER_RUNS = 3  # runs of a mask that stop at the border, or off it, for a vote
BORDER_RATIO = 5  # ... and how many times as many as elsewhere
WRAPPED = 5  # masks with runs that wrap around the border by one pixel, which shapes hardly do
STOPPED = 10  # masks with runs that stop one pixel off the border, if there are fewer that wrap around
SHIFTED = 0.3  # share of the masks that must vote for another first number


@dataclass(frozen=True)
class Mask:
    """A text that can be read; ``edges`` are in the format's own order of pixels."""

    edges: np.ndarray
    size: Size | None


def distinct(masks: Iterable[Mask]) -> Iterator[tuple[int, Mask]]:
    """Numbers and masks, of which those that are the same count once: a constant guess is no evidence."""
    seen = set()
    for number, mask in enumerate(masks):
        key = hash((mask.edges.tobytes(), mask.size))
        if key not in seen:
            seen.add(key)
            yield number, mask


@dataclass(frozen=True)
class BorderVotes:
    """Numbers of masks that say that positions are counted from the format's first number, or from one less or more.

    In a file counted from one less, a run from the first pixel of a line on starts at the last pixel of the line
    before; counted from one more, a run up to the last pixel of a line ends at the first pixel of the next one.
    """

    masks: int
    """Distinct masks that are not empty and whose size is known."""
    right: int
    """Masks whose runs stop at the border."""
    wrapped: dict[int, list[int]]
    """Masks with runs that wrap around the border by one pixel, by the difference to the first number, -1 or 1.

    None of 1,315 true masks of portraits has.
    """
    stopping: dict[int, int]
    """Masks whose runs stop one pixel off the border."""

    def votes(self, by: int) -> int:
        """The number of masks that say that the first number is another one by -1 or 1."""
        return len(self.wrapped[by]) + self.stopping[by]

    def contradicts(self, by: int) -> bool:
        """True where more than a few masks say that it is not."""
        return self.right + self.votes(-by) > OBJECTING * self.votes(by)

    def shift(self) -> int:
        """-1 or 1 where many masks agree that the first number is another one, else 0."""
        for by in (-1, 1):
            enough = len(self.wrapped[by]) >= WRAPPED or self.votes(by) >= STOPPED
            if enough and self.votes(by) >= SHIFTED * self.masks and not self.contradicts(by):
                return by
        return 0

    def evidence(self, by: int) -> str:
        return (
            f"{self.votes(by)} of {self.masks} masks have runs that start or end one pixel off the border, "
            f"{self.right} at it"
        )


def border_votes(masks: Iterable[Mask], fmt: RleFormat) -> BorderVotes:
    """Each mask's vote on the first pixel's number, by where its runs stop."""
    count = right = 0
    wrapped, stopping = {-1: [], 1: []}, {-1: 0, 1: 0}
    for number, mask in distinct(masks):
        if mask.size is None or not mask.edges.size:
            continue
        count += 1
        line = _line(mask, fmt)
        runs = mask.edges.astype(np.int64).reshape(-1, 2)
        starts, ends = (runs % line).T
        within = (runs[:, 1] - runs[:, 0] > 2) & (runs[:, 1] - runs[:, 0] <= line)
        at = int((starts == 0).sum() + (ends == 0).sum())
        wraps = {-1: int((within & (starts == line - 1)).sum()), 1: int((within & (ends == 1)).sum())}
        stops = {-1: int((ends == line - 1).sum()), 1: int((starts == 1).sum())}
        off = {by: wraps[by] + stops[by] for by in (-1, 1)}
        if at >= BORDER_RUNS and at > BORDER_RATIO * max(off.values()):
            right += 1
        for by in (-1, 1):
            if off[by] >= BORDER_RUNS and off[by] > BORDER_RATIO * max(at, off[-by]):
                if wraps[by] >= BORDER_RUNS:
                    wrapped[by].append(number)
                else:
                    stopping[by] += 1
    return BorderVotes(count, right, wrapped, stopping)


def repeating_line(mask: Mask) -> int:
    """The length of lines as the runs of a mask, of which there are several, repeat."""
    across = {length: _runs_across(mask, length) for length in _repeats(mask)}
    return min(across, key=across.get)


@dataclass(frozen=True)
class Readings:
    """Runs of masks across their lines, if the lines are as long as the format says, or otherwise."""

    said: np.ndarray
    """Runs across of each mask with the lines that the format and the size say, int (N,)."""
    turned: np.ndarray
    """With lines along the other direction."""
    repeating: np.ndarray
    """With lines as long as it takes the runs to repeat, at best."""
    lines: list[tuple[int, int]]
    """Each mask's length of lines as said, and as they repeat."""
    reached: np.ndarray
    """The part of its image that a mask takes up, from the first pixel to its last one."""

    def evidence(self, fmt: RleFormat) -> tuple[str | None, str | None]:
        """For the other direction, or for another size: the one that reads the masks better, if any does."""
        if len(self.lines) < FEWEST:
            return None, None
        turns, resizes = self.said / self.turned, self.said / self.repeating
        along = ("columns", "rows") if fmt.order == "F" else ("rows", "columns")
        better, worse = int((turns >= STRIPES).sum()), int((turns <= 1 / STRIPES).sum())
        if (
            better >= max(FEWEST, len(turns) / 2)
            and worse <= OBJECTING * better
            and np.median(self.turned / self.repeating) < SMALLER
        ):
            return (
                f"read along the {along[0]}, as {fmt.name} says, the median mask has {np.median(turns):.1f} times as "
                f"many runs across as along the {along[1]} ({len(self.lines)} masks looked at)"
            ), None
        if (resizes >= SMALLER).mean() < AGREEING or (self.reached > REACHED).mean() > REACHING:
            return None, None
        said, repeating = self.lines[int(np.argsort(resizes)[len(resizes) // 2])]
        return None, (
            f"with {along[0]} of {said} pixels the median mask has {np.median(resizes):.1f} times as many runs across "
            f"as with {along[0]} of {repeating} ({len(self.lines)} masks looked at)"
        )

    def some_are_turned(self) -> str | None:
        """Evidence that some masks, not the file, are written along the other direction."""
        better = int(((self.said >= STRIPES * self.turned) & (self.turned < SMALLER * self.repeating)).sum())
        if better < max(FEWEST, SOME * len(self.lines)):
            return None
        return f"{better} of {len(self.lines)} masks looked at have {STRIPES:g} times as many runs across, or more"


def spread_over(masks: Sequence[Mask]) -> list[Mask]:
    """Choose masks from all over a file, ``SAMPLED`` at most."""
    places = np.unique(np.linspace(0, len(masks) - 1, SAMPLED).astype(int)) if masks else []
    return [masks[at] for at in places]


def within_limit(masks: Sequence[Mask]) -> int:
    """The number of the first masks that have ``MOST_EDGES`` edges together at most."""
    return int(np.searchsorted(np.cumsum([mask.edges.size for mask in masks]), MOST_EDGES, side="right"))


def readings(telling: Sequence[Mask], fmt: RleFormat) -> Readings:
    """Read the first few of some masks, all with a direction; the rougher they are, the fewer are read."""
    said, turned, repeating, lines = [], [], [], []
    for mask in telling[: max(FEWEST, within_limit(telling))]:
        line = _line(mask, fmt)
        said.append(_runs_across(mask, line))
        turned.append(_runs_across(mask, sum(mask.size) - line))
        best = repeating_line(mask)
        repeating.append(_runs_across(mask, best))
        lines.append((line, best))
    reached = np.array([mask.edges[-1] / (mask.size[0] * mask.size[1]) for mask in telling])
    return Readings(np.array(said), np.array(turned), np.array(repeating), lines, reached)


def has_direction(mask: Mask) -> bool:
    """True where a mask's size is known and it has more than one run, which alone has no direction."""
    return mask.size is not None and mask.edges.size >= 4


def spread_readings(masks: Sequence[Mask], fmt: RleFormat) -> Readings:
    """The readings of masks from all over a file; none where too few have a direction to judge the others by them."""
    known = [mask for _, mask in distinct(masks)]
    telling = [mask for mask in known if has_direction(mask)]
    if len(telling) < TELLING * sum(mask.edges.size > 0 for mask in known):
        telling = []
    return readings(spread_over(telling), fmt)


def _repeats(mask: Mask) -> set[int]:
    """Usual distances from a run to the next, or to the one after: shapes have one or a few runs a line."""
    starts = mask.edges[::2].astype(np.int64)
    usual = {int(np.median(starts[lag:] - starts[:-lag])) for lag in (1, 2, 3) if starts.size > lag}
    # Where outlines slant more to one side, the median is a little off.
    lengths = {length + near for length in usual for near in (-2, -1, 0, 1, 2)}
    shortest = max(1, int(mask.edges[-1]) // LONGEST_SIDE)  # with shorter lines, there are more than can be turned
    return {length for length in lengths if shortest < length <= LONGEST_SIDE} or {shortest + 1}


def other_direction(fmt: RleFormat) -> RleFormat:
    """The same but for the direction in which pixels are numbered."""
    return replace(fmt, order="C" if fmt.order == "F" else "F")


def _line(mask: Mask, fmt: RleFormat) -> int:
    """Pixels from one line of the image to the next, in the direction in which the format numbers them."""
    return mask.size[0] if fmt.order == "F" else mask.size[1]


def _runs_across(mask: Mask, line: int) -> int:
    """Runs of a mask across its lines, if these are so long."""
    return transpose(mask.edges, (line, -(-int(mask.edges[-1]) // line))).size // 2
