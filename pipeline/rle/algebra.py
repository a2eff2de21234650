"""Areas, overlaps, set operations and votes of masks given as edges; nothing is decoded to pixels.

`union`, `common`, `difference` and `vote` are one operation: the pixels whose masks' weights add up to enough.
Names in the plural do the same for every row of tables.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate

import numpy as np

from . import kernels
from .formats import RleError
from .masks import check_edges
from .table import RleTable
from .threads import map_rows

_DIFFERENCE = np.array([1, -1], np.int64)  # weights of which only the first mask alone reaches 1
_MOST_WEIGHT = 2**62  # what a sum of weights may reach as int64, with room for comparing


def area(edges: np.ndarray) -> int:
    """Number of foreground pixels."""
    return kernels.area(check_edges(edges))


def intersection(a: np.ndarray, b: np.ndarray) -> int:
    """Number of pixels that are foreground in both masks."""
    return kernels.intersection(check_edges(a), check_edges(b))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union; 1.0 when both masks are empty."""
    both, area_a, area_b = kernels.overlap(check_edges(a), check_edges(b))
    either = area_a + area_b - both
    return both / either if either else 1.0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Twice the intersection over the sum of the areas; 1.0 when both masks are empty."""
    both, area_a, area_b = kernels.overlap(check_edges(a), check_edges(b))
    total = area_a + area_b
    return 2 * both / total if total else 1.0


def areas(table: RleTable) -> np.ndarray:
    """`area` of every row, int64 (N,)."""

    def count(first: int, last: int) -> np.ndarray:
        return kernels.areas(table.edges, table.offsets[first : last + 1])

    return np.concatenate(map_rows(count, table.offsets))


def intersections(table_a: RleTable, table_b: RleTable) -> np.ndarray:
    """`intersection` of row i of one table with row i of the other, int64 (N,).

    Raises RleError unless both have the same ids in the same order (`RleTable.take` brings them there).
    """
    _check_ids([table_a, table_b])

    def count(first: int, last: int) -> np.ndarray:
        rows = slice(first, last + 1)
        return kernels.intersections(table_a.edges, table_a.offsets[rows], table_b.edges, table_b.offsets[rows])

    return np.concatenate(map_rows(count, table_a.offsets))


def ious(table_a: RleTable, table_b: RleTable) -> np.ndarray:
    """`iou` of row i of one table with row i of the other, float (N,). Raises RleError for other ids."""
    both, total = _overlaps(table_a, table_b)
    return np.where(total > 0, both / np.maximum(total - both, 1), 1.0)


def dices(table_a: RleTable, table_b: RleTable) -> np.ndarray:
    """`dice` of row i of one table with row i of the other, float (N,). Raises RleError for other ids."""
    both, total = _overlaps(table_a, table_b)
    return np.where(total > 0, 2 * both / np.maximum(total, 1), 1.0)


def _overlaps(table_a: RleTable, table_b: RleTable) -> tuple[np.ndarray, np.ndarray]:
    """Intersections, and sums of both areas, int64 (N,)."""
    return intersections(table_a, table_b), areas(table_a) + areas(table_b)


def union(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Edges of the pixels that are foreground in at least one mask; no masks: no pixels."""
    return _at_least(masks, np.ones(len(masks), np.int64), 1) if len(masks) else np.empty(0, np.uint32)


