"""CSV files of RLE texts <-> `RleTable`, without pandas: the file's bytes are parsed where they lie."""

import csv
import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from . import kernels
from .codec import text_to_edges
from .formats import RleError, RleFormat, get_format
from .masks import pixel_count
from .table import RleTable
from .threads import map_rows

# Column names in use, in lower case; the first that a header has is taken.
_ID_NAMES = ("image_id", "imageid", "id", "image", "img", "image_name", "file_name", "filename", "record_id")
_ID_NAMES += ("imageid_classid", "image_id_class_id")
_RLE_NAMES = (
    "rle",
    "rle_mask",
    "encodedpixels",
    "encoded_pixels",
    "mask",
    "pixels",
    "predicted",
    "prediction",
)
_RLE_NAMES += ("segmentation", "annotation")
_HEIGHT_NAMES = ("height", "image_height", "img_height", "height_pixels", "h")
_WIDTH_NAMES = ("width", "image_width", "img_width", "width_pixels", "w")

_MISSING = (b"", b"nan", b"NaN")  # an empty field, or what pandas makes of one
_LONGEST_HEADER = 2**20
_LONGEST_EMPTY = 64  # only shorter texts are compared with the ways to write an empty mask
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_csv(
    path: str | PathLike,
    fmt: str | RleFormat = "kaggle",
    *,
    columns: tuple[str, str] | None = None,
    size_columns: tuple[str, str] | None = None,
    shape: tuple[int, int] | None = None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    unique: bool = False,
) -> RleTable:
    """The masks of a CSV file (also gzipped), one row for each id, in order of first appearance.

    columns: the names of the id and the RLE column; otherwise they are found by their usual names, or are the
        first two. Other columns are ignored. Ids are strings, whatever they look like.
    size_columns, shape, sizes: where the images' (height, width) come from: columns of the file, one size for
        all, or a mapping by id (ids that it lacks have no size). Without them, columns with the usual names
        are used if there are any. Row-major formats need sizes; elsewhere a run's end isn't checked without one.
    unique: refuse an id that appears twice. Otherwise its rows' masks are united.

    An empty field, NaN and the format's own text for it are empty masks. Raises RleError for anything else
    that isn't a valid text, naming file, row (the header is row 1), id, token and reason.
    """
    fmt = get_format(fmt)
    records = _read_records(Path(path), columns, size_columns, find_sizes=shape is None and sizes is None)
    if sizes is not None:
        heights, widths = np.array([sizes.get(id, (0, 0)) for id in records.ids], np.int64).reshape(-1, 2).T
    elif shape is not None:
        pixel_count(shape)
        heights, widths = np.repeat(np.array(shape, np.int64)[:, None], len(records.ids), axis=1)
    else:
        heights, widths = records.heights, records.widths
    _check_sizes(records, heights, widths)
    edges, offsets = _read_texts(records, heights, widths, fmt)
    return _one_row_an_id(records, edges, offsets, heights, widths, unique)


def read_column_names(path: str | PathLike, columns: tuple[str, str] | None = None) -> tuple[str, str]:
    """Names of the id and the RLE column of a CSV file (also gzipped), found as `read_csv` finds them.

    Raises RleError if the file has no header or not these columns.
    """
    path = Path(path)
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
    with gzip.open(path) if packed else open(path, "rb") as file:
        head = np.frombuffer(file.read(_LONGEST_HEADER).removeprefix(_BYTE_ORDER_MARK), np.uint8)
    header, _ = _read_header(path.name, head, 0, head.size)
    id_column, rle_column = _text_columns(path.name, header, columns)
    return header[id_column], header[rle_column]


def find_size_columns(header: list[str]) -> tuple[str, str] | None:
    """The columns of heights and widths among a file's column names, if both have one of their usual names."""
    found = _find(header, _HEIGHT_NAMES, _WIDTH_NAMES)
    return (header[found[0]], header[found[1]]) if found else None


