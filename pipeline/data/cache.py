"""The table of images and their small copies: what every stage after ``prepare`` reads instead of files.

``images.csv`` has one row an image, training images first, each subset sorted by id. The small copies are
``.npy`` arrays in the same order, opened as memory maps: epochs read from the page cache, with flat memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.artifacts import Artifacts, need
from pipeline.errors import DataError
from pipeline.geometry import Fit, shrink
from pipeline.rle import RleTable, from_edges, read_csv

COLUMNS = ("image_id", "subset", "path", "height", "width", "group", "sha256", "phash", "rle")
TEXT_COLUMNS = {"image_id": str, "subset": str, "path": str, "group": str, "sha256": str, "phash": str}


def read_images(artifacts: Artifacts, subset: str | None = None) -> pd.DataFrame:
    """``images.csv`` without its masks, one row an image; of one subset ("train" or "test") or of both."""
    path = need(artifacts.images, "prepare")
    frame = pd.read_csv(path, usecols=COLUMNS[:-1], dtype=TEXT_COLUMNS, keep_default_na=False)
    return frame if subset is None else frame[frame["subset"] == subset].reset_index(drop=True)


def read_true_masks(artifacts: Artifacts, image_ids: list[str]) -> RleTable:
    """True masks of the named images, in the order of ``image_ids``."""
    table = read_csv(need(artifacts.images, "prepare"), columns=("image_id", "rle"))
    row_of = {image_id: row for row, image_id in enumerate(table.ids)}
    return table.take(np.array([row_of[image_id] for image_id in image_ids], np.int64))


EMPTY_STRATUM = 0
"""Of images without any mask, in ``folds.csv``."""


def read_folds(artifacts: Artifacts) -> pd.DataFrame:
    """``folds.csv``: image_id, fold, group, stratum; in the order of the training rows of ``images.csv``.

    Raises:
        DataError: the folds were made for other images.
    """
    path = need(artifacts.folds, "split")
    folds = pd.read_csv(path, dtype={"image_id": str, "group": str}, keep_default_na=False)
    if folds["image_id"].tolist() != read_images(artifacts, "train")["image_id"].tolist():
        raise DataError(f"{path} was made for other images than {artifacts.images}: run the stage 'split' again")
    return folds


@dataclass(frozen=True)
class CachePaths:
    """Files of the small copies."""

    folder: Path

    def images(self, subset: str) -> Path:
        """uint8 (N, H, W, 3), RGB."""
        return self.folder / f"{subset}_images.npy"

    @property
    def masks(self) -> Path:
        """uint8 (N, H, W) for the training images: the share of each pixel that the mask covers, 255 = all."""
        return self.folder / "train_masks.npy"


def open_small(path: Path) -> np.ndarray:
    """A small copy as a read-only memory map."""
    return np.load(need(path, "prepare"), mmap_mode="r")


def small_mask(edges: np.ndarray, height: int, width: int, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """The mask of an image at network size: uint8 (*size), the share of each pixel that it covers, 255 = all."""
    mask = from_edges(edges, (height, width)) * np.uint8(255)
    return shrink(mask, size, fit, height=height, width=width)
