"""The weights of a blend, searched on what is distinct in a sample of images.

A blend depends on nothing but the models' bytes: all pixels of an image on which these are the same move together,
whatever the weights. So of each image only its distinct combinations are kept, with the number of pixels that have
each and how much of them the true mask covers. Every weighting's counts at all 256 thresholds follow from those
exactly, at the size of the maps, and a search over weights never touches a map again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np

from pipeline.blending.spaces import Scale, normalised
from pipeline.metrics import Counts, Objective
from pipeline.postprocess import HALF
from pipeline.rle.threads import map_rows

Search = Literal["nelder-mead", "greedy"]
FEW = 5
"""Most models for which Nelder-Mead is worth its steps; beyond, weights are selected greedily."""

ROUNDS = 40  # of greedy selection: weights are then multiples of 1/40 or coarser
PATIENCE = 5  # rounds without a better score after which the selection ends

_jit = numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")


@dataclass(frozen=True)
class Sample:
    """The distinct combinations of bytes of N images, one image after the other; T in all."""

    combinations: np.ndarray
    """uint8 (T, M), what the models say."""
    pixels: np.ndarray
    """int32 (T,), how many pixels of the image have it."""
    covered: np.ndarray
    """int64 (T,), how much of them the true mask covers, in 255ths of a pixel."""
    offsets: np.ndarray
    """int64 (N + 1,), where each image begins."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def without(self, model: int) -> Sample:
        """The same images without one of the models; what is no longer distinct stays apart, which changes no sum."""
        return Sample(np.delete(self.combinations, model, axis=1), self.pixels, self.covered, self.offsets)

    def histograms(self) -> np.ndarray:
        """How often each model's maps have each byte, int64 (M, 256)."""
        columns = self.combinations.T
        return np.stack([np.bincount(column, self.pixels, minlength=256).astype(np.int64) for column in columns])

    def correlations(self) -> np.ndarray:
        """Pearson's correlation of the models' probabilities over all pixels, (M, M); NaN for a constant one."""
        total = self.pixels.sum()
        means = self.histograms() @ np.arange(256) / total
        covariances = self._products(self.combinations) / total - np.outer(means, means)
        # Of a constant one what is left of the difference is rounding.
        varies = (self.histograms() > 0).sum(axis=1) > 1
        deviations = np.sqrt(np.where(varies, covariances.diagonal(), np.nan))
        return covariances / np.outer(deviations, deviations)

    def disagreements(self) -> np.ndarray:
        """Of the pixels in either of two models' masks at one half the share that is not in both, (M, M)."""
        both = self._products(self.combinations >= HALF)
        either = both.diagonal()[:, None] + both.diagonal() - both
        return 1 - np.divide(both, either, out=np.ones_like(both), where=either > 0)

    def _products(self, values: np.ndarray) -> np.ndarray:
        """Sums over all pixels of the products of two models' values: (T, M) -> float (M, M)."""
        sums = np.empty((values.shape[1], values.shape[1]))
        for i, column in enumerate(values.T):
            counted = column * self.pixels.astype(np.float64)
            for j, other in enumerate(values.T[: i + 1]):
                sums[i, j] = sums[j, i] = counted @ other
        return sums


def gather(images: Iterable[tuple[np.ndarray, np.ndarray]]) -> Sample:
    """Keep what is distinct of each image.

    Args:
        images: the models' maps, uint8 (P, M), and the share of each pixel that the true mask covers, uint8 (P,),
            255 = all; P may differ.
    """
    parts = [_distinct(np.ascontiguousarray(maps), covered) for maps, covered in images]
    combinations, pixels, covered = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Sample(combinations, pixels, covered, np.cumsum([0, *(len(part[1]) for part in parts)]))


@_jit
def _distinct(maps, covered):
    """Distinct rows of uint8 (P, M), how many there are of each, and the sum of ``covered`` over them.

    A hash table with open addressing, at most half full; np.unique, which sorts, takes ten times as long.
    """
    slots = 2
    while slots < 2 * maps.shape[0]:
        slots *= 2
    occupant = np.full(slots, -1, np.int32)
    first = np.empty(maps.shape[0], np.int64)
    pixels = np.zeros(maps.shape[0], np.int32)
    sums = np.zeros(maps.shape[0], np.int64)
    found = 0
    for pixel in range(maps.shape[0]):
        slot = _hash(maps, pixel) & (slots - 1)
        while occupant[slot] >= 0 and not _same(maps, first[occupant[slot]], pixel):
            slot = (slot + 1) & (slots - 1)
        if occupant[slot] < 0:
            occupant[slot] = found
            first[found] = pixel
            found += 1
        pixels[occupant[slot]] += 1
        sums[occupant[slot]] += covered[pixel]
    return maps[first[:found]], pixels[:found], sums[:found]


@_jit
def _hash(maps, pixel):
    """FNV-1a of a pixel's bytes, its upper bits mixed into the lower ones."""
    code = np.uint64(14695981039346656037)
    for model in range(maps.shape[1]):
        code = (code ^ np.uint64(maps[pixel, model])) * np.uint64(1099511628211)
    return np.int64((code ^ (code >> np.uint64(32))) & np.uint64(0x7FFFFFFF))


