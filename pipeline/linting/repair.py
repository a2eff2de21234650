"""Writes a submission with everything put right that needs no decision, and proves that nothing was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.artifacts import whole_or_absent
from pipeline.errors import DataError, some
from pipeline.findings import other_direction
from pipeline.linting.diagnosis import Diagnosis, is_growing
from pipeline.linting.sample import blank_alike, means_empty, wanted_columns
from pipeline.linting.submission import Row, Size, Submission, read_submission, whole_numbers
from pipeline.rle import RleError, RleFormat, area, edges_to_text, read_csv, text_to_edges
from pipeline.rle.csv_files import write_rows

MOST_PIXELS = 2**32 - 1


@dataclass(frozen=True)
class Repaired:
    """A row as it is written."""

    source: Row | None
    """The submission's row; None for one that it lacks."""
    id_fields: tuple[str, ...]
    """The id and, where there are classes, the class."""
    text: str
    sample_row: Row | None
    """The sample's row of the same id, for columns that only the sample has."""


def write_fixed(output: Path, read: Submission, fmt: RleFormat, diagnosis: Diagnosis) -> tuple[Submission, list[str]]:
    """Write the corrected submission, and read it back.

    Every row, every mask and every column of the submission is in the file, in the sample's order where there is one.

    Returns:
        The file as read back; and what was changed throughout: rows that were added, or left out as wholly equal to
        earlier ones, positions, and directions.

    Raises:
        DataError: something needs a decision, or a mask, a row or a column would be lost; nothing is written then.
    """
    refuse_losses(read, diagnosis)
    columns = output_columns(read, diagnosis.expected.sample if diagnosis.expected else None)
    rows = list(repaired_rows(read, fmt, diagnosis))
    with whole_or_absent(output) as path:
        fields = ([column.field(row) for column in columns] for row in rows)
        write_rows(path, [column.name for column in columns], fields)
        written = replace(_read_back(path, columns), path=output)
        again = prove_nothing_lost(read, written, columns, rows, fmt, diagnosis)
        prove_by_strict_reader(read, path, written, again, fmt, diagnosis)
    added = sum(row.source is None for row in rows)
    left_out = len(read.rows) + added - len(rows)
    changed = [f"{count} rows {how}" for how, count in (("added", added), ("left out", left_out)) if count]
    if diagnosis.base != fmt.base:
        changed.append(f"positions counted from {fmt.base}, not from {diagnosis.base}")
    return written, changed + ["all masks turned"] * diagnosis.turned


def refuse_losses(read: Submission, diagnosis: Diagnosis) -> None:
    """Refuse to repair what needs a decision.

    Raises:
        DataError: a row would be left out, or it is not known what its mask is.
    """
    if diagnosis.unfixable:
        raise DataError(f"{read.path}: cannot be fixed: {diagnosis.unfixable}")
    if read.repeated_names:
        raise DataError(f"{read.path}: cannot be fixed: several columns are called {some(read.repeated_names)}")
    lost = [f"row {number}, which has not as many fields as the header" for number in read.ragged]
    lost += [f"row {row.number}, which has no id or no class" for row in read.rows if not row.is_named]
    expected = diagnosis.expected
    if expected:
        for row in read.rows:
            if row.is_named and diagnosis.key(row) not in expected.counts:
                lost.append(f"{row}, which is not in the sample")
    if lost:
        raise DataError(
            f"{read.path}: cannot be fixed, it would lose {some(lost, 3)}: correct or remove such rows first"
        )


# ----------------------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Column:
    """A column of the file that is written."""

    name: str
    role: int | None = None
    """0 for ids, then 1 for classes where there are some, -1 for texts; None for any other column."""
    place: int | None = None
    """Index among the submission's columns; None if only the sample has it."""
    sample_place: int | None = None
    """Index among the sample's columns; None if only the submission has it."""

    def field(self, row: Repaired) -> str:
        """The column's field in a row."""
        if self.role == -1:
            return row.text
        if self.role is not None:
            return row.id_fields[self.role]
        if row.source is not None and self.place is not None:
            return row.source.fields[self.place]
        if row.sample_row is not None and self.sample_place is not None:
            return row.sample_row.fields[self.sample_place]
        return ""


