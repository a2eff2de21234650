"""Random changes to a training image and its masks, as a pure function of (seed, epoch, image).

Albumentations keeps one random state in each worker process; left alone, workers and epochs repeat each
other's draws. Seeding the transform for every single image makes the result independent of the number of
workers, of their order, and of whether the training was resumed.
"""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np

from pipeline.config import AugmentationSettings

# Albumentations asks the network for a newer release when it is imported; a fold has no use for the answer.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A


class MirroredClasses(A.HorizontalFlip):
    """A horizontal flip of an image and of its masks, (H, W, C), in which a left eye becomes a right one.

    Args:
        order: for each class the one that it is in the mirrored image, of ``classes.mirrored``.
        p: probability of the flip.
    """

    def __init__(self, order: list[int], p: float) -> None:
        super().__init__(p=p)
        self.order = order

    def apply_to_mask(self, mask: np.ndarray, *args: Any, **params: Any) -> np.ndarray:
        return super().apply_to_mask(mask, *args, **params)[..., self.order]


class Augmentation:
    """Random changes of the strengths in ``settings``; borders that move in are mirrored.

    Args:
        settings: how much of what.
        seed: of the training.
        mirrored: for each class the one that it is in a mirrored image.
        tile: height and width of the part to take first, half of the time one with foreground in it; None: all.
    """

    def __init__(
        self,
        settings: AugmentationSettings,
        seed: int,
        mirrored: list[int],
        tile: tuple[int, int] | None = None,
    ) -> None:
        self.seed = seed
        scale = (1 - settings.scale, 1 + settings.scale)
        shift = (-settings.shift, settings.shift)
        rotate = (-settings.rotate, settings.rotate)
        self.transform = A.Compose(
            [
                *([A.OneOf([A.RandomCrop(*tile), A.CropNonEmptyMaskIfExists(*tile)], p=1)] if tile else []),
                MirroredClasses(mirrored, p=settings.flip),
                A.Affine(scale=scale, translate_percent=shift, rotate=rotate, border_mode=cv2.BORDER_REFLECT, p=0.8),
                A.RandomBrightnessContrast(settings.brightness, settings.contrast, p=0.7),
                A.HueSaturationValue(settings.hue, settings.saturation, val_shift_limit=0, p=0.5),
            ]
        )

    def __call__(
        self, image: np.ndarray, masks: np.ndarray, *, epoch: int, row: int, time: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Change one image (H, W, 3) and its masks (H, W, C), both uint8; the same numbers give the same result.

        Args:
            time: how often this row has been drawn before in the epoch.
        """
        numbers = [self.seed, epoch, row, time]
        self.transform.set_random_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))
        changed = self.transform(image=image, mask=masks)
        return changed["image"], changed["mask"]
