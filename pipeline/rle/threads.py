"""Rows of a batch shared out over threads: the kernels release the GIL."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")

WORTH_A_THREAD = 2**20  # units of work (bytes of text, edges) below which starting a thread costs more than it saves


def map_rows(function: Callable[[int, int], Result], offsets: np.ndarray) -> list[Result]:
    """`function(first, last)` of ranges of rows that cover all, on as many threads as there are cores to use.

    offsets: int64 (N + 1,), the work before each row. Returns the results in the order of the rows, one at least
    (of no rows where there are none).
    """
    rows, work = len(offsets) - 1, int(offsets[-1] - offsets[0])
    parts = max(1, min(available_cores(), work // WORTH_A_THREAD, rows))
    if parts == 1:
        return [function(0, rows)]
    limits = np.searchsorted(offsets, offsets[0] + work * np.arange(1, parts) // parts)
    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(lambda ends: function(*ends), pairwise([0, *limits.tolist(), rows])))


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