def output_columns(read: Submission, sample: Submission | None) -> list[Column]:
    """The sample's columns in its order, with the submission's others behind those that they follow there."""
    roles = dict(zip(read.places, (*range(len(read.places) - 1), -1), strict=True))
    if sample is None:
        return [Column(name, roles.get(at), at, None) for at, name in enumerate(read.written_header)]
    sample_roles = dict(zip(sample.places, (*range(len(sample.places) - 1), -1), strict=True))
    place_of_role = {role: at for at, role in roles.items()}
    columns = []
    for at, name in enumerate(sample.written_header):
        role = sample_roles.get(at)
        place = place_of_role[role] if role is not None else read.other_columns.get(sample.header[at])
        if role is not None or place is not None or sample.header[at] in wanted_columns(sample):
            columns.append(Column(name, role, place, at))
    places = [column.place for column in columns]
    for at in read.other_columns.values():
        if at not in places:
            after = places.index(at - 1) + 1 if at else 0
            columns.insert(after, Column(read.written_header[at], None, at, None))
            places.insert(after, at)
    return columns


# -------------------------------------------------------------------------------------------------------------- rows


def repaired_rows(read: Submission, fmt: RleFormat, diagnosis: Diagnosis) -> Iterator[Repaired]:
    """The rows that are to be written, in the sample's order where there is one, else in the submission's.

    Raises:
        DataError: a text cannot be read, or an id has several rows where one is wanted.
    """
    expected = diagnosis.expected
    groups: dict[str, list[Row]] = {}
    for row in without_repeats(read, diagnosis):
        groups.setdefault(diagnosis.key(row), []).append(row)
    sample_rows: dict[str, list[Row]] = {}
    for row in expected.sample.rows if expected else []:
        sample_rows.setdefault(expected.key(row), []).append(row)
    if expected is None:
        for rows in groups.values():
            yield from (Repaired(row, _id_fields(row), _fixed(read, row, fmt, diagnosis), None) for row in rows)
        return
    for key, asked_for in sample_rows.items():
        for at, row in enumerate(groups.get(key, [])):
            spelt = asked_for[min(at, len(asked_for) - 1)]
            id_fields = (spelt.image, *_id_fields(row if expected.by_image else spelt)[1:])
            yield Repaired(row, id_fields, _fixed(read, row, fmt, diagnosis), spelt)
        for spelt in asked_for if key not in groups else []:
            size = diagnosis.size_of(spelt.image)
            yield Repaired(None, _id_fields(spelt), _empty(size, fmt, diagnosis), spelt)


def _id_fields(row: Row) -> tuple[str, ...]:
    return (row.image,) if row.label is None else (row.image, row.label)


def without_repeats(read: Submission, diagnosis: Diagnosis) -> list[Row]:
    """The rows, of which one that is wholly equal to an earlier one is left out where the sample has fewer.

    Raises:
        DataError: rows of one id differ where there should be one, or are more or fewer than the sample's.
    """
    expected = diagnosis.expected
    kept: list[Row] = []
    seen: dict[str, set[tuple[str, ...]]] = {}
    counts = Counter(read.ids)
    for row in read.rows:
        most = 1 if expected is None else expected.most(diagnosis.key(row))
        if most is not None and most > 1:
            if counts[row.id] != most:
                raise DataError(f"{read.path} {row}: the id has {counts[row.id]} rows, the sample has {most} of it")
        elif tuple(row.fields) in seen.get(row.id, set()):
            continue
        elif most == 1 and row.id in seen:
            raise DataError(f"{read.path} {row}: an earlier row has another mask, or another field")
        seen.setdefault(row.id, set()).add(tuple(row.fields))
        kept.append(row)
    return kept


