"""What the page needs of a finished run, opened once and read image by image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import Artifacts
from pipeline.config import Experiment
from pipeline.data.cache import read_folds, read_images
from pipeline.data.held_out import HeldOutMasks
from pipeline.data.oof import check_ids
from pipeline.data.probabilities import read_probabilities
from pipeline.postprocess import Held, Postprocess, final_edges, stored_postprocess
from pipeline.records import record_of
from pipeline.rle import RleTable
from pipeline.stored import Folds, WholeTuning, open_json


@dataclass(frozen=True)
class FinishedRun:
    """A run from ``prepare`` to ``tune``; a row is a mask, those of an image's classes are next to each other."""

    settings: Experiment
    tuning: dict[str, Any]
    """Content of ``tuning.json``."""
    images: pd.DataFrame
    """Training rows of ``images.csv`` without masks, one an image."""
    folds: pd.DataFrame
    """``folds.csv``, in the same order."""
    held_out: HeldOutMasks
    masks: pd.DataFrame
    """Those of ``held_out``, with the columns fold and joined (the group that stays in one fold)."""
    maps: Any
    """Blended out-of-fold maps: ``maps[a:b]`` is uint8 (b - a, h, w), 255 = 1.0."""
    postprocess: list[Postprocess]
    """Of each class: what ``submit`` uses."""
    postprocess_by_fold: list[list[Postprocess]]
    """Settings of each class for each fold: chosen without it, or one half where the submission stays there."""
    duplicates: list[list[str]] | None
    """Pairs of training images that ``split`` has kept together; None: it was run before it wrote them down."""

    @classmethod
    def read(cls, settings: Experiment) -> FinishedRun:
        """Open a run.

        Raises:
            DataError: a stage before has not been run, or its artifacts do not belong together.
        """
        artifacts, classes = Artifacts.of(settings), settings.data.class_names
        tuning = open_json(WholeTuning, artifacts.tuning, "tune", artifacts.folder)
        postprocess = stored_postprocess(tuning, artifacts.tuning)
        of_classes = tuning["sets"]["ensemble"]["classes"]
        by_fold = [[Postprocess(**each) for each in of_class["postprocess_by_fold"]] for of_class in of_classes]
        images, folds = read_images(artifacts, "train"), read_folds(artifacts)
        held_out = HeldOutMasks.read(artifacts, settings.image.fit, classes)
        joined = np.repeat(folds["group"].to_numpy(), len(classes))
        masks = held_out.table.assign(fold=held_out.fold, joined=joined)
        stored = read_probabilities(artifacts.ensemble_oof, "ensemble", artifacts.folder)
        check_ids(stored, held_out.ids, artifacts.ensemble_oof)
        record = record_of(artifacts.folds)
        duplicates = open_json(Folds, record, "split").get("duplicates") if record.exists() else None
        return cls(settings, tuning, images, folds, held_out, masks, stored.maps, postprocess, by_fold, duplicates)

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts.of(self.settings)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.settings.data.class_names

    @property
    def truth(self) -> RleTable:
        """The true masks."""
        return self.held_out.truth

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each mask, pixels."""
        return self.held_out.sizes

    @cached_property
    def pixels(self) -> np.ndarray:
        """int64 (N,), height times width."""
        return (self.masks["height"] * self.masks["width"]).to_numpy()

    @property
    def groups(self) -> np.ndarray:
        """int (N,): masks of images that belong together."""
        return self.held_out.group

    def held(self) -> Iterator[Held]:
        """All masks with their maps, a chunk of maps in memory at a time."""
        return self.held_out.held(self.maps)

    def chosen(self, row: int) -> Postprocess:
        """The settings that the submission has for a mask's class."""
        return self.postprocess[row % len(self.classes)]

    def cross_fitted(self, row: int) -> Postprocess:
        """The submission's settings as they are chosen without the mask's fold."""
        return self.postprocess_by_fold[row % len(self.classes)][self.masks["fold"].iat[row]]

    def map(self, row: int) -> np.ndarray:
        """uint8 (h, w) at network size, 255 = 1.0."""
        return self.maps[row : row + 1][0]

    def predicted(self, row: int, postprocess: Postprocess) -> np.ndarray:
        """Edges of a mask at the image's own size, as ``submit`` makes them."""
        return final_edges(self.map(row), *self.sizes[row], self.settings.image.fit, postprocess)
