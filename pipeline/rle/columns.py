"""Which columns of a CSV file hold ids, classes, RLE texts and sizes: by name, or by the names in use."""

import csv
import re
from collections.abc import Container
from os import PathLike

from .formats import RleError, shown
from .leftovers import of_first_line, of_head, of_header
from .unpacking import BYTE_ORDER_MARK, open_unpacked

# Column names in use, in lower case; the first that a header has is taken.
_ID_NAMES = ("image_id", "imageid", "id", "image", "img", "image_name", "file_name", "filename", "record_id")
_ID_NAMES += ("imageid_classid", "image_id_class_id")
_RLE_NAMES = ("rle", "rle_mask", "encodedpixels", "encoded_pixels", "mask", "pixels", "predicted", "prediction")
_RLE_NAMES += ("segmentation", "annotation")
_CLASS_NAMES = ("class", "class_id", "classid", "category", "category_id", "label")
_HEIGHT_NAMES = ("height", "image_height", "img_height", "height_pixels", "h")
_WIDTH_NAMES = ("width", "image_width", "img_width", "width_pixels", "w")

LONGEST_HEADER = 2**20
_MOST_NAMED = 30  # columns that a message names


def read_column_names(
    path: str | PathLike, columns: tuple[str, str] | None = None, class_column: str | None = None
) -> tuple[str, ...]:
    """Names of the columns of ids, of classes if one is given, and of RLE texts, found as `read_csv` finds them.

    Raises RleError if the file has no header or not these columns.
    """
    header = _read_header(path)
    return tuple(header[at] for at in text_columns(str(path), header, columns, class_column))


def find_class_column(path: str | PathLike, name: str | None = None, others: Container[str] = ()) -> str | None:
    """The column of classes of a CSV file: the one of this name, or else of a usual name; None without either.

    others: columns that are something else, whatever their names. A file of two columns has ids and texts only.
    Raises RleError if the file has no header.
    """
    header = _read_header(path)
    if name in header:
        return name
    left = [column for column in header if column not in others]
    found = _find(left, _CLASS_NAMES) if len(header) > 2 else None
    return None if found is None else left[found]


def find_size_columns(header: list[str]) -> tuple[str, str] | None:
    """The columns of heights and widths among a file's column names, if both have one of their usual names."""
    height, width = _find(header, _HEIGHT_NAMES), _find(header, _WIDTH_NAMES)
    return None if height is None or width is None else (header[height], header[width])


def text_columns(
    name: str, header: list[str], columns: tuple[str, str] | None, class_column: str | None
) -> tuple[int, ...]:
    """Where the ids, the classes if their column is given, and the RLE texts of the file `name` are.

    columns: the names of the id and the RLE column; otherwise each is found by its usual names, or is the first
        that is nothing else.
    Raises RleError if a column is missing, or if there are several of its name.
    """
    if columns is None:
        columns = _usual_columns(name, header, class_column)
    names = columns if class_column is None else (columns[0], class_column, columns[1])
    if len(set(names)) < len(names):
        what = "ids and RLE texts" if class_column is None else "ids, classes and RLE texts"
        raise RleError(f"{name}: {what} cannot be in the same column: {', '.join(map(shown, names))}")
    return tuple(column_index(name, header, column) for column in names)


def column_index(name: str, header: list[str], column: str) -> int:
    """Where the one column of that name is. Raises RleError if there is none, or several."""
    if header.count(column) != 1:
        problem = "several columns" if column in header else "no column"
        named = ", ".join(map(shown, header[:_MOST_NAMED])) + ", ..." * (len(header) > _MOST_NAMED)
        raise RleError(f"{name}: {problem} {shown(column)!r}; the columns are {named}")
    return header.index(column)


def parse_header(name: str, head: bytes) -> tuple[list[str], int]:
    """The column names without spaces around them, and where the line after them begins; `head` begins the file."""
    raw = head.removeprefix(BYTE_ORDER_MARK).partition(b"\n")[0]
    check_text(name, raw)
    line = str(raw, "utf-8")
    what = of_first_line(line)
    try:
        header = [_plain(column) for column in next(csv.reader([line]), [])]
    except csv.Error:  # a field of more than 128 KiB
        header = []
    if len(header) < 2 and not what:
        what = of_header(line) or "the first line is blank" * (not line and len(head) > len(raw))
    if what or len(header) < 2 or header[1].replace(" ", "").isdigit():  # too few columns, or a first row of data
        raise RleError(
            f"{name}: the first line must name an id and an RLE column, with a comma between, not {line[:80]!r}"
            + (f" ({what})" * bool(what))
        )
    return header, head.find(b"\n") + 1 or len(head)


def check_first_line(path: str | PathLike, separator: str = ",") -> None:
    """RleError if a table begins as no table with such a separator does; any columns will do."""
    with open_unpacked(path) as file:
        raw = file.readline(LONGEST_HEADER).removeprefix(BYTE_ORDER_MARK).rstrip(b"\n")
    check_text(str(path), raw)
    line = str(raw, "utf-8")
    what = of_first_line(line)
    if not what and separator == "," and separator not in line:
        what = of_header(line)
    if what:
        raise RleError(f"{path}: the first line must name the columns, not {line[:80]!r} ({what})")


def check_text(name: str, raw: bytes) -> None:
    """RleError unless a first line is text in UTF-8."""
    line = str(raw, "utf-8", errors="replace")
    if "\0" in line or "\ufffd" in line:
        what = of_head(raw)
        raise RleError(
            f"{name}: not a text in UTF-8, but one in UTF-16 or no text at all: it begins {raw[:20]!r}"
            + (f" ({what})" * bool(what))
        )


def _plain(column: str) -> str:
    """A column's name without spaces around it, nor what else is not to be seen."""
    return column.strip().strip("\ufeff\u200b").strip()


def _read_header(path: str | PathLike) -> list[str]:
    """The column names of a CSV file, packed or not."""
    with open_unpacked(path) as file:
        return parse_header(str(path), file.readline(LONGEST_HEADER))[0]


def _usual_columns(name: str, header: list[str], class_column: str | None) -> tuple[str, str]:
    """The id and the RLE column by their usual names, or the first that are nothing else."""
    others = {class_column, *(find_size_columns(header) or ())}
    places = [_find(header, names) for names in (_ID_NAMES, _RLE_NAMES)]
    left = [at for at, column in enumerate(header) if column not in others and at not in places]
    if places.count(None) > len(left):
        named = ", ".join(map(shown, header[:_MOST_NAMED]))
        raise RleError(f"{name}: no columns for ids and RLE texts; the columns are {named}")
    if places[0] is None and _is_index(header[left[0]]) and len(left) > places.count(None):
        first, other = (repr(header[at]) for at in left[:2])
        raise RleError(
            f"{name}: are the ids in the column {first}, or is that pandas' count of the rows, and they are in {other}?"
            " Name the columns of ids and RLE texts (in the header, too, if one has no name)"
        )
    left.sort(key=lambda at: (_is_index(header[at]), header[at].lower() in _CLASS_NAMES))  # classes that are ignored
    id_at, rle_at = (left.pop(0) if at is None else at for at in places)
    return header[id_at], header[rle_at]


def _is_index(column: str) -> bool:
    """Whether pandas writes its index so, which are the numbers of the rows unless ids were made the index."""
    return column == "" or re.fullmatch(r"Unnamed: [\d.]+", column) is not None


def _find(header: list[str], names: tuple[str, ...]) -> int | None:
    """Where the first of these names is, ignoring case."""
    lower = [column.lower() for column in header]
    return next((lower.index(name) for name in names if name in lower), None)