def vote(masks: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Edges of the pixels that are foreground by more than half of the masks' total weight.

    A tie is background: two masks of equal weight yield their intersection. Without `weights` all weigh the
    same. Weights are taken as the decimal numbers that they print as and added up exactly, so that 0.1 + 0.2
    against 0.3 is a tie. Raises RleError for no masks, a negative or infinite weight, or all weights 0.
    """
    exact = _shares(len(masks), weights)
    return _at_least(masks, exact, int(exact.sum()) // 2 + 1)


def common(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Edges of the pixels that are foreground in every mask (`intersection` only counts them).

    Raises RleError for no masks.
    """
    if len(masks) == 0:
        raise RleError("what no masks have in common isn't defined")
    return _at_least(masks, np.ones(len(masks), np.int64), len(masks))


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Edges of the pixels that are foreground in `a` and not in `b`."""
    return _at_least([a, b], _DIFFERENCE, 1)


def unions(tables: Sequence[RleTable]) -> RleTable:
    """`union` of the rows i of all tables, for every i. Raises RleError for no tables or other ids."""
    return _rows_at_least(tables, np.ones(len(tables), np.int64), 1)


def differences(table_a: RleTable, table_b: RleTable) -> RleTable:
    """`difference` of the rows i of both tables, for every i. Raises RleError for other ids."""
    return _rows_at_least([table_a, table_b], _DIFFERENCE, 1)


def votes(tables: Sequence[RleTable], weights: Sequence[float] | None = None) -> RleTable:
    """`vote` of the rows i of all tables, for every i. Raises RleError as `vote` does, and for other ids."""
    exact = _shares(len(tables), weights)
    return _rows_at_least(tables, exact, int(exact.sum()) // 2 + 1)


def pixels_by_set(tables: Sequence[RleTable]) -> np.ndarray:
    """Foreground pixels of each row by the set of tables whose masks they are in, int64 (N, 2**K).

    Bit k of a set's number stands for table k, so that column 5 has the pixels of the first and the third mask and of
    no other; column 0 is 0. Raises RleError for no tables or other ids.
    """
    return kernels.set_areas(*_rows_of_all(tables))


def _shares(count: int, weights: Sequence[float] | None) -> np.ndarray:
    """int64 weights of so many masks."""
    if count == 0:
        raise RleError("a vote needs at least one mask")
    exact = np.ones(count, np.int64) if weights is None else _exact_weights(weights)
    if len(exact) != count:
        raise RleError(f"{count} masks, but {len(exact)} weights")
    return exact


def _exact_weights(weights: Sequence[float]) -> np.ndarray:
    """int64 weights in the same proportions."""
    try:
        shares = [Fraction(str(weight)) for weight in weights]
    except ValueError:
        raise RleError(f"weights must be finite numbers, not {list(weights)}") from None
    total = sum(shares)
    if min(shares) < 0 or total == 0:
        raise RleError(f"weights must not be negative, nor all 0: {list(weights)}")
    scale = math.lcm(*(share.denominator for share in shares))
    if total * scale > _MOST_WEIGHT:  # more digits than int64 has: the nearest proportions that it can hold
        scale = _MOST_WEIGHT / total
    return np.array([round(share * scale) for share in shares], np.int64)


def _at_least(masks: Sequence[np.ndarray], weights: np.ndarray, needed: int) -> np.ndarray:
    """Edges of the pixels whose masks' weights add up to `needed` or more."""
    sizes = [check_edges(mask).size for mask in masks]
    edges = np.concatenate(masks)
    offsets = np.array([0, *accumulate(sizes)])
    out = np.empty(edges.size + 1, np.uint32)
    return out[: kernels.weighted_union(edges, offsets[:-1], offsets[1:], weights, needed, out)]


def _rows_at_least(tables: Sequence[RleTable], weights: np.ndarray, needed: int) -> RleTable:
    """`_at_least` for every row; sizes are the first table's."""
    edges, offsets = kernels.combine_rows(*_rows_of_all(tables), weights, needed)
    return replace(tables[0], edges=edges, offsets=offsets)


def _rows_of_all(tables: Sequence[RleTable]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All tables' edges in one array, and where in it row i of table k begins and ends, int64 (N, K) each."""
    if len(tables) == 0:
        raise RleError("no tables to combine")
    _check_ids(tables)
    starts = np.cumsum([0, *(table.edges.size for table in tables)])
    begins = np.stack([table.offsets[:-1] + start for table, start in zip(tables, starts, strict=False)], axis=1)
    ends = np.stack([table.offsets[1:] + start for table, start in zip(tables, starts, strict=False)], axis=1)
    return np.concatenate([table.edges for table in tables]), begins, ends


def _check_ids(tables: Sequence[RleTable]) -> None:
    first = tables[0]
    for table in tables[1:]:
        if table.ids != first.ids:
            raise RleError(f"tables of {len(first)} and {len(table)} rows differ in their ids or the ids' order")
