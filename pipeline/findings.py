"""What a competition would reject in a submission, and what is probably a mistake in it: the rules of `lint`.

Texts stay runs. A text says in which order its pixels follow one another, not how long the image's lines are, so
three mistakes show in how often the runs break when the lines are taken to be of some length:

- written along the other direction: with lines of the other side's length, the shape has far fewer runs across
  (not to be seen in square images, where it is merely mirrored);
- made for images of another size: with lines as long as it takes the runs to repeat, likewise;
- counted from another first number: the many runs that end at the image's border end one pixel off it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import some
from pipeline.rle import FORMATS, RleError, RleFormat, text_to_edges, transpose

SAMPLED = 100  # masks whose directions are looked at, if they have no more edges together than these:
MOST_EDGES = 500_000  # which takes half a second
FEWEST = 3  # masks that say something about a file
STRIPES = 2.0  # times the runs across, from which a reading is the wrong one; right ones are 20 times better
SMALLER = 1.5  # the same for another size: in images twice as high, each run across is in two parts
REACHED = 0.9  # of an image: where a mask comes so far, the masks are not of a smaller size
BORDER_EDGES = 20  # edges one pixel off the border that say something about the first pixel's number
BORDER_RATIO = 5  # ... and how many times as many as on the border
MOST_DIGITS = 12  # that are read of a number; the largest pixel's has 10

MISSING = ("", "nan", "NaN")  # an empty field, or what pandas makes of one
EMPTY_ELSEWHERE = {fmt.empty for fmt in FORMATS.values() if fmt.empty} | {"None", "none", "null", "<NA>", "[]"}
_SUFFIX = re.compile(r"\.(png|jpe?g|tiff?|bmp|gif|webp|npy|dcm|0)(?=/|$)")
_LEADING_ZEROS = re.compile(r"^0+(?=[^/])")  # all but one of a number that is 0

Severity = Literal["error", "warning", "note"]
Size = tuple[int, int]
SizeOf = Callable[[str], Size | None]


@dataclass(frozen=True)
class Finding:
    """Something about a submission."""

    severity: Severity
    """error: it would be rejected. warning: it is probably a mistake. note: worth knowing."""
    what: str
    evidence: str
    fix: str


@dataclass(frozen=True)
class Submission:
    """A CSV as it is, right or wrong."""

    path: Path
    header: list[str]
    columns: tuple[str, ...]
    """Names of the columns of ids, of classes if there is one, and of texts."""
    rows: list[tuple[int, str, str]] = field(default_factory=list)
    """Row number as a spreadsheet shows it, id or "image/class", text."""
    ragged: list[int] = field(default_factory=list)
    """Numbers of the rows that have more or fewer fields than the header."""
    sizes: dict[str, Size] = field(default_factory=dict)
    """(height, width) by id, where the file has them."""

    @property
    def ids(self) -> list[str]:
        return [row_id for _, row_id, _ in self.rows]


@dataclass(frozen=True)
class Mask:
    """A text that can be read; ``edges`` are in the format's own order of pixels."""

    edges: np.ndarray
    size: Size | None


@dataclass(frozen=True)
class Fault:
    """A text that cannot be read."""

    number: int
    row_id: str
    text: str
    size: Size | None
    where: str
    """The wrong token, if it is one."""
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, and what the mechanical fix needs to know."""

    findings: list[Finding]
    base: int
    """The number from which positions are counted."""
    turned: bool
    """Pixels are numbered along the other direction."""
    unfixable: str | None
    """What all texts look like instead of the format, if --fix would only make it worse."""
    spellings: dict[str, str]
    """The sample's id for those that are spelt otherwise."""


