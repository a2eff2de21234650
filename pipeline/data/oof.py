"""Out-of-fold maps of one model or view, read in the order of the training images' masks whatever fold they are in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import Artifacts
from pipeline.data.arrays import StoredArray
from pipeline.data.cache import read_folds
from pipeline.data.classes import mask_ids
from pipeline.data.probabilities import Concatenated, Probabilities, concatenate, read_probabilities
from pipeline.errors import DataError, some
from pipeline.members import split_member


@dataclass(frozen=True)
class OutOfFold:
    """The maps of all training images' masks; ``oof[a:b]`` is uint8 (b - a, H, W)."""

    fold: np.ndarray
    """int (N,), the fold of each mask."""
    position: np.ndarray
    """int (N,), the mask's row within its fold's array; rises with the mask's number."""
    maps: list[StoredArray]

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Each fold's share of consecutive masks is consecutive in its array: one read a fold."""
        fold, position = self.fold[rows], self.position[rows]
        out = np.empty((len(fold), *self.maps[0].shape[1:]), np.uint8)
        for number, maps in enumerate(self.maps):
            mine = np.flatnonzero(fold == number)
            if len(mine):
                out[mine] = maps[position[mine[0]] : position[mine[-1]] + 1]
        return out


def read_out_of_fold(artifacts: Artifacts, member: str, folds: int, classes: Sequence[str]) -> OutOfFold:
    """Open the out-of-fold maps of a model, or of one of its views.

    Raises:
        DataError: ``folds.csv`` has other folds, or one of them is missing, was predicted for other images than
            ``folds.csv`` has in it, or has maps of another size than the first.
    """
    table = read_folds(artifacts, folds)
    fold = np.repeat(table["fold"].to_numpy(), len(classes))
    ids = np.array(mask_ids(table["image_id"], classes))
    position = np.zeros(len(fold), np.int64)
    maps = []
    for number in range(folds):
        rows = np.flatnonzero(fold == number)
        position[rows] = np.arange(len(rows))
        path = artifacts.fold(member, number).oof
        stored = read_probabilities(path, predict_command(member, number), artifacts.folder)
        check_ids(stored, ids[rows].tolist(), path)
        maps.append(stored.maps)
        check_size(stored.maps, path, maps[0], artifacts.fold(member, 0).oof)
    return OutOfFold(fold, position, maps)


def open_test_maps(artifacts: Artifacts, member: str, fold: int, ids: list[str]) -> Concatenated:
    """Open one fold's maps of the test masks with these ids, in all their parts.

    Raises:
        DataError: a part is missing or of another size than the first, or the maps are of other masks.
    """
    paths = artifacts.fold(member, fold).tests
    parts = []
    for number, path in enumerate(paths, 1):
        part = f" --part {number}/{len(paths)}" if len(paths) > 1 else ""
        parts.append(read_probabilities(path, predict_command(member, fold) + part, artifacts.folder))
    for part, path in zip(parts, paths, strict=True):
        check_size(part.maps, path, parts[0].maps, paths[0])
    stored = concatenate(parts)
    check_ids(stored, ids, paths[0].with_name(some([path.name for path in paths])))
    return stored.maps


def predict_command(member: str, fold: int) -> str:
    """What writes a member's maps of a fold."""
    return f"predict --model {split_member(member)[0]} --fold {fold}"


def check_size(
    maps: StoredArray | Concatenated, path: Path, reference: StoredArray | Concatenated, reference_path: Path
) -> None:
    """Refuse maps of another size than a reference.

    Raises:
        DataError: their rows differ in shape.
    """
    if maps.shape[1:] != reference.shape[1:]:
        found, expected = (" x ".join(map(str, array.shape[1:])) for array in (maps, reference))
        raise DataError(
            f"{path} has maps of {found}, {reference_path} of {expected}: they are of other settings of image.size; "
            "run 'train' and 'predict' again for the one that is out of date"
        )


def check_ids(stored: Probabilities, image_ids: list[str], path: Path) -> None:
    """Refuse maps of other images, naming the first differences.

    Raises:
        DataError: the ids differ or stand in another order.
    """
    if stored.image_ids == image_ids:
        return
    if len(stored.image_ids) != len(image_ids):
        difference = f"{len(stored.image_ids)} maps for {len(image_ids)} images"
        found, expected = set(stored.image_ids), set(image_ids)
        for what, ids, others in (("without", image_ids, found), ("with", stored.image_ids, expected)):
            if differing := [image_id for image_id in ids if image_id not in others]:
                difference += f", {what} {some(differing, most=3)}"
    else:
        pairs = enumerate(zip(stored.image_ids, image_ids, strict=True))
        differences = [f"map {row} is of {own!r}, not of {other!r}" for row, (own, other) in pairs if own != other]
        difference = some(differences, most=3)
    raise DataError(f"{path} does not belong to the present folds: {difference}; run 'predict' again")