def write_csv(
    path: str | PathLike,
    ids: Iterable[str],
    texts: Iterable[str],
    columns: tuple[str, str] = ("image_id", "rle"),
    sizes: Iterable[tuple[int, int]] | None = None,
) -> None:
    """Write ids and RLE texts as a CSV file (UTF-8, lines ended by a newline, quoted only where needed).

    sizes: each image's (height, width), for two more columns of these names.
    Raises RleError if there aren't as many texts, or sizes, as ids. The file is written in place: where it must
    be whole or absent, give a temporary path and rename it.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        names = columns if sizes is None else (*columns, "height", "width")
        file.write(",".join(map(_quoted, names)) + "\n")
        rows = zip(ids, texts, strict=True)
        try:
            if sizes is None:
                file.writelines(f"{_quoted(id)},{_quoted(text)}\n" for id, text in rows)
            else:
                sized = zip(rows, sizes, strict=True)
                file.writelines(f"{_quoted(id)},{_quoted(text)},{h},{w}\n" for (id, text), (h, w) in sized)
        except ValueError as error:
            raise RleError(f"{path}: ids and texts (or sizes) differ in number ({error})") from None


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
    """

    name: str
    data: np.ndarray
    rows: np.ndarray
    ids: list[str]
    begins: np.ndarray
    ends: np.ndarray
    heights: np.ndarray
    widths: np.ndarray

    def error(self, record: int, reason: object) -> RleError:
        return RleError(f"{self.name} row {self.rows[record]} (id {self.ids[record]}): {reason}")

    def text(self, record: int) -> str:
        """The RLE text; bytes that are no UTF-8 appear as U+FFFD, which no format allows."""
        return str(self.data[self.begins[record] : self.ends[record]].tobytes(), "utf-8", errors="replace")


def _read_records(path: Path, columns, size_columns, find_sizes: bool) -> _Records:
    """The rows of a file; without `size_columns`, `find_sizes` looks for size columns by their usual names."""
    data, size = _load(path)
    begin = len(_BYTE_ORDER_MARK) if data[:3].tobytes() == _BYTE_ORDER_MARK else 0
    header, begin = _read_header(path.name, data, begin, size)
    wanted = _text_columns(path.name, header, columns)
    if size_columns is not None:
        wanted += [_index(path.name, header, name) for name in size_columns]
    elif find_sizes and (found := _find(header, _HEIGHT_NAMES, _WIDTH_NAMES)):
        wanted += found

    rows, fields = _locate(path.name, data, begin, size, len(header), wanted)
    ids = _strings(path.name, rows, data, fields[:, 0])
    if "" in ids:
        raise RleError(f"{path.name} row {rows[ids.index('')]}: the id is empty")
    begins, ends = _unquoted(data, *fields[:, 1].T)
    heights, widths = np.zeros((2, len(ids)), np.int64)
    for side, column in zip((heights, widths), range(2, len(wanted)), strict=False):
        _read_sides(path.name, rows, data, fields[:, column], side)
    return _Records(path.name, data, rows, ids, begins, ends, heights, widths)


def _load(path: Path) -> tuple[np.ndarray, int]:
    """The file's bytes uint8, unpacked if gzipped, with the padding that kernels need; and their number."""
    with open(path, "rb") as file:
        packed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        content = gzip.decompress(file.read()) if packed else None
        size = len(content) if packed else path.stat().st_size
        data = np.zeros(size + kernels.BLOCK, np.uint8)
        if packed:
            data[:size] = np.frombuffer(content, np.uint8)
        else:
            file.readinto(memoryview(data)[:size])
    return data, size


def _read_header(name: str, data: np.ndarray, begin: int, size: int) -> tuple[list[str], int]:
    """The column names without spaces around them, and where the first data row begins."""
    raw = data[begin : min(size, begin + _LONGEST_HEADER)].tobytes().partition(b"\n")[0]
    line = str(raw, "utf-8", errors="replace")
    try:
        header = [column.strip() for column in next(csv.reader([line]), [])]
    except csv.Error:  # a field of more than 128 KiB
        header = []
    if len(header) < 2 or header[1].replace(" ", "").isdigit():  # too few columns, or a first row of data
        raise RleError(f"{name}: the first line must name an id and an RLE column, not {line[:80]!r}")
    return header, min(begin + len(raw) + 1, size)


