"""CSV files of RLE texts <-> `RleTable`, without pandas: the file's bytes are parsed where they lie."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from . import kernels
from .codec import check_text, text_to_edges
from .columns import LONGEST_HEADER, column_index, find_size_columns, parse_header, text_columns
from .fields import load, locate, read_names, read_strings, unquoted
from .formats import RepeatedIdsError, RleError, RleFormat, get_format, shown
from .leftovers import HEADER_AGAIN, cut_off, explain_text
from .masks import pixel_count, turned
from .table import CLASS_SEPARATOR, RleTable, split_class
from .threads import map_rows

_MISSING = (b"", b"nan", b"NaN")  # an empty field, or what pandas makes of one
_MOST_TELLING = 100  # columns that may tell rows of an id apart
_MOST_NAMED = 3  # ids, or rows of an id, that a message names
_LONGEST_EMPTY = 64  # only shorter texts are compared with the ways to write an empty mask


def read_csv(
    path: str | PathLike,
    fmt: str | RleFormat = "kaggle",
    *,
    columns: tuple[str, str] | None = None,
    class_column: str | None = None,
    size_columns: tuple[str, str] | None = None,
    shape: tuple[int, int] | None = None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    unite: bool = False,
    own: bool = False,
) -> RleTable:
    """The masks of a CSV file (packed or not), one row for each id, in order of first appearance.

    columns: the names of the id and the RLE column; otherwise each is found by its usual names, or is the first
        that is nothing else. Other columns are ignored. Ids are strings, whatever they look like.
    class_column: the name of a column of classes (`find_class_column` finds it): an image then has a mask for
        each of its classes, and a row's id is "image/class", which `split_class` takes apart. A class has no
        "/" in it. None: classes are ignored.
    size_columns, shape, sizes: where the images' (height, width) come from: columns of the file, one size for
        all, or a mapping by the image's id (ids that it lacks have no size). Without them, columns with the usual
        names are used if there are any. Row-major formats need sizes; elsewhere a run's end isn't checked without
        one.
    unite: an id's rows are parts of one mask, which has the pixels of all. Otherwise ids that have several rows
        are refused: they may be objects that are scored one by one, or not the ids at all.

    own: the file is as `write_csv` has left it. Otherwise texts are refused that a spreadsheet has probably cut off.

    An empty field, NaN and the format's own text for it are empty masks. Raises RleError for anything else
    that isn't a valid text, naming file, row (the header is row 1), id, token and reason; and RepeatedIdsError.
    """
    fmt = get_format(fmt)
    find_sizes = shape is None and sizes is None
    try:
        records = _read_records(Path(path), columns, class_column, size_columns, find_sizes)
        heights, widths = _sizes_of(records, shape, sizes)
        if not own:
            _check_cells(records)
        _check_sizes(records, heights, widths)
        group, first = _groups(records.ids)
        if first.size < group.size and not unite:
            raise RepeatedIdsError(_say_repeated(records, group, first))
        edges, offsets = _read_texts(records, heights, widths, fmt)
        if first.size < group.size:
            rows = np.argsort(group, kind="stable")
            groups = np.concatenate([[0], np.cumsum(np.bincount(group))])
            edges, offsets = kernels.unite_rows(edges, offsets, rows, groups)
        return RleTable([records.ids[row] for row in first], offsets, edges, heights[first], widths[first])
    except MemoryError:
        raise RleError(f"{path}: does not fit into the memory") from None


def read_fields(
    path: str | PathLike,
    names: Sequence[str] = (),
    *,
    columns: tuple[str, str] | None = None,
    class_column: str | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Every row's image id, found and spelt as `read_csv` does, and the row's texts in some other columns.

    Returns the ids (N,) and, for each of `names`, that column's texts (N,).
    Raises RleError if a column is missing, if there are several of its name, or if a row is malformed.
    """
    name = str(path)
    data, size = load(Path(path))
    header, begin = parse_header(name, data[: min(size, LONGEST_HEADER)].tobytes())
    id_at = text_columns(name, header, columns, class_column)[0]
    places = [column_index(name, header, column) for column in names]
    rows, fields = locate(name, data, begin, size, len(header), [id_at, *places])
    texts = [read_strings(name, rows, data, fields[:, at]) for at in range(1, 1 + len(places))]
    return read_names(name, rows, data, fields[:, 0], "id"), texts


