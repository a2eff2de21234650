"""How much memory there is, and how much of it images may take while they are decoded side by side."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DataError

MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files with the bytes that a container may use, of both versions of Linux's control groups."""

SHARE = 0.5
"""Part of the memory that decoding may take: networks, masks and other processes need the rest."""


def limits_of(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """Files with the limits of the control groups (version 2) that this process is in, such as a cluster's job."""
    lines = groups.read_text().splitlines() if groups.is_file() else []
    own = [line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")]
    return [root / each / "memory.max" for name in own if name for each in (Path(name), *Path(name).parents)]


def available_memory(limits: Sequence[Path] | None = None) -> int:
    """MiB of this machine, or of the container or the cluster's job that this is in."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in [*MEMORY_LIMITS, *limits_of()] if limits is None else limits:
        text = path.read_text().strip() if path.is_file() else ""
        found += [int(text)] if text.isdigit() else []  # "max" where there is none
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    found += [] if allowed == resource.RLIM_INFINITY else [allowed]
    return min(found) // 2**20


class MemoryBudget:
    """Bytes that threads share: each waits until what it needs is free.

    A thread that already holds a part gets no more by asking again, so that nested blocks cannot wait for each other.
    """

    def __init__(self, total: int | None = None) -> None:
        self._total = total
        self._taken = 0
        self._changed = threading.Condition()
        self._holder = threading.local()

    @property
    def total(self) -> int:
        """The budget in bytes: what it was made with, or ``SHARE`` of the memory that there is."""
        return int(SHARE * available_memory() * 2**20) if self._total is None else self._total

    def check(self, needed: int, path: Path, size: tuple[int, int], purpose: str) -> None:
        """Refuse an image that takes more than there is.

        Raises:
            DataError: naming the file.
        """
        if needed > self.total:
            raise DataError(
                f"{path}: {size[0]} x {size[1]} pixels (height x width) need {needed / 1e9:.1f} GB {purpose}, and "
                f"images may take {self.total / 1e9:.1f} GB here: use a machine with more memory, or cut the image up"
            )

    @contextmanager
    def taking(self, needed: int) -> Iterator[None]:
        """Hold ``needed`` bytes while the block runs; more than the whole budget counts as all of it."""
        if getattr(self._holder, "holds", False):
            yield
            return
        total = self.total
        needed = min(needed, total)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + needed <= total)
            self._taken += needed
        self._holder.holds = True
        try:
            yield
        finally:
            self._holder.holds = False
            with self._changed:
                self._taken -= needed
                self._changed.notify_all()


DECODING = MemoryBudget()
"""The budget of all decoding in this process."""