def _text_columns(name: str, header: list[str], columns: tuple[str, str] | None) -> list[int]:
    """Where the id and the RLE text are."""
    if columns is not None:
        return [_index(name, header, column) for column in columns]
    return _find(header, _ID_NAMES, _RLE_NAMES) or [0, 1]


def _index(name: str, header: list[str], column: str) -> int:
    if header.count(column) != 1:
        problem = "several columns" if column in header else "no column"
        raise RleError(f"{name}: {problem} {column!r}; the columns are {', '.join(header)}")
    return header.index(column)


def _find(header: list[str], *name_lists: tuple[str, ...]) -> list[int]:
    """One column for each list of names, ignoring case; nothing unless there is one for every list."""
    lower = [column.lower() for column in header]
    found = [next((lower.index(name) for name in names if name in lower), None) for names in name_lists]
    return [] if None in found else found


def _locate(name: str, data, begin: int, size: int, width: int, wanted: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers int64 (N,) and where the wanted fields begin and end, int64 (N, C, 2)."""
    lines = kernels.count_byte(data, begin, size, kernels.NEWLINE) + 1
    fields = np.zeros((lines, len(wanted), 2), np.int64)
    widths = np.zeros(lines, np.int64)
    count, open_quote = kernels.locate_fields(data, begin, size, np.array(wanted), fields, widths)
    widths = widths[:count]
    ragged = np.flatnonzero((widths != width) & (widths != 0))
    if open_quote:
        raise RleError(f"{name} row {count + 1}: a quote is opened and never closed")
    if ragged.size:
        raise RleError(f"{name} row {ragged[0] + 2}: {widths[ragged[0]]} fields, but the header has {width}")
    records = np.flatnonzero(widths)
    return records + 2, fields[records]


def _unquoted(data: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The insides of those fields that are quoted as a whole."""
    quoted = (ends - begins >= 2) & (data[begins] == kernels.QUOTE) & (data[ends - 1] == kernels.QUOTE)
    return begins + quoted, ends - quoted


def _strings(name: str, rows: np.ndarray, data: np.ndarray, fields: np.ndarray) -> list[str]:
    """The fields' texts without their quotes; fields int64 (N, 2)."""
    out = np.empty(int((fields[:, 1] - fields[:, 0]).sum()) + len(fields), np.uint8)
    if kernels.gather_fields(data, fields, out) >= 0:
        try:
            return str(memoryview(out), "utf-8").split("\n")[:-1]
        except UnicodeDecodeError:
            pass  # the loop below finds the row
    view = memoryview(data)
    strings = []
    for row, (begin, end) in zip(rows, fields.tolist(), strict=True):
        raw = bytes(view[begin:end])
        if raw[:1] == b'"':
            if len(raw) < 2 or raw[-1:] != b'"' or b'"' in raw[1:-1].replace(b'""', b""):
                raise RleError(f"{name} row {row}: text after the closing quote in {raw[:40]!r}")
            raw = raw[1:-1].replace(b'""', b'"')
        elif b"\r" in raw:
            raise RleError(f"{name} row {row}: a carriage return without a newline in {raw[:40]!r}")
        try:
            strings.append(str(raw, "utf-8"))
        except UnicodeDecodeError:
            raise RleError(f"{name} row {row}: not UTF-8: {raw[:40]!r}") from None
    return strings


def _read_sides(name: str, rows: np.ndarray, data: np.ndarray, fields: np.ndarray, sides: np.ndarray) -> None:
    """Heights or widths into `sides`; 0 for an empty field."""
    kernels.read_whole_numbers(data, fields, sides)
    doubtful = np.flatnonzero(sides < 0)  # wrong, or with quotes, spaces or NaN
    texts = _strings(name, rows[doubtful], data, fields[doubtful])
    sides[doubtful] = [_side(name, row, text) for row, text in zip(rows[doubtful], texts, strict=True)]


def _side(name: str, row: int, text: str) -> int:
    """A height or width; 0 for an empty field."""
    text = text.strip()
    if text.encode() in _MISSING:
        return 0
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= kernels.NO_LIMIT):
        raise RleError(f"{name} row {row}: a height or width must be a positive whole number, not {text!r}")
    return int(text)