# ------------------------------------------------------------------------------------------------------------- texts


def _fixed(read: Submission, row: Row, fmt: RleFormat, diagnosis: Diagnosis) -> str:
    """The row's text, put right; the message of an error names the row."""
    try:
        return fix_text(row.text, diagnosis.size_of(row.image), fmt, diagnosis)
    except RleError as error:
        raise DataError(f"{read.path} {row}: cannot be fixed: {error}") from None


def _empty(size: Size | None, fmt: RleFormat, diagnosis: Diagnosis) -> str:
    """An empty mask, as the sample writes it or else the format; COCO's counts need the size."""
    if fmt.style in ("counts", "coco") and size is not None:
        return edges_to_text(np.empty(0, np.uint32), size, fmt)
    return diagnosis.empties.written


def fix_text(text: str, size: Size | None, fmt: RleFormat, diagnosis: Diagnosis) -> str:
    """One mask's text, put right.

    Raises:
        RleError: it cannot be read, whatever its order, or it could be read in two ways.
    """
    if diagnosis.empties.accept(text):
        return blank_alike(text)
    if means_empty(text, fmt):
        return diagnosis.empties.written
    in_file_order = replace(fmt, order="F")
    if fmt.style != "pairs":
        text_to_edges(text, size, in_file_order)
        return text
    edges = lenient_edges(text, diagnosis.base)
    if not edges.size:
        return diagnosis.empties.written
    plain = edges_to_text(edges, size, in_file_order)
    if not diagnosis.turned:
        return plain
    if size is None:
        raise RleError("masks are to be turned, and the size of this image is not known")
    return edges_to_text(text_to_edges(plain, size, other_direction(fmt)), size, fmt)


def lenient_edges(text: str, base: int) -> np.ndarray:
    """The pixels of a text of pairs, sorted or not, in its own order, as edges.

    Raises:
        RleError: it has anything but pairs of whole numbers, or could be pairs of start and end.
    """
    strict = _strict_edges(text, base)
    if strict is not None:
        return strict
    numbers = whole_numbers(text)
    if numbers is None or len(numbers) % 2:
        raise RleError("not pairs of whole numbers")
    runs = [(start - base, length) for start, length in zip(numbers[::2], numbers[1::2], strict=True)]
    merged: list[list[int]] = []
    overlapping = False
    for start, length in sorted(run for run in runs if run[1]):
        if merged and start <= merged[-1][1]:
            overlapping |= start < merged[-1][1]
            merged[-1][1] = max(merged[-1][1], start + length)
        else:
            merged.append([start, start + length])
    if overlapping and is_growing(numbers):
        raise RleError("runs overlap, and the numbers could be starts and ends")
    if merged and (merged[0][0] < 0 or merged[-1][1] > MOST_PIXELS):
        raise RleError("positions that no image has")
    return np.array(merged, np.uint32).reshape(-1)


def _strict_edges(text: str, base: int) -> np.ndarray | None:
    """Edges that the strict and fast reader makes of a text of pairs; None for a text that it refuses."""
    try:
        edges = text_to_edges(text, None, RleFormat("pairs", base=min(base, 1)))
    except RleError:
        return None
    by = base - min(base, 1)
    return edges - np.uint32(by) if not edges.size or edges[0] >= by else None


# ------------------------------------------------------------------------------------------------------------- proof


def _read_back(path: Path, columns: list[Column]) -> Submission:
    """The written file."""
    names = {column.role: column.name.strip() for column in columns if column.role is not None}
    return read_submission(path, (names[0], names[-1]), names.get(1), None)


