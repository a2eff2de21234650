"""Find what a competition would reject in a submission, and what is probably a mistake.

Reads   a submission CSV and, best, the sample submission, the images' sizes, and the training masks
Writes  the findings on stdout; --fix OUT: the submission with all that can be put right mechanically

    python -m pipeline lint submission.csv --sample sample_submission.csv --shape 320 240 --fix fixed.csv

Exit status 1 if there is an error. What is looked for stands in ``pipeline/linting`` and ``pipeline/findings.py``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.command import make_console, run_command
from pipeline.csv_options import (
    ClassColumnOption,
    ColumnsOption,
    ExifOption,
    FormatOption,
    ImagesOption,
    ShapeOption,
    SizeColumnsOption,
    class_columns,
    column_pair,
    image_sizes,
)
from pipeline.errors import DataError
from pipeline.linting.diagnosis import diagnose
from pipeline.linting.repair import write_fixed
from pipeline.linting.sample import distinguishing_column
from pipeline.linting.submission import Finding, Size, SizeOf, Submission, read_submission
from pipeline.rle import get_format

Names = tuple[str, str] | None


def lint(
    submission: Annotated[Path, typer.Argument(help="CSV with id and RLE.")],
    sample: Annotated[
        Path | None, typer.Option("--sample", metavar="CSV", help="Sample submission, which decides what is right.")
    ] = None,
    fmt: FormatOption = "kaggle",
    columns: ColumnsOption = None,
    class_column: ClassColumnOption = None,
    size_columns: SizeColumnsOption = None,
    shape: ShapeOption = None,
    images: ImagesOption = None,
    exif: ExifOption = "apply",
    truth: Annotated[
        Path | None, typer.Option("--truth", metavar="CSV", help="Training masks, to compare areas with.")
    ] = None,
    truth_columns: Annotated[
        str | None, typer.Option("--truth-columns", metavar="ID,RLE", help="The columns of --truth.")
    ] = None,
    truth_format: Annotated[
        str | None, typer.Option("--truth-format", metavar="PRESET", help="RLE convention of --truth, if another.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", help="Write the corrected submission, with every row and column."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find what a competition would reject in a submission, and what is probably a mistake.

    The sample decides columns, ids, rows of each id, and how an empty mask is written; without it, the format does.
    Sizes find more: give --shape, --images, or --size-columns of the sample or the submission.

    \b
    Example:
      python -m pipeline lint submission.csv --sample sample_submission.csv --images test_images --truth train.csv
    """
    rle_format = get_format(fmt)
    in_columns = column_pair(size_columns, "--size-columns")
    files = [path for path in (submission, sample, truth) if path is not None]
    class_name, *other_classes = class_columns(class_column, *files, others=(columns, truth_columns))
    read = read_submission(submission, column_pair(columns, "--columns"), class_name, in_columns)
    training = None
    if truth is not None:
        names = column_pair(truth_columns, "--truth-columns")
        true = read_submission(truth, names, other_classes.pop(), in_columns)
        training = with_shape(true, shape), get_format(truth_format or fmt)
    expected = None
    if sample is not None:
        expected = read_submission(sample, None, other_classes.pop(), in_columns)
        read, expected = by_same_columns(read, expected, column_pair(columns, "--columns"), in_columns)
    if expected is not None and class_column is None and (name := distinguishing_column(read, expected)) is not None:
        read, expected = (with_classes(file, name, in_columns) for file in (read, expected))
    sizes = find_sizes(read, expected, shape, images, exif)
    known = (expected, sizes, rle_format, images, training)
    diagnosis = diagnose(read, *known)
    console = make_console(quiet=as_json)
    show(diagnosis.findings, submission, len(read.rows), console.print)
    findings = diagnosis.findings
    if fix is not None:
        written, changed = write_fixed(fix, read, rle_format, diagnosis)
        findings = diagnose(written, *known).findings
        console.print(", ".join([f"fixed: {fix}", *changed]))
        show(findings, fix, len(written.rows), console.print)
    if as_json:
        print(json.dumps({"rows": len(read.rows), "findings": [asdict(finding) for finding in diagnosis.findings]}))
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


def with_shape(file: Submission, shape: Size | None) -> Submission:
    """The file with the one size of all images, where it has no sizes itself."""
    if shape is None or file.sizes:
        return file
    return replace(file, sizes={row.image: shape for row in file.rows})


def by_same_columns(
    read: Submission, sample: Submission, given: Names, size_columns: Names
) -> tuple[Submission, Submission]:
    """Both files by the same columns, where those of one of them are in the other, too.

    Where a header has no usual names, the first column that is nothing else counts; the file with fewer columns, or
    --columns, knows better.

    Args:
        given: the names that --columns gives.
    """
    if read.columns == sample.columns:
        return read, sample
    if given is None and set(sample.columns) <= set(read.header) and len(sample.header) <= len(read.header):
        return _again(read, sample.columns, size_columns), sample
    if set(read.columns) <= set(sample.header):
        return read, _again(sample, read.columns, size_columns)
    return read, sample


def with_classes(file: Submission, name: str, size_columns: Names) -> Submission:
    """The file with a column of classes."""
    return _again(file, (file.columns[0], name, file.columns[-1]), size_columns)


def _again(file: Submission, columns: tuple[str, ...], size_columns: Names) -> Submission:
    """The file by these columns."""
    class_column = columns[1] if len(columns) == 3 else None
    return read_submission(file.path, (columns[0], columns[-1]), class_column, size_columns)


def show(findings: list[Finding], path: Path, rows: int, say: Callable[[str], None]) -> None:
    """Print the findings, the worst first."""
    for severity in ("error", "warning", "note"):
        for finding in findings:
            if finding.severity == severity:
                say(f"{severity}: {finding.what}\n  evidence: {finding.evidence}\n  fix: {finding.fix}")
    count = Counter(finding.severity for finding in findings)
    say(f"{path.name}: {rows} rows, {count['error']} errors, {count['warning']} warnings")


def find_sizes(
    read: Submission, sample: Submission | None, shape: Size | None, images: Path | None, exif: str
) -> SizeOf:
    """A function that gives the (height, width) by an image's id, or None for an unknown one.

    Raises:
        DataError: two sources of sizes, or a folder without images.
    """
    if shape and images:
        raise DataError("sizes can come from one place only, not from --shape and --images")
    if shape:
        return lambda _: shape
    if images:
        return image_sizes(images, exif).get
    return (read.sizes | (sample.sizes if sample else {})).get


if __name__ == "__main__":
    run_command(lint)