def _check_sizes(records: _Records, heights: np.ndarray, widths: np.ndarray) -> None:
    """RleError unless every known size is one that an image can have."""
    known = (heights != 0) | (widths != 0)
    wrong = (heights < 1) | (widths < 1) | (heights > kernels.NO_LIMIT // np.maximum(widths, 1))
    for record in np.flatnonzero(known & wrong):
        try:
            pixel_count((heights[record], widths[record]))
        except RleError as error:
            raise records.error(record, error) from None


# ------------------------------------------------------------------------------------------------------ texts


def _read_texts(records: _Records, heights, widths, fmt: RleFormat) -> tuple[np.ndarray, np.ndarray]:
    """Edges uint32 and offsets int64 (N + 1,) of the rows' masks."""
    begins, ends = _without_empty(records, fmt)
    if fmt.order == "F" or heights.all():
        edges, offsets = _read_runs(records, begins, ends, heights, widths, fmt)
        if fmt.order == "F":
            return edges, offsets
        rows = zip(offsets[:-1], offsets[1:], heights, widths, strict=True)
        masks = [kernels.transposed(edges[begin:end], width, height) for begin, end, height, width in rows]
    else:
        masks = [np.empty(0, np.uint32)] * len(records.ids)
        for record in np.flatnonzero(ends > begins):
            masks[record] = _read_text(records, record, heights, widths, fmt)
    offsets = np.concatenate([[0], np.cumsum([mask.size for mask in masks], dtype=np.int64)])
    return np.concatenate([np.empty(0, np.uint32), *masks]), offsets


def _read_runs(records: _Records, begins, ends, heights, widths, fmt: RleFormat) -> tuple[np.ndarray, np.ndarray]:
    """Edges and offsets of the texts, in the order in which they number pixels."""
    data, style = records.data, kernels.STYLES[fmt.style]
    pixels = np.where(heights == 0, kernels.NO_LIMIT, heights * widths)
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
            _read_text(records, first + wrong, heights, widths, fmt)  # raises
            name, row = records.name, records.rows[first + wrong]
            raise AssertionError(f"{name} row {row}: refused, but not by the strict reader")
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
    """One row's edges, by the reader that says what is wrong."""
    shape = (int(heights[record]), int(widths[record])) if heights[record] else None
    try:
        return text_to_edges(records.text(record), shape, fmt)
    except RleError as error:
        raise records.error(record, error) from None


def _one_row_an_id(records: _Records, edges, offsets, heights, widths, unique: bool) -> RleTable:
    """Unite the rows of an id, whose sizes must agree."""
    positions = {id: position for position, id in enumerate(dict.fromkeys(records.ids))}
    if len(positions) == len(records.ids):
        return RleTable(records.ids, offsets, edges, heights, widths)
    group = np.array([positions[id] for id in records.ids], np.int64)
    first = np.unique(group, return_index=True)[1]
    if unique:
        again = np.flatnonzero(first[group] != np.arange(group.size))[0]
        raise records.error(again, f"the id appears in row {records.rows[first[group[again]]]} already")
    differ = np.flatnonzero((heights != heights[first][group]) | (widths != widths[first][group]))
    if differ.size:
        row, other = differ[0], first[group[differ[0]]]
        size, other_size = f"{heights[row]}x{widths[row]}", f"{heights[other]}x{widths[other]}"
        raise records.error(row, f"the image is {size} here, but {other_size} in row {records.rows[other]}")
    rows = np.argsort(group, kind="stable")
    groups = np.concatenate([[0], np.cumsum(np.bincount(group))])
    edges, offsets = kernels.unite_rows(edges, offsets, rows, groups)
    return RleTable(list(positions), offsets, edges, heights[first], widths[first])