def prove_nothing_lost(
    read: Submission, written: Submission, columns: list[Column], rows: list[Repaired], fmt: RleFormat, found: Diagnosis
) -> dict[int, Row]:
    """Hold what was read back against what was read: every column, every row, the pixels of every mask.

    Returns:
        The row that was read back by each original row's number.

    Raises:
        DataError: one of them is not there.
    """
    lost = [
        f"column {name!r}"
        for at, name in enumerate(read.written_header)
        if not any(column.place == at for column in columns)
    ]
    if written.written_header != [column.name for column in columns]:
        lost.append(f"a column, there are {', '.join(written.written_header)}")
    if len(written.rows) != len(rows) or written.ragged:
        lost.append(f"a row, there are {len(written.rows)}, not {len(rows)}")
    again: dict[int, Row] = {}
    if not lost:
        again = _rows_again(read, written, rows)
        lost = list(_lost_in_rows(read, again, columns, fmt, found))
    if lost:
        raise _lost(read, lost)
    return again


def _lost(read: Submission, lost: list[str]) -> DataError:
    return DataError(f"{read.path}: not fixed, this would be lost: {some(lost)}; report this as a bug")


def _rows_again(read: Submission, written: Submission, rows: list[Repaired]) -> dict[int, Row]:
    """The row that was read back by each original row's number; one that was left out is wholly equal to another."""
    again = {row.source.number: back for row, back in zip(rows, written.rows, strict=True) if row.source}
    equal: dict[tuple[str, ...], Row] = {}
    for row in read.rows:
        if row.number in again:
            equal.setdefault(tuple(row.fields), again[row.number])
        elif tuple(row.fields) in equal:
            again[row.number] = equal[tuple(row.fields)]
    return again


def _lost_in_rows(
    read: Submission, rows_again: dict[int, Row], columns: list[Column], fmt: RleFormat, found: Diagnosis
) -> Iterator[str]:
    """Names of rows, masks and fields that are not there."""
    passed_through = [(at, c) for at, c in enumerate(columns) if c.role is None and c.place is not None]
    for row in read.rows:
        again = rows_again.get(row.number)
        if again is None:
            yield str(row)
            continue
        if found.key(again) != found.key(row):
            yield f"the id of {row}"
        before, after = pixels_of(row.text, found.base, fmt, found), pixels_of(again.text, fmt.base, fmt, found)
        if area(before) != area(after) or not (found.turned or np.array_equal(before, after)):
            yield f"the mask of {row}"
        if any(again.fields[at] != row.fields[column.place] for at, column in passed_through):
            yield f"a field of {row}"


def prove_by_strict_reader(
    read: Submission, path: Path, written: Submission, again: dict[int, Row], fmt: RleFormat, found: Diagnosis
) -> None:
    """Hold both files against each other as the other commands read them, where the original can be read like that.

    Args:
        path: where the corrected file is.
        again: the row that was read back by each original row's number.

    Raises:
        DataError: a mask is not what it was.
    """
    if found.turned or found.base != fmt.base:
        return
    before = _strict_masks(read.path, read.columns, replace(fmt, order="F"))
    after = _strict_masks(path, written.columns, replace(fmt, order="F", empty=found.empties.written))
    if before is None or after is None:
        return  # what cannot be read is what was to be repaired
    lost = [str(row) for row in read.rows if not np.array_equal(before[row.id], after[again[row.number].id])]
    if lost:
        raise _lost(read, [f"the mask of {row}" for row in lost])


def _strict_masks(path: Path, columns: tuple[str, ...], fmt: RleFormat) -> dict[str, np.ndarray] | None:
    """The masks of a file by id; None where the reader of masks refuses it."""
    class_column = columns[1] if len(columns) == 3 else None
    try:
        table = read_csv(path, fmt, columns=(columns[0], columns[-1]), class_column=class_column, sizes={})
    except RleError:
        return None
    return {row_id: table[row] for row, row_id in enumerate(table.ids)}


def pixels_of(text: str, base: int, fmt: RleFormat, found: Diagnosis) -> np.ndarray:
    """The pixels of a text as edges, in its own order."""
    if found.empties.accept(text) or means_empty(text, fmt):
        return np.empty(0, np.uint32)
    if fmt.style == "pairs":
        return lenient_edges(text, base)
    return text_to_edges(text, None, replace(fmt, order="F"))
