"""What the machine is good at: device, precision, loader processes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
LIGHTNING_NAMES = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def best_device() -> torch.device:
    """A CUDA device if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """The precision to compute in: ``wanted``, or for "auto" the fastest that the device has in hardware.

    A CPU without AMX emulates bf16, three times slower than fp32 for these networks; with AMX it is two to
    five times faster.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return "bf16"
    return "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """The context to run a network in."""
    return torch.autocast(device.type, AUTOCAST_TYPES.get(precision), enabled=precision != "fp32")


def choose_workers(wanted: int | str, device: torch.device) -> int:
    """Loader processes; beside a CPU training they would only take its cores."""
    if wanted != "auto":
        return int(wanted)
    if device.type == "cpu":
        return 0
    return min(8, os.cpu_count() or 1)
