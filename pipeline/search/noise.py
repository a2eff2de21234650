"""How sure a difference of two scores of the same images is."""

from __future__ import annotations

import numpy as np

from pipeline.metrics import Counts, Objective

Z95 = 1.959964
"""A normal variable is within so many standard deviations with probability 0.95."""


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
