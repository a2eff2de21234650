"""Edges <-> RLE text, in every `RleFormat`.

Kernels read and write all styles. `check_text`, plain Python, defines what is accepted: it sees what a kernel
refuses, and words the message.
"""

import re
from collections.abc import Iterator

import numpy as np

from . import kernels
from .formats import RleError, RleFormat, SizeNeededError, get_format
from .masks import check_edges, fill, pixel_count, row_edges, to_edges, turned

_PADDING = bytes(kernels.BLOCK)


def encode(mask: np.ndarray, fmt: str | RleFormat = "kaggle", threshold: float | None = None) -> str:
    """The RLE text of a mask (H, W), bool or integers 0 and 1; or, with `threshold`, of a map of probabilities.

    Raises RleError for anything else (see `to_edges`) and for an unknown format.
    """
    fmt = get_format(fmt)
    runs = row_edges(mask, threshold) if fmt.order == "C" else to_edges(mask, threshold)
    return _runs_to_text(runs, np.size(mask), fmt)


def decode(text: str, shape: tuple[int, int], fmt: str | RleFormat = "kaggle") -> np.ndarray:
    """The mask uint8 (H, W), C-contiguous, of 0 and 1. Raises RleError naming the first wrong token."""
    fmt = get_format(fmt)
    pixel_count(shape)
    return fill(_text_to_runs(text, shape, fmt), shape, fmt.order)


def edges_to_text(edges: np.ndarray, shape: tuple[int, int] | None, fmt: str | RleFormat = "kaggle") -> str:
    """The RLE text of a mask given as edges.

    shape (H, W) may be None for "pairs" and "gaps" in column-major order, which don't depend on it.
    Raises RleError if the edges don't fit the shape or the shape is missing.
    """
    fmt = get_format(fmt)
    edges = check_edges(edges)
    if shape is None:
        _check_needless(fmt, fmt.order == "C" or fmt.style in ("counts", "coco"))
    pixels = kernels.NO_LIMIT if shape is None else pixel_count(shape)
    if not kernels.are_edges(edges, pixels):
        raise RleError(f"not the edges of a mask of {pixels} pixels: unsorted, touching or past its end")
    runs = turned(edges, *shape) if fmt.order == "C" else edges
    return _runs_to_text(runs, pixels, fmt)


def text_to_edges(text: str, shape: tuple[int, int] | None, fmt: str | RleFormat = "kaggle") -> np.ndarray:
    """The edges uint32 of a mask given as RLE text; touching runs are merged.

    shape (H, W) may be None in column-major order; then it isn't checked that the runs end inside the image.
    Raises RleError naming the first wrong token and why.
    """
    fmt = get_format(fmt)
    if shape is None:
        _check_needless(fmt, fmt.order == "C")
    runs = _text_to_runs(text, shape, fmt)
    return turned(runs, shape[1], shape[0]) if fmt.order == "C" else runs


def _check_needless(fmt: RleFormat, needed: bool) -> None:
    """SizeNeededError if an image's shape, which is not known, is needed."""
    if needed:
        raise SizeNeededError(f"format {fmt.name} needs the image's shape (height, width)")


# ---------------------------------------------------------------------------------------------------- writing


def _runs_to_text(runs: np.ndarray, pixels: int, fmt: RleFormat) -> str:
    """The text of valid edges that are numbered in the format's own order already."""
    if fmt.style in ("pairs", "gaps") and runs.size == 0:
        return fmt.empty
    if fmt.style == "pairs":
        return _written(kernels.write_pairs, runs, fmt.base)
    if fmt.style == "gaps":
        return _written(kernels.write_numbers, np.diff(runs, prepend=np.uint32(0)))
    return _written(kernels.write_numbers if fmt.style == "counts" else kernels.write_compressed, _counts(runs, pixels))


def _written(write, numbers: np.ndarray, *arguments) -> str:
    """What a kernel writes for uint32 `numbers`: at most 10 digits and a space for each."""
    buffer = np.empty(11 * numbers.size + 4, np.uint8)
    return str(memoryview(buffer)[: write(numbers, *arguments, buffer)], "ascii")


def _counts(runs: np.ndarray, pixels: int) -> np.ndarray:
    """COCO's counts, uint32: lengths of background and foreground in turn, without a 0 at the end."""
    last = [] if runs.size and runs[-1] == pixels else [pixels]
    return np.diff(np.concatenate([runs, np.array(last, np.uint32)]), prepend=np.uint32(0))


# ---------------------------------------------------------------------------------------------------- reading


