"""The fields of a CSV file, located in its bytes, which are nowhere copied."""

from os import PathLike
from pathlib import Path

import numpy as np

from . import kernels
from .formats import RleError
from .leftovers import of_row
from .unpacking import BYTE_ORDER_MARK, is_packed, open_unpacked

_CHUNK = 2**24  # bytes of a packed file that are unpacked at once


def load(path: Path) -> tuple[np.ndarray, int]:
    """The file's bytes uint8, unpacked if packed, with the padding that kernels need; and their number.

    Always writable, as kernels would be compiled once more for arrays that are not.
    """
    with open_unpacked(path) as file:
        if is_packed(file):
            parts = list(iter(lambda: file.read(_CHUNK), b""))
            data = np.zeros(sum(map(len, parts)) + kernels.BLOCK, np.uint8)
            size = 0
            for part in parts:
                data[size : size + len(part)] = np.frombuffer(part, np.uint8)
                size += len(part)
            return data, size
        data = np.zeros(path.stat().st_size + kernels.BLOCK, np.uint8)
        return data, file.readinto(memoryview(data)[: -kernels.BLOCK])


def locate(
    name: str,
    data: np.ndarray,
    begin: int,
    size: int,
    width: int | None,
    wanted: list[int],
    separator: str = ",",
    first: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers int64 (N,) and where the wanted fields begin and end, int64 (N, C, 2); without blank lines.

    width: the fields that a row has; None: as many as the first row. first: the number of the row at `begin`.
    """
    count, last, open_quote, rows, fields, widths = _scan(data, begin, size, wanted, separator)
    width = int(widths[0]) if width is None else width
    ragged = np.flatnonzero(widths[:count] != width)
    if open_quote:
        raise RleError(f"{name} row {last + first - 1}: a quote is opened and never closed")
    if ragged.size:
        row = ragged[0]
        ends = _scan(data, begin, size, [0, widths[row] - 1], separator)[4]
        what = of_row(data[ends[row, 0, 0] : ends[row, 1, 1]][:_LOOKED_AT].tobytes(), separator)
        raise RleError(
            f"{name} row {rows[row] + first}: {widths[row]} fields, but the header has {width}"
            + (f"; {what}" * bool(what))
        )
    return rows[:count] + first, fields[:count]


_LOOKED_AT = 1000  # bytes of a row that is not understood


def _scan(data, begin: int, size: int, wanted: list[int], separator: str) -> tuple:
    """`kernels.locate_fields` and the arrays that it fills."""
    lines = kernels.count_lines(data, begin, size) + 1
    fields, rows, widths = (
        np.zeros((lines, len(wanted), 2), np.int64),
        np.zeros(lines, np.int64),
        np.zeros(lines, np.int64),
    )
    counted = kernels.locate_fields(data, begin, size, ord(separator), np.array(wanted, np.int64), fields, rows, widths)
    return *counted, rows, fields, widths


def check_rows(path: str | PathLike, separator: str = ",") -> None:
    """RleError unless all rows of a table have as many fields as its header, and end with a newline."""
    data, size = load(Path(path))
    begin = len(BYTE_ORDER_MARK) if data[:3].tobytes() == BYTE_ORDER_MARK else 0
    rows, fields = locate(str(path), data, begin, size, None, [0], separator, first=1)
    returns = np.flatnonzero(data[: max(size - 1, 0)] == kernels.RETURN)
    alone = returns[data[returns + 1] != kernels.NEWLINE]
    if alone.size:
        within_quotes = np.bitwise_xor.accumulate(data[: size - 1] == kernels.QUOTE)
        for at in alone[~within_quotes[alone]][:1]:
            row = rows[np.searchsorted(fields[:, 0, 0], at, side="right") - 1]
            raise RleError(f"{path} row {row}: a carriage return without a newline")


def read_names(name: str, rows: np.ndarray, data: np.ndarray, fields: np.ndarray, what: str) -> list[str]:
    """The texts of a column of names, which are not empty; fields int64 (N, 2)."""
    names = read_strings(name, rows, data, fields)
    if "" in names:
        raise RleError(f"{name} row {rows[names.index('')]}: the {what} is empty")
    return names


def unquoted(data: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The insides of those fields that are quoted as a whole."""
    quoted = (ends - begins >= 2) & (data[begins] == kernels.QUOTE) & (data[ends - 1] == kernels.QUOTE)
    return begins + quoted, ends - quoted


def read_strings(name: str, rows: np.ndarray, data: np.ndarray, fields: np.ndarray) -> list[str]:
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
