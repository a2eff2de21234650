"""Probability maps from a trained network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.data.dataset import HeldOutImages, quiet_worker
from pipeline.data.probabilities import as_bytes
from pipeline.learning.hardware import autocast, best_device, choose_precision, choose_workers


def predict_batches(
    network: torch.nn.Module, images: np.ndarray, rows: np.ndarray, *, batch_size: int, flip: bool
) -> Iterator[np.ndarray]:
    """Probabilities of the chosen images, batch by batch, in the order of ``rows``.

    Args:
        network: uint8 (N, 3, H, W) -> logits (N, H, W).
        images: uint8 (M, H, W, 3), a memory map.
        rows: int (N,), rows of ``images``.
        batch_size: images in memory at a time.
        flip: average with the prediction for the mirrored image.

    Yields:
        uint8 (B, H, W), 255 = 1.0.
    """
    device = best_device()
    precision = choose_precision("auto", device)
    network = network.eval().to(device, memory_format=torch.channels_last)
    workers = choose_workers("auto", device)
    loader = DataLoader(HeldOutImages(images, None, rows), batch_size, num_workers=workers, worker_init_fn=quiet_worker)
    for batch in loader:
        with torch.inference_mode(), autocast(precision, device):
            inputs = batch.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            probabilities = network(inputs).float().sigmoid()
            if flip:
                mirrored = network(inputs.flip(-1)).float().sigmoid().flip(-1)
                probabilities = (probabilities + mirrored) / 2
        yield as_bytes(probabilities.cpu().numpy())
