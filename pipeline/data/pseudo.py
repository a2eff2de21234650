"""Pseudo-labelled test images: the experiment that labels them, and how they stand beside the training images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.artifacts import Artifacts, need
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import read_folds, small_masks
from pipeline.errors import DataError, some
from pipeline.geometry import Fit
from pipeline.rle import RleTable


def labelling_experiment(settings: Experiment) -> tuple[Experiment, Artifacts]:
    """The experiment that predicts the masks, as it was run.

    Raises:
        DataError: none is named, it is this one, or it has not been run.
    """
    name = settings.pseudo.experiment
    if name is None:
        raise DataError("pseudo.experiment is not set: name the experiment that predicts the masks")
    if name == settings.name:
        raise DataError(f"pseudo.experiment {name!r} is this experiment itself: give it another name, --set name=NAME")
    experiment = load_experiment(need(Artifacts(settings.workspace, name).settings, f"run of {name}"))
    artifacts = Artifacts.of(experiment)
    need(artifacts.ensemble_test, f"run of {name}")
    return experiment, artifacts


def check_same_folds(artifacts: Artifacts, other: Artifacts) -> None:
    """Refuse two experiments that did not divide the same images into the same folds.

    Raises:
        DataError: naming the first image that differs.
    """
    tables = [read_folds(each)[["image_id", "fold"]] for each in (artifacts, other)]
    ids = [set(table["image_id"]) for table in tables]
    for mine, theirs, path in ((0, 1, other.folds), (1, 0, artifacts.folds)):
        missing = sorted(ids[mine] - ids[theirs])
        if missing:
            raise DataError(f"{path} lacks {len(missing)} of the other experiment's images: {some(missing)}")
    folds = tables[0].merge(tables[1], on="image_id")
    different = folds[folds["fold_x"] != folds["fold_y"]]
    if len(different):
        first = different.iloc[0]
        raise DataError(
            f"{artifacts.folds} and {other.folds} differ for {len(different)} images: {first['image_id']} is in fold "
            f"{first['fold_x']} and in fold {first['fold_y']}"
        )


class Joined:
    """Two sequences of arrays one after the other, read row by row; nothing is copied."""

    def __init__(self, first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> None:
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.first[row] if row < len(self.first) else self.second[row - len(self.first)]


class Chosen:
    """Some rows of an array, read when they are asked for."""

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        self.array, self.rows = array, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.array[self.rows[row]]


class SmallMasks:
    """Masks of images at network size, uint8 (H, W, C) with 255 = all mask, made from runs when they are read.

    Args:
        table: masks at their images' own sizes, those of an image's C classes next to each other.
        classes: C.
        size: height and width of the network's input.
        fit: how images are brought to it.
    """

    def __init__(self, table: RleTable, classes: int, size: tuple[int, int], fit: Fit) -> None:
        self.table, self.classes, self.size, self.fit = table, classes, size, fit

    def __len__(self) -> int:
        return len(self.table) // self.classes

    def __getitem__(self, row: int) -> np.ndarray:
        rows = range(row * self.classes, (row + 1) * self.classes)
        height, width = int(self.table.heights[rows[0]]), int(self.table.widths[rows[0]])
        return small_masks([self.table[each] for each in rows], height, width, self.size, self.fit)
