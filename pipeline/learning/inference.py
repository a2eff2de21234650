"""Probability maps from a trained network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.config import Experiment, PredictionSettings
from pipeline.data.classes import mirrored
from pipeline.data.dataset import HeldOutImages, as_tensor, quiet_worker
from pipeline.data.probabilities import as_bytes
from pipeline.errors import DataError
from pipeline.geometry import Tiling, scaled_size
from pipeline.learning.engines import Compute, Engine, choose_engines
from pipeline.learning.hardware import best_device, choose_precision, choose_workers
from pipeline.learning.sizes import resize

SAMPLE = 8  # images on which engines are compared


@dataclass(frozen=True)
class Views:
    """Changed copies of an image, whose predictions are changed back (test-time augmentation)."""

    scales: tuple[float, ...]
    """Sizes of the copies, as multiples of the stored one."""
    flip: bool
    """Each of them mirrored, too."""
    mirrored: list[int]
    """For each of the C classes the one that it is in a mirrored image."""
    tiling: Tiling
    """Into what an image is cut; copies of all sizes are whole where the stored size is a single tile."""
    separate: bool = False
    """Each view's predictions apart, in the order of ``view_names``, in place of their mean."""

    @classmethod
    def of(cls, settings: Experiment) -> Views:
        """Those of an experiment."""
        options = settings.prediction
        separate = options.views == "separate"
        sides = mirrored(settings.data.class_names)
        return cls(options.scales, options.flip, sides, settings.image.tiling, separate)

    def tilings(self, size: tuple[int, int]) -> dict[tuple[int, int], Tiling]:
        """The sizes of the copies of an image of that size, and into what those are cut."""
        whole = self.tiling.size == size
        sizes = dict.fromkeys(scaled_size(size, scale) for scale in self.scales)
        return {each: replace(self.tiling, size=each) if whole else self.tiling for each in sizes}

    def calls(self, size: tuple[int, int]) -> int:
        """How often the network is called for an image of that size."""
        return sum(len(tiling.boxes(*each)) for each, tiling in self.tilings(size).items()) * (1 + self.flip)


def make_engines(
    network: torch.nn.Module,
    images: np.ndarray,
    rows: np.ndarray,
    *,
    count: int,
    options: PredictionSettings,
    views: Views,
) -> list[Engine]:
    """The engine, ready for each size of ``views``, compared on a few of the images.

    Args:
        network: uint8 (N, 3, H, W) -> logits (N, C, H, W).
        images: uint8 (M, H, W, 3), a memory map.
        rows: int (N,), rows of ``images`` to choose the few from.
        count: images to predict in all.
        options: the engine and the precision that are wanted.
        views: as ``predict_batches`` is given.
    """
    device = best_device()
    precision = choose_precision(options.precision, device)
    whole = torch.stack([as_tensor(images[row]) for row in rows[:SAMPLE]])
    size = tuple(images.shape[1:3])
    samples = []
    for copy_size, tiling in views.tilings(size).items():
        boxes = tiling.boxes(*copy_size)
        middle = boxes[len(boxes) // 2]
        samples.append(resize(whole, copy_size)[..., middle.rows, middle.columns].contiguous())
    calls = count * views.calls(size) // len(samples)
    return choose_engines(network.eval(), options.engine, samples, calls, device, precision)


def in_tiles(compute: Compute, images: torch.Tensor, tiling: Tiling) -> torch.Tensor:
    """Logits of images that may be larger than what the network is to see at once.

    Args:
        compute: uint8 (N, 3, h, w) -> logits (N, C, h, w), for tiles.
        images: uint8 (N, 3, H, W).
        tiling: how to cut them; logits of several tiles are averaged by its window.

    Returns:
        float (N, C, H, W).
    """
    boxes = tiling.boxes(*images.shape[-2:])
    if len(boxes) == 1:
        return compute(images)
    window = torch.from_numpy(tiling.window()).to(images.device)
    total, weights = None, torch.zeros(images.shape[-2:], device=images.device)
    for box in boxes:
        rows, columns = box.rows, box.columns
        logits = compute(images[..., rows, columns]).to(images.device)
        if total is None:
            total = logits.new_zeros(*logits.shape[:2], *images.shape[-2:])
        total[..., rows, columns] += window * logits
        weights[rows, columns] += window
    return total / weights


def predict_batches(
    engines: list[Engine], images: np.ndarray, rows: np.ndarray, *, batch_size: int, workers: int | str, views: Views
) -> Iterator[np.ndarray]:
    """Probabilities of the chosen images, batch by batch, in the order of ``rows``.

    Args:
        engines: of ``make_engines``.
        images: uint8 (M, H, W, 3), a memory map.
        rows: int (N,), rows of ``images``.
        batch_size: images in memory at a time.
        workers: as ``training.workers``.
        views: of each image.

    Raises:
        DataError: as of ``choose_workers``.

    Yields:
        uint8 (V, B * C, H, W), 255 = 1.0; an image's masks are next to each other, and V is 1 for the mean of views.
    """
    device = best_device()
    data = HeldOutImages(images, None, rows)
    count = choose_workers(workers, device, batch_size * math.prod(images.shape[1:]))
    loader = DataLoader(data, batch_size, num_workers=count, worker_init_fn=quiet_worker)
    for batch in loader:
        yield predict_bytes(engines, batch.to(device, non_blocking=True), views)


def predict_bytes(engines: list[Engine], batch: torch.Tensor, views: Views) -> np.ndarray:
    """uint8 (N, 3, H, W) -> what is stored of them, as ``predict_batches`` yields it.

    Raises:
        DataError: a probability is not a number, as where fp16 has overflown.
    """
    probabilities = predict_views(engines, batch, views)
    if not views.separate:
        probabilities = probabilities.mean(0, keepdim=True)
    try:
        return as_bytes(probabilities.clamp(0, 1).flatten(1, 2).cpu().numpy())
    except ValueError as error:
        name = engines[0].name
        raise DataError(f"{name} gives a probability that is not a number: set prediction.precision=fp32") from error


def predict_views(engines: list[Engine], batch: torch.Tensor, views: Views) -> torch.Tensor:
    """uint8 (N, 3, H, W) -> each view's probabilities, float (V, N, C, H, W); resampling may exceed 0 to 1 a little."""
    size = tuple(batch.shape[-2:])
    found = []
    for engine, (copy_size, tiling) in zip(engines, views.tilings(size).items(), strict=True):
        copies = resize(batch, copy_size)
        found.append(resize(in_tiles(engine.compute, copies, tiling).sigmoid(), size))
        if views.flip:
            reflected = in_tiles(engine.compute, copies.flip(-1), tiling).sigmoid().flip(-1)
            found.append(resize(reflected[:, views.mirrored], size))
    return torch.stack(found)