def check_text(text: str, shape: tuple[int, int] | None, fmt: RleFormat) -> None:
    """Raise RleError for the first token of a text that is wrong; in the format's own order of pixels.

    Token by token, as a text of many megabytes has millions.
    """
    limit = kernels.NO_LIMIT if shape is None else pixel_count(shape)
    image = "no image has more than" if shape is None else f"the image {shape[0]}x{shape[1]} has"
    counts = fmt.style in ("counts", "coco")
    begin = end = 0  # of the run before
    first = None  # a run's token, and its number, that wait for its length
    for position, token in enumerate(_tokens(text, fmt), 1):
        number = _integer(position, token)
        if first is None:
            first = token, number
            continue
        start = end + first[1]
        if fmt.style == "pairs":
            start = first[1] - fmt.base
            _check_start(position - 1, first[0], start, begin, end, fmt.base)
        if number == 0:
            raise _wrong(position, token, "a run's length must be at least 1")
        if start + number > limit:
            raise _wrong(position, token, f"run ends at pixel {start + number}, {image} {limit} pixels")
        begin, end, first = start, start + number, None
    if first is not None and not counts:
        raise _wrong(position, first[0], "a start without a length (odd number of tokens)")
    total = end if first is None else end + first[1]
    if counts and (total > limit or (shape is not None and total != limit)):
        raise RleError(f"counts add up to {total}, {image} {limit} pixels")


def _text_to_runs(text: str, shape: tuple[int, int] | None, fmt: RleFormat) -> np.ndarray:
    """Edges in the format's own pixel order."""
    if not isinstance(text, str):
        raise RleError(f"an RLE text must be a string, not {text!r}")
    text = text.strip(" ")
    if text in ("", fmt.empty):
        return np.empty(0, np.uint32)
    # A lone surrogate must not become a question mark, which is a character of compressed counts.
    data = np.frombuffer(bytearray(text, "utf-8", "surrogatepass") + _PADDING, np.uint8)
    pixels = kernels.ANY_SIZE if shape is None else pixel_count(shape)
    style = kernels.STYLES[fmt.style]
    edges, valid = kernels.read_text(data, data.size - len(_PADDING), style, fmt.base, pixels)
    if not valid:
        check_text(text, shape, fmt)
        raise AssertionError(f"refused, but not by the strict reader: {text[:100]!r}")
    return edges


def _tokens(text: str, fmt: RleFormat) -> Iterator[str]:
    """The numbers' texts, one by one."""
    return _decompress(text) if fmt.style == "coco" else (found[0] for found in re.finditer("[^ ]+", text))


def _integer(position: int, token: str) -> int:
    """The token's value; not by `int`, which also takes '+1', '1_0', tabs and other scripts' digits."""
    if len(token) < 10 and token.isascii() and token.isdigit():
        return int(token)
    if token[:1] == "-" and token[1:].isascii() and token[1:].isdigit():
        raise _wrong(position, token, "negative")
    if not (token.isascii() and token.isdigit()):
        raise _wrong(position, token, "not a whole number")
    digits = token.lstrip("0") or "0"  # Python refuses thousands of digits, leading zeros among them
    if len(digits) > 10 or int(digits) > kernels.NO_LIMIT:
        raise _wrong(position, token, f"too large, no image has more than {kernels.NO_LIMIT} pixels")
    return int(digits)


def _check_start(position: int, token: str, start: int, begin: int, end: int, base: int) -> None:
    """RleError unless a run may start at `start`, after the one from `begin` to `end`, or after none (0 to 0)."""
    if start < 0:
        raise _wrong(position, token, f"start below {base}, the first pixel's number")
    if start < begin:
        raise _wrong(position, token, "run starts before the one in front of it (runs must be sorted)")
    if start < end:
        raise _wrong(position, token, f"run overlaps the one in front of it, which ends at pixel {end}")


def _wrong(position: int, token: str, reason: str) -> RleError:
    shown = token if len(token) <= 40 else token[:37] + "..."
    return RleError(f"token {position} {shown!r}: {reason}")


def _decompress(text: str) -> Iterator[str]:
    """cocoapi's rleFrString: the counts, as the tokens that style "counts" would have."""
    value = shift = count = 0
    before = [0, 0]  # the two counts in front
    for position, character in enumerate(text, 1):
        bits = ord(character) - kernels.COCO_FIRST
        if not 0 <= bits < 0x40:
            raise _wrong(position, character, "not a character of compressed COCO counts")
        if shift > 30:
            raise _wrong(position, character, "a compressed COCO count of more than 7 characters")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift  # bit 4 of the last character is the sign
        value += before[0] if count > 2 else 0
        yield str(value)
        before = [before[1], value]
        value = shift = 0
        count += 1
    if shift:
        raise RleError("compressed COCO counts end in the middle of a count")
