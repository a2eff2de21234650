"""The settings that noise cannot tell from the best one, and their middle.

A setting is on the plateau if the 95% interval of its paired difference to the best holds 0: the two are scored on
the same images, whose common ups and downs cancel, so this is far narrower than the error of either score and says
what another sample of such images could turn round. The plateau is the connected part of those settings around the
best; its middle is the farthest from where a choice starts to cost, while the best itself is the luckiest of many.

A difference's error needs the sum of squares, over groups of images, of what each group contributes to it: to first
order its sums of the score's parts, times the slopes of each of the two settings by those sums (``noise``). A group's
sums change only at the top thresholds that its images pass, so the products of all 65,536 pairs (top, bottom) of a
minimum area cost one row of additions an image and product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from pipeline.metrics import Counts
from pipeline.postprocess import LEVELS, Postprocess
from pipeline.search.grid import THRESHOLD, TRIPLET, Cell, Folds, Grid, counts_at
from pipeline.search.noise import Z95, standard_error


@numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def add_products(
    gains: np.ndarray,
    start: np.ndarray,
    pairs: np.ndarray,
    group: np.ndarray,
    order: np.ndarray,
    reach: np.ndarray,
    products: np.ndarray,
) -> None:
    """Sums over groups of the products of two of a group's sums, at every pair (top, bottom).

    Args:
        gains: float64 (N, V, 256), what each image adds to a sum that varies at a bottom threshold, less what its empty
            mask adds.
        start: float64 (G, K), each group's sums where all of its masks are empty; the V that vary come first.
        pairs: int64 (P, 2), whose products; the first of each varies.
        group: int64 (N,).
        order: int64 (N,), images by group, and in a group by falling reach.
        reach: int64 (N,), the number of top thresholds, from 0 on, that the image passes.
        products: float64 (P, 256 tops, 256 bottoms), zeros; the result.
    """
    tops, bottoms = products.shape[1:]
    for pair in range(len(pairs)):
        products[pair, -1, :] = (start[:, pairs[pair, 0]] * start[:, pairs[pair, 1]]).sum()
    now = np.zeros((start.shape[1], bottoms))
    before = -1
    for image in order:
        if group[image] != before:
            before = group[image]
            for part in range(start.shape[1]):
                now[part, :] = start[before, part]
        if reach[image] == 0:
            continue
        for pair in range(len(pairs)):
            one, other = pairs[pair]
            row = products[pair, reach[image] - 1]
            if other < gains.shape[1]:
                for bottom in range(bottoms):
                    after = now[one, bottom] + gains[image, one, bottom]
                    row[bottom] += after * (now[other, bottom] + gains[image, other, bottom])
                    row[bottom] -= now[one, bottom] * now[other, bottom]
            else:
                for bottom in range(bottoms):
                    row[bottom] += gains[image, one, bottom] * now[other, bottom]
        for part in range(gains.shape[1]):
            for bottom in range(bottoms):
                now[part, bottom] += gains[image, part, bottom]
    for pair in range(len(pairs)):
        for top in range(tops - 2, -1, -1):
            for bottom in range(bottoms):
                products[pair, top, bottom] += products[pair, top + 1, bottom]


@dataclass(frozen=True)
class Plateau:
    """The settings around a best one that are as good, as far as can be told."""

    middle: Postprocess
    size: int
    """How many settings."""
    threshold: tuple[int, int]
    """Least and greatest; so are the others."""
    top_threshold: tuple[int, int] | None
    """None where the family has none of its own."""
    min_area: tuple[int, int]


class _Contributions:
    """What groups of images contribute to the difference between any cell and a best one, to first order."""

    def __init__(self, grid: Grid, counts: Counts, groups: np.ndarray, excluded: Folds, best: Cell) -> None:
        self.best, self.excluded, self.grid = best, excluded, grid
        self.rows = np.flatnonzero(~np.isin(grid.fold, list(excluded)))
        kept = counts.take(self.rows)
        self.group = np.unique(groups[self.rows], return_inverse=True)[1]
        at_best = counts_at(kept, grid.postprocess(best))
        of_best = grid.objective.linear(at_best, grid.objective.slopes(at_best))
        nothing = np.zeros_like(at_best.true)
        empty = grid.objective.parts(Counts(nothing, nothing, at_best.true))
        # The sums of the parts, those that vary first, and last what the best cell's masks contribute.
        fixed = [part for part in range(len(empty)) if part not in grid.varying]
        self.parts = [*grid.varying, *fixed]
        by_group = [np.bincount(self.group, each) for each in (*(empty[part] for part in self.parts), of_best)]
        self.start = np.stack(by_group, axis=1)  # (G, parts + 1)
        parts = grid.objective.parts(kept)
        gains = [parts[part] - np.asarray(empty[part], np.float64)[:, None] for part in grid.varying]
        self.gains = np.stack(gains, axis=1) if gains else np.zeros((len(self.rows), 0, LEVELS))

    def as_good(self, area: int) -> np.ndarray:
        """Whether each pair (top, bottom) of a minimum area is as good as the best, bool (256, 256)."""
        grid = self.grid
        sums = grid.without(grid.sums(area), self.excluded)
        slopes = grid.objective.slopes_at(sums)
        weights = [*(slopes[part] for part in self.parts), -1.0]
        total = sum(weight * sums[part] for weight, part in zip(weights, self.parts, strict=False))
        error = standard_error(self._squares(area, weights), total - self.start[:, -1].sum(), len(self.start))
        return self.best.score - grid.scores(sums) <= Z95 * error

    def _squares(self, area: int, weights: Sequence[np.ndarray | float]) -> np.ndarray:
        """Sums over groups of the squared weighted sums of what they have, (256, 256) or ()."""
        varying, count = self.gains.shape[1], len(weights)
        pairs = [(one, other) for one in range(varying) for other in range(one, count)]
        reach = self.grid.reach(area)[self.rows]
        order = np.lexsort((-reach, self.group))
        products = np.zeros((len(pairs), LEVELS, LEVELS))
        if pairs:
            add_products(self.gains, self.start, np.array(pairs), self.group, order, reach, products)
        fixed = self.start[:, varying:]
        squares = sum(
            weights[varying + one] * weights[varying + other] * product
            for (one, other), product in np.ndenumerate(fixed.T @ fixed)
        )
        for (one, other), product in zip(pairs, products, strict=True):
            squares = squares + (1 + (one < other)) * weights[one] * weights[other] * product
        return squares


def find_plateau(
    grid: Grid, counts: Counts, groups: np.ndarray, level: int, best: Cell, excluded: Folds = frozenset()
) -> Plateau:
    """The plateau around a best cell, among the settings of its family.

    Args:
        grid: of these counts.
        counts: at all thresholds.
        groups: int (N,), images that belong together.
        level: number of the family.
        best: its best cell.
        excluded: folds that must not be looked at.
    """
    of_areas = [np.zeros((LEVELS, LEVELS), bool)] * len(grid.areas)
    if np.isfinite(best.score):
        contributions = _Contributions(grid, counts, groups, excluded, best)
        of_areas = grid.each_area(contributions.as_good, first=1 if level == THRESHOLD else None)
    members = np.stack(of_areas)  # (areas, 256 tops, 256 bottoms)
    place = (best.area, best.top, best.bottom)
    if level < TRIPLET:
        members, place = np.diagonal(members, axis1=1, axis2=2).copy(), (best.area, best.bottom)
    members[place] = True
    labels = ndimage.label(members)[0]
    region = np.argwhere(labels == labels[place])
    scaled = region / members.shape
    nearest = region[np.argmin(((scaled - scaled.mean(axis=0)) ** 2).sum(axis=1))].tolist()
    low, high = region.min(axis=0).tolist(), region.max(axis=0).tolist()
    return Plateau(
        middle=grid.postprocess(
            Cell(nearest[0], nearest[-2] if level == TRIPLET else nearest[-1], nearest[-1], np.nan)
        ),
        size=len(region),
        threshold=(low[-1], high[-1]),
        top_threshold=(low[1], high[1]) if level == TRIPLET else None,
        min_area=(grid.areas[low[0]], grid.areas[high[0]]),
    )