@_jit
def _same(maps, pixel, other):
    same = True
    for model in range(maps.shape[1]):
        same &= maps[pixel, model] == maps[other, model]
    return same


def blended_counts(sample: Sample, images: np.ndarray, scale: Scale, weights: np.ndarray) -> Counts:
    """Counts of a blend at all 256 thresholds, in 255ths of a pixel at the size of the maps.

    Args:
        images: int (n,), those of the sample to count.
        weights: float (M,), summing to one.

    Returns:
        intersection and predicted of shape (n, 256), true of shape (n, 1).
    """
    images = np.asarray(images, np.int64)
    tables = np.ascontiguousarray(scale.weighted(weights).T)
    parts = (sample.combinations, sample.pixels, sample.covered, sample.offsets)
    work = np.concatenate([[0], np.diff(sample.offsets)[images].cumsum()])
    counted = map_rows(lambda first, last: _count(*parts, images[first:last], tables, scale.back), work)
    tables_n2t = np.concatenate(counted)
    return Counts(tables_n2t[:, 0], 255 * tables_n2t[:, 1], tables_n2t[:, 0, :1])


@_jit
def _count(combinations, pixels, covered, offsets, images, tables, back):
    """int64 (n, 2, 256): covered and all pixels of each image whose blend is at least each byte."""
    out = np.zeros((images.size, 2, 256), np.int64)
    for row in range(images.size):
        for i in range(offsets[images[row]], offsets[images[row] + 1]):
            place = np.float32(0.5)
            for model in range(combinations.shape[1]):
                place += tables[combinations[i, model], model]
            byte = back[min(np.int64(place), back.size - 1)]  # rounding may carry a sum of many past the end
            out[row, 0, byte] += covered[i]
            out[row, 1, byte] += pixels[i]
        for byte in range(254, -1, -1):
            out[row, 0, byte] += out[row, 0, byte + 1]
            out[row, 1, byte] += out[row, 1, byte + 1]
    return out


@dataclass(frozen=True)
class Found:
    """Weights, and what they are worth on the images that they were searched on."""

    weights: np.ndarray
    """float (M,), not negative, summing to one."""
    score: float
    """At the best of the 256 thresholds, at the size of the maps: optimistic."""


def search_weights(
    sample: Sample, images: np.ndarray, scale: Scale, objective: Objective, search: Search | None = None
) -> Found:
    """The best weights for some images of a sample.

    A weighting is worth its score at its best threshold, since the threshold is tuned after it. Whatever is found
    is never worse than equal weights or any model alone, and of equally good weightings equal weights are taken.

    Args:
        images: int (n,), n > 0.
        scale: the space to blend in.
        objective: what to maximise.
        search: None: as many models as there are decide.
    """
    count = sample.combinations.shape[1]

    def score(weights: np.ndarray) -> float:
        return best_score(objective(blended_counts(sample, images, scale, weights)))

    candidates = [normalised(np.ones(count)), *np.eye(count)]
    if count > 1:
        method = greedy_selection if (search or default_search(count)) == "greedy" else nelder_mead
        candidates.append(method(score, count))
    scores = [score(weights) for weights in candidates]
    best = int(np.argmax(scores))
    return Found(candidates[best], scores[best])


def best_score(curve: np.ndarray) -> float:
    """The best of the scores at all thresholds, where there are any: without a single image that counts is none."""
    return float(np.nan_to_num(curve, nan=-np.inf).max())


def default_search(count: int) -> Search:
    """How the weights of so many models are searched."""
    return "nelder-mead" if count <= FEW else "greedy"


def nelder_mead(score: Callable[[np.ndarray], float], count: int) -> np.ndarray:
    """Weights by the simplex method of Nelder and Mead (The Computer Journal 7, 1965), as SciPy has it.

    Its first points lie half-way from equal weights to each model alone, so that the models' order doesn't matter.
    A point with a negative weight stands for the one where that weight is 0: useless models end with exactly none.
    """
    from scipy.optimize import minimize  # takes a third of a second to import; one model does without

    start = (normalised(np.ones(count)) + np.eye(count))[:, :-1] / 2
    options = {"initial_simplex": start, "xatol": 2e-3, "fatol": 1e-6, "maxfev": 60 * count}
    result = minimize(lambda head: -score(_complete(head)), start[0], method="Nelder-Mead", options=options)
    return _complete(result.x)


def _complete(head: np.ndarray) -> np.ndarray:
    """All weights from all but the last: the nearest that are none negative, by their proportions."""
    return normalised(np.append(head, 1 - head.sum()).clip(min=0))


def greedy_selection(score: Callable[[np.ndarray], float], count: int) -> np.ndarray:
    """Weights by forward selection with replacement.

    Caruana et al., "Ensemble Selection from Libraries of Models" (ICML 2004). In each round the model joins, once more
    if need be, with which the mean of all that have joined is best. A model's weight is its share of the members
    after the best round.
    """
    members = np.zeros(count)
    best, best_score, best_round = members, -np.inf, 0
    for number in range(ROUNDS):
        trials = [members + joining for joining in np.eye(count)]
        scores = [score(normalised(trial)) for trial in trials]
        members = trials[int(np.argmax(scores))]
        if max(scores) > best_score:
            best, best_score, best_round = members, max(scores), number
        elif number - best_round >= PATIENCE:
            break
    return normalised(best)
