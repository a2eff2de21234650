"""From a stored probability map to the final mask, and the exact search over its threshold.

``final_edges`` is the only way from a probability to a mask: tuning, submitting and reporting share it. A
threshold is a byte t: a pixel is foreground where the map, restored to the image's own size, is >= t.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numba
import numpy as np

from pipeline.geometry import Fit, restore
from pipeline.metrics import Counts, dice
from pipeline.rle import from_edges, to_edges

HALF = 128
"""The threshold before any tuning: p >= 128/255 is p > 0.5."""


def final_edges(prob_hw: np.ndarray, height: int, width: int, fit: Fit, threshold: int) -> np.ndarray:
    """The mask of one image at its own size.

    Args:
        prob_hw: uint8 (h, w) at network size, 255 = 1.0.
        height, width: the image's own size.
        fit: how the image was brought to network size.
        threshold: byte 0..255.

    Returns:
        Column-major edges, uint32.
    """
    return to_edges(restore(prob_hw, height, width, fit), threshold=threshold)


def expected_dice(prob_hw: np.ndarray, threshold: int) -> float:
    """The Dice that a map promises for its own mask, taking its probabilities at their word; 0..1.

    2 E|P & T| / (|P| + E|T|), where the true pixels T are as likely as the map says. For an empty mask it is the
    probability that there is nothing, if pixels stand and fall together: one minus the greatest.

    Args:
        prob_hw: uint8 (h, w), 255 = 1.0.
        threshold: byte; the mask is where the map is >= it.
    """
    histogram = np.bincount(prob_hw.ravel(), minlength=256)
    expected = histogram * np.arange(256) / 255
    predicted = int(histogram[threshold:].sum())
    if predicted == 0:
        return 1 - int(prob_hw.max()) / 255
    return float(2 * expected[threshold:].sum() / (predicted + expected.sum()))


@numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def joint_histogram(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels by truth and probability: uint8 (P,) twice, mask 0/1 -> int64 (2, 256).

    Four tables in turn: neighbouring pixels often have one value, and adding to one place again has to wait
    for the addition before.
    """
    tables = np.zeros((4, 512), np.int64)
    for pixel in range(probability.size):
        tables[pixel & 3, np.int64(probability[pixel]) + (np.int64(mask[pixel]) << 8)] += 1
    return tables.sum(axis=0).reshape(2, 256)


def counts_by_threshold(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection and predicted area at every threshold: int64 (2, 256) -> twice int64 (256,)."""
    inside = histogram[1][::-1].cumsum()[::-1]
    return inside, histogram.sum(axis=0)[::-1].cumsum()[::-1]


@dataclass(frozen=True)
class Held:
    """One held-out image: its map, its own size and its true mask."""

    prob_hw: np.ndarray
    height: int
    width: int
    true_edges: np.ndarray


def threshold_counts(images: Iterable[Held], count: int, fit: Fit) -> Counts:
    """Counts at all 256 thresholds, one pass, O(one image) memory besides the result.

    Returns:
        intersection and predicted of shape (N, 256), true of shape (N, 1), int64.
    """
    intersection = np.zeros((count, 256), np.int64)
    predicted = np.zeros((count, 256), np.int64)
    true = np.zeros((count, 1), np.int64)
    for row, image in enumerate(images):
        restored = restore(image.prob_hw, image.height, image.width, fit)
        mask = from_edges(image.true_edges, restored.shape)
        histogram = joint_histogram(restored.ravel(), mask.ravel())
        intersection[row], predicted[row] = counts_by_threshold(histogram)
        true[row] = histogram[1].sum()
    return Counts(intersection, predicted, true)


@dataclass(frozen=True)
class Tuning:
    """What a threshold is worth. All scores are mean Dice over images."""

    threshold: int
    """The best byte over all images."""
    curve: list[float]
    """The score at each of the 256 thresholds."""
    at_half: float
    """Without tuning."""
    at_half_by_fold: list[float]
    tuned: float
    """At ``threshold``: optimistic, since it was chosen on the same images."""
    cross_fitted: float
    """Each fold at the threshold that is best on the other folds: what tuning is really worth."""
    thresholds_by_fold: list[int]


def tune_threshold(counts: Counts, fold: np.ndarray) -> Tuning:
    """The exact best threshold by mean Dice, and its honest score.

    Args:
        counts: of ``threshold_counts``.
        fold: int (N,), the fold of each image.

    Returns:
        The tuning; of equally good thresholds the one next to one half is taken.
    """
    scores = dice(counts)
    folds = range(int(fold.max()) + 1)
    chosen = [best_threshold(scores[fold != number].mean(axis=0)) for number in folds]
    cross_fitted = np.concatenate([scores[fold == number, t] for number, t in zip(folds, chosen, strict=True)])
    curve = scores.mean(axis=0)
    threshold = best_threshold(curve)
    return Tuning(
        threshold=threshold,
        curve=[round(float(value), 6) for value in curve],
        at_half=float(curve[HALF]),
        at_half_by_fold=[float(scores[fold == number, HALF].mean()) for number in folds],
        tuned=float(curve[threshold]),
        cross_fitted=float(cross_fitted.mean()),
        thresholds_by_fold=chosen,
    )


def best_threshold(curve: np.ndarray) -> int:
    """Argmax of a (256,) curve; ties go to the threshold nearest to one half, then to the lower one."""
    candidates = np.flatnonzero(curve == curve.max())
    return int(candidates[np.argmin(np.abs(candidates - HALF))])
