"""Weights of a vote, learnt on masks whose truth is known.

Of M masks a pixel is in one of 2^M sets of them, and a vote decides set by set: foreground where the masks of the set
have more than half of the weight. So the pixels of each image are counted by set, once, from the runs; the score of
any weighting follows from these counts exactly. And there are few votes to tell apart: of three masks they are each
mask alone, the majority, what two masks have in common, and each mask where another one agrees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.metrics import Comparison, Counts, Objective
from pipeline.rle import RleTable, pixels_by_set

WHOLE_WEIGHTS = {2: 1, 3: 2, 4: 3, 5: 5}
"""By number of masks: every vote that there is has whole weights up to this (by enumeration: larger ones add none)."""

MOST_MASKS = 10
"""For which weights can be learnt: the sets are 2^M."""

ROUNDS = 40  # of greedy selection


@dataclass(frozen=True)
class Ballots:
    """Pixels of N images by the set of masks that claim them; bit k of a set's number is mask k."""

    claimed: np.ndarray
    """float64 (N, 2^M), whole numbers; of the empty set, which never wins, only the pixels of the true mask."""
    true: np.ndarray
    """float64 (N, 2^M): those of them that are in the true mask."""

    @classmethod
    def count(cls, tables: list[RleTable], truth: RleTable) -> Ballots:
        """Of M tables with the ids of the truth, in its order."""
        both = pixels_by_set([*tables, truth]).astype(np.float64)
        outside, true = np.split(both, 2, axis=1)
        return cls(outside + true, true)

    @property
    def masks(self) -> int:
        return self.claimed.shape[1].bit_length() - 1

    def outcome(self, weights: np.ndarray) -> Counts:
        """Counts of votes: weights (M,) or, for several votes, (M, C) -> (N,) or (N, C)."""
        won = winning_sets(weights).astype(np.float64)  # a product of floats, which is exact here, is the fast one
        true = self.true.sum(axis=1)
        parts = self.true @ won, self.claimed @ won, true if won.ndim == 1 else true[:, None]
        return Counts(*(part.astype(np.int64) for part in parts))


def winning_sets(weights: np.ndarray) -> np.ndarray:
    """Which sets of masks have more than half of the weight: whole (M,) or (M, C) -> bool (2^M,) or (2^M, C)."""
    sets = np.arange(2 ** len(weights))[:, None] >> np.arange(len(weights)) & 1
    return 2 * (sets @ weights) > weights.sum(axis=0)


def all_votes(masks: int) -> np.ndarray:
    """Every vote that differs from the others, by its least weights, int (M, C); the most equal weights first."""
    weights = np.indices((WHOLE_WEIGHTS[masks] + 1,) * masks).reshape(masks, -1)[:, 1:]
    weights = weights[:, np.argsort(weights.sum(axis=0), kind="stable")]
    weights = weights[:, np.unique(winning_sets(weights), axis=1, return_index=True)[1]]
    spread = (weights / weights.sum(axis=0)).std(axis=0).round(9)
    return weights[:, np.lexsort((weights.sum(axis=0), spread))]


@dataclass(frozen=True)
class Learnt:
    """Weights, and what they are worth."""

    weights: np.ndarray
    """int (M,), chosen on all images."""
    search: str
    optimistic: float
    """Their score on the images that they were chosen on."""
    cross_fitted: float
    """Each part of the images with the weights that are best on the others."""
    against_equal: Comparison
    """The cross-fitted score against that of equal weights."""


def learn_weights(ballots: Ballots, fold: np.ndarray, objective: Objective, groups: np.ndarray | None = None) -> Learnt:
    """The best weights: of up to five masks exactly, of more by greedy selection.

    Args:
        fold: int (N,), from 0; of at least two.
        objective: what to maximise.
        groups: int (N,): what the bootstrap draws together.
    """
    folds = range(int(fold.max()) + 1)
    choosing = [fold != number for number in folds] + [np.ones(len(fold), bool)]
    exact = ballots.masks in WHOLE_WEIGHTS
    *by_fold, weights = (_best_of_all if exact else _greedily)(ballots, choosing, objective)
    outcomes = [ballots.outcome(each) for each in by_fold]
    rows = np.arange(len(fold))
    names = ("intersection", "predicted", "true")
    cross_fitted = Counts(*(np.stack([getattr(each, name) for each in outcomes])[fold, rows] for name in names))
    equal = ballots.outcome(np.ones(ballots.masks, np.int64))
    gain = objective.compare(cross_fitted, equal, groups)
    return Learnt(
        weights=weights,
        search="exact" if exact else "greedy",
        optimistic=float(objective(ballots.outcome(weights))),
        cross_fitted=float(objective(cross_fitted)),
        against_equal=gain,
    )


def _best_of_all(ballots: Ballots, choosing: list[np.ndarray], objective: Objective) -> list[np.ndarray]:
    """The best of all votes on each choice of images, bool (N,); of equally good ones the most equal weights."""
    votes = all_votes(ballots.masks)
    parts = np.array_split(votes, -(-votes.shape[1] // 64), axis=1)
    scores = np.concatenate([_scores(ballots, part, choosing, objective) for part in parts], axis=1)
    return [votes[:, best] for best in scores.argmax(axis=1)]


def _greedily(ballots: Ballots, choosing: list[np.ndarray], objective: Objective) -> list[np.ndarray]:
    """Forward selection with replacement on each choice of images (Caruana et al., ICML 2004)."""
    return [_select(ballots, rows, objective) for rows in choosing]


def _select(ballots: Ballots, rows: np.ndarray, objective: Objective) -> np.ndarray:
    members = np.zeros(ballots.masks, np.int64)
    best = np.ones_like(members)
    best_score = _scores(ballots, best[:, None], [rows], objective)[0, 0]
    for _ in range(ROUNDS):
        trials = members[:, None] + np.eye(ballots.masks, dtype=np.int64)
        scores = _scores(ballots, trials, [rows], objective)[0]
        members = trials[:, scores.argmax()]
        if scores.max() > best_score:
            best, best_score = members, scores.max()
    return best


def _scores(ballots: Ballots, votes: np.ndarray, choosing: list[np.ndarray], objective: Objective) -> np.ndarray:
    """The scores of votes (M, C) on each choice of images: (choices, C); -inf where no image counts."""
    counts = ballots.outcome(votes)
    return np.nan_to_num([objective(counts.take(rows)) for rows in choosing], nan=-np.inf)
