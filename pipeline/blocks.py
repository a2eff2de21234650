"""Checksums of large files block by block, so that a part of a file can be checked without reading the rest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

BLOCK = 2**25
"""Bytes of a block."""
PIECE = 2**20
"""Bytes that are read at once."""


def block_checksums(path: Path) -> dict[str, Any]:
    """Size of a file in bytes, and the SHA-256 of each of its blocks."""
    size = path.stat().st_size
    return {"bytes": size, "block": BLOCK, "sha256": _hashes(path, BLOCK, range(-(-size // BLOCK)))}


def is_as_written(path: Path, known: dict[str, Any], parts: Iterable[tuple[int, int]] | None = None) -> bool:
    """Whether a file is what ``block_checksums`` has seen.

    Args:
        path: the file.
        known: of ``block_checksums``.
        parts: first byte and the one behind the last of what is looked at, besides the size; None: all of the file.
    """
    if path.stat().st_size != known["bytes"]:
        return False
    step = known["block"]
    numbers = range(len(known["sha256"]))
    if parts is not None:
        numbers = sorted({number for start, stop in parts for number in range(start // step, -(-stop // step))})
    return _hashes(path, step, numbers) == [known["sha256"][number] for number in numbers]


def _hashes(path: Path, step: int, numbers: Iterable[int]) -> list[str]:
    file = os.open(path, os.O_RDONLY)
    try:
        with ThreadPoolExecutor() as pool:  # reading and hashing leave the interpreter to the others
            return list(pool.map(lambda number: _hash(file, number * step, (number + 1) * step), numbers))
    finally:
        os.close(file)


def _hash(file: int, start: int, stop: int) -> str:
    digest = hashlib.sha256()
    while start < stop and (piece := os.pread(file, min(PIECE, stop - start), start)):
        digest.update(piece)
        start += len(piece)
    return digest.hexdigest()
