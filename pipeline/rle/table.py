"""A table of masks in columns: one array of edges for all rows, as a CSV file of RLE texts holds them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from . import kernels
from .formats import RleError

CLASS_SEPARATOR = "/"  # between an image and a class in a row's id


@dataclass(frozen=True)
class RleTable:
    """N masks, each with an id and, where known, its image's size.

    ids: unique, in order of first appearance; "image/class" where images have a mask for each class.
    offsets: int64 (N + 1,); row i's edges are edges[offsets[i]:offsets[i + 1]].
    edges: uint32, see `pipeline.rle`.
    heights, widths: int64 (N,), 0 where the size is unknown.
    """

    ids: list[str]
    offsets: np.ndarray
    edges: np.ndarray
    heights: np.ndarray
    widths: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> np.ndarray:
        """The edges of a row, a view."""
        row = range(len(self))[row]  # IndexError past the end; negative rows count from there
        return self.edges[self.offsets[row] : self.offsets[row + 1]]

    def take(self, indices: Sequence[int]) -> "RleTable":
        """The rows with these indices, in this order."""
        indices = np.arange(len(self))[np.asarray(indices, np.int64)]
        edges, offsets = kernels.take_rows(self.edges, self.offsets, indices)
        ids = [self.ids[index] for index in indices]
        return RleTable(ids, offsets, edges, self.heights[indices], self.widths[indices])

    def apply(self, function: Callable[[np.ndarray, tuple[int, int]], np.ndarray]) -> "RleTable":
        """The table with `function(edges, (height, width))` in place of each row's edges; `flip_horizontal`, say."""
        sizes = zip(self.heights.tolist(), self.widths.tolist(), strict=True)
        masks = [function(self[row], size) for row, size in enumerate(sizes)]
        offsets = np.concatenate([[0], np.cumsum([mask.size for mask in masks], dtype=np.int64)])
        edges = np.concatenate([np.empty(0, np.uint32), *masks])
        return replace(self, offsets=offsets, edges=edges)

    @classmethod
    def stacked(cls, tables: Sequence["RleTable"]) -> "RleTable":
        """The rows of one table after the other; their ids must differ."""
        lengths = np.concatenate([np.diff(table.offsets) for table in tables])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        edges, heights, widths = (
            np.concatenate([getattr(table, name) for table in tables]) for name in ("edges", "heights", "widths")
        )
        return cls([id for table in tables for id in table.ids], offsets, edges, heights, widths)


def split_class(row_id: str) -> tuple[str, str]:
    """The image and the class of an id "image/class". Raises RleError for an id without a class."""
    image, separator, name = row_id.rpartition(CLASS_SEPARATOR)
    if not (separator and image and name):
        raise RleError(f"an id with a class is image{CLASS_SEPARATOR}class, not {row_id[:200]!r}")
    return image, name
