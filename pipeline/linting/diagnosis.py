"""Collects all findings about a submission."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.errors import DataError, some
from pipeline.findings import FEWEST, SAMPLED, Mask, border_votes, spread_readings
from pipeline.linting.distributions import about_extent, about_sameness, compare_areas, full_pixels
from pipeline.linting.sample import (
    Empties,
    Expected,
    about_columns,
    about_ids,
    about_rows,
    empties_of,
    means_empty,
    other_spellings,
)
from pipeline.linting.submission import Finding, Row, Size, SizeOf, Submission, whole_numbers
from pipeline.rle import FORMATS, RleError, RleFormat, cut_off, explain_text, text_to_edges, union

WRAPPING = 0.02  # share of the masks with runs around the border that is told of; of inverted portraits 2 in 1,315 have
STARTING_BELOW = 0.1  # share of the masks with positions below the first one that shows another first number


@dataclass(frozen=True)
class Fault:
    """A text that cannot be read."""

    row: Row
    size: Size | None
    where: str
    """The wrong token, if it is one."""
    reason: str


@dataclass(frozen=True)
class Texts:
    """Masks of a file, in its own order of pixels, and what is wrong with the rest."""

    masks: list[tuple[Row, Mask]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    empties: list[Row] = field(default_factory=list)
    """Rows that write an empty mask in another way; among ``masks``, too."""

    @property
    def plain(self) -> list[Mask]:
        return [mask for _, mask in self.masks]


@dataclass(frozen=True)
class Diagnosis:
    """Findings, and what the mechanical repair needs to know."""

    findings: list[Finding]
    base: int
    """The number from which positions are counted."""
    turned: bool
    """Pixels are numbered along the other direction."""
    unfixable: str | None
    """Why --fix would only make it worse, if it would."""
    spellings: dict[str, str]
    """The sample's key for those that are spelt otherwise."""
    expected: Expected | None
    empties: Empties
    size_of: SizeOf
    """Sizes of images, where the sample does not contradict them."""

    def key(self, row: Row) -> str:
        """The id, or image id, that the sample has for a row, as spelt there; without a sample the row's own id."""
        key = self.expected.key(row) if self.expected else row.id
        return self.spellings.get(key, key)


def diagnose(
    read: Submission,
    sample: Submission | None,
    size_of: SizeOf,
    fmt: RleFormat,
    images: Path | None = None,
    training: tuple[Submission, RleFormat] | None = None,
) -> Diagnosis:
    """Collect all findings about a submission.

    Args:
        size_of: by the image's id.
        images: the folder whose images ``size_of`` knows, if it knows them by that.
        training: the training masks, to compare areas with, and their format.
    """
    expected = Expected.of(sample, read) if sample else None
    empties = empties_of([row.text for row in sample.rows] if sample else [], fmt)
    spellings = {}
    if expected:
        spellings = other_spellings([expected.key(row) for row in read.rows], list(expected.counts))
    spelt_size = _spelt(size_of, spellings, with_class=read.has_classes and not (expected and expected.by_image))
    shown = read_texts(sample, lambda _: None, fmt, empties) if sample else Texts()
    full = full_pixels(shown.masks, size_of)
    sizes, findings = _without_contradicted(spelt_size, shown, full, fmt)
    texts = read_texts(read, sizes, fmt, empties)

    findings += about_rows(read, expected)
    findings += about_cut_cells(read)
    if expected:
        findings += [*about_columns(read, sample), *about_ids(read, expected, spellings)]
    findings += about_images(read, spelt_size, images) if images else []
    base, about_base = first_number(texts, fmt)
    turned, about_direction = direction(texts.plain, fmt)
    other = look_like(texts.faults, len(read.rows), fmt)
    findings += about_texts(texts.faults, fmt, base, other) + about_empties(texts.empties, empties)
    findings += about_extent(texts.masks, shown.masks, full) + about_base + about_direction
    training_areas = None
    if training:
        about_areas, training_areas = compare_areas(texts.masks, read_training(*training), training[0].path.name)
        findings += about_areas
    findings += about_sameness(texts.plain, training_areas)
    about_shown = about_sample_format(shown, sizes, base, turned, fmt)
    findings += about_shown
    unfixable = f"they look like {other}" if other else about_shown[0].what if about_shown else None
    return Diagnosis(findings, base, turned, unfixable, spellings, expected, empties, sizes)


