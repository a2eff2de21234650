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
import zarr

from pipeline.artifacts import need, stored_url, whole_or_absent
from pipeline.errors import DataError
from pipeline.object_store import open_url
from pipeline.records import Record, record_of, recorded

CHUNK = 16


@dataclass(frozen=True)
class Probabilities:
    """``maps[i]`` is the map of ``image_ids[i]``; read lazily, a chunk of images at a time."""

    image_ids: list[str]
    maps: zarr.Array | Concatenated


class Concatenated:
    """Arrays of maps one behind the other, read as one; of each only what is asked for."""

    def __init__(self, arrays: Sequence[zarr.Array]) -> None:
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
        shape, layout = (len(image_ids), *size), {"chunks": (CHUNK, *size), "dtype": "uint8", "fill_value": 0}
        writing = [whole_or_absent(path) if record is None else recorded(path, record, **about) for path in paths]
        new = [stack.enter_context(each) for each in writing]
        places = [_place(*each) for each in zip(paths, new, urls or [None] * len(paths), strict=True)]
        arrays = [zarr.create_array(place, shape=shape, overwrite=True, **layout) for place in places]
        for array in arrays:
            array.attrs["image_ids"] = image_ids
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


def read_probabilities(path: Path, stage: str) -> Probabilities:
    """Open stored maps.

    Raises:
        DataError: they are missing (run ``stage``) or broken.
    """
    need(path, stage)
    try:
        url = stored_url(path)
        if url is not None:
            open_url(url)
        maps = zarr.open_array(url or path, mode="r")
        return Probabilities(list(maps.attrs["image_ids"]), maps)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} is not a readable probability array ({error}): delete it, run {stage!r} again"
        ) from None


def as_bytes(probabilities: np.ndarray) -> np.ndarray:
    """Floats in 0..1 -> uint8, round(255 p).

    Raises:
        ValueError: a probability is not finite or outside 0..1.
    """
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("a probability is not a number from 0 to 1")
    return np.rint(probabilities * 255).astype(np.uint8)
