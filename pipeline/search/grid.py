"""Every threshold, minimum area and triplet, exactly, from the counts at all thresholds.

An image that a triplet (top threshold u, minimum area a, bottom threshold t) does not empty adds what it adds at
threshold t, and an emptied one what an empty mask adds. So for each minimum area a table (u, t) gets an image's
gain over the empty mask, a row of 256 values, at the last top threshold that the image passes, and its sums down
the tops are the sums of all 65,536 pairs: N x 256 additions for each area instead of N x 65,536.

Sums are kept by fold, so that any set of folds is a few subtractions away, and as integers: values of a metric are
rounded to multiples of 2^-40. Integers add up to the same whatever the order, so equal settings tie exactly, on
any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numba
import numpy as np

from pipeline.metrics import Counts, Objective
from pipeline.postprocess import HALF, LEVELS, Postprocess
from pipeline.rle.threads import available_cores

Result = TypeVar("Result")
Folds = frozenset[int]
"""Folds that a choice must not look at."""

FIXED_POINT = 2.0**40

FAMILIES = ("threshold", "area", "triplet")
"""What may be searched, the simplest first; each holds the one before."""

THRESHOLD, AREA, TRIPLET = range(len(FAMILIES))


@numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def add_gains(gains: np.ndarray, reach: np.ndarray, fold: np.ndarray, sums: np.ndarray) -> None:
    """Add each image's gains to the tops that it passes.

    Args:
        gains: int64 (V, N, 256), over the empty mask, by bottom threshold.
        reach: int64 (N,), the number of top thresholds, from 0 on, that the image passes.
        fold: int64 (N,).
        sums: int64 (F, V, 256 tops, 256 bottoms); its last top holds the sums of empty masks, the others 0.
    """
    for kind in range(gains.shape[0]):
        for image in range(gains.shape[1]):
            if reach[image] > 0:
                row = sums[fold[image], kind, reach[image] - 1]
                for bottom in range(row.size):
                    row[bottom] += gains[kind, image, bottom]
        for number in range(sums.shape[0]):
            for top in range(sums.shape[2] - 2, -1, -1):
                for bottom in range(sums.shape[3]):
                    sums[number, kind, top, bottom] += sums[number, kind, top + 1, bottom]


@dataclass(frozen=True)
class Cell:
    """One setting of the grid, and its score."""

    area: int
    """Number of the minimum area."""
    top: int
    bottom: int
    score: float


class Grid:
    """All triplets of the 256 thresholds and some minimum areas, scored on all folds but a few.

    Args:
        counts: of ``threshold_counts``.
        fold: int (N,), 0..F-1.
        objective: what is maximised.
        areas: minimum areas in pixels, rising, the first 0: no rule.
        family: one of ``FAMILIES``.
        workers: threads, all cores where not given; the results are the same for every number.
    """

    def __init__(
        self,
        counts: Counts,
        fold: np.ndarray,
        objective: Objective,
        areas: Sequence[int],
        family: str = FAMILIES[-1],
        workers: int | None = None,
    ) -> None:
        self.predicted, self.objective, self.workers = counts.predicted, objective, workers or available_cores()
        self.fold, self.folds = fold.astype(np.int64), int(fold.max()) + 1
        self.levels = FAMILIES.index(family) + 1
        self.areas = tuple(areas) if self.levels > AREA else (0,)
        nothing = np.zeros_like(counts.true)
        empty = [_whole_numbers(part) for part in objective.parts(Counts(nothing, nothing, counts.true))]
        parts = [_whole_numbers(part) for part in objective.parts(counts)]
        gains = [part - start for part, start in zip(parts, empty, strict=True)]
        self.scales = [FIXED_POINT if _is_real(part) else 1.0 for part in objective.parts(counts)]
        self.varying = [number for number, gain in enumerate(gains) if gain.any()]
        self.gains = np.array([gains[number] for number in self.varying]).reshape(-1, *counts.predicted.shape)
        by_fold = [[start[self.fold == number].sum() for start in empty] for number in range(self.folds)]
        self.empty = np.array([*by_fold, np.sum(by_fold, axis=0)])  # (F + 1, parts)

    def each_area(self, function: Callable[[int], Result], first: int | None = None) -> list[Result]:
        """``function(number)`` of every minimum area, or the first few, on all threads, in order."""
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(function, range(len(self.areas))[:first]))

    def reach(self, area: int) -> np.ndarray:
        """How many top thresholds each image passes, int64 (N,): what is >= them shrinks as they rise."""
        return (self.predicted >= self.areas[area]).sum(axis=1)

    def sums(self, area: int) -> np.ndarray:
        """Sums of the parts that vary, int64 (F + 1, V, 256 tops, 256 bottoms); the last are of all folds."""
        sums = np.zeros((self.folds + 1, len(self.varying), LEVELS, LEVELS), np.int64)
        sums[:-1, :, -1, :] = self.empty[:-1, self.varying, None]
        add_gains(self.gains, self.reach(area), self.fold, sums[:-1])
        np.sum(sums[:-1], axis=0, out=sums[-1])
        return sums

    def without(self, sums: np.ndarray, excluded: Folds) -> list[np.ndarray]:
        """Sums of all parts without some folds: float64 (256 tops, 256 bottoms), or () of those that don't vary."""
        whole = list(self.empty[-1] - sum(self.empty[number] for number in excluded))
        for place, part in enumerate(self.varying):
            whole[part] = sums[-1, place] - sum(sums[number, place] for number in excluded)
        return [part / scale for part, scale in zip(whole, self.scales, strict=True)]

    def scores(self, sums: Sequence[np.ndarray]) -> np.ndarray:
        """Scores of the pairs (top, bottom) by the sums of all parts: float64 (256, 256), -inf where there are none."""
        scores = np.broadcast_to(self.objective.of_sums(sums), (LEVELS, LEVELS))
        return np.where(np.isnan(scores), -np.inf, scores)

    def best(self, choices: Iterable[Folds]) -> dict[Folds, list[Cell]]:
        """The best cell of each family, for each set of folds that must not be looked at.

        Of equally good ones it is the one with the least area, then the threshold next to one half, the lower first,
        then the top threshold next to it.
        """
        choices = list(choices)

        def of_area(area: int) -> list[list[Cell]]:
            sums = self.sums(area)
            return [self._best_of_area(area, self.scores(self.without(sums, excluded))) for excluded in choices]

        by_area = self.each_area(of_area)
        found = {}
        for place, excluded in enumerate(choices):
            cells = [of_choices[place] for of_choices in by_area]
            levels = [cells[0][0], *(max((row[own] for row in cells), key=_score) for own in (0, 1))]
            found[excluded] = levels[: self.levels]
        return found

    def _best_of_area(self, area: int, scores: np.ndarray) -> list[Cell]:
        """With the top threshold that is the bottom one, and with any."""
        own = _first_best(np.diagonal(scores), np.diagonal(_RANK))
        cells = [Cell(area, own, own, float(scores[own, own]))]
        if self.levels > TRIPLET:
            top, bottom = divmod(_first_best(scores, _RANK), LEVELS)
            cells.append(Cell(area, top, bottom, float(scores[top, bottom])))
        return [cells[0], cells[-1]]

    def postprocess(self, cell: Cell) -> Postprocess:
        """A cell as settings; without a minimum area there is no top threshold."""
        if self.areas[cell.area] == 0:
            return Postprocess(threshold=cell.bottom)
        top = None if cell.top == cell.bottom else cell.top
        return Postprocess(threshold=cell.bottom, top_threshold=top, min_area=self.areas[cell.area])


