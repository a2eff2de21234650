"""Foreground classes: what their masks, columns and mirror images are called.

An image has one mask for each class. Wherever masks stand in a row (arrays of probabilities, tables of runs) an image's
are next to each other, in the order of the classes, and a mask's id is the image's with the class behind it. The class
of an experiment that names none is ``UNNAMED``: its masks and columns are called as if there were no classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.config import UNNAMED
from pipeline.errors import some
from pipeline.rle import CLASS_SEPARATOR, area, common, split_class, union

_MIRRORED = {"left": "right", "right": "left"}
_SIDE = re.compile(r"(?<![A-Za-z])(left|right)(?![A-Za-z])")


def mask_id(image_id: str, name: str) -> str:
    """``image/class``, as tables of runs have it (``pipeline.rle.split_class``)."""
    return image_id if name == UNNAMED else f"{image_id}{CLASS_SEPARATOR}{name}"


def mask_ids(image_ids: Iterable[str], names: Sequence[str]) -> list[str]:
    """Ids of all masks, each image's in the order of the classes."""
    return [mask_id(image_id, name) for image_id in image_ids for name in names]


def image_ids(ids: Iterable[str], names: Sequence[str]) -> list[str]:
    """The images that masks with these ids are of, each once, in order of first appearance."""
    return list(dict.fromkeys(ids if tuple(names) == (UNNAMED,) else (split_class(id)[0] for id in ids)))


def shared_pixels(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Edges of the pixels that are in two or more of an image's masks, given as edges."""
    seen, shared = np.empty(0, np.uint32), []
    for mask in masks:
        if mask.size:
            shared.append(common([seen, mask]))
            seen = union([seen, mask])
    return union(shared)


@dataclass
class Overlaps:
    """Images that have pixels in several classes, where classes exclude each other."""

    images: int = 0
    """All of those that were looked at."""
    found: dict[str, int] = field(default_factory=dict)
    """Pixels in several classes by image id."""
    foreground: int = 0
    """Pixels in any class, of all images."""

    def look(self, image_id: str, masks: Sequence[np.ndarray]) -> None:
        """Count an image's masks, edges of each class."""
        self.images += 1
        pixels = area(shared_pixels(masks)) if sum(mask.size > 0 for mask in masks) > 1 else 0
        self.foreground += area(union(masks)) if pixels else sum(area(mask) for mask in masks)
        if pixels:
            self.found[image_id] = pixels

    def __str__(self) -> str:
        pixels = sum(self.found.values())
        worst = sorted(self.found, key=self.found.get, reverse=True)
        named = some([f"{image_id} ({self.found[image_id]})" for image_id in worst])
        return (
            f"{len(self.found)} of {self.images} images have pixels in several classes: {pixels} pixels, "
            f"{pixels / max(self.foreground, 1):.1%} of the foreground, most in {named}"
        )


def mask_rows(image_rows: np.ndarray, classes: int) -> np.ndarray:
    """Rows of images, int (N,) -> rows of their masks, int (N * classes,)."""
    return (image_rows[:, None] * classes + np.arange(classes)).ravel()


def rle_column(name: str) -> str:
    """Column of a class's masks in ``images.csv``."""
    return "rle" if name == UNNAMED else f"rle_{name}"


def row_columns(class_column: str | None, columns: tuple[str, str] = ("image_id", "rle")) -> tuple[str, ...]:
    """Columns of a CSV with a row for each mask: id and RLE, with the class between them where there are classes."""
    return columns if class_column is None else (columns[0], class_column, columns[1])


def mirrored(names: Sequence[str]) -> list[int]:
    """For each class the position of the one that it is in a mirrored image.

    That is the class whose name has "right" as a word where this one's has "left", or the other way round, if there is
    one; else the class itself.
    """
    twins = [_SIDE.sub(lambda side: _MIRRORED[side[0]], name) for name in names]
    return [names.index(twin) if twin in names else own for own, twin in enumerate(twins)]
