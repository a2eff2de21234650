"""The table of images and their small copies: what every stage after ``prepare`` reads instead of files.

``images.csv`` has one row an image, training images first, each subset sorted by id. The small copies are
``.npy`` arrays in the same order, opened as memory maps: epochs read from the page cache, with flat memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.artifacts import Artifacts, need, read_json
from pipeline.blocks import block_checksums, is_as_written
from pipeline.data.classes import mask_id, mask_ids, rle_column
from pipeline.data.pairs import have_suffixes
from pipeline.data.tables import read_table
from pipeline.errors import DataError, some
from pipeline.geometry import Fit, shrink
from pipeline.records import MADE_BY, Record, check, record_of
from pipeline.rle import RleTable, from_edges, read_csv

COLUMNS = ("image_id", "subset", "path", "height", "width", "group", "sha256", "phash")
"""Of ``images.csv``, before those of the masks, ``rle_column`` of each class."""


def read_images(artifacts: Artifacts, subset: str | None = None) -> pd.DataFrame:
    """``images.csv`` without its masks, one row an image; of one subset ("train" or "test") or of both.

    Raises:
        DataError: it is missing or damaged.
    """
    path = need(artifacts.images, "prepare")
    check(path, artifacts.folder, "prepare")
    frame = read_table(path, usecols=COLUMNS, dtype=str, keep_default_na=False)
    if not all(frame[side].str.fullmatch("[0-9]{1,9}").all() for side in ("height", "width")):
        raise DataError(f"{path}: a height or width is that of no image: run the stage 'prepare' again")
    frame = frame.astype({"height": int, "width": int})
    return frame if subset is None else frame[frame["subset"] == subset].reset_index(drop=True)


def one_row_a_mask(images: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Rows of ``read_images`` repeated for each class, in the order of ``mask_ids``; with columns mask_id and class."""
    masks = images.loc[images.index.repeat(len(classes))].reset_index(drop=True)
    return masks.assign(mask_id=mask_ids(images["image_id"], classes), **{"class": [*classes] * len(images)})


