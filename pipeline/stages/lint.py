"""Find what a competition would reject in a submission, and what is probably a mistake.

Reads   a submission CSV and, best, the sample submission and the images' sizes
Writes  the findings on stdout; --fix OUT: the submission with all that can be put right mechanically

    python -m pipeline lint submission.csv --sample sample_submission.csv --shape 320 240 --fix fixed.csv

Exit status 1 if there is an error. The mistakes that are looked for in readable masks:

- written along the other direction: read so, a shape falls into stripes, and has many times the runs across
  that it has when read the right way (not to be seen in square images, where it is merely mirrored);
- counted from 0 instead of 1 or the other way: the many runs that end at the image's border end one pixel
  off it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from pipeline.artifacts import whole_or_absent
from pipeline.command import make_console, run_command
from pipeline.csv_options import (
    ClassColumnOption,
    ColumnsOption,
    FormatOption,
    ImagesOption,
    ShapeOption,
    SizeColumnsOption,
    class_columns,
    column_pair,
    image_sizes,
)
from pipeline.errors import DataError, some
from pipeline.rle import (
    RleError,
    RleFormat,
    decode,
    edges_to_text,
    find_size_columns,
    get_format,
    open_unpacked,
    read_column_names,
    text_to_edges,
    to_edges,
    write_csv,
)

SAMPLED = 200  # masks that are looked at as pixels
FEWEST = 3  # masks that say something about a file's direction
STRIPES = 2.0  # times the runs across, from which a direction is the wrong one; right ones are 20 times better
BORDER_EDGES = 20  # edges one pixel off the border that say something about the first pixel's number
BORDER_RATIO = 5  # ... and how many times as many as on the border

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
    columns: tuple[str, ...]
    """Names of the columns of ids, of classes if there is one, and of texts."""
    rows: list[tuple[int, str, str]]
    """Row number as a spreadsheet shows it, id or "image/class", text."""
    ragged: list[int]
    """Numbers of the rows that have more or fewer fields than the header."""
    sizes: dict[str, Size]
    """(height, width) by id, where the file has them."""


@dataclass(frozen=True)
class Mask:
    """A text that can be read; ``edges`` are in the format's own order of pixels."""

    image_id: str
    text: str
    edges: np.ndarray
    size: Size | None


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, and what the mechanical fix needs to know."""

    findings: list[Finding]
    shifted: bool
    """Positions are counted from the other number than the format's."""
    turned: bool
    """Pixels are numbered along the other direction."""


