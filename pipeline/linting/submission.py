"""Reads a CSV of masks as it is, right or wrong, with every column."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from pipeline.errors import DataError
from pipeline.rle import CLASS_SEPARATOR, find_size_columns, open_unpacked, read_column_names, shown

MOST_DIGITS = 12  # that are read of a number; the largest pixel's has 10

Severity = Literal["error", "warning", "note"]
Size = tuple[int, int]
SizeOf = Callable[[str], Size | None]
"""(height, width) by an image's id; None where it is unknown."""


@dataclass(frozen=True)
class Finding:
    """A statement about a submission."""

    severity: Severity
    """error: it would be rejected. warning: it is probably a mistake. note: worth knowing."""
    what: str
    evidence: str
    fix: str


@dataclass(frozen=True)
class Row:
    """A row of the file."""

    number: int
    """Row number as a spreadsheet shows it; the header is row 1."""
    image: str
    label: str | None
    """The class; None in a file without a column of classes."""
    text: str
    """The RLE text without spaces around it."""
    fields: list[str]
    """Fields of all columns, unchanged."""

    @property
    def id(self) -> str:
        return self.image if self.label is None else f"{self.image}{CLASS_SEPARATOR}{self.label}"

    @property
    def is_named(self) -> bool:
        """True where the row has an id, and a class if there is a column of classes."""
        return self.image != "" and self.label != ""

    def __str__(self) -> str:
        return f"row {self.number} (id {shown(self.id)})"


@dataclass(frozen=True)
class Submission:
    """A CSV file, right or wrong."""

    path: Path
    header: list[str]
    """Column names without spaces around them."""
    written_header: list[str]
    """Column names as they are."""
    columns: tuple[str, ...]
    """Names of the columns of ids, of classes if there is one, and of texts."""
    rows: list[Row] = field(default_factory=list)
    ragged: list[int] = field(default_factory=list)
    """Numbers of the rows that have more or fewer fields than the header."""
    sizes: dict[str, Size] = field(default_factory=dict)
    """(height, width) by the image's id, where the file has them."""
    size_columns: tuple[str, ...] = ()

    @property
    def ids(self) -> list[str]:
        return [row.id for row in self.rows]

    @property
    def has_classes(self) -> bool:
        return len(self.columns) == 3

    @property
    def repeated_names(self) -> list[str]:
        """Column names that the header has several times."""
        return [name for name, count in Counter(self.header).items() if count > 1]

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Indices of ``columns`` in the header."""
        return tuple(self.header.index(name) for name in self.columns)

    @cached_property
    def other_columns(self) -> dict[str, int]:
        """Names and indices of the columns that hold neither ids nor classes nor texts."""
        return {name: at for at, name in enumerate(self.header) if at not in self.places}


def read_submission(
    path: Path, columns: tuple[str, str] | None, class_column: str | None, size_columns: tuple[str, str] | None
) -> Submission:
    """Read a CSV file, packed or not, as leniently as possible.

    Raises:
        DataError: it is not text, its quotes are wrong, or a class has a "/" in it.
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
        written = next(reader)
        header = [name.strip() for name in written]
        if not set(names) <= set(header):
            raise DataError(f"{path}: the quotes up to line {reader.line_num} are wrong: the header ends in line 1")
        given = size_columns if size_columns and set(size_columns) <= set(header) else None  # or the other file's
        sides = given or find_size_columns(header) or ()
        found = Submission(path, header, written, names, size_columns=sides)
        side_places = [header.index(side) for side in sides]
        places = found.places
        for number, fields in enumerate(reader, 2):
            _add_row(found, places, side_places, number, fields)
    except csv.Error as error:
        raise DataError(f"{path}: the quotes up to line {reader.line_num} are wrong: {error}") from None
    return found


def _add_row(found: Submission, places: tuple[int, ...], sides: list[int], number: int, fields: list[str]) -> None:
    """Enter a row; a blank line has no fields."""
    if len(fields) != len(found.header):
        found.ragged.extend([number] * bool(fields))
        return
    image, *label, text = (fields[at] for at in places)
    row = Row(number, image, label[0] if label else None, text.strip(" "), fields)
    if label and CLASS_SEPARATOR in label[0]:
        raise DataError(f"{found.path} {row}: the class has a {CLASS_SEPARATOR!r} in it")
    found.rows.append(row)
    size = [fields[at] for at in sides]
    if size and all(side.isascii() and side.isdigit() for side in size):
        found.sizes[image] = (whole_number(size[0]), whole_number(size[1]))


def whole_numbers(text: str) -> list[int] | None:
    """Read a text that may have brackets, commas and decimals of zeros as numbers; None if it has anything else."""
    tokens = re.sub(r"[\[\](),;]", " ", text).split()
    if not all(re.fullmatch(r"[0-9]+(\.0*)?", token) for token in tokens):
        return None
    return [whole_number(token.partition(".")[0]) for token in tokens]


def whole_number(digits: str) -> int:
    """Read a number by its digits, of which the first few count where they are already more than any image has.

    Python itself refuses to read thousands of digits.
    """
    return int(digits.lstrip("0")[:MOST_DIGITS] or "0")
