"""Images that are the same picture: identical files, and copies that were resized or compressed again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.config import FoldSettings
from pipeline.geometry import Fit, content_box

BLOCK = 256
FLAT = 1.0
"""Mean difference of a picture from its own colour, in grey levels, below which it shows nothing."""


def duplicate_pairs(images: pd.DataFrame, small: np.ndarray, settings: FoldSettings, fit: Fit) -> np.ndarray:
    """Pairs of rows that show the same picture.

    A perceptual hash proposes (portraits in one pose are close in it without being copies), and the mean
    difference of the small copies decides. Identical files are pairs whatever their hashes. Blank pictures are no
    pairs of each other: there is nothing to learn from one for another, and all of them would have to be in one fold.

    Args:
        images: rows of ``images.csv`` with ``sha256``, ``phash``, ``height`` and ``width``.
        small: uint8 (N, H, W, 3), the small copies in the same order.
        settings: the two limits.
        fit: how images were brought to the size of the copies.

    Returns:
        int64 (P, 2), row numbers, the smaller first, sorted.
    """
    sides = images[["height", "width"]].to_numpy()

    def picture(row: int) -> np.ndarray:
        """Without a letterbox's border, which has no part in what is alike."""
        box = content_box(*sides[row].tolist(), small.shape[1:3], fit)
        return small[row, box.top : box.top + box.height, box.left : box.left + box.width]

    hashes = np.array([int(text, 16) for text in images["phash"]], np.uint64)
    files = list(images.groupby("sha256").indices.values())
    firsts = np.sort(np.array([rows[0] for rows in files], np.int64))
    # Blank pictures have one hash: each would be a candidate for all others.
    values, times = np.unique(hashes[firsts], return_counts=True)
    common = np.isin(hashes[firsts], values[times > 1])
    rows = [
        row for row, is_common in zip(firsts.tolist(), common, strict=True) if not (is_common and is_flat(picture(row)))
    ]
    close = ((rows[first], rows[second]) for first, second in close_hashes(hashes[rows], settings.near_duplicate_bits))
    pairs = {
        (first, second)
        for first, second in close
        if mean_difference(picture(first), picture(second)) < settings.near_duplicate_difference
        and not is_flat(picture(first))
    }
    for same in files:
        if len(same) > 1 and not is_flat(picture(same[0])):
            pairs |= {(int(same[0]), int(row)) for row in same[1:]}
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


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
    """Mean absolute difference of two uint8 images, grey levels; overall brightness does not count.

    Of images whose sides differ, as those of a copy's content may by a pixel, what both have is compared.
    """
    height, width = np.minimum(first.shape[:2], second.shape[:2])
    difference = first[:height, :width].astype(np.float32) - second[:height, :width].astype(np.float32)
    return float(np.abs(difference - difference.mean(axis=(0, 1))).mean())


def is_flat(picture: np.ndarray) -> bool:
    """Whether a uint8 image is of one colour, but for noise."""
    return mean_difference(picture, np.zeros_like(picture)) < FLAT
