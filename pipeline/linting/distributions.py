"""Compares a submission's masks with one another, with the training masks, and with the sample's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.findings import FEWEST, SAMPLED, Mask, distinct, repeating_line, spread_over, within_limit
from pipeline.linting.submission import Finding, Row, Size, SizeOf
from pipeline.rle import area, iou

MANY_EMPTY = 0.5  # share of the masks; in many competitions most images have no object
MANY_FULL = 0.2
MANY_IDENTICAL = 0.2
MANY_ALIKE = 0.3  # share of those that are compared
WHOLE = 0.99  # share of the image that counts as all of it
ALIKE = 0.98  # IoU of nearly identical masks; among 100 portraits of different people the largest is 0.944
USUAL = (0.05, 0.95)  # quantiles of the training areas
BESIDE = 1.25  # times beyond a quantile, from which an area is outside
FAR = 2.0  # times larger than the largest training area, or smaller than the smallest
MANY_OUTSIDE = 0.3  # share of the masks beyond one of the quantiles, where 0.05 are expected
MANY_FAR = 0.05
DIFFERENT_SHARES = 0.2  # difference between two shares of empty masks
NOISE = 3.0  # standard errors
EIGHT_BY_EIGHT = 64
PLACEHOLDER = 256  # pixels: masks with fewer, such as "1 1", are placeholders, not masks of images of unknown size
CERTAIN = 4096  # pixels: with more, they are masks, whatever their shape may be
SMALLEST = 0.125  # of an image's sides, that masks at another size have
OTHER_SIZE = 0.1  # relative difference of two lengths of lines
AGREEING = 0.8  # share of the masks that must agree that they are of another size
BEYOND = 1.5  # times as far as all of the sample's masks


@dataclass(frozen=True)
class Areas:
    """Areas of the masks of one class, as shares of the image or, where sizes are unknown, in pixels."""

    values: np.ndarray
    """Areas of masks that are not empty, float (N,)."""
    empty: int
    full: int

    @property
    def count(self) -> int:
        return len(self.values) + self.empty

    @property
    def empty_share(self) -> float:
        return self.empty / max(1, self.count)

    @property
    def full_share(self) -> float:
        return self.full / max(1, self.count)

    @classmethod
    def of(cls, masks: Sequence[Mask], as_shares: bool) -> Areas:
        units = np.array([mask.size[0] * mask.size[1] if as_shares else 1 for mask in masks], float)
        values = np.array([area(mask.edges) for mask in masks], float) / np.maximum(units, 1)
        return cls(values[values > 0], int((values == 0).sum()), sum(map(is_full, masks)))

    def text(self, value: float, as_shares: bool) -> str:
        return f"{value:.2%}" if as_shares else f"{value:.0f} pixels"


def is_full(mask: Mask) -> bool:
    """True where a mask covers the image or all but 1% of its pixels; False where the size is unknown."""
    return mask.size is not None and bool(mask.edges.size) and area(mask.edges) >= WHOLE * mask.size[0] * mask.size[1]


# --------------------------------------------------------------------------------------------- with one another


def about_sameness(masks: list[Mask], training: Areas | None = None) -> list[Finding]:
    """Findings about many masks that are empty, full, identical or nearly so.

    Args:
        training: where as many of the training masks are empty or full, it is no finding.
    """
    count = len(masks)
    if count < FEWEST:
        return []
    evidence = f"{count} rows"
    empty = sum(mask.edges.size == 0 for mask in masks)
    full = sum(map(is_full, masks))
    if empty == count:
        return [Finding("warning", "all masks are empty", evidence, "look at the probabilities and the threshold")]
    if full == count:
        fix = "look at the threshold, and whether masks are inverted"
        return [Finding("warning", "all masks cover the whole image", evidence, fix)]
    if all(np.array_equal(mask.edges, masks[0].edges) for mask in masks):
        return [Finding("warning", "all masks are the same", evidence, "look whether this is the sample submission")]
    findings = []
    usual_empty = 0 if training is None else training.empty_share + DIFFERENT_SHARES
    usual_full = 0 if training is None else training.full_share + DIFFERENT_SHARES
    if empty >= FEWEST and empty / count >= max(MANY_EMPTY, usual_empty):
        fix = "look at the threshold; --truth train.csv tells whether as many training masks are empty"
        findings.append(Finding("warning", f"{empty} of {count} masks are empty", f"{empty / count:.0%}", fix))
    if full >= FEWEST and full / count >= max(MANY_FULL, usual_full):
        fix = "look at the threshold, and whether masks are inverted"
        what = f"{full} of {count} masks cover the whole image"
        findings.append(Finding("warning", what, f"{full / count:.0%}, each at least {WHOLE:.0%} of its image", fix))
    return findings + _about_twins([mask for mask in masks if mask.edges.size and not is_full(mask)], count)


def _about_twins(masks: list[Mask], count: int) -> list[Finding]:
    """Findings about masks that are identical, or nearly so, to others."""
    groups = Counter(hash(mask.edges.tobytes()) for mask in masks)
    twins = sum(number for number in groups.values() if number > 1)
    fix = "look whether different images were given the same prediction; frames of one video may be alike"
    if twins >= max(FEWEST, MANY_IDENTICAL * count):
        largest = max(groups.values())
        what = f"{twins} of {count} masks are identical to another one"
        return [Finding("warning", what, f"{largest} rows have one and the same mask", fix)]
    spread = spread_over(masks)
    looked_at = spread[: within_limit(spread)]
    if len(looked_at) < FEWEST:
        return []
    alike = np.zeros((len(looked_at), len(looked_at)), bool)
    areas = [area(mask.edges) for mask in looked_at]
    for i, first in enumerate(looked_at):
        for j in range(i):
            smaller, larger = sorted((areas[i], areas[j]))
            if smaller >= ALIKE * larger:  # else the IoU cannot reach it
                alike[i, j] = alike[j, i] = iou(first.edges, looked_at[j].edges) >= ALIKE
    near = int((alike.sum(axis=1) > 1).sum())  # two others: a pair is a coincidence
    if near < FEWEST or near / len(looked_at) * len(masks) < MANY_ALIKE * count:
        return []
    what = f"{near} of {len(looked_at)} masks are nearly identical to others"
    return [Finding("warning", what, f"their IoU is at least {ALIKE}", fix)]


# ------------------------------------------------------------------------------------------ with the training masks


def about_areas(found: Areas, training: Areas, as_shares: bool, label: str | None, file: str) -> list[Finding]:
    """Findings about areas, and a share of empty masks, far from those of the training masks.

    Args:
        label: the class that both are of.
        file: name of the file of training masks.
    """
    of_class = f" of class {label!r}" if label is not None else ""
    findings = []
    difference = found.empty_share - training.empty_share
    pooled = (found.empty + training.empty) / max(1, found.count + training.count)
    noise = np.sqrt(pooled * (1 - pooled) * (1 / max(1, found.count) + 1 / max(1, training.count)))
    if abs(difference) >= DIFFERENT_SHARES and abs(difference) > NOISE * noise:
        what = f"{found.empty_share:.0%} of the masks{of_class} are empty, {training.empty_share:.0%} in {file}"
        evidence = f"{found.empty} of {found.count}, {training.empty} of {training.count} in {file}"
        fix = "look at the threshold and the minimum area"
        findings.append(Finding("warning", what, evidence, fix))
    if min(len(found.values), len(training.values)) < FEWEST:
        return findings
    values, known = (_odds(areas.values) if as_shares else areas.values for areas in (found, training))
    low, high = np.quantile(known, USUAL)
    small, large = int((values < low / BESIDE).sum()), int((values > BESIDE * high).sum())
    far = int((values > FAR * known.max()).sum() + (values < known.min() / FAR).sum())
    outside = max(small, large)
    many_outside = outside >= FEWEST and outside / len(values) >= MANY_OUTSIDE
    if many_outside or (far >= FEWEST and far / len(values) >= MANY_FAR):
        medians = [found.text(np.median(areas.values), as_shares) for areas in (found, training)]
        usual = " to ".join(found.text(value, as_shares) for value in np.quantile(training.values, USUAL))
        evidence = (
            f"the median is {medians[0]}, {medians[1]} in {file}; {small} masks are much smaller and {large} much "
            f"larger than {usual}, where 90% of those in {file} are"
        )
        fix = "look at the threshold, the size of the masks, and whether they are inverted or of other classes"
        findings.append(Finding("warning", f"areas{of_class} are far from those in {file}", evidence, fix))
    return findings


def _odds(shares: np.ndarray) -> np.ndarray:
    """Foreground to background: 0.9 is as far from 0.6 as 0.1 is from 0.4."""
    return shares / np.maximum(1 - shares, 1e-9)


def compare_areas(
    masks: list[tuple[Row, Mask]], training: list[tuple[Row, Mask]], file: str
) -> tuple[list[Finding], Areas]:
    """Findings of ``about_areas`` for each class that both files have; and the training areas of all classes."""
    as_shares = all(mask.size is not None for _, mask in (*masks, *training))
    found, known = _by_class(masks), _by_class(training)
    findings = []
    for label in [label for label in known if label in found]:
        pair = (Areas.of(found[label], as_shares), Areas.of(known[label], as_shares))
        findings += about_areas(*pair, as_shares, label, file)
    return findings, Areas.of([mask for _, mask in training], as_shares)


def _by_class(masks: list[tuple[Row, Mask]]) -> dict[str | None, list[Mask]]:
    groups: dict[str | None, list[Mask]] = {}
    for row, mask in masks:
        groups.setdefault(row.label, []).append(mask)
    return groups


# ------------------------------------------------------------------------------------------- with the sample's own


def full_pixels(sample: list[tuple[Row, Mask]], size_of: SizeOf) -> dict[str, int]:
    """Pixels of each image, where all of the sample's masks are full ones: single runs from the first pixel on."""
    masks = [(row, mask) for row, mask in sample if mask.edges.size]
    if any(mask.edges.size != 2 or mask.edges[0] != 0 for _, mask in masks):
        return {}
    pixels = {row.image: int(mask.edges[1]) for row, mask in masks}
    return pixels if all(_may_be_full(count, size_of(image)) for image, count in pixels.items()) else {}


