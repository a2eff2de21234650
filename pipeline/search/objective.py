"""The score that tuning is after, as sums over images, and how sure a difference of two scores is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics import Counts, Metric, metrics_by_name

Z95 = 1.959964
"""A normal variable is within so many standard deviations with probability 0.95."""

_STEP = 1e-6  # of a numerical derivative, as a share of the sum


@dataclass(frozen=True)
class Objective:
    """A metric with its rule for images where prediction and truth are both empty."""

    metric: Metric
    both_empty: float = 1.0

    @classmethod
    def named(cls, name: str, beta: float, both_empty: float) -> Objective:
        """Of ``metrics_by_name``."""
        return cls(metrics_by_name(beta)[name], both_empty)

    def __call__(self, counts: Counts) -> np.ndarray:
        """The score over the first axis of the counts."""
        return self.metric(counts, self.both_empty)

    def parts(self, counts: Counts) -> list[np.ndarray]:
        """Arrays shaped as the counts, whose sums over the images make the score."""
        shape = np.broadcast_shapes(counts.intersection.shape, counts.predicted.shape, counts.true.shape)
        return [np.broadcast_to(part, shape) for part in self.metric.parts(counts, self.both_empty)]

    def of_sums(self, sums: Sequence[np.ndarray]) -> np.ndarray:
        """The score from the sums of the parts."""
        return self.metric.of_sums(sums, self.both_empty)

    def slopes(self, counts: Counts) -> list[np.ndarray]:
        """The score's derivative by the sum of each part, by central differences: shaped as the score."""
        sums = [part.sum(axis=0, dtype=np.float64) for part in self.parts(counts)]
        slopes = []
        for number, value in enumerate(sums):
            step = _STEP * np.maximum(np.abs(value), 1.0)
            above, below = (
                self.of_sums([*sums[:number], end, *sums[number + 1 :]]) for end in (value + step, value - step)
            )
            slopes.append((above - below) / (2 * step))
        return slopes

    def linear(self, counts: Counts, slopes: Sequence[np.ndarray]) -> np.ndarray:
        """What each image adds to the score, to first order: float64, shaped as the counts."""
        return sum(slope * part for slope, part in zip(slopes, self.parts(counts), strict=True))


def standard_error(squares: np.ndarray, difference: np.ndarray, groups: int) -> np.ndarray:
    """Of a sum over groups, from its terms' squares summed: sqrt(sum D^2 - (sum D)^2 / G).

    This is the delta method (the infinitesimal jackknife), to which the bootstrap over groups converges: Efron and
    Tibshirani, An Introduction to the Bootstrap, chapter 21. It costs one pass where the bootstrap costs a thousand,
    so that every setting of a grid can have it.
    """
    return np.sqrt(np.maximum(squares - difference**2 / groups, 0.0))


def paired_difference(
    objective: Objective, counts: Counts, other: Counts, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores less another score of the same images, and the differences' standard errors.

    Args:
        objective: the score.
        counts: (N,) of one setting, or (N, S) of several with true (N, 1).
        other: (N,) of the other, or (N, 1).
        groups: (N,): images that belong together vary together.

    Returns:
        The differences and their errors, float64 () or (S,).
    """
    terms = objective.linear(counts, objective.slopes(counts)) - objective.linear(other, objective.slopes(other))
    order = np.argsort(groups, kind="stable")
    firsts = np.unique(groups[order], return_index=True)[1]
    by_group = np.add.reduceat(terms[order], firsts, axis=0)
    difference = objective(counts) - objective(other)
    return difference, standard_error((by_group**2).sum(axis=0), by_group.sum(axis=0), len(firsts))
