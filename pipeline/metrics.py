"""Scores from integer pixel counts.

Every metric is arithmetic on three integers an image, counted at its original resolution: the intersection of
prediction and truth, the predicted area and the true area. Arrays of them broadcast, so the same functions
score a submission, (N,), and every threshold of a search, (N, 256).

>>> counts = Counts(intersection=np.array([2, 0]), predicted=np.array([4, 0]), true=np.array([2, 0]))
>>> dice(counts).round(3).tolist()
[0.667, 1.0]
>>> METRICS["global-dice"](counts).round(3).item()
0.667
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Sufficient statistics of N images: integer arrays whose first axis is the images."""

    intersection: np.ndarray
    predicted: np.ndarray
    true: np.ndarray


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The one place of the division by zero: 1 where prediction and truth are both empty."""
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1), 1.0)


def dice(counts: Counts) -> np.ndarray:
    """Dice of each image: 2 |P & T| / (|P| + |T|), 1 where both are empty."""
    return ratio(2 * counts.intersection, counts.predicted + counts.true)


def iou(counts: Counts) -> np.ndarray:
    """Intersection over union of each image, 1 where both are empty."""
    return ratio(counts.intersection, counts.predicted + counts.true - counts.intersection)


def global_dice(counts: Counts) -> np.ndarray:
    """Dice of all images pooled, as in the contrails competition: large masks weigh more."""
    intersection, predicted = counts.intersection.sum(axis=0), counts.predicted.sum(axis=0)
    return ratio(2 * intersection, predicted + counts.true.sum(axis=0))


METRICS: dict[str, Callable[[Counts], np.ndarray]] = {
    "dice": lambda counts: dice(counts).mean(axis=0),
    "iou": lambda counts: iou(counts).mean(axis=0),
    "global-dice": global_dice,
}
"""By name: a score of all images together, over the first axis."""


def score_all(counts: Counts) -> dict[str, float]:
    """Every metric of (N,) counts."""
    return {name: float(metric(counts)) for name, metric in METRICS.items()}
