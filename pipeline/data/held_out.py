"""The training images' true masks, as their out-of-fold maps are compared with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artifacts import Artifacts
from pipeline.data.cache import one_row_a_mask, read_folds, read_images, read_true_masks, small_masks
from pipeline.data.probabilities import chunks
from pipeline.geometry import Fit, content_box
from pipeline.postprocess import Held
from pipeline.rle import RleTable


@dataclass(frozen=True)
class HeldOutMasks:
    """What is known of N masks besides their maps; those of an image's classes are next to each other.

    Maps are whatever has them in this order and can be sliced: ``maps[a:b]`` is uint8 (b - a, H, W). A chunk of them
    is in memory at a time.
    """

    table: pd.DataFrame
    """Of ``one_row_a_mask``."""
    truth: RleTable
    fold: np.ndarray
    """int (N,), 0..F-1."""
    group: np.ndarray
    """int (N,): images that belong together."""
    classes: int
    fit: Fit
    """How images were brought to the size of the maps."""

    @classmethod
    def read(cls, artifacts: Artifacts, fit: Fit, classes: Sequence[str]) -> HeldOutMasks:
        """Those of all training images, in the order of ``images.csv``.

        Raises:
            DataError: the images or their folds are missing, or do not belong together.
        """
        images, folds = read_images(artifacts, "train"), read_folds(artifacts)
        truth = read_true_masks(artifacts, images["image_id"].tolist(), classes)
        group = np.unique(folds["group"], return_inverse=True)[1]
        fold, group = (np.repeat(of_images, len(classes)) for of_images in (folds["fold"].to_numpy(), group))
        return cls(one_row_a_mask(images, classes), truth, fold, group, len(classes), fit)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> list[str]:
        """Of ``mask_ids``."""
        return self.table["mask_id"].tolist()

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of each mask."""
        return list(zip(self.table["height"].tolist(), self.table["width"].tolist(), strict=True))

    def of_fold(self, fold: int) -> HeldOutMasks:
        """The masks of one fold, as its own array of maps has them."""
        return self.take(np.flatnonzero(self.fold == fold))

    def take(self, rows: np.ndarray) -> HeldOutMasks:
        """Some of the masks, all classes of an image or none."""
        table, truth = self.table.iloc[rows].reset_index(drop=True), self.truth.take(rows)
        return HeldOutMasks(table, truth, self.fold[rows], self.group[rows], self.classes, self.fit)

    def held(self, maps: Any) -> Iterator[Held]:
        """All masks with their maps."""
        sizes = self.sizes
        for rows in chunks(len(self)):
            for row, prob_hw in enumerate(maps[rows], rows.start):
                yield Held(prob_hw, *sizes[row], self.truth[row])

    def held_of_class(self, maps: Any, number: int) -> Iterator[Held]:
        """The masks of one class with their maps."""
        return islice(self.held(maps), number, None, self.classes)

    def small(self, maps: Sequence[Any], chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some masks at the size of the maps, pixel by pixel, without a letterbox's border.

        Args:
            maps: of M makers.
            chosen: int (n,), rising.

        Yields:
            What the makers say, uint8 (P, M), and the share of each pixel that the true mask covers, uint8 (P,).
        """
        sizes = self.sizes
        for rows in chunks(len(self)):
            mine = chosen[(chosen >= rows.start) & (chosen < rows.stop)]
            if len(mine):
                stacked = np.stack([of_maker[rows] for of_maker in maps], axis=-1)
            for row in mine:
                size = stacked.shape[1:3]
                box = content_box(*sizes[row], size, self.fit)
                mask = small_masks([self.truth[row]], *sizes[row], size, self.fit)[..., 0]
                yield box.cut(stacked[row - rows.start]).reshape(-1, len(maps)), box.cut(mask).ravel()


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, at equal steps, the first and the last among them; in their order."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
