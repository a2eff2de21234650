"""Names for what other programs leave in tables.

Each function looks at what cannot be read, and says what it probably is; empty where that cannot be told.
"""

import re
import unicodedata
from collections.abc import Callable

import numpy as np

from .formats import RleFormat

_FILES = (  # how other kinds of files begin
    (b"\xff\xfe", "a text in UTF-16, as Excel's 'Unicode text' is; save it as CSV in UTF-8"),
    (b"\xfe\xff", "a text in UTF-16, as Excel's 'Unicode text' is; save it as CSV in UTF-8"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%PDF", "a PDF"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV"),
    (b"PAR1", "a Parquet file; convert it with pandas: read_parquet, then to_csv(index=False)"),
    (b"ARROW1", "an Arrow file; convert it with pandas: read_feather, then to_csv(index=False)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x04", "a pickle of Python"),
    (b"\x80\x05", "a pickle of Python"),
    (b"SQLite format 3", "an SQLite database"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x04\x22\x4d\x18", "an LZ4 file; unpack it first"),
    (b"\x1f\x9d", "a file packed by compress; unpack it first"),
    (b"\0\0\0\0", "nothing but zeros: writing it has been interrupted, or the disk was full"),
)
_LINES = (  # how texts of other kinds begin, in lower case
    ("<!doctype html", "a web page, of an error or of a login, not the file; download it again"),
    ("<html", "a web page, of an error or of a login, not the file; download it again"),
    ("<?xml", "XML"),
    ("version https://git-lfs", "a pointer of Git LFS, not the file; fetch it with `git lfs pull`"),
    ("{", "JSON"),
    ("[", "JSON"),
)
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", "\uff0c": "full-width commas"}


def of_head(head: bytes) -> str:
    """Name what a file is that is no text in UTF-8."""
    found = next((what for magic, what in _FILES if head.startswith(magic)), None)
    if found is None and max(head[::2].count(0), head[1::2].count(0)) > len(head) // 4:
        found = "a text in UTF-16 without its mark; save it as CSV in UTF-8"
    if found is None and b"\0" not in head:
        found = "a text in another encoding, such as Windows-1252; save it as CSV in UTF-8"
    return found or ""


def of_first_line(line: str) -> str:
    """Name what a first line is that names no columns, with commas in it or without."""
    lower = line.lstrip().lower()
    found = next((what for magic, what in _FILES if line.encode().startswith(magic)), None)
    if found is not None:
        return found
    if lower.lstrip('"').startswith("sep="):
        return "a line for Excel only: delete it"
    found = next((what for begin, what in _LINES if lower.startswith(begin)), None)
    return "" if found is None else f"the file is {found}"


def of_header(line: str) -> str:
    """Name what a first line is that names one column only."""
    if "\r" in line.rstrip("\r"):
        return "lines end with carriage returns alone, as on old Macs: save it with other ends of lines"
    for separator, name in _SEPARATORS.items():
        if separator in line:
            return f"columns are parted by {name}, as some spreadsheets do: save it with commas"
    return "the first line is blank" if line and not line.strip() else ""


def of_row(raw: bytes, separator: str) -> str:
    """Name what a row is that has not as many fields as the header."""
    if raw.strip(b"\0\r\n") == b"":
        return "zeros only: writing the file has been interrupted, or the disk was full"
    if raw.strip(b"\x1a\r\n") == b"":
        return "a Ctrl-Z, which ends files under DOS: delete it"
    if raw.strip() == b"" or not str(raw, "utf-8", errors="replace").strip():
        return "spaces only: delete the row"
    if b"\r" in raw.rstrip(b"\r"):
        return "a carriage return without a newline ends no row"
    if raw.startswith((b"<<<<<<<", b"=======", b">>>>>>>")):
        return "a mark of a conflict in Git"
    for other, name in _SEPARATORS.items():
        if other.encode() in raw and separator.encode() not in raw:
            return f"fields are parted by {name} here"
    return ""


CELLS = {32_767: "Excel", 65_535: "older LibreOffice"}
"""The most characters that a cell may have, and where: one text of exactly so many is reason enough."""
FIELDS = dict.fromkeys((255, 256), "an old spreadsheet or database")
FIELDS |= dict.fromkeys((1000, 1024, 2000, 4000, 8000), "a database")
"""Lengths at which databases cut off texts; a text may be so long by chance."""
_SEVERAL = 3  # texts of one length that are no chance


def cut_off(lengths: np.ndarray, text_of: Callable[[int], str]) -> tuple[int, str] | None:
    """A text that another program has probably cut off, and which: what is left may well be a mask.

    lengths: int (N,), of all texts. text_of: one of them.
    """
    longest = int(lengths.max(initial=0))
    as_long = np.flatnonzero(lengths == longest)
    if longest in CELLS:
        return int(as_long[0]), CELLS[longest]
    if longest in FIELDS and len({text_of(int(at)) for at in as_long[:1000]}) >= _SEVERAL:
        return int(as_long[0]), FIELDS[longest]
    return None


HEADER_AGAIN = "the header once more: were files joined?"


def explain_text(text: str, fmt: RleFormat) -> str:
    """Name what a text is that is no RLE."""
    text = text.strip(" ")[:_LOOKED_AT]
    bare = text.strip()
    patterns = _OBJECTS if fmt.style == "coco" else (*_OBJECTS, *_NUMBERS)
    found = next((what for pattern, what in patterns if re.search(pattern, bare, re.IGNORECASE)), None)
    if found is None and fmt.style != "coco":
        found = next(filter(None, map(_of_character, dict.fromkeys(text))), None)
    if found == _NOTHING:
        found += f"; in this format an empty mask is {fmt.empty!r}" if fmt.empty else "; an empty mask has no text"
    return found or ""


_LOOKED_AT = 10_000  # characters of a text
_NOTHING = "what another program writes for nothing"
_OBJECTS = (
    (r"^(none|null|nil|n/?a|<na>|nat|nan|undefined|empty|\[\]|\(\)|\{\}|''|\"\")$", _NOTHING),
    (r"^#(N/A|NAME\?|REF!|VALUE!|NUM!|NULL!|DIV/0!|###*)", "an error that a spreadsheet shows in a cell"),
    (r"^b['\"]", "Python's bytes as a text: decode them before they are written"),
    (r"^(array|tensor|Series|np\.\w+)\(|^<\w+[ .]", "an object as Python prints it, not its numbers"),
    (r"^\{", "JSON, or a dict as Python writes it: take its counts"),
    (r"^['\"\u2018-\u201f]", "a text with quotation marks in it, as spreadsheets and str() add them"),
)
_NUMBERS = (
    (r"\.\.\.|\u2026", "a text that pandas or NumPy has shortened for printing: numbers are missing"),
    (r"^[\[(]|[\])]$", "a list as Python or NumPy writes it; join its numbers with spaces"),
    (r"\d[eE][+-]?\d", "a number in scientific notation, as spreadsheets and pandas write large ones"),
    (r"(^| )\d+\.0*( |$)", "whole numbers as floats, as pandas writes a column with gaps: convert them to int"),
    (
        r"^\d{1,2}[-/. ](jan|feb|mar|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])",
        "a date, as spreadsheets make of texts",
    ),
    (r"(^| )\d{1,3}([,'\u2019]\d{3})+( |$)", "numbers with a mark between thousands"),
    (r"^\d+[,;]\s*\d", "numbers with commas or semicolons between: part them by spaces"),
    (r"\\[nrt]", "an end of a line or a tab, written out"),
)


_CONTROLS = {"\t": "tab", "\r": "carriage return", "\n": "newline"}


def _of_character(character: str) -> str:
    """Name a character that looks like one of a number or a space."""
    if (character.isascii() and character.isprintable()) or character == "\ufffd":
        return ""
    if character == "\0":
        return "zero bytes in a text: the file is damaged"
    name = (
        f"U+{ord(character):04X} {unicodedata.name(character, _CONTROLS.get(character, 'control character')).lower()}"
    )
    if character.isspace() or unicodedata.category(character) in ("Cf", "Cc"):
        return f"another character than a space beside a number: {name}"
    if character.isdigit():
        return f"digits of another script: {name}"
    if unicodedata.category(character) in ("Pd", "Sm"):
        return f"another sign than a minus: {name}"
    return ""
