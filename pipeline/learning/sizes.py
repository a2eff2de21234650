"""Batches at other sizes than the one that they are stored at."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate


def resize(batch: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(N, C, H, W), uint8 or float -> (N, C, *size), filtered so that nothing is skipped when shrinking."""
    if batch.shape[-2:] == size:
        return batch
    if batch.is_floating_point() or batch.device.type == "cpu":
        return interpolate(batch, size, mode="bilinear", antialias=True)
    # Only CPUs filter bytes; rounded floats are within one level of what they give.
    return interpolate(batch.float(), size, mode="bilinear", antialias=True).round().to(batch.dtype)