def _may_be_full(pixels: int, size: Size | None) -> bool:
    """True where so many pixels may be a whole mask, at whatever size, of an image of that size if it is known.

    Others are placeholders: "1 500". Masks keep the image's shape, are squares, or have sides that a network likes.
    """
    liked = pixels % EIGHT_BY_EIGHT == 0 or round(pixels**0.5) ** 2 == pixels
    if size is None:
        return pixels >= CERTAIN or (pixels >= PLACEHOLDER and liked)
    scale = (pixels / (size[0] * size[1])) ** 0.5
    return scale >= SMALLEST and (liked or round(scale * size[0]) * round(scale * size[1]) == pixels)


def about_extent(masks: list[tuple[Row, Mask]], sample: list[tuple[Row, Mask]], full: dict[str, int]) -> list[Finding]:
    """Findings about masks of another size than the sample's own.

    Args:
        full: ``full_pixels`` of the sample.
    """
    masks = [(row, mask) for row, mask in masks if mask.edges.size]
    sample = [(row, mask) for row, mask in sample if mask.edges.size]
    if not masks or not sample:
        return []
    fix = "make masks of the size that the sample's own have"
    if full:
        of_all = next(iter(full.values())) if len(set(full.values())) == 1 else None
        limits = [(row, int(mask.edges[-1]), full.get(row.image, of_all)) for row, mask in masks]
        past = [(row, end, limit) for row, end, limit in limits if limit is not None and end > limit]
        if not past:
            return []
        row, end, limit = past[0]
        others = f", and {len(past) - 1} more rows" if len(past) > 1 else ""
        evidence = f"{row} ends at pixel {end}, the sample's mask that covers the whole image at {limit}{others}"
        return [Finding("error", "masks run past the end of the sample's own", evidence, fix)]
    if len(masks) < FEWEST or len(list(distinct(mask for _, mask in sample))) < FEWEST:
        return []  # one and the same mask in all rows of the sample is a placeholder
    evidence = _other_lines(masks, sample) or _other_ends([m for _, m in masks], [m for _, m in sample])
    if evidence is None:
        return []
    return [Finding("warning", "masks look made for another size than the sample's own", evidence, fix)]


