"""What is known of a run besides its masks: folds and what could leak between them, training, settings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import Artifacts
from pipeline.data.cache import EMPTY_STRATUM, read_images
from pipeline.report.finished import FinishedRun
from pipeline.stored import Metrics, open_json

MOST_NAMED = 5
"""Of what a check has found."""
MOST_PAIRS = 100
"""Of duplicates."""


@dataclass(frozen=True)
class Fold:
    number: int
    images: int
    groups: int
    empty: int
    """Images without any mask."""
    area: float
    """Mean share of an image that a mask covers."""
    at_half: float | None
    cross_fitted: float | None
    submitted: float | None


def fold_table(run: FinishedRun, true: np.ndarray) -> list[Fold]:
    """A row for each fold.

    Args:
        true: int (N,), area of each true mask.
    """
    scores, share, fold_of_mask = run.tuning["sets"]["ensemble"], true / run.pixels, run.masks["fold"].to_numpy()
    rows = []
    for number, table in run.folds.groupby("fold"):
        rows.append(
            Fold(
                number=int(number),
                images=len(table),
                groups=table["group"].nunique(),
                empty=int((table["stratum"] == EMPTY_STRATUM).sum()),
                area=float(share[fold_of_mask == number].mean()),
                at_half=scores["at_half_by_fold"][int(number)],
                cross_fitted=scores["cross_fitted_by_fold"][int(number)],
                submitted=scores["submitted_by_fold"][int(number)],
            )
        )
    return rows


@dataclass(frozen=True)
class Check:
    """Something that would leak from the training images into the held-out ones."""

    what: str
    found: list[str]
    """Where it does; nothing where all is well."""

    @property
    def named(self) -> list[str]:
        return self.found[:MOST_NAMED]


@dataclass(frozen=True)
class Pair:
    """Two training images that show the same picture."""

    first: str
    second: str
    identical: bool
    fold: int


@dataclass(frozen=True)
class Leaks:
    """What was looked for between the folds, and the duplicates that were kept together."""

    checks: list[Check]
    pairs: list[Pair] | None
    """None: made before ``split`` wrote them down."""

    @property
    def shown_pairs(self) -> list[Pair]:
        return (self.pairs or [])[:MOST_PAIRS]


def find_leaks(run: FinishedRun) -> Leaks:
    """Look for groups, identical files and near-duplicates in two folds, and for training files in the test set."""
    fold = run.folds["fold"].to_numpy()
    ids = run.images["image_id"].tolist()
    fold_of = dict(zip(ids, fold.tolist(), strict=True))
    sha_of = dict(zip(ids, run.images["sha256"].tolist(), strict=True))
    checks = [
        Check("groups of the source in two folds", _in_two_folds(run.images["group"], fold)),
        Check("joined groups in two folds", _in_two_folds(run.folds["group"], fold)),
        Check("identical files in two folds", _in_two_folds(run.images["sha256"], fold)),
    ]
    pairs = None
    if run.duplicates is not None:
        known = [pair for pair in run.duplicates if fold_of.keys() >= set(pair)]
        pairs = [Pair(a, b, sha_of[a] == sha_of[b], fold_of[a]) for a, b in known]
        torn = [f"{pair.first} and {pair.second}" for pair in pairs if fold_of[pair.second] != pair.fold]
        checks.append(Check("near-duplicates in two folds", torn))
    checks.append(Check("identical files in the training and the test set", _in_test_set(run)))
    return Leaks(checks, pairs)


def _in_two_folds(names: pd.Series, fold: np.ndarray) -> list[str]:
    named = (names != "").to_numpy()
    folds_of = pd.Series(fold[named]).groupby(names[named].to_numpy()).nunique()
    return [str(name) for name in folds_of.index[folds_of > 1]]


def _in_test_set(run: FinishedRun) -> list[str]:
    """Files of the test set that are, byte by byte, files of the training set."""
    test = read_images(run.artifacts, "test")
    return test["image_id"][test["sha256"].isin(run.images["sha256"])].tolist()


@dataclass(frozen=True)
class Training:
    """One fold of one model."""

    model: str
    fold: int
    history: pd.DataFrame
    """``history.csv``."""
    metrics: dict[str, Any]
    """``metrics.json``."""


def read_trainings(artifacts: Artifacts, models: Sequence[str], folds: int) -> list[Training]:
    """All trainings that have left their history."""
    found = []
    for model in models:
        for fold in range(folds):
            paths = artifacts.fold(model, fold)
            if paths.history.exists() and paths.metrics.exists():
                stage = f"train --model {model} --fold {fold}"
                metrics = open_json(Metrics, paths.metrics, stage, artifacts.folder)
                found.append(Training(model, fold, pd.read_csv(paths.history), metrics))
    return found


@dataclass(frozen=True)
class Difference:
    """A setting that two experiments have in common by name only."""

    key: str
    value: Any
    other: Any


def settings_differences(settings: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """Settings that differ, by their dotted names; None where one has no such setting."""
    flat, other_flat = dict(_flatten(settings)), dict(_flatten(other))
    keys = [*flat, *(key for key in other_flat if key not in flat)]
    pairs = [(key, flat.get(key), other_flat.get(key)) for key in keys]
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def _flatten(value: Any, name: str = "") -> list[tuple[str, Hashable]]:
    if isinstance(value, dict) and value:
        parts = [_flatten(inner, f"{name}.{key}" if name else str(key)) for key, inner in value.items()]
        return [item for part in parts for item in part]
    return [(name, value)]
