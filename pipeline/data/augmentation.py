"""Random changes to a training image and its mask, as a pure function of (seed, epoch, image).

Albumentations keeps one random state in each worker process; left alone, workers and epochs repeat each
other's draws. Seeding the transform for every single image makes the result independent of the number of
workers, of their order, and of whether the training was resumed.
"""

from __future__ import annotations

import albumentations as A
import numpy as np

from pipeline.config import AugmentationSettings


def make_augmentation(settings: AugmentationSettings) -> A.Compose:
    """The transform for an RGB uint8 image and its mask; borders that move in are mirrored."""
    scale = (1 - settings.scale, 1 + settings.scale)
    shift = (-settings.shift, settings.shift)
    rotate = (-settings.rotate, settings.rotate)
    return A.Compose(
        [
            A.HorizontalFlip(p=settings.flip),
            A.Affine(scale=scale, translate_percent=shift, rotate=rotate, border_mode=2, p=0.8),
            A.RandomBrightnessContrast(settings.brightness, settings.contrast, p=0.7),
            A.HueSaturationValue(settings.hue, settings.saturation, val_shift_limit=0, p=0.5),
        ]
    )


def augment(
    transform: A.Compose, image: np.ndarray, mask: np.ndarray, *, seed: int, epoch: int, row: int
) -> tuple[np.ndarray, np.ndarray]:
    """Change one image (H, W, 3) and its mask (H, W), both uint8; the same numbers give the same result."""
    transform.set_random_seed(int(np.random.SeedSequence([seed, epoch, row]).generate_state(1)[0]))
    changed = transform(image=image, mask=mask)
    return changed["image"], changed["mask"]
