"""What the machine is good at: device, precision, loader processes."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Literal

import torch

from pipeline.errors import DataError
from pipeline.locks import open_lock, try_lock
from pipeline.rle.threads import available_cores

Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
LIGHTNING_NAMES = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps what processes hand over to each other."""
AHEAD = 3
"""Batches of a loader process that may lie there: PyTorch has it prepare two, and one is being used."""

_reserved: list[IO[bytes]] = []  # closed, and so given back, when the process ends


def reserve_gpus(count: int, folder: Path | None = None) -> list[str]:
    """Take so many GPUs that no other of the project's processes on this machine has, and hide the rest from CUDA.

    Folds that train at once would else all take the first. Where fewer are free, nothing is hidden. To be called
    before CUDA is used.

    Args:
        count: how many.
        folder: of the locks, the same for all processes; the system's for temporary files where not given.

    Returns:
        Those that were taken, by number or UUID.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    taken: dict[str, IO[bytes]] = {}
    for device in devices:
        path = (folder or Path(tempfile.gettempdir())) / f"pipeline-gpu-{device}.lock"
        if len(taken) < count and (lock := _open_locked(path)):
            taken[device] = lock
    if len(taken) < count:
        return []
    _reserved.extend(taken.values())
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    return list(taken)


def _open_locked(path: Path) -> IO[bytes] | None:
    """The file if its lock is free; a symbolic link, which anyone may have put into the folder, is no lock."""
    if path.is_symlink():
        return None
    try:  # of another user, it may be, which can be locked and not be written to
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    except FileNotFoundError:
        file = open_lock(path)
    if try_lock(file):
        return file
    file.close()
    return None


def best_device() -> torch.device:
    """A CUDA device if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """The precision to compute in: ``wanted``, or for "auto" the fastest that the device has in hardware.

    With AMX, bf16 trains these networks two to five times faster than fp32, with AVX-512's bf16 products alone about
    twice; a CPU without either emulates it, three times slower than fp32. Told by capability and not by a
    measurement, which on a busy machine could come out otherwise when a training is resumed.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return "bf16"
    return "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """The context to run a network in."""
    return torch.autocast(device.type, AUTOCAST_TYPES.get(precision), enabled=precision != "fp32")


def choose_workers(wanted: int | str, device: torch.device, batch: int = 0) -> int:
    """Loader processes; beside a CPU training they would only take its cores.

    Args:
        wanted: as ``training.workers``.
        batch: bytes that a process hands over at once.

    Raises:
        DataError: so many processes cannot hand batches over, and would end in a bus error.
    """
    if wanted == "auto":
        if device.type == "cpu":
            return 0
        wanted = min(8, available_cores())
        room = _shared_room()
        return 0 if room is None else min(wanted, room // max(1, AHEAD * batch))
    room, needed = _shared_room(), wanted * AHEAD * batch
    if wanted and (room is None or room < needed):
        what = "which cannot be written to" if room is None else f"which has {room / 1e6:.1f}"
        raise DataError(
            f"training.workers: {wanted} processes that load data need {needed / 1e6:.1f} MB of {SHARED_MEMORY}, "
            f"{what}; set training.workers: 0, or give the container more (docker run --shm-size)"
        )
    return wanted


def _shared_room() -> int | None:
    """Return the free bytes of the memory that processes share, None where it cannot be written to."""
    if sys.platform != "linux":
        return sys.maxsize
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY):
            status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