def diagnose(
    read: Submission, sample: Submission | None, size_of: SizeOf, fmt: RleFormat, images: Path | None = None
) -> Diagnosis:
    """All findings about a submission.

    Args:
        images: the folder whose images ``size_of`` knows, if it knows them by that.
    """
    spellings = other_spellings(read.ids, sample.ids) if sample else {}
    masks, faults = read_texts(read, lambda row_id: size_of(spellings.get(row_id, row_id)), fmt)
    base, off_border = first_number(masks, faults, fmt)
    other = look_like(faults, len(read.rows), fmt)
    turned, resized = readings(masks, fmt).evidence(fmt)
    findings = [*about_rows(read), *(about_sample(read, sample, spellings) if sample else [])]
    findings += about_images(read, spellings, size_of, images) if images else []
    findings += about_texts(faults, fmt, base, other)
    findings += about_sameness(masks)
    if off_border:
        findings.append(Finding("warning", f"positions look counted from {base}", off_border, "--fix shifts them"))
    if turned:
        fix = (
            "if the masks are right, name another --format; if they are turned, --fix turns them back "
            "(check that sizes are height, then width)"
        )
        findings.append(Finding("warning", "masks look written along the other direction", turned, fix))
    if resized:
        fix = "resize the masks to the image's own size before encoding them"
        findings.append(Finding("warning", "masks look made for images of another size", resized, fix))
    return Diagnosis(findings, base, bool(turned), other, spellings)


# ------------------------------------------------------------------------------------------------ rows and ids


def about_rows(read: Submission) -> list[Finding]:
    """Fields and ids."""
    findings = []
    if read.ragged:
        rows = some([f"row {number}" for number in read.ragged])
        findings.append(Finding("error", "rows with a wrong number of fields", rows, "quote or remove their commas"))
    if not read.rows:
        findings.append(Finding("error", "no rows", "there is a header only", "write a row for each image"))
    nameless = [f"row {number}" for number, row_id, _ in read.rows if not all(row_id.rsplit("/", 1))]
    if nameless:
        what = "rows without an id" if len(read.columns) == 2 else "rows without an id or a class"
        findings.append(Finding("error", what, some(nameless), "name the image of each row"))
    texts: dict[str, set[str]] = {}
    for _, row_id, text in read.rows:
        texts.setdefault(row_id, set()).add(text)
    repeated = [row_id for row_id, count in Counter(read.ids).items() if count > 1]
    equal = [row_id for row_id in repeated if len(texts[row_id]) == 1]
    different = [row_id for row_id in repeated if len(texts[row_id]) > 1]
    if equal:
        findings.append(Finding("error", f"{len(equal)} ids have several equal rows", some(equal), "--fix keeps one"))
    if different:
        fix = "decide which one is meant, or unite them with `convert`"
        findings.append(Finding("error", f"{len(different)} ids have several different rows", some(different), fix))
    return findings


def other_spellings(ids: list[str], expected: list[str]) -> dict[str, str]:
    """The sample's id for each that differs from it in a file's suffix, leading zeros, spaces or case only.

    Only where no other id, of the submission or of the sample, could be meant.
    """
    known, present = set(expected), set(ids)
    missing = _by_plain_spelling(row_id for row_id in expected if row_id not in present)
    extra = _by_plain_spelling(row_id for row_id in ids if row_id not in known)
    return {row_id: missing[plain] for plain, row_id in extra.items() if plain in missing}


def _by_plain_spelling(ids: Iterable[str]) -> dict[str, str]:
    """Those ids that have a plain spelling of their own; rows without an id, or a class, have none."""
    alike: dict[str, list[str]] = {}
    for row_id in dict.fromkeys(ids):
        alike.setdefault(_plain(row_id), []).append(row_id)
    return {plain: same[0] for plain, same in alike.items() if len(same) == 1 and all(plain.rsplit("/", 1))}


def _plain(row_id: str) -> str:
    return _LEADING_ZEROS.sub("", _SUFFIX.sub("", row_id.strip().casefold()))


