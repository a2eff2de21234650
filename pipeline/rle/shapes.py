"""Boxes, flips, crops and connected components of masks given as edges; nothing is decoded to pixels.

Runs are cut at the ends of the columns for this, so that each piece is a column and a range of rows, and are
joined again afterwards: the time is that of the runs, and of the columns that they cross.
"""

from dataclasses import dataclass

import numpy as np

from . import kernels
from .algebra import union
from .formats import RleError
from .masks import LONGEST_SIDE, check_edges, pixel_count, turned
from .table import RleTable


def bounding_box(edges: np.ndarray, height: int) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) around a mask in an image of that height, half-open; None without foreground."""
    segments = _segments(edges, height)
    if not len(segments):
        return None
    top, bottom = segments[:, 1].min(), segments[:, 2].max()
    return int(top), int(segments[0, 0]), int(bottom), int(segments[-1, 0] + 1)


def bounding_boxes(table: RleTable) -> np.ndarray:
    """`bounding_box` of every row, int64 (N, 4); zeros for a mask without foreground."""
    boxes = [bounding_box(table[row], height) or (0, 0, 0, 0) for row, height in enumerate(table.heights.tolist())]
    return np.array(boxes, np.int64).reshape(-1, 4)


def flip_horizontal(edges: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Edges of the mask (H, W) with left and right exchanged."""
    segments = _segments(edges, *shape)
    return _join(shape[1] - 1 - segments[:, 0], segments[:, 1], segments[:, 2], shape[0])


def flip_vertical(edges: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Edges of the mask (H, W) turned upside down."""
    segments = _segments(edges, *shape)
    return _join(segments[:, 0], shape[0] - segments[:, 2], shape[0] - segments[:, 1], shape[0])


def transpose(edges: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Edges of the transposed mask (W, H), which are the row-major runs of the mask (H, W) itself."""
    return turned(_checked(edges, *shape), *shape)


def crop(edges: np.ndarray, shape: tuple[int, int], top: int, left: int, window: tuple[int, int]) -> np.ndarray:
    """Edges of the part of the mask (H, W) in a window (h, w) whose upper left pixel is (top, left).

    The window may reach out of the image, where it is background: this pads, too.
    Raises RleError if the edges don't fit the shape or the window has no pixels.
    """
    pixel_count(window)
    segments = _segments(edges, *shape)
    columns = segments[:, 0] - left
    begins, ends = ((segments[:, side] - top).clip(0, window[0]) for side in (1, 2))
    kept = (columns >= 0) & (columns < window[1]) & (begins < ends)
    return _join(columns[kept], begins[kept], ends[kept], window[0])


def complement(edges: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Edges of the background of the mask (H, W)."""
    edges = _checked(edges, *shape)
    bounds = np.concatenate([[0], edges, [pixel_count(shape)]]).astype(np.uint32)
    # An edge at either end of the image meets the image's own.
    first, last = int(bounds[0] == bounds[1]), int(bounds[-1] == bounds[-2])
    return bounds[2 * first : bounds.size - 2 * last]


@dataclass(frozen=True)
class Components:
    """Connected components of a mask, numbered from 0 in the order of their first pixels.

    segments: int64 (S, 3), the runs within the columns: column, first row, row after the last.
    labels: int64 (S,), the component of each.
    areas: int64 (count,), in pixels.
    height: of the image.
    """

    segments: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    height: int

    @property
    def count(self) -> int:
        return len(self.areas)

    def edges(self, kept: np.ndarray) -> np.ndarray:
        """Edges of the components that are kept, bool (count,)."""
        segments = self.segments[np.asarray(kept, bool)[self.labels]]
        return _join(*segments.T, self.height)


def components(edges: np.ndarray, height: int, connectivity: int = 8) -> Components:
    """Connected components of a mask in an image of that height.

    connectivity: 4, pixels are connected at their sides, or 8, at their corners as well.
    Raises RleError for edges that are none, or another connectivity.
    """
    if connectivity not in (4, 8):
        raise RleError(f"connectivity is 4 or 8, not {connectivity}")
    segments = _segments(edges, height)
    labels = kernels.label_segments(segments, int(connectivity == 8))
    lengths = segments[:, 2] - segments[:, 1]
    # Pixels are whole numbers below 2**53, which the sums of bincount keep exactly.
    return Components(segments, labels, np.bincount(labels, lengths).astype(np.int64), height)


def remove_small(edges: np.ndarray, height: int, min_area: int, connectivity: int = 8) -> np.ndarray:
    """Edges of a mask without the components of fewer pixels than `min_area`."""
    found = components(edges, height, connectivity)
    return found.edges(found.areas >= min_area)


def keep_largest(edges: np.ndarray, height: int, count: int = 1, connectivity: int = 8) -> np.ndarray:
    """Edges of the `count` components with the most pixels; of equally large ones the first."""
    found = components(edges, height, connectivity)
    kept = np.zeros(found.count, bool)
    kept[np.argsort(-found.areas, kind="stable")[:count]] = True
    return found.edges(kept)


def fill_holes(
    edges: np.ndarray, shape: tuple[int, int], max_area: int | None = None, connectivity: int = 8
) -> np.ndarray:
    """Edges of the mask (H, W) with its holes filled, or those of at most `max_area` pixels.

    A hole is a component of the background that doesn't touch the image's border. Where the foreground is
    connected at corners, the background is not, and the other way round.
    """
    height, width = shape
    found = components(complement(edges, shape), height, 12 - connectivity)
    columns, begins, ends = found.segments.T
    outside = np.zeros(found.count, bool)
    outside[found.labels[(columns == 0) | (columns == width - 1) | (begins == 0) | (ends == height)]] = True
    small = True if max_area is None else found.areas <= max_area
    return union([check_edges(edges), found.edges(~outside & small)])


def _checked(edges: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """Edges that are in order and, with a width, inside the image."""
    edges = check_edges(edges)
    pixels = pixel_count((height, 1 if width is None else width))
    if not kernels.are_edges(edges, kernels.NO_LIMIT if width is None else pixels):
        image = "an image" if width is None else f"a mask of {height}x{width}"
        raise RleError(f"not the edges of {image}: unsorted, touching or past its end")
    return edges


def _segments(edges: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    edges = _checked(edges, height, width)
    if edges.size and int(edges[-1]) // height > LONGEST_SIDE:
        raise RleError(f"a mask of more than {LONGEST_SIDE} columns of {height} pixels")
    return kernels.column_segments(edges, height)


def _join(columns: np.ndarray, begins: np.ndarray, ends: np.ndarray, height: int) -> np.ndarray:
    """Edges of runs within columns, in any order, that don't overlap."""
    edges = (columns * height)[:, None] + np.stack([begins, ends], axis=1)
    edges = edges[np.argsort(edges[:, 0])].reshape(-1).astype(np.uint32)
    return edges[: kernels.merge_touching(edges, edges.size)]