def write_csv(
    path: str | PathLike,
    ids: Iterable[str],
    texts: Iterable[str],
    columns: tuple[str, ...] = ("image_id", "rle"),
    sizes: Iterable[tuple[int, int]] | None = None,
) -> None:
    """Write ids and RLE texts as a CSV file (UTF-8, lines ended by a newline, quoted only where needed).

    columns: names for the ids and the texts; or for the images' ids, the classes and the texts, where `ids` are
        "image/class".
    sizes: each image's (height, width), for two more columns of these names.
    Raises RleError if there aren't as many texts, or sizes, as ids, or if an id lacks a class. The file is written
    in place: where it must be whole or absent, give a temporary path and rename it.
    """
    names = (lambda id: (id,)) if len(columns) == 2 else split_class
    keyed = zip(ids, texts, *([] if sizes is None else [sizes]), strict=True)
    rows = ((*names(id), text, *(map(str, size[0]) if size else ())) for id, text, *size in keyed)
    try:
        write_rows(path, [*columns, *([] if sizes is None else ["height", "width"])], rows)
    except RleError:
        raise
    except UnicodeEncodeError as error:
        raise RleError(f"{path}: cannot be written in UTF-8: {shown(error.object)}") from None
    except ValueError as error:
        raise RleError(f"{path}: ids and texts (or sizes) differ in number ({error})") from None


def write_rows(path: str | PathLike, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write texts in columns as a CSV file, as `write_csv` does."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        file.writelines(",".join(map(_quoted, row)) + "\n" for row in itertools.chain([header], rows))


def _quoted(field: str) -> str:
    """A field, quoted if it has to be; Python's own writer leaves a carriage return bare, and can't read it back."""
    if any(special in field for special in ',"\r\n'):
        return '"' + field.replace('"', '""') + '"'
    return field


# ---------------------------------------------------------------------------------------------------- records


@dataclass(frozen=True)
class _Records:
    """A CSV file's data rows, blank lines left out.

    data: uint8, the whole file and 64 bytes more. begins, ends: int64 (N,), where each RLE text lies in it.
    rows: int64 (N,), their numbers as a spreadsheet shows them. heights, widths: int64 (N,), 0 = unknown.
    images: the images' ids, which `ids` are too unless a class follows.
    others: by name, where the first columns lie that are neither ids, classes, texts nor sizes.
    begin, size: where the rows begin in the data, and where they end. width: fields in a row.
    text_name: the RLE column's.
    """

    name: str
    data: np.ndarray
    rows: np.ndarray
    images: list[str]
    ids: list[str]
    begins: np.ndarray
    ends: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    others: dict[str, int]
    begin: int
    size: int
    width: int
    text_name: str

    def error(self, record: int, reason: object) -> RleError:
        kind = type(reason) if isinstance(reason, RleError) else RleError
        return kind(f"{self.name} row {self.rows[record]} (id {shown(self.ids[record])}): {reason}")

    def text_error(self, record: int, error: RleError, fmt: RleFormat) -> RleError:
        """The error of a row's text, with what other program has written it if that can be told."""
        odd = fmt.style == "coco" or str(error).endswith("not a whole number")
        what = explain_text(self.text(record), fmt) if odd else ""
        if self.text(record).strip() == self.text_name:
            what = HEADER_AGAIN
        return self.error(record, type(error)(f"{error} ({what})") if what else error)

    def text(self, record: int) -> str:
        """The RLE text; bytes that are no UTF-8 appear as U+FFFD, which no format allows."""
        return str(memoryview(self.data)[self.begins[record] : self.ends[record]], "utf-8", errors="replace")


def _read_records(path: Path, columns, class_column, size_columns, find_sizes: bool) -> _Records:
    """The rows of a file; without `size_columns`, `find_sizes` looks for size columns by their usual names."""
    name = str(path)
    data, size = load(path)
    header, begin = parse_header(name, data[: min(size, LONGEST_HEADER)].tobytes())
    id_at, *class_at, rle_at = text_columns(name, header, columns, class_column)
    if size_columns is None and find_sizes:
        size_columns = find_size_columns(header)
    size_at = [column_index(name, header, column) for column in size_columns or ()]

    rows, fields = locate(name, data, begin, size, len(header), [id_at, rle_at, *size_at, *class_at])
    blank = np.flatnonzero((fields[:, :, 0] == fields[:, :, 1]).all(axis=1))
    if blank.size:
        raise RleError(f"{name} row {rows[blank[0]]}: the id is empty, as is all else in the row: delete it")
    images = ids = read_names(name, rows, data, fields[:, 0], "id")
    if class_at:
        ids = _ids_of_classes(name, rows, images, read_names(name, rows, data, fields[:, -1], "class"))
    begins, ends = unquoted(data, *fields[:, 1].T)
    heights, widths = np.zeros((2, len(ids)), np.int64)
    if size_at:
        for side, column in ((heights, 2), (widths, 3)):
            _read_sides(name, rows, data, fields[:, column], side)
    taken = {id_at, rle_at, *size_at, *class_at}
    others = {column: at for at, column in enumerate(header[:_MOST_TELLING]) if at not in taken}
    names = {"others": others, "text_name": header[rle_at]}
    lies = {"begin": begin, "size": size, "width": len(header)}
    return _Records(name, data, rows, images, ids, begins, ends, heights, widths, **names, **lies)


def _ids_of_classes(name: str, rows: np.ndarray, images: list[str], classes: list[str]) -> list[str]:
    """The ids "image/class"."""
    wrong = next((known for known in set(classes) if CLASS_SEPARATOR in known), None)
    if wrong is not None:
        raise RleError(
            f"{name} row {rows[classes.index(wrong)]}: the class has a {CLASS_SEPARATOR!r} in it: {shown(repr(wrong))}"
        )
    return list(map(CLASS_SEPARATOR.join, zip(images, classes, strict=True)))


def _read_sides(name: str, rows: np.ndarray, data: np.ndarray, fields: np.ndarray, sides: np.ndarray) -> None:
    """Heights or widths into `sides`; 0 for an empty field."""
    kernels.read_whole_numbers(data, fields, sides)
    doubtful = np.flatnonzero(sides < 0)  # wrong, or with quotes, spaces or NaN
    texts = read_strings(name, rows[doubtful], data, fields[doubtful])
    sides[doubtful] = [_side(name, row, text) for row, text in zip(rows[doubtful], texts, strict=True)]


def _side(name: str, row: int, text: str) -> int:
    """A height or width; 0 for an empty field."""
    text = text.strip()
    if text.encode() in _MISSING:
        return 0
    digits = text.lstrip("0")  # Python refuses thousands of digits, leading zeros among them
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) <= kernels.NO_LIMIT):
        raise RleError(f"{name} row {row}: a height or width must be a positive whole number, not {text[:40]!r}")
    return int(digits)