def about_sample(read: Submission, sample: Submission, spellings: dict[str, str]) -> list[Finding]:
    """Columns, ids and order, against the sample submission's."""
    findings = []
    if read.columns != sample.columns:
        what = f"the columns are {', '.join(read.columns)}"
        findings.append(Finding("error", what, f"the sample has {', '.join(sample.columns)}", "--fix renames them"))
    unknown = [name for name in read.header if name not in (*read.columns, *sample.header)]
    if unknown:
        what = "columns that the sample does not have"
        findings.append(Finding("warning", what, ", ".join(map(repr, unknown)), "--fix leaves them out"))
    if spellings:
        examples = some([f"{spelt!r} for {right!r}" for spelt, right in spellings.items()])
        what = f"{len(spellings)} ids are spelt otherwise than in the sample"
        findings.append(Finding("error", what, examples, "--fix spells them as the sample does"))
    ids = [spellings.get(row_id, row_id) for row_id in read.ids]
    known, present = set(sample.ids), set(ids)
    missing = [row_id for row_id in sample.ids if row_id not in present]
    extra = [row_id for row_id in dict.fromkeys(ids) if row_id not in known]
    if missing:
        what = f"{len(missing)} of the sample's {len(sample.rows)} ids are missing"
        findings.append(Finding("error", what, some(missing), "--fix adds them with empty masks"))
    if extra:
        what = f"{len(extra)} ids are not in the sample"
        findings.append(Finding("error", what, some(extra), "--fix leaves them out"))
    if not missing and not extra and list(dict.fromkeys(ids)) != sample.ids:
        findings.append(Finding("note", "rows are in another order than the sample's", some(ids), "--fix sorts them"))
    return findings


def about_images(read: Submission, spellings: dict[str, str], size_of: SizeOf, folder: Path) -> list[Finding]:
    """Ids, as the sample spells them, against the images of a folder; rows without one are told elsewhere."""
    named = [row_id for row_id in dict.fromkeys(read.ids) if all(row_id.rsplit("/", 1))]
    unknown = [row_id for row_id in named if size_of(spellings.get(row_id, row_id)) is None]
    if not unknown:
        return []
    fix = "name the folder that the ids are of, or an image of it in each row"
    return [Finding("error", f"{len(unknown)} ids have no image in {folder}", some(unknown), fix)]


# ------------------------------------------------------------------------------------------------------- texts


def read_texts(read: Submission, size_of: SizeOf, fmt: RleFormat) -> tuple[list[Mask], list[Fault]]:
    """The readable masks, and the rest."""
    in_file_order = replace(fmt, order="F")
    masks, faults = [], []
    for number, row_id, text in read.rows:
        size = size_of(row_id)
        try:
            masks.append(Mask(text_to_edges("" if text in MISSING else text, size, in_file_order), size))
        except RleError as error:
            where, _, reason = str(error).rpartition(": ")
            if text in EMPTY_ELSEWHERE:
                where, reason = "", f"an empty mask is written as {text!r}"
            faults.append(Fault(number, row_id, text, size, where, reason))
    return masks, faults


def look_like(faults: list[Fault], rows: int, fmt: RleFormat) -> str | None:
    """What most texts are instead of the format's, if they are all wrong in the same way."""
    if len(faults) < max(FEWEST, rows / 2):
        return None
    tried = faults[:SAMPLED]
    for other in FORMATS.values():
        if other.style != fmt.style and all(_is_readable(fault, replace(other, order="F")) for fault in tried):
            return f"texts of --format {other.name}"
    overlapping = all(fault.reason.startswith("run overlaps") for fault in tried)
    if overlapping and all(_grow(whole_numbers(fault.text) or []) for fault in tried):
        return "pairs of start and end, not start and length"
    return None


def _is_readable(fault: Fault, fmt: RleFormat) -> bool:
    """Without a size, gaps and counts could be any numbers."""
    try:
        text_to_edges(fault.text, fault.size, fmt)
    except RleError:
        return False
    return fault.size is not None or fmt.style == "coco"


def _grow(numbers: list[int]) -> bool:
    return all(a <= b for a, b in itertools.pairwise(numbers))


def about_texts(faults: list[Fault], fmt: RleFormat, base: int, other: str | None) -> list[Finding]:
    """One finding for each kind of fault."""
    kinds: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        kind = re.sub(r"\d+", "N", fault.reason), f"they look like {other}" if other else _fix_of(fault, fmt, base)
        kinds.setdefault(kind, []).append(fault)
    findings = []
    for (_, fix), alike in kinds.items():
        first = alike[0]
        where = f": {first.where}" if first.where else ""
        others = f", and {len(alike) - 1} more rows" if len(alike) > 1 else ""
        findings.append(Finding("error", first.reason, f"row {first.number} (id {first.row_id}){where}{others}", fix))
    return findings


