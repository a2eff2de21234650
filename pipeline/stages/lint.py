"""Find what a competition would reject in a submission, and what is probably a mistake.

Reads   a submission CSV and, best, the sample submission and the images' sizes
Writes  the findings on stdout; --fix OUT: the submission with all that can be put right mechanically

    python -m pipeline lint submission.csv --sample sample_submission.csv --shape 320 240 --fix fixed.csv

Exit status 1 if there is an error. What is looked for stands in ``pipeline/findings.py``.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

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
from pipeline.errors import DataError
from pipeline.findings import (
    EMPTY_ELSEWHERE,
    MISSING,
    Diagnosis,
    Finding,
    Size,
    SizeOf,
    Submission,
    diagnose,
    other_direction,
    whole_number,
    whole_numbers,
)
from pipeline.rle import (
    RleError,
    RleFormat,
    edges_to_text,
    find_size_columns,
    get_format,
    open_unpacked,
    read_column_names,
    text_to_edges,
    write_csv,
)


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
    files = [submission] if sample is None else [submission, sample]
    class_name, *class_of_sample = class_columns(class_column, *files, others=(columns,))
    read = read_submission(submission, column_pair(columns, "--columns"), class_name, in_columns)
    expected = read_submission(sample, None, class_of_sample[0], in_columns) if sample else None
    sizes = find_sizes(read, expected, shape, images)
    diagnosis = diagnose(read, expected, sizes, rle_format, images)
    console = make_console(quiet=as_json)
    show(diagnosis.findings, submission, len(read.rows), console.print)
    errors = any(finding.severity == "error" for finding in diagnosis.findings)
    if fix is not None:
        fixed_columns = write_fixed(fix, read, expected, sizes, rle_format, diagnosis)
        left = diagnose(read_submission(fix, *fixed_columns, None), expected, sizes, rle_format, images).findings
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
        DataError: it is not text, or its quotes are wrong.
        RleError: no header, or not these columns.
    """
    names = read_column_names(path, columns, class_column)
    try:
        with open_unpacked(path) as file:
            text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader)]
        if not set(names) <= set(header):
            raise DataError(f"{path}: the quotes up to line {reader.line_num} are wrong: the header ends in line 1")
        found = Submission(path, header, names)
        sides = size_columns or find_size_columns(header) or ()
        if not set(sides) <= set(header):
            sides = ()  # they are the other file's
        for number, fields in enumerate(reader, 2):
            _add_row(found, sides, number, fields)
    except csv.Error as error:
        raise DataError(f"{path}: the quotes up to line {reader.line_num} are wrong: {error}") from None
    return found


def _add_row(found: Submission, sides: tuple[str, str] | tuple[()], number: int, fields: list[str]) -> None:
    """Enter a row; a blank line has no fields."""
    if len(fields) != len(found.header):
        found.ragged.extend([number] * bool(fields))
        return
    field = dict(zip(found.header, fields, strict=True))
    row_id = "/".join(field[name] for name in found.columns[:-1])
    found.rows.append((number, row_id, field[found.columns[-1]].strip(" ")))
    size = [field[side] for side in sides]
    if size and all(side.isascii() and side.isdigit() for side in size):
        found.sizes[row_id] = (whole_number(size[0]), whole_number(size[1]))


def find_sizes(read: Submission, sample: Submission | None, shape: Size | None, images: Path | None) -> SizeOf:
    """What tells a row's (height, width) by its id, or None for an unknown one.

    Raises:
        DataError: two sources of sizes, or a folder without images.
    """
    if shape and images:
        raise DataError("sizes can come from one place only, not from --shape and --images")
    if shape:
        return lambda _: shape
    if images and len(read.columns) == 3:
        known = image_sizes(images)
        return lambda row_id: known.get(row_id.rpartition("/")[0])
    if images:
        return image_sizes(images).get
    return (read.sizes | (sample.sizes if sample else {})).get


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
    if diagnosis.unfixable:
        raise DataError(f"{read.path}: cannot be fixed: they look like {diagnosis.unfixable}")
    texts: dict[str, str] = {}
    for number, row_id, text in read.rows:
        name = diagnosis.spellings.get(row_id, row_id)
        try:
            fixed = fix_text(text, size_of(name), fmt, diagnosis)
        except RleError as error:
            raise DataError(f"{read.path} row {number} (id {row_id}): cannot be fixed: {error}") from None
        if texts.setdefault(name, fixed) != fixed:
            raise DataError(f"{read.path} row {number} (id {row_id}): an earlier row has another mask")
    ids = sample.ids if sample else list(texts)
    columns = sample.columns if sample else read.columns
    with whole_or_absent(output) as path:
        write_csv(path, ids, [texts.get(row_id, fmt.empty) for row_id in ids], columns)
    return (columns[0], columns[-1]), columns[1] if len(columns) == 3 else None


def fix_text(text: str, size: Size | None, fmt: RleFormat, diagnosis: Diagnosis) -> str:
    """One mask's text, put right.

    Raises:
        RleError: it cannot be read, whatever its order.
    """
    if text in MISSING or text in EMPTY_ELSEWHERE:
        return fmt.empty
    in_file_order = replace(fmt, order="F")
    if fmt.style != "pairs":
        text_to_edges(text, size, in_file_order)
        return text
    numbers = whole_numbers(text)
    if numbers is None or len(numbers) % 2:
        raise RleError("not pairs of whole numbers")
    runs = [(start - diagnosis.base, length) for start, length in zip(numbers[::2], numbers[1::2], strict=True)]
    merged: list[list[int]] = []
    for start, length in sorted(run for run in runs if run[1]):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], start + length)
        else:
            merged.append([start, start + length])
    if merged and (merged[0][0] < 0 or merged[-1][1] > 2**32 - 1):
        raise RleError("positions that no image has")
    plain = edges_to_text(np.array(merged, np.uint32).reshape(-1), size, in_file_order)
    if not diagnosis.turned or size is None:
        return plain
    return edges_to_text(text_to_edges(plain, size, other_direction(fmt)), size, fmt)


if __name__ == "__main__":
    run_command(lint)