def _other_lines(masks: list[tuple[Row, Mask]], sample: list[tuple[Row, Mask]]) -> str | None:
    """Evidence from how long lines are as the runs repeat, image by image where both files have it."""
    found, known = ({row.id: mask for row, mask in side if mask.edges.size >= 8} for side in (masks, sample))
    ids = [row_id for row_id in known if row_id in found][:SAMPLED]
    common = [(repeating_line(found[row_id]), repeating_line(known[row_id])) for row_id in ids]
    if len(common) < FEWEST:
        return None
    ratios = np.array([ours / theirs for ours, theirs in common])
    longer, shorter = (ratios > 1 + OTHER_SIZE).mean(), (ratios < 1 / (1 + OTHER_SIZE)).mean()
    if max(longer, shorter) < AGREEING:
        return None
    ours, theirs = common[int(np.argsort(ratios)[len(ratios) // 2])]
    return f"runs repeat every {ours} pixels, the sample's every {theirs} ({len(common)} masks of the same ids)"


def _other_ends(masks: list[Mask], sample: list[Mask]) -> str | None:
    """Evidence from how far the masks reach, where the sample's are more than placeholders."""
    if np.median([area(mask.edges) for mask in sample]) < PLACEHOLDER:
        return None
    ours, theirs = (np.array([int(mask.edges[-1]) for mask in side]) for side in (masks, sample))
    if (ours > BEYOND * theirs.max()).mean() >= AGREEING:
        return f"most end after pixel {int(np.median(ours))}, the sample's at {theirs.max()} at the latest"
    if (theirs > BEYOND * ours.max()).mean() >= AGREEING:
        return f"all end at pixel {ours.max()} at the latest, most of the sample's after {int(np.median(theirs))}"
    return None
