"""Scores from integer pixel counts, how sure they are, and the comparison of two predictions.

Every metric is arithmetic on three integers an image, counted at its original resolution: the intersection of
prediction and truth, the predicted area and the true area. Arrays of them broadcast, so the same functions
score a submission, (N,), and every threshold of a search, (N, 256).

>>> import numpy as np
>>> counts = Counts(intersection=np.array([2, 0]), predicted=np.array([4, 0]), true=np.array([2, 0]))
>>> dice(counts).round(3).tolist()
[0.667, 1.0]
>>> METRICS["dice"](counts).round(3).item()
0.833
>>> METRICS["dice"](counts, both_empty=np.nan).round(3).item()  # images without anything to find left out
0.667
>>> METRICS["global-dice"](counts).round(3).item()
0.667

Where prediction and truth are both empty a formula has no value; ``both_empty`` says what to take: 1, 0, or
NaN, which leaves the image out of a mean. Where only one of them is empty every formula is 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BETA = 0.5
"""Of F-beta, as in the Vesuvius competition: precision counts more than recall."""

RESAMPLES = 1000
"""Of the bootstrap: the ends of a 95% interval then vary by a few percent of its length."""

_DRAWS_AT_ONCE = 2**16  # of the bootstrap, so that they stay in the processor's cache


@dataclass(frozen=True)
class Counts:
    """Sufficient statistics of N images: integer arrays whose first axis is the images."""

    intersection: np.ndarray
    predicted: np.ndarray
    true: np.ndarray

    def take(self, indices: np.ndarray | slice) -> Counts:
        """Those of the images with these indices, or of a bool (N,) or a slice."""
        return Counts(self.intersection[indices], self.predicted[indices], self.true[indices])

    @classmethod
    def stacked(cls, parts: Sequence[Counts]) -> Counts:
        """The counts of some images after those of others."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__annotations__))


# --------------------------------------------------------------------------------------------- formulas, by image


def _ratio(counts: Counts, numerator: np.ndarray, denominator: np.ndarray, both_empty: float) -> np.ndarray:
    """The one place of the division by zero; a denominator below 1 comes with a numerator of 0."""
    return np.where(counts.predicted + counts.true > 0, numerator / np.maximum(denominator, 1), both_empty)


def dice(counts: Counts, both_empty: float = 1.0) -> np.ndarray:
    """Dice of each image: 2 |P & T| / (|P| + |T|)."""
    return _ratio(counts, 2 * counts.intersection, counts.predicted + counts.true, both_empty)


def iou(counts: Counts, both_empty: float = 1.0) -> np.ndarray:
    """Intersection over union of each image: |P & T| / |P | T|."""
    return _ratio(counts, counts.intersection, counts.predicted + counts.true - counts.intersection, both_empty)


def precision(counts: Counts, both_empty: float = 1.0) -> np.ndarray:
    """The part of each prediction that is true: |P & T| / |P|; 0 for an empty one where there is a truth."""
    return _ratio(counts, counts.intersection, counts.predicted, both_empty)


def recall(counts: Counts, both_empty: float = 1.0) -> np.ndarray:
    """The part of each truth that is predicted: |P & T| / |T|; 0 for a prediction where there is no truth."""
    return _ratio(counts, counts.intersection, counts.true, both_empty)


def fbeta(counts: Counts, both_empty: float = 1.0, beta: float = BETA) -> np.ndarray:
    """F-beta of each image, beta > 0: (1 + beta^2) p r / (beta^2 p + r) of precision p and recall r.

    Recall weighs beta times as much as precision; beta = 1 is Dice. The evaluation page of
    kaggle.com/c/vesuvius-challenge-ink-detection gives the formula for one image.
    """
    weighted = beta**2 * counts.true + counts.predicted
    return _ratio(counts, (1 + beta**2) * counts.intersection, weighted, both_empty)


def tgs_map(counts: Counts, both_empty: float = 1.0) -> np.ndarray:
    """The share of the IoU thresholds 0.50, 0.55, ... 0.95 that each image exceeds.

    This is kaggle.com/c/tgs-salt-identification-challenge's mean precision where an image has one object: above
    a threshold it is a hit of precision 1, else a false positive and a miss. Compared in integers, exactly.
    """
    union = counts.predicted + counts.true - counts.intersection
    hits = sum((20 * counts.intersection > twentieths * union).astype(np.int64) for twentieths in range(10, 20))
    return _ratio(counts, hits, 10, both_empty)


# ---------------------------------------------------------------------------------------------- metrics, by name