def image_sizes(images: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Height and width by the image's id, which readers of RLE texts look them up by, whatever the classes."""
    sizes = zip(images["height"].tolist(), images["width"].tolist(), strict=True)
    return dict(zip(images["image_id"].tolist(), sizes, strict=True))


def read_true_masks(artifacts: Artifacts, image_ids: list[str], classes: Sequence[str]) -> RleTable:
    """True masks of the named training images, in the order of ``mask_ids(image_ids, classes)``.

    Raises:
        DataError: ``images.csv`` is missing or damaged, or has a mask that is larger than its image.
    """
    images = read_images(artifacts, "train").set_index("image_id").loc[image_ids]
    heights, widths = (images[side].to_numpy(np.int64) for side in ("height", "width"))
    tables = []
    for name in classes:
        # With the subset for a class, an id of a training image is not that of a test image which is called the same.
        columns = {"columns": ("image_id", rle_column(name)), "class_column": "subset"}
        table = read_csv(artifacts.images, **columns, sizes={}, own=True)
        row_of = {row_id: row for row, row_id in enumerate(table.ids)}
        table = table.take([row_of[mask_id(image_id, "train")] for image_id in image_ids])
        tables.append(replace(table, ids=mask_ids(image_ids, [name]), heights=heights, widths=widths))
    masks = RleTable.stacked(tables)
    filled = np.flatnonzero(np.diff(masks.offsets))
    ends = masks.edges[masks.offsets[filled + 1] - 1]
    if beyond := [masks.ids[row] for row in filled[ends > (masks.heights * masks.widths)[filled]]]:
        raise DataError(f"{artifacts.images}: masks larger than their image: {some(beyond)}: run 'prepare' again")
    return masks.take((np.arange(len(image_ids))[:, None] + len(image_ids) * np.arange(len(classes))).ravel())


def ids_have_suffixes(artifacts: Artifacts) -> bool:
    """Whether the experiment's CSVs call images by their whole file names; False where it has no table of images."""
    if not artifacts.images.exists():
        return False
    images = read_images(artifacts, "train")
    return have_suffixes(dict(zip(images["image_id"], map(Path, images["path"]), strict=True)))


EMPTY_STRATUM = 0
"""Of images without any mask, in ``folds.csv``."""


FOLD_COLUMNS = ("image_id", "fold", "group", "stratum")
"""Of ``folds.csv``."""


def read_folds(artifacts: Artifacts, count: int | None = None) -> pd.DataFrame:
    """``folds.csv``: image_id, fold, group, stratum; in the order of the training rows of ``images.csv``.

    Args:
        count: how many folds there must be, if that is known.

    Raises:
        DataError: the folds were made for other images or are not those from 0 to ``count`` - 1, or a column is
            missing or has something else in it, or it is no table.
    """
    path = need(artifacts.folds, "split")
    check(path, artifacts.folder, "split")
    folds = read_table(path, dtype=dict.fromkeys(FOLD_COLUMNS, str), keep_default_na=False)
    if missing := [name for name in FOLD_COLUMNS if name not in folds]:
        raise DataError(f"{path} has no column {missing[0]!r}: run the stage 'split' again")
    if folds["image_id"].tolist() != read_images(artifacts, "train")["image_id"].tolist():
        raise DataError(f"{path} was made for other images than {artifacts.images}: run the stage 'split' again")
    found = set(folds["fold"])
    expected = set(map(str, range(count or len(found))))
    if found != expected:
        raise DataError(
            f"{path} has the folds {some(sorted(found))}, not {some(sorted(expected))}: every training image is held "
            "out by one of folds.count folds, which count from 0; run the stage 'split' again"
        )
    if not folds["stratum"].str.fullmatch("[0-9]+").all():
        raise DataError(f"{path}: a stratum is a whole number, {EMPTY_STRATUM} of images without any mask")
    return folds.astype({"fold": int, "stratum": int})


@dataclass(frozen=True)
class CachePaths:
    """Files of the small copies."""

    folder: Path

    def images(self, subset: str) -> Path:
        """uint8 (N, H, W, 3), RGB."""
        return self.folder / f"{subset}_images.npy"

    @property
    def masks(self) -> Path:
        """uint8 (N, H, W, C) for the training images: the share of each pixel that a class covers, 255 = all."""
        return self.folder / "train_masks.npy"


def record_cache(folder: Path, record: Record) -> None:
    """Write the checksums of the small copies beside their folder, and what made them."""
    files = {path.name: block_checksums(path) for path in sorted(folder.iterdir())}
    record.write(record_of(folder), files=files)


def open_small(
    path: Path, size: tuple[int, int] | None = None, fit: Fit | None = None, rows: Iterable[int] | None = None
) -> np.ndarray:
    """Small copies as a read-only memory map, whose bytes are what `prepare` has written.

    Args:
        path: of ``CachePaths``.
        size: height and width that they must have, if that is known.
        fit: how the images must have been brought to it.
        rows: those that are to be read, if not all: others are not looked at.

    Raises:
        DataError: the file is missing or damaged, the copies are of another size, or they were made with another
            ``images.csv`` than is there.
    """
    again = "run the stage 'prepare' again"
    try:
        copies = np.load(need(path, "prepare"), mmap_mode="r")
    except (ValueError, EOFError):
        raise DataError(f"{path} is damaged: {again}") from None
    if copies.ndim != 4 or copies.dtype != np.uint8:
        raise DataError(f"{path} has {copies.dtype} {copies.shape}, not uint8 (N, H, W, C): {again}")
    if size is not None and copies.shape[1:3] != size:
        found, wanted = (" x ".join(map(str, each)) for each in (copies.shape[1:3], size))
        raise DataError(f"{path} has copies of {found}, image.size is {wanted}: {again}")
    cache, folder = path.parent, path.parent.parent
    place = record_of(cache)
    if not place.exists():
        if record_of(Artifacts(folder.parent.parent, folder.name).images).exists():
            raise DataError(f"{place}, the checksums of the small copies, is missing: {again}")
        return copies  # of somebody else's making, as is the table
    check(cache, folder, "prepare")
    content = read_json(place)
    made_with = content[MADE_BY]["settings"]["image"]["fit"] if MADE_BY in content else fit
    if fit not in (None, made_with):
        raise DataError(f"{path} has copies made with image.fit={made_with}, now it is {fit}: {again}")
    row_bytes = copies[:1].nbytes
    parts = (
        None
        if rows is None
        else [(0, copies.offset)]
        + [(copies.offset + row * row_bytes, copies.offset + (row + 1) * row_bytes) for row in map(int, rows)]
    )
    known = content.get("files", {}).get(path.name)
    if known is None or not is_as_written(path, known, parts):
        raise DataError(f"{path} is damaged: {again}")
    return copies


def small_masks(edges: Sequence[np.ndarray], height: int, width: int, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """An image's masks at network size.

    Args:
        edges: of each of the C classes, in an image of ``height`` x ``width``.

    Returns:
        uint8 (*size, C): the share of each pixel that the class covers, 255 = all.
    """
    small = []
    for of_class in edges:  # one after another: each is as large as the image
        mask = from_edges(of_class, (height, width))
        mask *= 255
        small.append(shrink(mask, size, fit, height=height, width=width))
    return np.stack(small, axis=-1)
