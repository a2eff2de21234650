"""Pixel arrays <-> edges."""

import operator

import numpy as np

from . import kernels
from .formats import RleError

ANY_BYTE = 255  # the limit for pixel values where every value is allowed
LONGEST_SIDE = 2**20  # of images whose masks are taken apart into columns: what that takes grows with their number


def pixel_count(shape: tuple[int, int]) -> int:
    """H * W. Raises RleError unless shape is two positive integers whose product uint32 edges can name."""
    try:
        height, width = map(operator.index, shape)
    except (TypeError, ValueError):
        raise RleError(f"an image's shape is (height, width), not {shape!r}") from None
    if height < 1 or width < 1:
        raise RleError(f"an image of {height}x{width} has no pixels")
    if height * width > kernels.NO_LIMIT:
        raise RleError(f"an image of {height}x{width} has more than {kernels.NO_LIMIT} pixels")
    return height * width


def check_edges(edges: np.ndarray) -> np.ndarray:
    """`edges`, contiguous. Raises RleError unless it is a uint32 array of one dimension and of pairs.

    That they are sorted is not checked: every use of edges would take twice as long.
    """
    if not isinstance(edges, np.ndarray) or edges.dtype != np.uint32 or edges.ndim != 1:
        found = f"{edges.dtype} {edges.shape}" if isinstance(edges, np.ndarray) else type(edges).__name__
        raise RleError(f"edges must be a uint32 array of one dimension, not {found}")
    if edges.size & 1:
        raise RleError(f"edges come in pairs, not an odd number of them: {edges.size}")
    return np.ascontiguousarray(edges)


def turned(edges: np.ndarray, height: int, width: int) -> np.ndarray:
    """Column-major edges of a mask (H, W) -> its row-major ones; and back, with height and width exchanged.

    Raises RleError if the image has sides that no image has.
    """
    if edges.size == 0 or height == 1 or width == 1:
        return edges
    if max(height, width) > LONGEST_SIDE:
        raise RleError(
            f"masks with a side of {max(height, width)} pixels cannot be turned, one has {LONGEST_SIDE} at most"
        )
    return kernels.transposed(edges, height, width)


def to_edges(mask: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """Edges uint32 (2 * runs,) of a mask (H, W), numbered down the columns.

    mask: bool or any integer type with values 0 and 1; or, with `threshold`, a map of which values >= threshold
    are foreground: uint8 (threshold 0 to 256) is compared as it is read, no mask is made; or any float type, in
    which NaN is refused. Any memory order; C-contiguous is read in one pass, without a transpose.
    Raises RleError for other shapes, types or values.
    """
    pixels, low, high = _pixel_bytes(mask, threshold)
    if pixels.flags.f_contiguous or pixels.size < kernels.BLOCK:
        return _linear(pixels.T, low, high)
    edges, within = kernels.column_edges(np.ascontiguousarray(pixels), low, high)
    return _checked(edges, within)


def row_edges(mask: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """`to_edges`, numbered along the rows: what texts in order "C" hold."""
    return _linear(*_pixel_bytes(mask, threshold))


def from_edges(edges: np.ndarray, shape: tuple[int, int], out: np.ndarray | None = None) -> np.ndarray:
    """The mask, uint8 (H, W), C-contiguous, of 0 and 1; written into `out` if given, which is returned.

    Raises RleError if the edges aren't sorted and inside the image, or `out` isn't such an array.
    """
    edges = check_edges(edges)
    if not kernels.are_edges(edges, pixel_count(shape)):
        raise RleError(f"not the edges of a mask of {shape[0]}x{shape[1]}: unsorted, touching or past its end")
    if out is None:
        return fill(edges, shape, "F")
    if out.shape != tuple(shape) or out.dtype != np.uint8 or not (out.flags.c_contiguous and out.flags.writeable):
        raise RleError(f"out must be a writable C-contiguous uint8 array {tuple(shape)}, not {out.dtype} {out.shape}")
    kernels.fill_columns(edges, out)
    return out


def fill(edges: np.ndarray, shape: tuple[int, int], order: str) -> np.ndarray:
    """`from_edges` for what is known to be the edges of such a mask, in pixels numbered in "F" or "C" order."""
    out = np.empty(shape, np.uint8)
    if order == "F":
        kernels.fill_columns(edges, out)
    else:
        kernels.fill_linear(edges, out.reshape(-1))
    return out


def _pixel_bytes(mask, threshold) -> tuple[np.ndarray, int, int]:
    """The mask as uint8 (H, W), from which value on it is foreground, and the largest value allowed."""
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise RleError(f"a mask has two dimensions (H, W), not {mask.shape}")
    pixel_count(mask.shape)
    if threshold is not None:
        return _thresholded(mask, threshold)
    if mask.dtype == np.bool_:
        return mask.view(np.uint8), 1, ANY_BYTE
    if mask.dtype == np.uint8 or mask.dtype == np.int8:
        return mask.view(np.uint8), 1, 1
    if not np.issubdtype(mask.dtype, np.integer):
        raise RleError(f"a mask is bool or integers 0 and 1, not {mask.dtype}: compare it with a threshold first")
    return _checked((mask != 0).view(np.uint8), bool(((mask == 0) | (mask == 1)).all())), 1, ANY_BYTE


def _thresholded(mask, threshold) -> tuple[np.ndarray, int, int]:
    if not np.isfinite(threshold):
        raise RleError(f"a threshold is a number, not {threshold}")
    if np.issubdtype(mask.dtype, np.floating):
        if np.isnan(mask).any():
            raise RleError("a map of probabilities has NaN in it")
        return (mask >= threshold).view(np.uint8), 1, ANY_BYTE
    if mask.dtype != np.uint8 or threshold != int(threshold):
        raise RleError(f"a threshold is for floats, or a whole one for uint8; not {threshold} for {mask.dtype}")
    if not 0 <= threshold <= 256:
        raise RleError(f"a threshold for uint8 is 0 (everything) to 256 (nothing), not {threshold}")
    if threshold == 256:
        return np.zeros_like(mask), 1, ANY_BYTE
    return mask, int(threshold), ANY_BYTE


def _linear(pixels: np.ndarray, low: int, high: int) -> np.ndarray:
    """Edges in the memory order of uint8 `pixels`, copied to C order where they aren't in it."""
    flat = pixels.reshape(-1)
    if flat.size < kernels.BLOCK:  # the kernel reads blocks of 64 bytes
        flat = np.zeros(kernels.BLOCK, np.uint8)
        flat[: pixels.size] = pixels.reshape(-1)
    edges, within = kernels.linear_edges(np.ascontiguousarray(flat), pixels.size, low, high)
    return _checked(edges, within)


def _checked(edges, binary: bool):
    if not binary:
        raise RleError("the mask has values other than 0 and 1: compare it with a threshold first, or give one")
    return edges
