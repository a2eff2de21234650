"""Small copies as PyTorch data sets. Images stay uint8 until they are on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from pipeline.data.augmentation import Augmentation  # seconds to import, which prediction does without


class TrainingImages(Dataset):
    """Augmented training images of one epoch.

    Items are an image, uint8 (3, H, W), and the masks of its C classes, uint8 (C, H, W) with 255 = all mask.

    Args:
        images: uint8 (H, W, 3) each, of the whole training set; a memory map, or several joined.
        masks: uint8 (H, W, C) likewise.
        rows: int (N,), which of them to train on; one that is there several times is changed in several ways.
        augmentation: the random changes.
        epoch: number of the epoch.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        rows: np.ndarray,
        augmentation: Augmentation,
        epoch: int,
    ) -> None:
        self.images, self.masks, self.rows = images, masks, rows
        self.times = times_before(rows)
        self.augmentation, self.epoch = augmentation, epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = int(self.rows[index])
        image, masks = np.asarray(self.images[row]), np.asarray(self.masks[row])
        image, masks = self.augmentation(image, masks, epoch=self.epoch, row=row, time=int(self.times[index]))
        return as_tensor(image), as_tensor(masks)


def times_before(values: np.ndarray) -> np.ndarray:
    """How often each value stands before itself, int (N,): ``[7, 5, 7, 7]`` -> ``[0, 0, 1, 2]``."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    times = np.empty(len(values), np.int64)
    times[order] = np.arange(len(values)) - np.searchsorted(ranked, ranked)
    return times


class HeldOutImages(Dataset):
    """Images as they are, with their masks where given; same items as ``TrainingImages``."""

    def __init__(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None, rows: np.ndarray) -> None:
        self.images, self.masks, self.rows = images, masks, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor] | torch.Tensor:
        row = int(self.rows[index])
        image = as_tensor(self.images[row])
        return image if self.masks is None else (image, as_tensor(self.masks[row]))


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, C) array, memory-mapped or not -> (C, H, W) tensor with its own memory."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def quiet_worker(_: int) -> None:
    """OpenCV's own threads would fight with the loader's processes."""
    cv2.setNumThreads(0)