def _spelt(size_of: SizeOf, spellings: dict[str, str], with_class: bool) -> SizeOf:
    """The sizes by images' ids as the submission spells them."""
    if with_class:
        images = {key.rpartition("/")[0]: right.rpartition("/")[0] for key, right in spellings.items()}
    else:
        images = spellings
    return lambda image: size_of(images.get(image, image))


def _without_contradicted(
    size_of: SizeOf, shown: Texts, full: dict[str, int], fmt: RleFormat
) -> tuple[SizeOf, list[Finding]]:
    """The sizes, but none where the sample's own masks are of another one, or look so; and a note about that.

    Args:
        full: ``full_pixels`` of the sample.
    """
    evidence = None
    masks = [(row, Mask(mask.edges, size_of(row.image))) for row, mask in shown.masks if mask.edges.size]
    for row, mask in masks:
        if mask.size and (mask.edges[-1] > mask.size[0] * mask.size[1] or row.image in full):
            end, pixels = int(mask.edges[-1]), mask.size[0] * mask.size[1]
            if end != pixels:
                evidence = f"{row} of the sample ends at pixel {end}, the image has {pixels}"
                break
    evidence = evidence or spread_readings([mask for _, mask in masks], fmt).evidence(fmt)[1]
    if evidence is None:
        return size_of, []
    what = "the sample's own masks are of another size than the images"
    note = Finding("note", what, evidence, "sizes are not looked at; the sample's masks count instead")
    return lambda _: None, [note]


def about_images(read: Submission, size_of: SizeOf, folder: Path) -> list[Finding]:
    """Ids, as the sample spells them, against the images of a folder; rows without one are told elsewhere."""
    named = {row.id: row.image for row in read.rows if row.is_named}
    unknown = [row_id for row_id, image in named.items() if size_of(image) is None]
    if not unknown:
        return []
    from pipeline.data.folders import ImageFolder  # with Pillow, which takes a tenth of a second
    from pipeline.data.pairs import explain

    listed = ImageFolder.open(folder)
    why = explain([named[row_id] for row_id in unknown], list(listed.files), listed)
    fix = "name the folder that the ids are of, or an image of it in each row"
    return [Finding("error", f"{len(unknown)} ids have no image in {folder}", some(unknown) + why, fix)]


def about_cut_cells(read: Submission) -> list[Finding]:
    """A finding where the longest texts are as long as what another program keeps of one."""
    place = read.places[-1]
    texts = [row.fields[place] for row in read.rows]
    found = cut_off(np.array([len(text) for text in texts], np.int64), texts.__getitem__)
    if found is None:
        return []
    at, program = found
    evidence = f"{read.rows[at]} has {len(texts[at])} characters, and none has more"
    fix = "take the file as it was before (or put a space behind, if it is whole)"
    return [Finding("error", f"{program} has cut off texts", evidence, fix)]


# ------------------------------------------------------------------------------------------------------- texts


def read_texts(read: Submission, size_of: SizeOf, fmt: RleFormat, empties: Empties) -> Texts:
    """The readable masks, and the rest."""
    in_file_order = replace(fmt, order="F")
    texts = Texts()
    for row in read.rows:
        size = size_of(row.image)
        if empties.accept(row.text) or means_empty(row.text, fmt):
            texts.masks.append((row, Mask(np.empty(0, np.uint32), size)))
            if not empties.accept(row.text):
                texts.empties.append(row)
            continue
        try:
            texts.masks.append((row, Mask(text_to_edges(row.text, size, in_file_order), size)))
        except RleError as error:
            where, _, reason = str(error).rpartition(": ")
            texts.faults.append(Fault(row, size, where, reason))
    return texts


