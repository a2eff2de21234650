"""From a stored probability map to the final mask, and what that mask would be at every threshold.

``final_edges`` is the only way from a probability to a mask: tuning, submitting and reporting share it. Its
settings are one frozen ``Postprocess``, which the stage ``tune`` chooses (``pipeline.search``) and stores.

A threshold is a byte t: a pixel is foreground where the map, restored to the image's own size, is >= t; with
bytes p > t/255 is p >= t + 1. Areas are pixels of the image's own size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numba
import numpy as np

from pipeline.errors import DataError
from pipeline.geometry import Fit, restore
from pipeline.metrics import Counts
from pipeline.rle import area, fill_holes, from_edges, keep_largest, remove_small, to_edges
from pipeline.rle.threads import available_cores

HALF = 128
"""The threshold before any tuning: p >= 128/255 is p > 0.5."""

LEVELS = 256
"""Values of a byte: as many thresholds."""

_AT_ONCE = 8  # images of a thread's turn, so that starting it costs little beside them


@dataclass(frozen=True)
class Postprocess:
    """How a map becomes a mask; the rules apply in this order. The defaults are no tuning at all."""

    threshold: int = HALF
    """Byte 0..255: foreground is where the map is >= it."""
    top_threshold: int | None = None
    """Byte; the mask is empty unless at least ``min_area`` pixels of the map are >= it; null: ``threshold``. A
    higher one asks for a sure core, as the winners of SIIM-ACR Pneumothorax did ("triplet" of a top threshold, a
    minimum area and a bottom threshold)."""
    min_area: int = 0
    """Pixels; 0: the mask is never emptied."""
    fill_holes: int | None = 0
    """Holes of at most so many pixels are filled; null: all holes, whatever their size."""
    min_component: int = 0
    """Connected components (at sides or corners) of fewer pixels are removed."""
    max_components: int | None = None
    """So many components remain, the largest; null: all."""

    @property
    def top(self) -> int:
        return self.threshold if self.top_threshold is None else self.top_threshold

    def __str__(self) -> str:
        """In words, rules that do nothing left out."""
        words = [f"threshold {self.threshold}/255"]
        if self.min_area:
            words.append(f"empty below {self.min_area} pixels at {self.top}/255")
        if self.fill_holes is None or self.fill_holes > 0:
            words.append("all holes filled" if self.fill_holes is None else f"holes up to {self.fill_holes} filled")
        if self.min_component:
            words.append(f"components below {self.min_component} removed")
        if self.max_components is not None:
            words.append(f"the {self.max_components} largest kept" if self.max_components > 1 else "the largest kept")
        return ", ".join(words)


UNTUNED = Postprocess()
"""One half and no rules."""


def stored_postprocess(content: Any, path: Path) -> list[Postprocess]:
    """The settings of each class in the content of a ``tuning.json``.

    Raises:
        DataError: there are none, or they are of another version of the project.
    """
    with _stored("postprocess", path):
        return [Postprocess(**of_class) for of_class in content["postprocess"]]


def stored_by_fold(content: Any, path: Path) -> list[list[Postprocess]]:
    """The ensemble's settings of each fold, chosen on the other folds, and in it of each class; likewise."""
    with _stored("postprocess_by_fold", path):
        of_classes = [of_class["postprocess_by_fold"] for of_class in content["sets"]["ensemble"]["classes"]]
        return [[Postprocess(**each) for each in of_fold] for of_fold in zip(*of_classes, strict=True)]


def stored_scores(content: Any, path: Path) -> dict[str, Any]:
    """Read the ensemble's out-of-fold scores: as submitted, at one half, cross-fitted and optimistic."""
    names = ("submitted", "submitted_ci95", "at_half", "cross_fitted", "cross_fitted_ci95", "tuned")
    words = ("submits", "optimism", "verdict")
    with _stored("submitted", path):
        return {name: content["sets"]["ensemble"][name] for name in (*names, *words)}


@contextmanager
def _stored(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} has no valid {name!r} ({error}): run the stage 'tune' again") from None


def final_edges(prob_hw: np.ndarray, height: int, width: int, fit: Fit, settings: Postprocess) -> np.ndarray:
    """The mask of one image at its own size.

    Args:
        prob_hw: uint8 (h, w) at network size, 255 = 1.0.
        height, width: the image's own size.
        fit: how the image was brought to network size.
        settings: threshold and rules.

    Returns:
        Column-major edges, uint32.
    """
    return mask_edges(restore(prob_hw, height, width, fit), settings)


def mask_edges(restored: np.ndarray, settings: Postprocess) -> np.ndarray:
    """``final_edges`` of a map that has the image's own size already, uint8 (H, W)."""
    edges = gated_edges(restored, settings)
    if settings.fill_holes is None or settings.fill_holes > 0:
        edges = fill_holes(edges, restored.shape, settings.fill_holes)
    if settings.min_component > 1:
        edges = remove_small(edges, restored.shape[0], settings.min_component)
    if settings.max_components is not None:
        edges = keep_largest(edges, restored.shape[0], settings.max_components)
    return edges