def counts_at(counts: Counts, settings: Postprocess) -> Counts:
    """The counts (N,) of thresholds and minimum area, out of those at all thresholds."""
    kept = counts.predicted[:, settings.top] >= settings.min_area
    columns = (counts.intersection[:, settings.threshold], counts.predicted[:, settings.threshold])
    return Counts(*(np.where(kept, column, 0) for column in columns), counts.true[:, 0])


def minimum_areas(pixels: int, count: int) -> tuple[int, ...]:
    """0 and rising areas, evenly spaced on a logarithmic scale from 1/16384 to a quarter of an image's pixels."""
    steps = np.geomspace(max(1, pixels / 2**14), max(1, pixels / 4), count - 1)
    return (0, *np.unique(np.rint(steps).astype(int)).tolist())


def _is_real(part: np.ndarray) -> bool:
    return np.issubdtype(part.dtype, np.floating)


def _whole_numbers(part: np.ndarray) -> np.ndarray:
    """int64; values of a metric in fixed point, counts as they are."""
    return np.rint(part * FIXED_POINT).astype(np.int64) if _is_real(part) else part.astype(np.int64)


def _score(cell: Cell) -> float:
    return cell.score


def _ranks() -> np.ndarray:
    """Which of two equally good pairs (top, bottom) is taken, int64 (256, 256): the one of lower rank."""
    top, bottom = np.divmod(np.arange(LEVELS**2), LEVELS)
    order = np.lexsort((top, np.abs(top - bottom), bottom, np.abs(bottom - HALF)))
    return np.argsort(order).reshape(LEVELS, LEVELS)


_RANK = _ranks()


def _first_best(scores: np.ndarray, rank: np.ndarray) -> int:
    """Place of the highest score; of several, of the one of lowest rank."""
    places = np.flatnonzero(scores == scores.max())
    return int(places[np.argmin(rank.ravel()[places])])
