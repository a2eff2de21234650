"""A run against another one of the same workspace, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.artifacts import Artifacts
from pipeline.config import load_experiment
from pipeline.errors import DataError, some
from pipeline.metrics import Comparison, compare, dice, metrics_by_name
from pipeline.report.facts import Difference, settings_differences
from pipeline.report.finished import FinishedRun
from pipeline.report.pictures import draw_difference
from pipeline.report.scores import Scores

MOST_CHANGED = 12
"""Masks that are named, each way."""
PICTURED = 3
"""Of these, the ones with pictures."""
ALWAYS_DIFFERENT = ("name", "workspace")


@dataclass(frozen=True)
class Change:
    """A mask's Dice in both runs; NaN where it is left out."""

    mask_id: str
    dice: float
    other: float
    picture: str | None = None
    """Where this run's mask is wrong, and the other's, as data URIs."""
    other_picture: str | None = None


@dataclass(frozen=True)
class Against:
    """Changes from another run to this one; masks are as submitted in both, at settings chosen without them."""

    name: str
    masks: int
    """In both."""
    only_here: int
    only_there: int
    score: float
    """This run's, of the masks in both."""
    comparison: Comparison
    verdict: str
    """In words: whether this run is better or worse, beyond noise."""
    folds_differ: bool
    better: list[Change]
    worse: list[Change]
    settings: list[Difference]


def open_other(run: FinishedRun, name: str) -> FinishedRun:
    """The run that ``--against`` names.

    Raises:
        DataError: it is this run, is not finished, or has other classes.
    """
    artifacts = Artifacts(run.settings.workspace, name)
    if name == run.settings.name:
        raise DataError(f"--against {name}: that is this experiment itself")
    if not artifacts.tuning.exists() or not artifacts.settings.exists():
        finished = sorted(path.parent.name for path in artifacts.folder.parent.glob("*/tuning.json"))
        others = some([each for each in finished if each != run.settings.name]) or "none"
        raise DataError(f"--against {name}: {artifacts.folder} has no finished run; others there: {others}")
    other = FinishedRun.read(load_experiment(artifacts.settings))
    if other.classes != run.classes:
        classes = [", ".join(filter(None, each.classes)) or "no classes" for each in (other, run)]
        raise DataError(f"--against {name}: has {classes[0]}, this experiment {classes[1]}")
    return other


def compare_runs(run: FinishedRun, scores: Scores, other: FinishedRun, other_scores: Scores) -> Against:
    """The paired difference of the scores of what two runs submit, and the masks that changed most.

    Raises:
        DataError: they have no mask in common, or one that is not the same in both.
    """
    rows, other_rows = common_rows(run, other)
    counts, other_counts = scores.cross_fitted.take(rows), other_scores.cross_fitted.take(other_rows)
    tuned = run.tuning["settings"]
    metric, both_empty = metrics_by_name(tuned["beta"])[run.tuning["metric"]], scores.both_empty
    comparison = compare(metric, counts, other_counts, both_empty, groups=run.groups[rows])
    values, other_values = dice(counts, both_empty), dice(other_counts, both_empty)
    # As in ``compare`` a mask that is left out counts as 1: one that only this run leaves empty is better.
    gains = np.nan_to_num(values, nan=1.0) - np.nan_to_num(other_values, nan=1.0)
    order = np.argsort(gains, kind="stable")
    changed = Changes(run, other, rows, other_rows, values, other_values)
    return Against(
        name=other.settings.name,
        masks=len(rows),
        only_here=len(run.masks) - len(rows),
        only_there=len(other.masks) - len(rows),
        score=float(metric(counts, both_empty)),
        comparison=comparison,
        verdict=verdict_of(comparison),
        folds_differ=bool(np.any(run.masks["fold"].to_numpy()[rows] != other.masks["fold"].to_numpy()[other_rows])),
        better=changed.listed([place for place in order[::-1][:MOST_CHANGED] if gains[place] > 0]),
        worse=changed.listed([place for place in order[:MOST_CHANGED] if gains[place] < 0]),
        settings=settings_differences(
            *(each.settings.model_dump(mode="json", exclude=set(ALWAYS_DIFFERENT)) for each in (run, other))
        ),
    )


def verdict_of(comparison: Comparison) -> str:
    """What a comparison says."""
    if comparison.is_gain:
        return "This run is better, beyond noise."
    return "This run is worse, beyond noise." if comparison.is_loss else "The difference may be noise."


def common_rows(run: FinishedRun, other: FinishedRun) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the masks that two runs have in common, int (n,) each, in the first one's order."""
    row_of = {mask_id: row for row, mask_id in enumerate(other.masks["mask_id"])}
    pairs = [(row, row_of[each]) for row, each in enumerate(run.masks["mask_id"]) if each in row_of]
    name = other.settings.name
    if not pairs:
        raise DataError(f"--against {name}: has no training image in common with {run.settings.name}")
    unlike = [
        run.masks["mask_id"].iat[row]
        for row, other_row in pairs
        if run.sizes[row] != other.sizes[other_row] or not np.array_equal(run.truth[row], other.truth[other_row])
    ]
    if unlike:
        raise DataError(f"--against {name}: has other true masks for {len(unlike)} images: {some(unlike)}")
    rows, other_rows = np.array(pairs, np.int64).T
    return rows, other_rows


@dataclass(frozen=True)
class Changes:
    """Masks that two runs have in common; places count these."""

    run: FinishedRun
    other: FinishedRun
    rows: np.ndarray
    other_rows: np.ndarray
    dice: np.ndarray
    other_dice: np.ndarray

    def listed(self, places: list[int]) -> list[Change]:
        """With pictures of the first ones."""
        return [self._change(int(place), number < PICTURED) for number, place in enumerate(places)]

    def _change(self, place: int, pictured: bool) -> Change:
        row, other_row = int(self.rows[place]), int(self.other_rows[place])
        pictures = ()
        if pictured:
            pairs = ((self.run, row), (self.other, other_row))
            pictures = [draw_difference(run, each, run.cross_fitted(each)) for run, each in pairs]
        values = float(self.dice[place]), float(self.other_dice[place])
        return Change(self.run.masks["mask_id"].iat[row], *values, *pictures)
