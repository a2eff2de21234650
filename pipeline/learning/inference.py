"""Probability maps from a trained network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.config import EngineName
from pipeline.data.dataset import HeldOutImages, as_tensor, quiet_worker
from pipeline.data.probabilities import as_bytes
from pipeline.learning.engines import Engine, choose_engine
from pipeline.learning.hardware import best_device, choose_precision, choose_workers

SAMPLE = 8  # images on which engines are compared


def make_engine(
    network: torch.nn.Module, images: np.ndarray, rows: np.ndarray, *, count: int, flip: bool, engine: EngineName
) -> Engine:
    """The engine for ``predict_batches``, compared on a few of the images.

    Args:
        network: uint8 (N, 3, H, W) -> logits (N, H, W).
        images: uint8 (M, H, W, 3), a memory map.
        rows: int (N,), rows of ``images`` to choose the few from.
        count: images to predict in all.
        flip: whether each is predicted twice.
        engine: the one that is wanted.
    """
    device = best_device()
    sample = torch.stack([as_tensor(images[row]) for row in rows[:SAMPLE]])
    precision = choose_precision("auto", device)
    return choose_engine(network.eval(), engine, sample, count * (1 + flip), device, precision)


def predict_batches(
    engine: Engine, images: np.ndarray, rows: np.ndarray, *, batch_size: int, flip: bool
) -> Iterator[np.ndarray]:
    """Probabilities of the chosen images, batch by batch, in the order of ``rows``.

    Args:
        engine: of ``make_engine``.
        images: uint8 (M, H, W, 3), a memory map.
        rows: int (N,), rows of ``images``.
        batch_size: images in memory at a time.
        flip: average with the prediction for the mirrored image.

    Yields:
        uint8 (B, H, W), 255 = 1.0.
    """
    device = best_device()
    workers = choose_workers("auto", device)
    loader = DataLoader(HeldOutImages(images, None, rows), batch_size, num_workers=workers, worker_init_fn=quiet_worker)
    for batch in loader:
        batch = batch.to(device, non_blocking=True)
        probabilities = engine.compute(batch).sigmoid()
        if flip:
            mirrored = engine.compute(batch.flip(-1)).sigmoid().flip(-1)
            probabilities = (probabilities + mirrored) / 2
        yield as_bytes(probabilities.cpu().numpy())
