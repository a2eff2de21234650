"""Out-of-fold maps of one model, read in the order of the training images' masks whatever fold they are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from pipeline.artifacts import Artifacts
from pipeline.data.cache import read_folds
from pipeline.data.classes import mask_ids
from pipeline.data.probabilities import Probabilities, read_probabilities
from pipeline.errors import DataError


@dataclass(frozen=True)
class OutOfFold:
    """The maps of all training images' masks; ``oof[a:b]`` is uint8 (b - a, H, W)."""

    fold: np.ndarray
    """int (N,), the fold of each mask."""
    position: np.ndarray
    """int (N,), the mask's row within its fold's array; rises with the mask's number."""
    maps: list[zarr.Array]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Each fold's share of consecutive masks is consecutive in its array: one read a fold."""
        fold, position = self.fold[rows], self.position[rows]
        out = np.empty((len(fold), *self.maps[0].shape[1:]), np.uint8)
        for number, maps in enumerate(self.maps):
            mine = np.flatnonzero(fold == number)
            if len(mine):
                out[mine] = maps[position[mine[0]] : position[mine[-1]] + 1]
        return out


def read_out_of_fold(artifacts: Artifacts, model: str, folds: int, classes: Sequence[str]) -> OutOfFold:
    """Open a model's out-of-fold maps.

    Raises:
        DataError: a fold is missing, or was predicted for other images than ``folds.csv`` has in it.
    """
    table = read_folds(artifacts)
    fold = np.repeat(table["fold"].to_numpy(), len(classes))
    ids = np.array(mask_ids(table["image_id"], classes))
    position = np.zeros(len(fold), np.int64)
    maps = []
    for number in range(folds):
        rows = np.flatnonzero(fold == number)
        position[rows] = np.arange(len(rows))
        path = artifacts.fold(model, number).oof
        stored = read_probabilities(path, f"predict --model {model} --fold {number}")
        check_ids(stored, ids[rows].tolist(), path)
        maps.append(stored.maps)
    return OutOfFold(fold, position, maps)


def open_test_maps(artifacts: Artifacts, model: str, fold: int, ids: list[str]) -> zarr.Array:
    """Open one fold's maps of the test masks with these ids; raises ``DataError`` if they are missing or others."""
    path = artifacts.fold(model, fold).test
    stored = read_probabilities(path, f"predict --model {model} --fold {fold}")
    check_ids(stored, ids, path)
    return stored.maps


def check_ids(stored: Probabilities, image_ids: list[str], path: Path) -> None:
    """Refuse maps of other images, naming the first difference.

    Raises:
        DataError: the ids differ or stand in another order.
    """
    if stored.image_ids == image_ids:
        return
    if len(stored.image_ids) != len(image_ids):
        difference = f"{len(stored.image_ids)} maps for {len(image_ids)} images"
    else:
        first = next(
            row for row, pair in enumerate(zip(stored.image_ids, image_ids, strict=True)) if pair[0] != pair[1]
        )
        difference = f"map {first} is of {stored.image_ids[first]!r}, not of {image_ids[first]!r}"
    raise DataError(f"{path} does not belong to the present folds: {difference}; run 'predict' again")