def _fix_of(fault: Fault, fmt: RleFormat, base: int) -> str:
    """What to do about a text."""
    if fault.reason == "not a whole number":
        if whole_numbers(fault.text) is not None:
            return "--fix leaves only numbers and spaces"
        return (
            "write runs, not values of pixels; a probability map needs a threshold first; "
            "or name the RLE column: --columns ID,RLE"
        )
    shifts = f"--fix counts from {fmt.base}, not from {base}"
    resize = "make masks of the image's own size: (height, width), not (width, height)"
    fixes = {
        "an empty mask is written": f"--fix writes {fmt.empty!r}",
        "run starts before": "--fix sorts the runs",
        "run overlaps": "--fix unites the runs",
        "start below": shifts if base != fmt.base else "write the row anew",
        "a run's length": "--fix leaves such runs out",
        "run ends at pixel": shifts if base > fmt.base else resize,
    }
    return next((fix for start, fix in fixes.items() if fault.reason.startswith(start)), "write the row anew")


def whole_numbers(text: str) -> list[int] | None:
    """The numbers of a text that may have brackets, commas and decimals of zeros; None if it has anything else."""
    tokens = re.sub(r"[\[\](),;]", " ", text).split()
    if not all(re.fullmatch(r"[0-9]+(\.0*)?", token) for token in tokens):
        return None
    return [whole_number(token.partition(".")[0]) for token in tokens]


def whole_number(digits: str) -> int:
    """A number by its digits, of which the first few count where they are already more than any image has.

    Python itself refuses to read thousands of digits.
    """
    return int(digits.lstrip("0")[:MOST_DIGITS] or "0")


# ------------------------------------------------------------------------------------------------------- masks


def about_sameness(masks: list[Mask]) -> list[Finding]:
    """Files of which all masks are empty, or full, or the same."""
    if len(masks) < FEWEST:
        return []
    evidence = f"{len(masks)} rows"
    if all(mask.edges.size == 0 for mask in masks):
        return [Finding("warning", "all masks are empty", evidence, "look at the probabilities and the threshold")]
    if all(mask.size and mask.edges.tolist() == [0, mask.size[0] * mask.size[1]] for mask in masks):
        fix = "look at the threshold, and whether masks are inverted"
        return [Finding("warning", "all masks cover the whole image", evidence, fix)]
    if all(np.array_equal(mask.edges, masks[0].edges) for mask in masks):
        return [Finding("warning", "all masks are the same", evidence, "look whether this is the sample submission")]
    return []


def first_number(masks: list[Mask], faults: list[Fault], fmt: RleFormat) -> tuple[int, str | None]:
    """The number from which positions are counted; and evidence if only the masks tell that it is another one.

    Where it is another one, runs stop one pixel off the border of the image, where they should stop at it.
    """
    if fmt.style != "pairs":
        return fmt.base, None
    at = before = after = 0
    for mask in [*masks, *_overrunning(faults, fmt)]:
        if mask.size is not None and mask.edges.size:
            line = _line(mask, fmt)
            places = np.bincount(mask.edges % line, minlength=line)
            at, before, after = at + places[0], before + places[-1], after + places[1 % line]
    # A position below the first one is wrong in any image: one is enough, unless the other masks are right.
    if any(fault.reason.startswith("start below") for fault in faults) and at <= BORDER_RATIO * before:
        return fmt.base - 1, None
    for base, off in ((fmt.base - 1, before), (fmt.base + 1, after)):
        if off >= BORDER_EDGES and off > BORDER_RATIO * at:
            return base, f"{off} runs start or end one pixel off the border, {at} at it"
    return fmt.base, None