def read_training(training: Submission, fmt: RleFormat) -> list[tuple[Row, Mask]]:
    """The training masks, of which several rows of one id are one mask.

    Raises:
        DataError: a text cannot be read.
    """
    texts = read_texts(training, training.sizes.get, fmt, Empties(("", fmt.empty), ""))
    if texts.faults:
        fault = texts.faults[0]
        where = f": {fault.where}" if fault.where else ""
        raise DataError(
            f"{training.path} {fault.row}{where}: {fault.reason}; "
            "--truth needs masks in --format or --truth-format, in --truth-columns"
        )
    masks_of: dict[str, list[tuple[Row, Mask]]] = {}
    for row, mask in texts.masks:
        masks_of.setdefault(row.id, []).append((row, mask))
    return [
        (row, mask if len(masks) == 1 else replace(mask, edges=union([each.edges for _, each in masks])))
        for masks in masks_of.values()
        for row, mask in masks[:1]
    ]


def look_like(faults: list[Fault], rows: int, fmt: RleFormat) -> str | None:
    """The name of what most texts are instead of the format's, if they are all wrong in the same way."""
    if len(faults) < max(FEWEST, rows / 2):
        return None
    tried = faults[:SAMPLED]
    for other in FORMATS.values():
        if other.style != fmt.style and all(_is_readable(fault, replace(other, order="F")) for fault in tried):
            return f"texts of --format {other.name}"
    overlapping = all(fault.reason.startswith("run overlaps") for fault in tried)
    if overlapping and all(is_growing(whole_numbers(fault.row.text) or []) for fault in tried):
        return "pairs of start and end, not start and length"
    return None


def _is_readable(fault: Fault, fmt: RleFormat) -> bool:
    """Without a size, gaps and counts could be any numbers."""
    try:
        text_to_edges(fault.row.text, fault.size, fmt)
    except RleError:
        return False
    return fault.size is not None or fmt.style == "coco"


def is_growing(numbers: list[int]) -> bool:
    """True where no number is less than the one before, as in pairs of start and end."""
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
        findings.append(Finding("error", first.reason, f"{first.row}{where}{others}", fix))
    return findings


def _fix_of(fault: Fault, fmt: RleFormat, base: int) -> str:
    """Advice about a text."""
    if fault.reason == "not a whole number":
        if whole_numbers(fault.row.text) is not None:
            return "--fix leaves only numbers and spaces"
        if what := explain_text(fault.row.text, fmt):
            return f"write runs; this is {what}"
        return (
            "write runs, not values of pixels; a probability map needs a threshold first; "
            "or name the RLE column: --columns ID,RLE"
        )
    shifts = f"--fix counts from {fmt.base}, not from {base}"
    resize = "make masks of the image's own size: (height, width), not (width, height)"
    if fault.reason.startswith("run overlaps") and is_growing(whole_numbers(fault.row.text) or []):
        return "write the row anew: its numbers may be starts and ends, not starts and lengths"
    fixes = {
        "run starts before": "--fix sorts the runs",
        "run overlaps": "--fix unites the runs",
        "start below": shifts if base != fmt.base else "write the row anew",
        "a run's length": "--fix leaves such runs out",
        "run ends at pixel": shifts if base > fmt.base else resize,
    }
    return next((fix for start, fix in fixes.items() if fault.reason.startswith(start)), "write the row anew")


def about_empties(rows: list[Row], empties: Empties) -> list[Finding]:
    """One finding for each other way in which empty masks are written."""
    ways: dict[str, list[Row]] = {}
    for row in rows:
        ways.setdefault(row.text, []).append(row)
    findings = []
    for text, alike in ways.items():
        others = f", and {len(alike) - 1} more rows" if len(alike) > 1 else ""
        evidence = f"{alike[0]}{others}; {empties.source} {empties.written!r}"
        fix = f"--fix writes {empties.written!r}"
        findings.append(Finding("error", f"an empty mask is written as {text!r}", evidence, fix))
    return findings