def _sizes_of(records: _Records, shape, sizes) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths int64 (N,), 0 where the size is not known; `shape` and `sizes` as of `read_csv`."""
    if sizes is not None:
        return np.array([sizes.get(image, (0, 0)) for image in records.images], np.int64).reshape(-1, 2).T
    if shape is not None:
        pixel_count(shape)
        return np.repeat(np.array(shape, np.int64)[:, None], len(records.ids), axis=1)
    return records.heights, records.widths


def _check_sizes(records: _Records, heights: np.ndarray, widths: np.ndarray) -> None:
    """RleError unless every known size is one that an image can have, and the rows of an image have the same."""
    known = (heights != 0) | (widths != 0)
    wrong = (heights < 1) | (widths < 1) | (heights > kernels.NO_LIMIT // np.maximum(widths, 1))
    for record in np.flatnonzero(known & wrong):
        try:
            pixel_count((heights[record], widths[record]))
        except RleError as error:
            raise records.error(record, error) from None
    group, first = _groups(records.images)
    other = first[group]
    for row in np.flatnonzero((heights != heights[other]) | (widths != widths[other])):
        size, other_size = f"{heights[row]}x{widths[row]}", f"{heights[other[row]]}x{widths[other[row]]}"
        raise records.error(row, f"the image is {size} here, but {other_size} in row {records.rows[other[row]]}")


def _check_cells(records: _Records) -> None:
    """RleError if the longest texts are exactly as long as the most that another program keeps of one."""
    if found := cut_off(records.ends - records.begins, records.text):
        record, program = found
        raise records.error(
            record,
            f"the text has {records.ends[record] - records.begins[record]} characters, and none has more: {program} "
            "cuts off what a cell has beyond that; take the file as it was before (or put a space behind the text, if "
            "it is whole)",
        )


# ---------------------------------------------------------------------------------------------- rows of one id


def _say_repeated(records: _Records, group: np.ndarray, first: np.ndarray) -> str:
    """The ids with several rows, and which other columns would tell the rows apart."""
    repeated = np.flatnonzero(np.bincount(group) > 1)
    named = ", ".join(_say_rows(records, np.flatnonzero(group == number)) for number in repeated[:_MOST_NAMED])
    more = f" and {len(repeated) - _MOST_NAMED} more" if len(repeated) > _MOST_NAMED else ""
    what = "1 id has" if len(repeated) == 1 else f"{len(repeated)} ids have"
    return f"{records.name}: {what} several rows: {named}{more}{_say_telling(records)}"


def _say_rows(records: _Records, members: np.ndarray) -> str:
    """One id and the numbers of its rows."""
    numbers = ", ".join(map(str, records.rows[members[:_MOST_NAMED]]))
    more = f" and {len(members) - _MOST_NAMED} more" if len(members) > _MOST_NAMED else ""
    return f"{shown(records.ids[members[0]])} (rows {numbers}{more})"


def _say_telling(records: _Records) -> str:
    """The columns that, alone or together with the ids, have no value twice."""
    _, fields = locate(
        records.name, records.data, records.begin, records.size, records.width, list(records.others.values())
    )
    with_ids = []
    for place, column in enumerate(records.others):
        try:
            values = read_strings(records.name, records.rows, records.data, fields[:, place])
        except RleError:
            continue  # a column that nobody has asked for
        if len(set(values)) == len(values):
            return f"; in the column {column!r} each row has a value of its own"
        if len(set(zip(records.ids, values, strict=True))) == len(values):
            with_ids.append(repr(column))
    together = f"; no two rows have the same id and {' or '.join(with_ids[:_MOST_NAMED])}"
    return together if with_ids else ""


# ------------------------------------------------------------------------------------------------------ texts


def _read_texts(records: _Records, heights, widths, fmt: RleFormat) -> tuple[np.ndarray, np.ndarray]:
    """Edges uint32 and offsets int64 (N + 1,) of the rows' masks."""
    begins, ends = _without_empty(records, fmt)
    if fmt.order == "F" or heights.all():
        edges, offsets = _read_runs(records, begins, ends, heights, widths, fmt)
        if fmt.order == "F":
            return edges, offsets
        rows = zip(offsets[:-1], offsets[1:], heights, widths, strict=True)
        masks = [
            _turned(records, record, edges[begin:end], int(height), int(width))
            for record, (begin, end, height, width) in enumerate(rows)
        ]
    else:
        masks = [np.empty(0, np.uint32)] * len(records.ids)
        for record in np.flatnonzero(ends > begins):
            masks[record] = _read_text(records, record, heights, widths, fmt)
    offsets = np.concatenate([[0], np.cumsum([mask.size for mask in masks], dtype=np.int64)])
    return np.concatenate([np.empty(0, np.uint32), *masks]), offsets


