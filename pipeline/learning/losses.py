"""Losses on logits, and their mixture by weight.

Every loss takes logits, float (N, H, W), and targets, float (N, H, W) in 0..1, the mask's share of each pixel,
and returns a scalar.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from segmentation_models_pytorch.losses import FocalLoss, LovaszLoss
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits

from pipeline.config import LossSettings

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SMOOTHING = 1.0
BOUNDARY_RADIUS = 2
BOUNDARY_WEIGHT = 5.0


def soft_dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - soft Dice, per image and averaged, as the metric is (Milletari et al., V-Net, 2016).

    The smoothing of one pixel makes an empty image that is predicted empty cost nothing.
    """
    probabilities = logits.sigmoid()
    overlap = (probabilities * targets).sum((1, 2))
    total = probabilities.sum((1, 2)) + targets.sum((1, 2))
    return 1 - ((2 * overlap + SMOOTHING) / (total + SMOOTHING)).mean()


def lovasz_hinge_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The convex extension of the Jaccard index, per image (Berman et al., The Lovász-Softmax loss, 2018).

    It knows no shares of pixels: a target is foreground from one half.
    """
    return LovaszLoss("binary", per_image=True)(logits, (targets >= 0.5).float())


def focal_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy that plays down what is certain already, gamma 2 (Lin et al., Focal loss, 2017)."""
    return FocalLoss("binary", gamma=2.0)(logits, targets)


def boundary_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in which pixels near the outline weigh more, as in Ronneberger et al., U-Net (2015).

    Near is within ``BOUNDARY_RADIUS`` pixels, and weighs ``1 + BOUNDARY_WEIGHT``; the weights are brought to a
    mean of 1 over the batch.
    """
    weights = 1 + BOUNDARY_WEIGHT * near_outline(targets)
    return binary_cross_entropy_with_logits(logits, targets, weights / weights.mean())


def near_outline(targets: torch.Tensor) -> torch.Tensor:
    """float (N, H, W): 1 where both foreground and background lie within ``BOUNDARY_RADIUS`` pixels, else 0."""
    foreground = (targets >= 0.5).float().unsqueeze(1)
    side = 2 * BOUNDARY_RADIUS + 1
    share = avg_pool2d(foreground, side, stride=1, padding=BOUNDARY_RADIUS, count_include_pad=False)
    return ((share > 0) & (share < 1)).float().squeeze(1)


LOSSES: dict[str, Loss] = {
    "bce": binary_cross_entropy_with_logits,
    "dice": soft_dice_loss,
    "lovasz": lovasz_hinge_loss,
    "focal": focal_loss,
    "boundary": boundary_loss,
}
"""By the name of their weight in the settings."""


def mixed_loss(logits: torch.Tensor, targets: torch.Tensor, settings: LossSettings) -> torch.Tensor:
    """The losses with a weight in the settings, times it, added up.

    Args:
        logits, targets: float (N, C, H, W); each class of each image counts as a mask of its own.
    """
    weights = settings.model_dump()
    logits, targets = logits.flatten(0, 1), targets.flatten(0, 1)
    return sum(weights[name] * loss(logits, targets) for name, loss in LOSSES.items() if weights[name])