def gated_edges(restored: np.ndarray, settings: Postprocess) -> np.ndarray:
    """Edges by thresholds and minimum area alone, before the rules on holes and components."""
    edges = to_edges(restored, threshold=settings.threshold)
    if settings.min_area > 0:
        sure = area(edges) if settings.top == settings.threshold else np.count_nonzero(restored >= settings.top)
        if sure < settings.min_area:
            return np.empty(0, np.uint32)
    return edges


def expected_dice(prob_hw: np.ndarray, threshold: int) -> float:
    """The Dice that a map promises for its own mask, taking its probabilities at their word; 0..1.

    2 E|P & T| / (|P| + E|T|), where the true pixels T are as likely as the map says. For an empty mask it is the
    probability that there is nothing, if pixels stand and fall together: one minus the greatest.

    Args:
        prob_hw: uint8 (h, w), 255 = 1.0.
        threshold: byte; the mask is where the map is >= it.
    """
    histogram = np.bincount(prob_hw.ravel(), minlength=LEVELS)
    expected = histogram * np.arange(LEVELS) / 255
    predicted = int(histogram[threshold:].sum())
    if predicted == 0:
        return 1 - int(prob_hw.max()) / 255
    return float(2 * expected[threshold:].sum() / (predicted + expected.sum()))


# ----------------------------------------------------------------------------------------- all thresholds at once


_ONES = np.uint64(0x0101010101010101)
_BYTE = np.uint64(255)


@numba.njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")
def joint_histogram(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels by truth and probability: uint8 (P,) twice, mask 0/1, contiguous -> int64 (2, 256).

    Eight pixels at a time: most of a map is 0 or 255 over and over, which is one addition. Elsewhere each of the
    eight has a table of its own, since adding to one place again has to wait for the addition before.
    """
    tables = np.zeros((8, 2, 256), np.uint32)
    whole = probability.size // 8 * 8
    values, truths = probability[:whole].view(np.uint64), mask[:whole].view(np.uint64)
    for word in range(values.size):
        value, truth = values[word], truths[word]
        if truth == np.uint64(0) or truth == _ONES:
            inside = np.int64(truth & _BYTE)
            if value == (value & _BYTE) * _ONES:
                tables[0, inside, np.int64(value & _BYTE)] += np.uint32(8)
            else:
                for pixel in range(8):
                    tables[pixel, inside, np.int64((value >> np.uint64(8 * pixel)) & _BYTE)] += np.uint32(1)
        else:
            for pixel in range(8):
                shift = np.uint64(8 * pixel)
                inside = np.int64((truth >> shift) & _BYTE)
                tables[pixel, inside, np.int64((value >> shift) & _BYTE)] += np.uint32(1)
    for pixel in range(whole, probability.size):
        tables[0, mask[pixel], probability[pixel]] += np.uint32(1)
    histogram = np.zeros((2, 256), np.int64)
    for table in range(8):
        for inside in range(2):
            for value in range(256):
                histogram[inside, value] += np.int64(tables[table, inside, value])
    return histogram


def counts_by_threshold(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection and predicted area at every threshold: int64 (2, 256) -> twice int64 (256,)."""
    inside = histogram[1][::-1].cumsum()[::-1]
    return inside, histogram.sum(axis=0)[::-1].cumsum()[::-1]


@dataclass(frozen=True)
class Held:
    """One held-out image: its map, its own size and its true mask."""

    prob_hw: np.ndarray
    height: int
    width: int
    true_edges: np.ndarray


def threshold_counts(images: Iterable[Held], count: int, fit: Fit, workers: int | None = None) -> Counts:
    """Counts at all 256 thresholds, one pass, O(a few images) memory besides the result.

    Args:
        images: as many as ``count``; read as the work proceeds.
        fit: how the images were brought to network size.
        workers: threads, all cores where not given; the result is the same for every number.

    Returns:
        intersection and predicted of shape (N, 256), true of shape (N, 1), int64.
    """
    counts = Counts(np.zeros((count, LEVELS), np.int64), np.zeros((count, LEVELS), np.int64), np.zeros((count, 1), int))

    def fill(row: int, image: Held) -> None:
        restored = restore(image.prob_hw, image.height, image.width, fit)
        mask = from_edges(image.true_edges, restored.shape)
        histogram = joint_histogram(restored.ravel(), mask.ravel())
        counts.intersection[row], counts.predicted[row] = counts_by_threshold(histogram)
        counts.true[row] = histogram[1].sum()

    for_each_image(fill, images, workers)
    return counts


def for_each_image(function: Any, images: Iterable[Held], workers: int | None = None) -> None:
    """``function(row, image)`` of every image, by threads that are fed as they finish, so that few images wait.

    Reading stays in the caller's thread; the time goes to OpenCV and to kernels, which release the GIL.
    """
    workers = workers or available_cores()

    def run(first: int, batch: list[Held]) -> None:
        for row, image in enumerate(batch, first):
            function(row, image)

    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for first, batch in _batches(images):
            if len(waiting) > workers:
                waiting.popleft().result()
            waiting.append(pool.submit(run, first, batch))
        for future in waiting:
            future.result()


def _batches(images: Iterable[Held]) -> Iterator[tuple[int, list[Held]]]:
    """A few images at a time, with the number of the first one."""
    iterator, first = iter(images), 0
    while batch := list(islice(iterator, _AT_ONCE)):
        yield first, batch
        first += len(batch)
