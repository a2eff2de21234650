"""Probability maps from a trained network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.config import EngineName
from pipeline.data.dataset import HeldOutImages, as_tensor, quiet_worker
from pipeline.data.probabilities import as_bytes
from pipeline.geometry import Tiling
from pipeline.learning.engines import Compute, Engine, choose_engine
from pipeline.learning.hardware import best_device, choose_precision, choose_workers

SAMPLE = 8  # images on which engines are compared


def make_engine(
    network: torch.nn.Module,
    images: np.ndarray,
    rows: np.ndarray,
    *,
    count: int,
    flip: bool,
    engine: EngineName,
    tiling: Tiling,
) -> Engine:
    """The engine for ``predict_batches``, compared on a few of the images.

    Args:
        network: uint8 (N, 3, H, W) -> logits (N, H, W).
        images: uint8 (M, H, W, 3), a memory map.
        rows: int (N,), rows of ``images`` to choose the few from.
        count: images to predict in all.
        flip: whether each is predicted twice.
        engine: the one that is wanted.
        tiling: into what each is cut.
    """
    device = best_device()
    boxes = tiling.boxes(*images.shape[1:3])
    middle = boxes[len(boxes) // 2]
    sample = torch.stack([as_tensor(middle.cut(images[row])) for row in rows[:SAMPLE]])
    precision = choose_precision("auto", device)
    return choose_engine(network.eval(), engine, sample, count * (1 + flip) * len(boxes), device, precision)


def in_tiles(compute: Compute, images: torch.Tensor, tiling: Tiling) -> torch.Tensor:
    """Logits of images that may be larger than what the network is to see at once.

    Args:
        compute: uint8 (N, 3, h, w) -> logits (N, h, w), for tiles.
        images: uint8 (N, 3, H, W).
        tiling: how to cut them; logits of several tiles are averaged by its window.

    Returns:
        float (N, H, W).
    """
    boxes = tiling.boxes(*images.shape[-2:])
    if len(boxes) == 1:
        return compute(images)
    window = torch.from_numpy(tiling.window()).to(images.device)
    total = torch.zeros(len(images), *images.shape[-2:], device=images.device)
    weights = torch.zeros(images.shape[-2:], device=images.device)
    for box in boxes:
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        total[:, rows, columns] += window * compute(images[..., rows, columns]).to(images.device)
        weights[rows, columns] += window
    return total / weights


def predict_batches(
    engine: Engine, images: np.ndarray, rows: np.ndarray, *, batch_size: int, flip: bool, tiling: Tiling
) -> Iterator[np.ndarray]:
    """Probabilities of the chosen images, batch by batch, in the order of ``rows``.

    Args:
        engine: of ``make_engine``.
        images: uint8 (M, H, W, 3), a memory map.
        rows: int (N,), rows of ``images``.
        batch_size: images in memory at a time.
        flip: average with the prediction for the mirrored image.
        tiling: as ``make_engine`` was given.

    Yields:
        uint8 (B, H, W), 255 = 1.0.
    """
    device = best_device()
    workers = choose_workers("auto", device)
    loader = DataLoader(HeldOutImages(images, None, rows), batch_size, num_workers=workers, worker_init_fn=quiet_worker)
    for batch in loader:
        batch = batch.to(device, non_blocking=True)
        probabilities = in_tiles(engine.compute, batch, tiling).sigmoid()
        if flip:
            mirrored = in_tiles(engine.compute, batch.flip(-1), tiling).sigmoid().flip(-1)
            probabilities = (probabilities + mirrored) / 2
        yield as_bytes(probabilities.cpu().numpy())
