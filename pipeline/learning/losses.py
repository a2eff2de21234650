"""Losses on logits."""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

SMOOTHING = 1.0


def soft_dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - soft Dice, per image and averaged, as the metric is (Milletari et al., V-Net, 2016).

    Args:
        logits: float (N, H, W).
        targets: float (N, H, W) in 0..1, the mask's share of each pixel.

    Returns:
        Scalar. The smoothing of one pixel makes an empty image that is predicted empty cost nothing.
    """
    probabilities = logits.sigmoid()
    overlap = (probabilities * targets).sum((1, 2))
    total = probabilities.sum((1, 2)) + targets.sum((1, 2))
    return 1 - ((2 * overlap + SMOOTHING) / (total + SMOOTHING)).mean()


def bce_dice_loss(logits: torch.Tensor, targets: torch.Tensor, dice_weight: float) -> torch.Tensor:
    """Binary cross-entropy and soft Dice, mixed: ``dice_weight`` of the latter, the rest of the former."""
    bce = binary_cross_entropy_with_logits(logits, targets)
    return (1 - dice_weight) * bce + dice_weight * soft_dice_loss(logits, targets)