def _overrunning(faults: list[Fault], fmt: RleFormat) -> Iterator[Mask]:
    """The masks that are only wrong in that they run past the end of their images."""
    for fault in faults:
        if fault.reason.startswith("run ends at pixel"):
            with suppress(RleError):
                yield Mask(text_to_edges(fault.text, None, replace(fmt, order="F")), fault.size)


@dataclass(frozen=True)
class Readings:
    """How often masks break across their lines, if the lines are as long as the format says, or otherwise."""

    said: np.ndarray
    """Runs across of each mask with the lines that the format and the size say, int (N,)."""
    turned: np.ndarray
    """With lines along the other direction."""
    repeating: np.ndarray
    """With lines as long as it takes the runs to repeat, at best."""
    lines: list[tuple[int, int]]
    """Each mask's length of lines as said, and as they repeat."""
    reached: float
    """The largest part of its image that a mask takes up, from the first pixel to its last one."""

    def evidence(self, fmt: RleFormat) -> tuple[str | None, str | None]:
        """For the other direction, or for another size: the one that reads the masks better, if any does."""
        if len(self.lines) < FEWEST:
            return None, None
        turns, resizes = self.said / self.turned, self.said / self.repeating
        along = ("columns", "rows") if fmt.order == "F" else ("rows", "columns")
        if np.median(turns) >= STRIPES and np.median(self.turned / self.repeating) < SMALLER:
            return (
                f"read along the {along[0]}, as {fmt.name} says, the median mask has {np.median(turns):.1f} times as "
                f"many runs across as along the {along[1]} ({len(self.lines)} masks looked at)"
            ), None
        if np.median(resizes) < SMALLER or self.reached > REACHED:
            return None, None
        said, repeating = self.lines[int(np.argsort(resizes)[len(resizes) // 2])]
        return None, (
            f"with {along[0]} of {said} pixels the median mask has {np.median(resizes):.1f} times as many runs across "
            f"as with {along[0]} of {repeating} ({len(self.lines)} masks looked at)"
        )


def readings(masks: Iterable[Mask], fmt: RleFormat) -> Readings:
    """Of the first few masks whose size is known, the rougher the fewer; one run alone has no direction."""
    known = (mask for mask in masks if mask.size is not None and mask.edges.size >= 4)
    telling = list(itertools.islice(known, SAMPLED))
    within = int(np.searchsorted(np.cumsum([mask.edges.size for mask in telling]), MOST_EDGES, side="right"))
    said, turned, repeating, lines = [], [], [], []
    for mask in telling[: max(FEWEST, within)]:
        line = _line(mask, fmt)
        said.append(_runs_across(mask, line))
        turned.append(_runs_across(mask, sum(mask.size) - line))
        across = {length: _runs_across(mask, length) for length in _repeats(mask)}
        best = min(across, key=across.get)
        repeating.append(across[best])
        lines.append((line, best))
    reached = max((mask.edges[-1] / (mask.size[0] * mask.size[1]) for mask in telling), default=0.0)
    return Readings(np.array(said), np.array(turned), np.array(repeating), lines, reached)


def _repeats(mask: Mask) -> set[int]:
    """Usual distances from a run to the next, or to the one after: shapes have one or a few runs a line."""
    starts = mask.edges[::2].astype(np.int64)
    usual = {int(np.median(starts[lag:] - starts[:-lag])) for lag in (1, 2, 3) if starts.size > lag}
    # Where outlines slant more to one side, the median is a little off.
    return {length + near for length in usual for near in (-2, -1, 0, 1, 2) if length + near > 1}


def other_direction(fmt: RleFormat) -> RleFormat:
    """The same but for the direction in which pixels are numbered."""
    return replace(fmt, order="C" if fmt.order == "F" else "F")


def _line(mask: Mask, fmt: RleFormat) -> int:
    """Pixels from one line of the image to the next, in the direction in which the format numbers them."""
    return mask.size[0] if fmt.order == "F" else mask.size[1]


def _runs_across(mask: Mask, line: int) -> int:
    """Runs of a mask across its lines, if these are so long."""
    pixels = mask.size[0] * mask.size[1]
    return transpose(mask.edges, (line, -(-pixels // line))).size // 2