class Metric(NamedTuple):
    """A score of N images: the mean of a formula over the images or, pooled, the formula of their summed counts.

    Either way it depends on sums over images only, which is what the bootstrap resamples.
    """

    # No dataclass: for such annotations it looks its module up in sys.modules, where Kaggle need not have put the file.
    formula: Callable[[Counts, float], np.ndarray]
    title: str
    """Name in tables and on the page."""
    pooled: bool = False

    def __call__(self, counts: Counts, both_empty: float = 1.0) -> np.ndarray:
        """The score over the first axis of the counts; NaN for the mean of no images."""
        return self.of_sums([part.sum(axis=0) for part in self.parts(counts, both_empty)], both_empty)

    def parts(self, counts: Counts, both_empty: float) -> list[np.ndarray]:
        """Arrays whose sums over the images make the score."""
        if self.pooled:
            return [counts.intersection, counts.predicted, counts.true]
        values = self.formula(counts, both_empty)
        counted = ~np.isnan(values)
        return [np.where(counted, values, 0.0), counted]

    def of_sums(self, sums: Sequence[np.ndarray], both_empty: float) -> np.ndarray:
        """The score from the sums of the ``parts``."""
        if self.pooled:
            return self.formula(Counts(*sums), both_empty)
        total, counted = sums
        return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)


def metrics_by_name(beta: float = BETA) -> dict[str, Metric]:
    """All metrics: a line here is all that another formula needs.

    ``global-dice`` is that of the contrails competition, where large masks weigh more.
    """
    return {
        "dice": Metric(dice, "mean Dice per image"),
        "iou": Metric(iou, "mean IoU per image"),
        "global-dice": Metric(dice, "Dice of all pixels together", pooled=True),
        "fbeta": Metric(functools.partial(fbeta, beta=beta), "mean F-beta per image"),
        "precision": Metric(precision, "mean precision per image"),
        "recall": Metric(recall, "mean recall per image"),
        "tgs-map": Metric(tgs_map, "mean precision at IoU 0.50 to 0.95"),
    }


METRICS = metrics_by_name()
"""By name: a score of all images together, over the first axis."""


def score_all(counts: Counts, both_empty: float = 1.0, beta: float = BETA) -> dict[str, float]:
    """Every metric of (N,) counts."""
    return {name: float(metric(counts, both_empty)) for name, metric in metrics_by_name(beta).items()}


# --------------------------------------------------------------------------------------------------- uncertainty


