"""The settings that noise cannot tell from the best one, and their middle.

A setting is on the plateau if the 95% interval of its paired difference to the best holds 0: the two are scored on
the same images, whose common ups and downs cancel, so this is far narrower than the error of either score and says
what another sample of such images could turn round. The plateau is the connected part of those settings around the
best; its middle is the farthest from where a choice starts to cost, while the best itself is the luckiest of many.

A difference's error needs the sum of squares, over groups of images, of what each group contributes to it. As with
the scores themselves, a group's contribution changes only at the top thresholds that its images pass, so the squares
of all 65,536 pairs (top, bottom) of a minimum area cost one row of additions an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from pipeline.metrics import Counts
from pipeline.postprocess import LEVELS, Postprocess
from pipeline.search.grid import THRESHOLD, TRIPLET, Cell, Folds, Grid, counts_at
from pipeline.search.noise import Z95, standard_error


@numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def add_squares(
    gains: np.ndarray, start: np.ndarray, group: np.ndarray, order: np.ndarray, reach: np.ndarray, squares: np.ndarray
) -> None:
    """Sums over groups of the squared contribution at every pair (top, bottom).

    Args:
        gains: float64 (N, 256), each image's contribution at a bottom threshold less that of an empty mask.
        start: float64 (G,), each group's contribution where all of its masks are empty.
        group: int64 (N,).
        order: int64 (N,), images by group, and in a group by falling reach.
        reach: int64 (N,), the number of top thresholds, from 0 on, that the image passes.
        squares: float64 (256 tops, 256 bottoms), zeros; the result.
    """
    squares[-1, :] = (start**2).sum()
    now = np.zeros(squares.shape[1])
    before = -1
    for image in order:
        if group[image] != before:
            before = group[image]
            now[:] = start[before]
        if reach[image] > 0:
            row = squares[reach[image] - 1]
            for bottom in range(row.size):
                after = now[bottom] + gains[image, bottom]
                row[bottom] += after * after - now[bottom] * now[bottom]
                now[bottom] = after
    for top in range(squares.shape[0] - 2, -1, -1):
        for bottom in range(squares.shape[1]):
            squares[top, bottom] += squares[top + 1, bottom]


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
    """What each image contributes to the score around one best cell, to first order in the sums."""

    def __init__(self, grid: Grid, counts: Counts, groups: np.ndarray, excluded: Folds, best: Cell) -> None:
        self.best, self.excluded, self.grid = best, excluded, grid
        self.rows = np.flatnonzero(~np.isin(grid.fold, list(excluded)))
        kept = counts.take(self.rows)
        at_best = counts_at(kept, grid.postprocess(best))
        slopes = grid.objective.slopes(at_best)
        nothing = np.zeros_like(at_best.true)
        empty = grid.objective.linear(Counts(nothing, nothing, at_best.true), slopes)
        self.group = np.unique(groups[self.rows], return_inverse=True)[1]
        self.start = np.bincount(self.group, empty - grid.objective.linear(at_best, slopes))
        self.gains = grid.objective.linear(kept, slopes) - empty[:, None]

    def as_good(self, area: int) -> np.ndarray:
        """Whether each pair (top, bottom) of a minimum area is as good as the best, bool (256, 256)."""
        reach = self.grid.reach(area)[self.rows]
        squares = np.zeros((LEVELS, LEVELS))
        add_squares(self.gains, self.start, self.group, np.lexsort((-reach, self.group)), reach, squares)
        difference = self.best.score - self.grid.scores(self.grid.sums(area), self.excluded)
        return difference <= Z95 * standard_error(squares, difference, len(self.start))


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