def _read_runs(records: _Records, begins, ends, heights, widths, fmt: RleFormat) -> tuple[np.ndarray, np.ndarray]:
    """Edges and offsets of the texts, in the order in which they number pixels."""
    data, style = records.data, kernels.STYLES[fmt.style]
    pixels = heights * widths  # kernels.ANY_SIZE where the size isn't known
    limits = np.append(begins, records.ends[-1] if len(begins) else 0)
    edges = np.empty(kernels.count_numbers(data, limits[0], limits[-1], len(begins), style), np.uint32)

    def read(first: int, last: int) -> tuple[int, np.ndarray]:
        """Edges of the rows into their part of `edges`: where it begins, and the offsets in it."""
        begin = kernels.count_numbers(data, limits[0], limits[first], first, style)
        offsets = np.empty(last - first + 1, np.int64)
        rows = slice(first, last)
        wrong = kernels.read_texts(
            data, begins[rows], ends[rows], style, fmt.base, pixels[rows], edges[begin:], offsets
        )
        if wrong >= 0:
            record = first + wrong
            try:
                check_text(records.text(record), _shape(heights, widths, record), fmt)
            except RleError as error:
                raise records.text_error(record, error, fmt) from None
            raise AssertionError(f"{records.name} row {records.rows[record]}: refused, but not by the strict reader")
        return begin, offsets

    used = 0
    offsets = [np.zeros(1, np.int64)]
    for begin, part in map_rows(read, limits):
        if begin > used:  # merged runs, or spaces in other columns, have left a gap
            edges[used : used + part[-1]] = edges[begin : begin + part[-1]]
        offsets.append(part[1:] + used)
        used += part[-1]
    return edges[:used], np.concatenate(offsets)


def _without_empty(records: _Records, fmt: RleFormat) -> tuple[np.ndarray, np.ndarray]:
    """Where the texts lie, those that stand for an empty mask shortened to nothing."""
    ends = records.ends.copy()
    for record in np.flatnonzero(records.ends - records.begins <= _LONGEST_EMPTY):
        text = records.data[records.begins[record] : ends[record]].tobytes().strip(b" ")
        if text in _MISSING or text == fmt.empty.encode():
            ends[record] = records.begins[record]
    return records.begins, ends


def _read_text(records: _Records, record: int, heights, widths, fmt: RleFormat) -> np.ndarray:
    """One row's edges."""
    try:
        return text_to_edges(records.text(record), _shape(heights, widths, record), fmt)
    except RleError as error:
        raise records.text_error(record, error, fmt) from None


def _turned(records: _Records, record: int, edges: np.ndarray, height: int, width: int) -> np.ndarray:
    """Column-major edges of a row's row-major ones."""
    try:
        return turned(edges, width, height)
    except RleError as error:
        raise records.error(record, error) from None


def _shape(heights: np.ndarray, widths: np.ndarray, record: int) -> tuple[int, int] | None:
    return (int(heights[record]), int(widths[record])) if heights[record] else None


def _groups(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Each name's number in the order of first appearance, int64 (N,), and where each number first appears."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    group = np.fromiter(map(numbers.__getitem__, names), np.int64, len(names))
    return group, np.unique(group, return_index=True)[1]
