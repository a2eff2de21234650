"""Edges <-> RLE text, in every `RleFormat`.

Kernels read and write all styles. `_read_strictly`, plain Python, defines what is accepted: it sees what a kernel
refuses, and words the message.
"""

import numpy as np

from . import kernels
from .formats import RleError, RleFormat, SizeNeededError, get_format
from .masks import check_edges, fill, pixel_count, row_edges, to_edges

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
    return fill(_text_to_runs(text, pixel_count(shape), shape, fmt), shape, fmt.order)


def edges_to_text(edges: np.ndarray, shape: tuple[int, int] | None, fmt: str | RleFormat = "kaggle") -> str:
    """The RLE text of a mask given as edges.

    shape (H, W) may be None for "pairs" and "gaps" in column-major order, which don't depend on it.
    Raises RleError if the edges don't fit the shape or the shape is missing.
    """
    fmt = get_format(fmt)
    edges = check_edges(edges)
    pixels = _pixels_for(fmt, shape, needed=fmt.order == "C" or fmt.style in ("counts", "coco"))
    if not kernels.are_edges(edges, pixels):
        raise RleError(f"not the edges of a mask of {pixels} pixels: unsorted, touching or past its end")
    runs = kernels.transposed(edges, *shape) if fmt.order == "C" else edges
    return _runs_to_text(runs, pixels, fmt)


def text_to_edges(text: str, shape: tuple[int, int] | None, fmt: str | RleFormat = "kaggle") -> np.ndarray:
    """The edges uint32 of a mask given as RLE text; touching runs are merged.

    shape (H, W) may be None in column-major order; then it isn't checked that the runs end inside the image.
    Raises RleError naming the first wrong token and why.
    """
    fmt = get_format(fmt)
    runs = _text_to_runs(text, _pixels_for(fmt, shape, needed=fmt.order == "C"), shape, fmt)
    return kernels.transposed(runs, shape[1], shape[0]) if fmt.order == "C" else runs


def _pixels_for(fmt: RleFormat, shape, needed: bool) -> int:
    """The pixel count to check against: the shape's, or without one the largest that edges can name."""
    if shape is not None:
        return pixel_count(shape)
    if needed:
        raise SizeNeededError(f"format {fmt.name} needs the image's shape (height, width)")
    return kernels.NO_LIMIT


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


def _text_to_runs(text: str, pixels: int, shape, fmt: RleFormat) -> np.ndarray:
    """Edges in the format's own pixel order."""
    if not isinstance(text, str):
        raise RleError(f"an RLE text must be a string, not {text!r}")
    text = text.strip(" ")
    if text in ("", fmt.empty):
        return np.empty(0, np.uint32)
    data = np.frombuffer(bytearray(text, "utf-8", "replace") + _PADDING, np.uint8)
    style = kernels.STYLES[fmt.style]
    edges, valid = kernels.read_text(data, data.size - len(_PADDING), style, fmt.base, pixels)
    return edges if valid else _read_strictly(text, pixels, shape, fmt)


def _read_strictly(text: str, pixels: int, shape, fmt: RleFormat) -> np.ndarray:
    """Edges of a text in any style, checked token by token; RleError for the first that is wrong."""
    tokens = _decompress(text) if fmt.style == "coco" else text.split(" ")
    tokens = [token for token in tokens if token]
    numbers = [_integer(position, token) for position, token in enumerate(tokens, 1)]
    counts = fmt.style in ("counts", "coco")
    edges = [0]
    for i in range(0, len(tokens) - 1, 2):
        gap, length = numbers[i], numbers[i + 1]
        if fmt.style == "pairs":
            _check_start(i + 1, tokens[i], gap - fmt.base, edges, fmt.base)
            gap = gap - fmt.base - edges[-1]
        if length == 0:
            raise _wrong(i + 2, tokens[i + 1], "a run's length must be at least 1")
        start = edges[-1] + gap
        if start + length > pixels:
            image = f"the image {shape[0]}x{shape[1]} has" if shape else "no image has more than"
            raise _wrong(i + 2, tokens[i + 1], f"run ends at pixel {start + length}, {image} {pixels} pixels")
        edges += [start, start + length]
    if len(tokens) % 2 and not counts:
        raise _wrong(len(tokens), tokens[-1], "a start without a length (odd number of tokens)")
    if counts and shape and sum(numbers) != pixels:
        raise RleError(f"counts add up to {sum(numbers)}, the image {shape[0]}x{shape[1]} has {pixels} pixels")
    runs = np.array(edges[1:], np.uint32)
    return runs[: kernels.merge_touching(runs, runs.size)]


def _integer(position: int, token: str) -> int:
    """The token's value; not by `int`, which also takes '+1', '1_0', tabs and other scripts' digits."""
    if token[:1] == "-" and token[1:].isascii() and token[1:].isdigit():
        raise _wrong(position, token, "negative")
    if not (token.isascii() and token.isdigit()):
        raise _wrong(position, token, "not a whole number")
    digits = token.lstrip("0") or "0"  # Python refuses thousands of digits, leading zeros among them
    if len(digits) > 10 or int(digits) > kernels.NO_LIMIT:
        raise _wrong(position, token, f"too large, no image has more than {kernels.NO_LIMIT} pixels")
    return int(digits)


def _check_start(position: int, token: str, start: int, edges: list[int], base: int):
    """RleError unless a run may start at `start`, after the runs in [0, s0, e0, s1, e1, ...]."""
    if start < 0:
        raise _wrong(position, token, f"start below {base}, the first pixel's number")
    if len(edges) > 1 and start < edges[-2]:
        raise _wrong(position, token, "run starts before the one in front of it (runs must be sorted)")
    if start < edges[-1]:
        raise _wrong(position, token, f"run overlaps the one in front of it, which ends at pixel {edges[-1]}")


def _wrong(position: int, token: str, reason: str) -> RleError:
    shown = token if len(token) <= 40 else token[:37] + "..."
    return RleError(f"token {position} {shown!r}: {reason}")


def _decompress(text: str) -> list[str]:
    """cocoapi's rleFrString: the counts, as the tokens that style "counts" would have."""
    counts = []
    value = shift = 0
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
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise RleError("compressed COCO counts end in the middle of a count")
    return [str(count) for count in counts]
