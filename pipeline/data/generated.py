"""Write the drawn portraits to disk as a competition's download, so that nothing after it knows they are drawn.

ROOT/train/ID.jpg   train.csv              image_id, rle, height, width, person
ROOT/test/ID.jpg    sample_submission.csv  image_id, rle (empty)
                    truth.csv              image_id, rle, height, width: what a host keeps to himself
ROOT/dataset.json   what it was drawn from; a folder without it, or with anything more, is never overwritten
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from pipeline.artifacts import whole_or_absent
from pipeline.config import GeneratedData, KaggleData
from pipeline.data import portraits
from pipeline.errors import DataError, some
from pipeline.locks import one_at_a_time
from pipeline.rle import encode

JPEG_QUALITY = 92
STAMP = "dataset.json"
NAMES = {"train", "train.csv", "test", "sample_submission.csv", "truth.csv", STAMP}
DRAWN = re.compile(r"[ab]\d{4,}\.jpg")
"""A drawn image's file name."""


@dataclass(frozen=True)
class Drawing:
    """The recipe of one image: a person's photograph, an empty scene, or a copy of another drawing."""

    kind: Literal["portrait", "empty", "duplicate"]
    person: int
    photo: int
    shape: tuple[int, int]

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 (H, W, 3) and mask uint8 (H, W) of 0/1."""
        if self.kind == "empty":
            return portraits.draw_empty(seed, self.photo, self.shape)
        image, mask = portraits.draw_portrait(seed, self.person, self.photo, self.shape)
        if self.kind == "duplicate":
            return portraits.near_duplicate(image, mask, seed)
        return image, mask


def write_generated(settings: GeneratedData) -> KaggleData:
    """Draw the data set unless it is there already, and describe it as the Kaggle layout that it has.

    Raises:
        DataError: ``data.root`` is a folder that holds something else.
    """
    root = settings.root
    sources = [*sorted(Path(portraits.__file__).parent.glob("*.py")), Path(__file__)]
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    seed = settings.seed
    origin = {"seed": seed, "settings": settings.model_dump(mode="json", exclude={"root", "seed"}), "code": code}
    if _origin_of(root) != origin:
        lock = f".pipeline-lock-{hashlib.sha256(os.fsencode(root.name)).hexdigest()[:16]}"
        with one_at_a_time(root.parent / lock):
            if _origin_of(root) != origin:  # no other process has drawn it meanwhile
                _draw(settings, origin)
    return KaggleData(source="kaggle", root=root, test_truth="truth.csv", group_column="person")


def _draw(settings: GeneratedData, origin: dict[str, Any]) -> None:
    root, seed = settings.root, settings.seed
    if strange := _others(root):
        raise DataError(f"data.root: {root} is to be drawn anew, and has other files in it: {some(strange)}")
    with whole_or_absent(root) as new:
        _write_subset(new, "train", _plan(settings, seed, "train"), seed)
        _write_subset(new, "test", _plan(settings, seed, "test"), seed)
        (new / STAMP).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


def _others(root: Path) -> list[str]:
    """Return what lies in the data set's folder and was not drawn."""
    inner = [path for subset in ("train", "test") for path in (root / subset).glob("*")]
    strange = {path.name for path in root.glob("*")} - NAMES
    strange |= {f"{path.parent.name}/{path.name}" for path in inner if not DRAWN.fullmatch(path.name)}
    return sorted(strange)


def _origin_of(root: Path) -> dict[str, Any] | None:
    """What the data set that lies there was drawn from; None where nothing lies yet.

    Raises:
        DataError: something else lies there. Other data sets have a file ``dataset.json`` as well.
    """
    if not root.exists() or not any(root.iterdir()):
        return None
    try:
        origin = json.loads((root / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        origin = None
    if not isinstance(origin, dict) or origin.keys() != {"seed", "settings", "code"}:
        raise DataError(f"data.root: {root} is not empty and was not generated here: name another folder")
    return origin


def _plan(settings: GeneratedData, seed: int, subset: Literal["train", "test"]) -> list[Drawing]:
    """All drawings of a subset in a random order, so that neighbouring ids have nothing in common."""
    is_train = subset == "train"
    rng = np.random.default_rng([seed, int(is_train)])
    first, count = (0, settings.people) if is_train else (settings.people, settings.test_people)
    people = range(first, first + count)

    def shape() -> tuple[int, int]:
        return (
            int(rng.integers(settings.heights[0], settings.heights[1], endpoint=True)),
            int(rng.integers(settings.widths[0], settings.widths[1], endpoint=True)),
        )

    drawings = [Drawing("portrait", person, photo, shape()) for person in people for photo in range(settings.photos)]
    copies = round(settings.duplicates * len(drawings)) if is_train else 0
    copied = [drawings[index] for index in rng.choice(len(drawings), copies, replace=False)]
    empties = round(settings.empty * len(drawings))
    drawings += [Drawing("empty", -1, first * settings.photos + number, shape()) for number in range(empties)]
    drawings += [Drawing("duplicate", original.person, original.photo, original.shape) for original in copied]
    return [drawings[index] for index in rng.permutation(len(drawings))]


def _write_subset(root: Path, subset: str, drawings: list[Drawing], seed: int) -> None:
    (root / subset).mkdir(parents=True)
    prefix = "a" if subset == "train" else "b"
    ids = [f"{prefix}{number:04d}" for number in range(len(drawings))]

    def write(image_id: str, drawing: Drawing) -> list[str | int]:
        image, mask = drawing.draw(seed)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (root / subset / f"{image_id}.jpg").write_bytes(jpeg.tobytes())
        # An empty scene is nobody's photograph and belongs to no one else's fold.
        person = f"person{drawing.person}" if drawing.person >= 0 else f"nobody{drawing.photo}"
        return [image_id, encode(mask), *drawing.shape, person]

    with ThreadPoolExecutor() as pool:
        rows = list(pool.map(write, ids, drawings))
    columns = ["image_id", "rle", "height", "width", "person"]
    if subset == "train":
        _write_csv(root / "train.csv", columns, rows)
    else:
        _write_csv(root / "truth.csv", columns[:-1], [row[:-1] for row in rows])
        _write_csv(root / "sample_submission.csv", columns[:2], [[row[0], ""] for row in rows])


def _write_csv(path: Path, columns: list[str], rows: list[list[str | int]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
