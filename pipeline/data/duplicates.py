"""Images that are the same picture: identical files, and copies that were resized or compressed again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.config import FoldSettings

BLOCK = 256


def duplicate_pairs(images: pd.DataFrame, small: np.ndarray, settings: FoldSettings) -> np.ndarray:
    """Pairs of rows that show the same picture.

    A perceptual hash proposes (portraits in one pose are close in it without being copies), and the mean
    difference of the small copies decides. Identical files are pairs whatever their hashes.

    Args:
        images: rows of ``images.csv`` with ``sha256`` and ``phash``.
        small: uint8 (N, H, W, 3), the small copies in the same order.
        settings: the two limits.

    Returns:
        int64 (P, 2), row numbers, the smaller first, sorted.
    """
    hashes = np.array([int(text, 16) for text in images["phash"]], np.uint64)
    pairs = [
        (first, second)
        for first, second in close_hashes(hashes, settings.near_duplicate_bits)
        if mean_difference(small[first], small[second]) < settings.near_duplicate_difference
    ]
    for rows in images.groupby("sha256").indices.values():
        pairs += [(int(rows[0]), int(row)) for row in rows[1:]]
    return np.array(sorted(set(pairs)), np.int64).reshape(-1, 2)


def close_hashes(hashes: np.ndarray, bits: int) -> list[tuple[int, int]]:
    """All pairs of 64-bit hashes within a Hamming distance, in blocks: O(N) memory, 40,000 in seconds."""
    found = []
    for start in range(0, len(hashes), BLOCK):
        rows = hashes[start : start + BLOCK]
        distance = np.bitwise_count(rows[:, None] ^ hashes[None, start:])
        first, second = np.nonzero(distance <= bits)
        ahead = second > first
        found += zip((first[ahead] + start).tolist(), (second[ahead] + start).tolist(), strict=True)
    return found


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two uint8 images, grey levels; overall brightness does not count."""
    difference = first.astype(np.float32) - second.astype(np.float32)
    return float(np.abs(difference - difference.mean(axis=(0, 1))).mean())