# ------------------------------------------------------------------------------------------- how masks were written


def first_number(texts: Texts, fmt: RleFormat) -> tuple[int, list[Finding]]:
    """The number from which positions are counted; and a finding if only the masks tell that it is another one."""
    if fmt.style != "pairs":
        return fmt.base, []
    overrunning = list(_overrunning(texts.faults, fmt))
    rows, masks = zip(*texts.masks, *overrunning, strict=True) if texts.masks or overrunning else ((), ())
    votes = border_votes(masks, fmt)
    below = sum(fault.reason.startswith("start below") for fault in texts.faults)
    by = votes.shift()
    # A position below the first one is wrong in any image, but in one row or two it may be a slip.
    of_many = below >= max(FEWEST, STARTING_BELOW * (below + sum(mask.edges.size > 0 for mask in masks)))
    if below and (by == -1 or (of_many and not votes.contradicts(-1))):
        return fmt.base - 1, []
    if by:
        what = f"positions look counted from {fmt.base + by}"
        return fmt.base + by, [Finding("warning", what, votes.evidence(by), "--fix shifts them")]
    findings = []
    for by, wrapped in votes.wrapped.items():
        if len(wrapped) >= max(FEWEST, WRAPPING * votes.masks):
            what = f"positions in {len(wrapped)} of {votes.masks} masks look counted from {fmt.base + by}"
            evidence = f"runs wrap around the border by one pixel: {some([str(rows[at]) for at in wrapped])}"
            fix = "look at these masks; too few agree for --fix to shift any"
            findings.append(Finding("warning", what, evidence, fix))
    return fmt.base, findings


def _overrunning(faults: list[Fault], fmt: RleFormat) -> Iterator[tuple[Row, Mask]]:
    """The masks that are only wrong in that they run past the end of their images."""
    for fault in faults:
        if fault.reason.startswith("run ends at pixel"):
            with suppress(RleError):
                yield fault.row, Mask(text_to_edges(fault.row.text, None, replace(fmt, order="F")), fault.size)


def direction(masks: list[Mask], fmt: RleFormat) -> tuple[bool, list[Finding]]:
    """True where masks are written along the other direction, and the finding; or one about some masks or the size."""
    found = spread_readings(masks, fmt)
    turned, resized = found.evidence(fmt)
    if turned:
        fix = (
            "if the masks are right, name another --format; if they are turned, --fix turns them back "
            "(check that sizes are height, then width)"
        )
        return True, [Finding("warning", "masks look written along the other direction", turned, fix)]
    if some_turned := found.some_are_turned():
        fix = "look at them, and whether some sizes are width, then height; --fix turns none"
        return False, [Finding("warning", "some masks look written along the other direction", some_turned, fix)]
    if resized:
        fix = "resize the masks to the image's own size before encoding them"
        return False, [Finding("warning", "masks look made for images of another size", resized, fix)]
    return False, []


def about_sample_format(shown: Texts, size_of: SizeOf, base: int, turned: bool, fmt: RleFormat) -> list[Finding]:
    """A finding if the sample's own masks are written as what is called wrong in the submission.

    Args:
        base, turned: what the submission's masks look like.
    """
    masks = [Mask(mask.edges, size_of(row.image)) for row, mask in shown.masks]
    what = f"the sample's own masks are not what --format {fmt.name} says"
    fix = "name the competition's --format"
    if shown.faults:
        first = shown.faults[0]
        where = f": {first.where}" if first.where else ""
        return [Finding("warning", what, f"{first.row} of the sample{where}: {first.reason}", fix)]
    if base != fmt.base and border_votes(masks, fmt).shift() == base - fmt.base:
        return [Finding("warning", what, f"they look counted from {base}, too", fix)]
    if turned and direction(masks, fmt)[0]:
        return [Finding("warning", what, "they look written along the other direction, too", fix)]
    return []