def lint(
    submission: Annotated[Path, typer.Argument(help="CSV with id and RLE.")],
    sample: Annotated[
        Path | None, typer.Option("--sample", metavar="CSV", help="Sample submission: ids, order and column names.")
    ] = None,
    fmt: FormatOption = "kaggle",
    columns: ColumnsOption = None,
    class_column: ClassColumnOption = None,
    size_columns: SizeColumnsOption = None,
    shape: ShapeOption = None,
    images: ImagesOption = None,
    fix: Annotated[Path | None, typer.Option("--fix", metavar="OUT", help="Write the corrected submission.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find what a competition would reject in a submission, and what is probably a mistake.

    Sizes find more: give --shape, --images, or --size-columns of the sample or the submission.

    \b
    Example:
      python -m pipeline lint submission.csv --sample sample_submission.csv --images test_images
    """
    rle_format = get_format(fmt)
    in_columns = column_pair(size_columns, "--size-columns")
    class_name, *class_of_sample = class_columns(class_column, submission, *([sample] if sample else []))
    read = read_submission(submission, column_pair(columns, "--columns"), class_name, in_columns)
    expected = read_submission(sample, None, class_of_sample[0], in_columns) if sample else None
    sizes = find_sizes(read, expected, shape, images)
    diagnosis = diagnose(read, expected, sizes, rle_format)
    console = make_console(quiet=as_json)
    show(diagnosis.findings, submission, len(read.rows), console.print)
    errors = any(finding.severity == "error" for finding in diagnosis.findings)
    if fix is not None:
        fixed_columns = write_fixed(fix, read, expected, sizes, rle_format, diagnosis)
        left = diagnose(read_submission(fix, *fixed_columns, None), expected, sizes, rle_format).findings
        console.print(f"fixed: {fix}")
        show(left, fix, len(expected.rows if expected else read.rows), console.print)
        errors = any(finding.severity == "error" for finding in left)
    if as_json:
        print(json.dumps({"rows": len(read.rows), "findings": [asdict(finding) for finding in diagnosis.findings]}))
    if errors:
        raise typer.Exit(1)


def show(findings: list[Finding], path: Path, rows: int, say: Callable[[str], None]) -> None:
    """Print the findings, the worst first."""
    for severity in ("error", "warning", "note"):
        for finding in findings:
            if finding.severity == severity:
                say(f"{severity}: {finding.what}\n  evidence: {finding.evidence}\n  fix: {finding.fix}")
    count = Counter(finding.severity for finding in findings)
    say(f"{path.name}: {rows} rows, {count['error']} errors, {count['warning']} warnings")


# ---------------------------------------------------------------------------------------------------- reading


def read_submission(
    path: Path, columns: tuple[str, str] | None, class_column: str | None, size_columns: tuple[str, str] | None
) -> Submission:
    """A CSV file, also gzipped, as leniently as can be.

    Raises:
        DataError: it is not text.
        RleError: no header, or not these columns.
    """
    names = read_column_names(path, columns, class_column)
    try:
        with open_unpacked(path) as file:
            text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip() for name in next(reader)]
    sides = size_columns or find_size_columns(header) or ()
    if not set(sides) <= set(header):
        sides = ()  # they are the other file's
    found = Submission(path, names, [], [], {})
    for number, fields in enumerate(reader, 2):
        if len(fields) != len(header):
            found.ragged.extend([number] * bool(fields))
            continue
        field = dict(zip(header, fields, strict=True))
        row_id = "/".join(field[name] for name in names[:-1])
        found.rows.append((number, row_id, field[names[-1]].strip(" ")))
        size = [field[side] for side in sides]
        if size and all(side.isascii() and side.isdigit() for side in size):
            found.sizes[row_id] = (int(size[0]), int(size[1]))
    return found


def find_sizes(read: Submission, sample: Submission | None, shape: Size | None, images: Path | None) -> SizeOf:
    """What tells a row's (height, width) by its id, or None for an unknown one."""
    if shape:
        return lambda _: shape
    if images and len(read.columns) == 3:
        known = image_sizes(images)
        return lambda row_id: known.get(row_id.rpartition("/")[0])
    if images:
        return image_sizes(images).get
    return (read.sizes | (sample.sizes if sample else {})).get


# ------------------------------------------------------------------------------------------------- diagnosing


def diagnose(read: Submission, sample: Submission | None, size_of: SizeOf, fmt: RleFormat) -> Diagnosis:
    """All findings about a submission."""
    findings = [*about_rows(read), *(about_sample(read, sample) if sample else [])]
    masks, unreadable = read_texts(read, size_of, fmt)
    findings += about_texts(unreadable)
    findings += about_emptiness(masks)
    # A position below the first one is wrong in any image; one row is enough.
    shifted = any(reason.startswith("start below") for _, _, reason in unreadable)
    if not shifted and (evidence := border_evidence(masks, fmt)):
        shifted = True
        findings.append(
            Finding("warning", f"positions look counted from {1 - fmt.base}", evidence, "--fix shifts them")
        )
    stripes = stripe_evidence(masks, fmt)
    if stripes:
        findings.append(Finding("warning", "masks look written along the other direction", stripes, "--fix turns them"))
    return Diagnosis(findings, shifted, bool(stripes))


def about_rows(read: Submission) -> list[Finding]:
    """Fields and ids."""
    findings = []
    if read.ragged:
        rows = some([f"row {number}" for number in read.ragged])
        findings.append(Finding("error", "rows with a wrong number of fields", rows, "quote or remove their commas"))
    if not read.rows:
        findings.append(Finding("error", "no rows", "there is a header only", "write a row for each image"))
    texts: dict[str, set[str]] = {}
    for _, image_id, text in read.rows:
        texts.setdefault(image_id, set()).add(text)
    counts = Counter(image_id for _, image_id, _ in read.rows)
    for same, fix in ((True, "--fix keeps one"), (False, "decide which one is meant, or unite them with `convert`")):
        repeated = [i for i, count in counts.items() if count > 1 and (len(texts[i]) == 1) == same]
        if repeated:
            what = f"{len(repeated)} ids have several {'equal' if same else 'different'} rows"
            findings.append(Finding("error", what, some(repeated), fix))
    return findings


def about_sample(read: Submission, sample: Submission) -> list[Finding]:
    """Columns, ids and order, against the sample submission's."""
    findings = []
    if read.columns != sample.columns:
        what = f"the columns are {', '.join(read.columns)}"
        findings.append(Finding("error", what, f"the sample has {', '.join(sample.columns)}", "--fix renames them"))
    ids, expected = ([image_id for _, image_id, _ in each.rows] for each in (read, sample))
    missing = [image_id for image_id in expected if image_id not in set(ids)]
    extra = [image_id for image_id in dict.fromkeys(ids) if image_id not in set(expected)]
    if missing:
        what = f"{len(missing)} of the sample's {len(expected)} ids are missing"
        findings.append(Finding("error", what, some(missing), "--fix adds them with empty masks"))
    if extra:
        what = f"{len(extra)} ids are not in the sample"
        findings.append(Finding("error", what, some(extra), "--fix leaves them out"))
    if not missing and not extra and list(dict.fromkeys(ids)) != expected:
        findings.append(Finding("note", "rows are in another order than the sample's", some(ids), "--fix sorts them"))
    return findings


def read_texts(read: Submission, size_of: SizeOf, fmt: RleFormat) -> tuple[list[Mask], list[tuple[int, str, str]]]:
    """The readable masks, and the rest as (row number, id, reason)."""
    in_file_order = replace(fmt, order="F")
    masks, unreadable = [], []
    for number, image_id, text in read.rows:
        size = size_of(image_id)
        try:
            # NaN is what pandas makes of an empty field.
            edges = text_to_edges("" if text in ("nan", "NaN") else text, size, in_file_order)
            masks.append(Mask(image_id, text, edges, size))
        except RleError as error:
            unreadable.append((number, image_id, str(error).partition(": ")[2] or str(error)))
    return masks, unreadable


def about_texts(unreadable: list[tuple[int, str, str]]) -> list[Finding]:
    """One finding for each kind of error."""
    kinds: dict[str, list[tuple[int, str, str]]] = {}
    for row in unreadable:
        kinds.setdefault(re.sub(r"\d+", "N", row[2]), []).append(row)
    findings = []
    for rows in kinds.values():
        number, image_id, reason = rows[0]
        others = f", and {len(rows) - 1} more rows" if len(rows) > 1 else ""
        fixes = {
            "run starts before": "--fix sorts the runs",
            "run overlaps": "--fix unites the runs",
            "start below": "--fix counts from the format's first number",
            "not a whole number": "write runs, not values of pixels; a probability map needs a threshold first",
            "run ends at pixel": "predict at the image's own size, (height, width) and not (width, height)",
        }
        fix = next((fix for start, fix in fixes.items() if reason.startswith(start)), "write the row anew")
        findings.append(Finding("error", reason, f"row {number} (id {image_id}){others}", fix))
    return findings


def about_emptiness(masks: list[Mask]) -> list[Finding]:
    """Files of which all masks are empty, or all are full."""
    evidence = f"{len(masks)} rows"
    if masks and all(mask.edges.size == 0 for mask in masks):
        return [Finding("warning", "all masks are empty", evidence, "look at the probabilities and the threshold")]
    if masks and all(mask.size and mask.edges.tolist() == [0, mask.size[0] * mask.size[1]] for mask in masks):
        fix = "look at the threshold, and whether masks are inverted"
        return [Finding("warning", "all masks cover the whole image", evidence, fix)]
    return []


def border_evidence(masks: list[Mask], fmt: RleFormat) -> str | None:
    """Evidence that runs stop one pixel off the border of the image, where they should stop at it."""
    if fmt.style != "pairs":
        return None
    at = off = 0
    for mask in masks:
        if mask.size is not None and mask.edges.size:
            length = mask.size[0] if fmt.order == "F" else mask.size[1]
            places = np.bincount(mask.edges % length, minlength=length)
            at += places[0]
            off += places[-1 if fmt.base == 1 else 1 % length]
    if off < BORDER_EDGES or off <= BORDER_RATIO * at:
        return None
    return f"{off} runs start or end one pixel off the border, {at} at it"


def stripe_evidence(masks: list[Mask], fmt: RleFormat) -> str | None:
    """Evidence that masks have fewer runs across when they are read along the other direction."""
    turned = other_direction(fmt)
    ratios = []
    for mask in masks:
        # In a square image both readings are mirror images; one run alone has no direction.
        if mask.size is None or mask.size[0] == mask.size[1] or mask.edges.size < 4:
            continue
        across = [runs_across(decode(mask.text, mask.size, each), each) for each in (fmt, turned)]
        ratios.append(across[0] / across[1])
        if len(ratios) == SAMPLED:
            break
    if len(ratios) < FEWEST or np.median(ratios) < STRIPES:
        return None
    return (
        f"read as {fmt.name} says, the median mask has {np.median(ratios):.1f} times as many runs across as when read "
        f"along the {'rows' if fmt.order == 'F' else 'columns'} ({len(ratios)} masks looked at)"
    )


def other_direction(fmt: RleFormat) -> RleFormat:
    return replace(fmt, order="C" if fmt.order == "F" else "F")


def runs_across(mask: np.ndarray, fmt: RleFormat) -> int:
    """Runs of a mask in the direction in which the format doesn't number pixels."""
    return to_edges(mask if fmt.order == "C" else np.ascontiguousarray(mask.T)).size // 2


# ----------------------------------------------------------------------------------------------------- fixing


def write_fixed(
    output: Path,
    read: Submission,
    sample: Submission | None,
    size_of: SizeOf,
    fmt: RleFormat,
    diagnosis: Diagnosis,
) -> tuple[tuple[str, str], str | None]:
    """Write the submission with everything put right that needs no decision.

    Returns:
        The names of its columns of ids and texts, and of classes.

    Raises:
        DataError: something needs one: different rows of one id, or a text that cannot be read.
    """
    texts: dict[str, str] = {}
    for number, image_id, text in read.rows:
        try:
            fixed = fix_text(text, size_of(image_id), fmt, diagnosis)
        except RleError as error:
            raise DataError(f"{read.path} row {number} (id {image_id}): cannot be fixed: {error}") from None
        if texts.setdefault(image_id, fixed) != fixed:
            raise DataError(f"{read.path} row {number} (id {image_id}): an earlier row has another mask")
    ids = [image_id for _, image_id, _ in sample.rows] if sample else list(texts)
    columns = sample.columns if sample else read.columns
    with whole_or_absent(output) as path:
        write_csv(path, ids, [texts.get(image_id, fmt.empty) for image_id in ids], columns)
    return (columns[0], columns[-1]), columns[1] if len(columns) == 3 else None


def fix_text(text: str, size: Size | None, fmt: RleFormat, diagnosis: Diagnosis) -> str:
    """One mask's text, put right.

    Raises:
        RleError: it cannot be read, whatever its order.
    """
    if text in ("", "nan", "NaN", fmt.empty):
        return fmt.empty
    in_file_order = replace(fmt, order="F")
    if fmt.style != "pairs":
        text_to_edges(text, size, in_file_order)
        return text
    tokens = text.split()
    if len(tokens) % 2 or not all(token.isascii() and token.isdigit() for token in tokens):
        raise RleError("not pairs of whole numbers")
    base = 1 - fmt.base if diagnosis.shifted else fmt.base
    numbers = [int(token) for token in tokens]
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    merged: list[list[int]] = []
    for start, length in sorted(pair for pair in pairs if pair[1]):
        if merged and start - base <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], start - base + length)
        else:
            merged.append([start - base, start - base + length])
    if merged and (merged[0][0] < 0 or merged[-1][1] > 2**32 - 1):
        raise RleError("positions that no image has")
    plain = edges_to_text(np.array(merged, np.uint32).reshape(-1), size, in_file_order)
    if not diagnosis.turned or size is None:
        return plain
    return edges_to_text(text_to_edges(plain, size, other_direction(fmt)), size, fmt)


if __name__ == "__main__":
    run_command(lint)
