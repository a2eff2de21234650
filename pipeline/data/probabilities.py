"""Stored probability maps: uint8 Zarr arrays (N, H, W) at network size, 255 = 1.0, with their image ids."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifacts import need, stored_url, whole_or_absent
from pipeline.data.arrays import StoredArray, create_array, open_array
from pipeline.object_store import open_url
from pipeline.records import Record, check, record_of, recorded
from pipeline.stored import Maps, open_json

CHUNK = 16


@dataclass(frozen=True)
class Probabilities:
    """``maps[i]`` is the map of ``image_ids[i]``; read lazily, a chunk of images at a time."""

    image_ids: list[str]
    maps: StoredArray | Concatenated


class Concatenated:
    """Arrays of maps one behind the other, read as one; of each only what is asked for."""

    def __init__(self, arrays: Sequence[StoredArray]) -> None:
        self.arrays = arrays
        *self.starts, count = np.cumsum([0, *(array.shape[0] for array in arrays)]).tolist()
        self.shape = (count, *arrays[0].shape[1:])

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Consecutive maps, uint8 (n, H, W)."""
        first, stop, _ = rows.indices(self.shape[0])
        of_arrays = zip(self.arrays, self.starts, strict=True)
        return np.concatenate([array[max(first - start, 0) : max(stop - start, 0)] for array, start in of_arrays])


def concatenate(parts: Sequence[Probabilities]) -> Probabilities:
    """Maps of one size that are stored in several parts."""
    image_ids = [image_id for part in parts for image_id in part.image_ids]
    return Probabilities(image_ids, Concatenated([part.maps for part in parts]))


def part_rows(images: int, parts: int, batch_size: int) -> list[np.ndarray]:
    """Numbers of the images of each part, int (n,); of few images some parts have none.

    A part begins where a chunk does, so that a chunk of maps is read from one array, and where a batch does, so that
    a network sees the same batches however many parts there are.
    """
    step = math.lcm(CHUNK, batch_size)
    steps = -(-images // step)
    bounds = [min(steps * part // parts * step, images) for part in range(parts + 1)]
    return [np.arange(*pair) for pair in pairwise(bounds)]


def chunks(count: int) -> Iterator[slice]:
    """Consecutive rows, as many as are stored together."""
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))


def write_probabilities(
    path: Path,
    image_ids: list[str],
    size: tuple[int, int],
    batches: Iterable[np.ndarray],
    record: Record | None = None,
    url: str | None = None,
) -> None:
    """``write_several`` of one map of each image: ``batches`` are uint8 (B, H, W)."""
    write_several([path], image_ids, size, (batch[None] for batch in batches), record, [url])


def write_several(
    paths: Sequence[Path],
    image_ids: list[str],
    size: tuple[int, int],
    batches: Iterable[np.ndarray],
    record: Record | None = None,
    urls: Sequence[str | None] | None = None,
    **about: Any,
) -> None:
    """Store several maps of each image as they come, in O(batch) memory, each to an array that is whole or absent.

    Args:
        paths: V Zarr folders.
        image_ids: one for each map of an array, in order.
        size: height and width of the maps.
        batches: uint8 (V, B, H, W), together a map for each id.
        record: written beside each; None: no record.
        urls: where each folder is to be, if not at its path, which then is a file with the URL.
        about: what else the records' files are to have.
    """
    with ExitStack() as stack:
        sums: list[dict[str, str]] = [{} for _ in paths]
        writing = [
            whole_or_absent(path) if record is None else recorded(path, record, **about, files=files)
            for path, files in zip(paths, sums, strict=True)
        ]
        new = [stack.enter_context(each) for each in writing]
        places = [_place(*each) for each in zip(paths, new, urls or [None] * len(paths), strict=True)]
        arrays = [create_array(place, image_ids, size, CHUNK, sums[i]) for i, place in enumerate(places)]
        start = 0
        for batch in batches:
            for array, maps in zip(arrays, batch, strict=True):
                array[start : start + len(maps)] = maps
            start += batch.shape[1]
        if start != len(image_ids):
            raise ValueError(f"{start} maps for {len(image_ids)} images")


def _place(path: Path, new: Path, url: str | None) -> Path | str:
    """Where the array of ``path`` is to be written: ``new``, or a URL, with which ``new`` is then a file.

    Nothing can be renamed at a URL, so the old array's record and file go before the array changes.
    """
    if url is None:
        return new
    open_url(url)
    record_of(path).unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    new.write_text(url, encoding="utf-8")
    return url


def read_probabilities(path: Path, stage: str, folder: Path | None = None) -> Probabilities:
    """Open stored maps.

    Args:
        path: of the array, which may have been put there by hand, without the JSON file that has its checksums.
        stage: what writes it.
        folder: the experiment's, if the maps must be those that its other artifacts were made into.

    Raises:
        DataError: they are missing (run ``stage``) or damaged, or do not belong to the experiment's other artifacts.
    """
    need(path, stage)
    if folder is not None:
        check(path, folder, stage)
    record, again = record_of(path), f"run {stage!r} again"
    sums = None
    if record.exists():
        sums = open_json(Maps, record, stage).get("files")
        again += f"; if the maps are not from here, delete {record.name}"
    url = stored_url(path)
    if url is not None:
        open_url(url)
    return Probabilities(*open_array(path, url, sums, again))


def as_bytes(probabilities: np.ndarray) -> np.ndarray:
    """Floats in 0..1 -> uint8, round(255 p).

    Raises:
        ValueError: a probability is not finite or outside 0..1.
    """
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("a probability is not a number from 0 to 1")
    return np.rint(probabilities * 255).astype(np.uint8)
