"""Random changes to a training image and its mask, as a pure function of (seed, epoch, image).

Albumentations keeps one random state in each worker process; left alone, workers and epochs repeat each
other's draws. Seeding the transform for every single image makes the result independent of the number of
workers, of their order, and of whether the training was resumed.
"""

from __future__ import annotations

import os

import cv2
import numpy as np

from pipeline.config import AugmentationSettings

# Albumentations asks the network for a newer release when it is imported; a fold has no use for the answer.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A


class Augmentation:
    """Random changes of the strengths in ``settings``; borders that move in are mirrored.

    Args:
        settings: how much of what.
        seed: of the training.
        tile: height and width of the part to take first, half of the time one with foreground in it; None: all.
    """

    def __init__(self, settings: AugmentationSettings, seed: int, tile: tuple[int, int] | None = None) -> None:
        self.seed = seed
        scale = (1 - settings.scale, 1 + settings.scale)
        shift = (-settings.shift, settings.shift)
        rotate = (-settings.rotate, settings.rotate)
        self.transform = A.Compose(
            [
                *([A.OneOf([A.RandomCrop(*tile), A.CropNonEmptyMaskIfExists(*tile)], p=1)] if tile else []),
                A.HorizontalFlip(p=settings.flip),
                A.Affine(scale=scale, translate_percent=shift, rotate=rotate, border_mode=cv2.BORDER_REFLECT, p=0.8),
                A.RandomBrightnessContrast(settings.brightness, settings.contrast, p=0.7),
                A.HueSaturationValue(settings.hue, settings.saturation, val_shift_limit=0, p=0.5),
            ]
        )

    def __call__(self, image: np.ndarray, mask: np.ndarray, *, epoch: int, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Change one image (H, W, 3) and its mask (H, W), both uint8; the same numbers give the same result."""
        self.transform.set_random_seed(int(np.random.SeedSequence([self.seed, epoch, row]).generate_state(1)[0]))
        changed = self.transform(image=image, mask=mask)
        return changed["image"], changed["mask"]