def interval(
    metric: Metric,
    counts: Counts,
    both_empty: float = 1.0,
    *,
    seed: int = 0,
    groups: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """The bootstrap's 95% interval of a score: how it would vary with other images of the same kind.

    Percentile method (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).

    Args:
        metric: of ``metrics_by_name``.
        counts: int (N,) each.
        seed: equal seeds draw equal resamples, whatever the metric.
        groups: int (N,): images that belong together, one person's say, are drawn together. None: each alone.
        resamples: how often N images are drawn with replacement.

    Returns:
        Its two ends; NaN where no resample has a score.
    """
    sums = _resampled_sums(metric.parts(counts, both_empty), seed, groups, resamples)
    return _percentiles(metric.of_sums(sums, both_empty))


FEWEST_DRAWN = 6
"""Images or groups below which nothing is beyond noise: five all agree in sign by chance once in sixteen times."""


@dataclass(frozen=True)
class Comparison:
    """A prediction against another one of the same images."""

    score: float
    """The other one's."""
    difference: float
    """The first one's score less the other one's."""
    ci95: tuple[float, float]
    """Of the difference; both are scored on the same resamples."""
    better: float
    """The share of images on which the first one is better; with ``worse`` and ``equal`` 1."""
    worse: float
    equal: float
    drawn: int
    """How many images, or groups of them, the bootstrap drew from."""

    @property
    def is_gain(self) -> bool:
        """Whether the first one is better beyond noise: the interval lies above 0."""
        return self.drawn >= FEWEST_DRAWN and self.ci95[0] > 0

    @property
    def is_loss(self) -> bool:
        """Whether it is worse beyond noise."""
        return self.drawn >= FEWEST_DRAWN and self.ci95[1] < 0

    @property
    def size(self) -> str:
        """The difference and its interval, for reading."""
        low, high = self.ci95
        return f"{self.difference:+.4f} (95% interval {low:+.4f} to {high:+.4f})"

    def verdict(self, what: str) -> str:
        """In words, what doing something gains or loses."""
        if self.drawn < FEWEST_DRAWN:
            return f"{what} gains nothing that {self.drawn} images or groups tell from noise: {self.size}"
        if self.is_gain:
            return f"{what} gains {self.size}"
        return f"{what} loses {self.size}" if self.is_loss else f"{what} gains nothing beyond noise: {self.size}"


def compare(
    metric: Metric,
    counts: Counts,
    other: Counts,
    both_empty: float = 1.0,
    *,
    seed: int = 0,
    groups: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Paired comparison of two predictions, image by image; arguments as of ``interval``.

    An image is better where the metric's formula is higher; where both are empty it counts as 1, also if the
    rule leaves it out of the score.
    """
    parts, other_parts = metric.parts(counts, both_empty), metric.parts(other, both_empty)
    sums = _resampled_sums([*parts, *other_parts], seed, groups, resamples)
    differences = metric.of_sums(sums[: len(parts)], both_empty) - metric.of_sums(sums[len(parts) :], both_empty)
    rule = 1.0 if np.isnan(both_empty) else both_empty
    gains = np.sign(metric.formula(counts, rule) - metric.formula(other, rule))
    score = float(metric(other, both_empty))
    return Comparison(
        score=score,
        difference=float(metric(counts, both_empty)) - score,
        ci95=_percentiles(differences),
        better=float((gains > 0).mean()),
        worse=float((gains < 0).mean()),
        equal=float((gains == 0).mean()),
        drawn=len(gains) if groups is None else len(np.unique(groups)),
    )


def _resampled_sums(parts: Sequence[np.ndarray], seed: int, groups: np.ndarray | None, resamples: int) -> np.ndarray:
    """Sums of each part over resamples of its N images, or of their groups: K of (N,) -> float64 (K, resamples).

    How often each image is drawn, times its parts: a matrix product, whose memory does not grow with N.
    """
    columns = np.stack([np.asarray(part, np.float64) for part in parts], axis=1)  # (N, K)
    if groups is not None:
        group = np.unique(groups, return_inverse=True)[1]
        columns = np.stack([np.bincount(group, column) for column in columns.T], axis=1)
    drawn = len(columns)
    rng = np.random.default_rng(seed)
    sums = np.empty((resamples, columns.shape[1]))
    step = max(1, _DRAWS_AT_ONCE // drawn)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        picks = rng.integers(0, drawn, (rows, drawn)) + drawn * np.arange(rows)[:, None]
        times = np.bincount(picks.ravel(), minlength=rows * drawn).reshape(rows, drawn)
        sums[first : first + rows] = times.astype(np.float64) @ columns
    return sums.T


def _percentiles(scores: np.ndarray) -> tuple[float, float]:
    scores = scores[~np.isnan(scores)]
    if scores.size == 0:
        return np.nan, np.nan
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def optimism(chosen: float, cross_fitted: float) -> str:
    """Label a score on the images that something was chosen on, wherever it is shown."""
    if chosen < cross_fitted:
        return "chosen on the same images, below cross-fitted since the folds' own choices suit them better"
    return "chosen on the same images, which is optimistic"


# --------------------------------------------------------------------------------------------- what is maximised


_STEP = 1e-6  # of a numerical derivative, as a share of the sum


@dataclass(frozen=True)
class Objective:
    """What is maximised: a metric with its rule for images where prediction and truth are both empty."""

    metric: Metric
    both_empty: float = 1.0
    """An image's score there; NaN leaves it out."""

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
        """``slopes_at`` the sums of the counts."""
        return self.slopes_at([part.sum(axis=0, dtype=np.float64) for part in self.parts(counts)])

    def slopes_at(self, sums: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The score's derivative by the sum of each part, by central differences: shaped as the score."""
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

    def interval(self, counts: Counts, groups: np.ndarray | None = None) -> tuple[float, float]:
        """``interval`` of the score of (N,) counts."""
        return interval(self.metric, counts, self.both_empty, groups=groups)

    def compare(self, counts: Counts, other: Counts, groups: np.ndarray | None = None) -> Comparison:
        """``compare`` of (N,) counts with others of the same images."""
        return compare(self.metric, counts, other, self.both_empty, groups=groups)


# ------------------------------------------------------------------------------------------------------ on Kaggle


class ParticipantVisibleError(Exception):
    """What is wrong with a submission; of all errors of a metric Kaggle shows participants only this one."""


def score(solution: pd.DataFrame, submission: pd.DataFrame, row_id_column_name: str) -> float:
    """Mean Dice of a submission in format ``kaggle``, with the signature of Kaggle's metrics.

    See ``pipeline.host_metric``, which `kaggle-metric` prints for other metrics and formats too.

    Raises:
        ParticipantVisibleError: the submission is wrong.
        ValueError: the solution is.
    """
    from pipeline import host_metric  # imports pandas

    return host_metric.score(solution, submission, row_id_column_name)
