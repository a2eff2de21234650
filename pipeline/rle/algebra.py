"""Areas, overlaps, unions and votes of masks given as edges; nothing is decoded to pixels."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from . import kernels
from .formats import RleError
from .masks import check_edges
from .table import RleTable

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
    return kernels.areas(table.edges, table.offsets)


def intersections(table_a: RleTable, table_b: RleTable) -> np.ndarray:
    """`intersection` of row i of one table with row i of the other, int64 (N,).

    Raises RleError unless both have the same ids in the same order (`RleTable.take` brings them there).
    """
    if table_a.ids != table_b.ids:
        raise RleError(f"tables of {len(table_a)} and {len(table_b)} rows differ in their ids or the ids' order")
    return kernels.intersections(table_a.edges, table_a.offsets, table_b.edges, table_b.offsets)


def union(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Edges of the pixels that are foreground in at least one mask; no masks: no pixels."""
    return _at_least(masks, np.ones(len(masks), np.int64), 1) if len(masks) else np.empty(0, np.uint32)


def vote(masks: Sequence[np.ndarray], weights: Sequence[float] | None = None) -> np.ndarray:
    """Edges of the pixels that are foreground by more than half of the masks' total weight.

    A tie is background: two masks of equal weight yield their intersection. Without `weights` all weigh the
    same. Weights are taken as the decimal numbers that they print as and added up exactly, so that 0.1 + 0.2
    against 0.3 is a tie. Raises RleError for no masks, a negative or infinite weight, or all weights 0.
    """
    if len(masks) == 0:
        raise RleError("a vote needs at least one mask")
    exact = np.ones(len(masks), np.int64) if weights is None else _exact_weights(weights)
    if len(exact) != len(masks):
        raise RleError(f"{len(masks)} masks, but {len(exact)} weights")
    return _at_least(masks, exact, int(exact.sum()) // 2 + 1)


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
    sizes = np.array([check_edges(mask).size for mask in masks], np.int64)
    if (sizes & 1).any():
        raise RleError("edges come in pairs: a mask has an odd number of them")
    edges = np.concatenate(masks)
    ends = np.cumsum(sizes)
    begins = ends - sizes
    out = np.empty(edges.size + 1, np.uint32)
    return out[: kernels.weighted_union(edges, begins, ends, weights, needed, out)]
