import cv2
import numpy as np
import pytest
import torch

from pipeline.config import LossSettings
from pipeline.learning.losses import (
    BOUNDARY_RADIUS,
    BOUNDARY_WEIGHT,
    LOSSES,
    boundary_loss,
    focal_loss,
    lovasz_hinge_loss,
    mixed_loss,
    near_outline,
    soft_dice_loss,
)


def random_pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 5, 4, generator=generator), torch.rand(3, 5, 4, generator=generator)


def test_every_loss_has_a_weight_in_the_settings():
    assert set(LOSSES) == set(LossSettings.model_fields)


def test_soft_dice_is_the_mean_over_images_of_its_definition():
    logits, targets = random_pair()
    expected = 0.0
    for p, t in zip(logits.sigmoid(), targets, strict=True):
        expected += 1 - (2 * sum((p * t).flatten()) + 1) / (sum(p.flatten()) + sum(t.flatten()) + 1)
    assert soft_dice_loss(logits, targets).item() == pytest.approx(float(expected) / 3, abs=1e-6)


def test_lovasz_is_the_jaccard_loss_at_the_corners_of_its_cube():
    """Margins of exactly 1 and -1 make errors of 0 and 2: twice the Jaccard loss."""
    targets = torch.tensor([[[1.0, 1, 1, 0, 0, 0]]])
    predicted = torch.tensor([[[1.0, 1, 0, 1, 0, 0]]])
    loss = lovasz_hinge_loss(2 * predicted - 1, targets)
    assert loss.item() == pytest.approx(2 * (1 - 2 / 4))


def test_focal_is_its_definition():
    logits, targets = random_pair()
    targets = (targets > 0.5).float()
    right = torch.where(targets > 0, logits.sigmoid(), 1 - logits.sigmoid())
    assert focal_loss(logits, targets).item() == pytest.approx(
        (-((1 - right) ** 2) * right.log()).mean().item(), rel=1e-4
    )


def test_the_boundary_is_near_both_sides_of_the_outline():
    targets = torch.zeros(1, 1, 12)
    targets[..., 6:] = 1
    assert near_outline(targets).tolist() == [[[0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]]]
    assert not near_outline(torch.ones(1, 9, 9)).any()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_the_boundary_is_opencv_s_morphological_gradient(share):
    masks = (np.random.default_rng(0).random((4, 23, 17)) < share).astype(np.float32)
    window = np.ones((2 * BOUNDARY_RADIUS + 1,) * 2, np.uint8)
    expected = [cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, window) for mask in masks]
    assert np.array_equal(near_outline(torch.from_numpy(masks)).numpy(), expected)


def test_an_error_at_the_outline_costs_more_than_the_same_error_far_from_it():
    targets = torch.zeros(1, 1, 12)
    targets[..., 6:] = 1
    near, far = (torch.where(targets > 0, 3.0, -3.0) for _ in range(2))
    near[..., 5] = far[..., 0] = 3.0
    ratio = (boundary_loss(near, targets) / boundary_loss(far, targets)).item()
    assert 3 < ratio <= 1 + BOUNDARY_WEIGHT


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_certain_right_answer_costs_nothing_even_when_empty(name, target):
    targets = torch.full((2, 8, 8), target)
    logits = torch.full((2, 8, 8), 100.0 if target else -100.0)
    assert LOSSES[name](logits, targets).item() == pytest.approx(0, abs=1e-5)


def test_a_false_face_in_an_empty_image_costs_almost_all():
    assert soft_dice_loss(torch.full((1, 8, 8), 100.0), torch.zeros(1, 8, 8)).item() == pytest.approx(1 - 1 / 65)


def test_the_weights_mix_the_losses():
    logits, targets = (each.view(1, 3, 5, 4) for each in random_pair())  # classes count as images do
    parts = {"bce": 0.25, "dice": 0.75, "lovasz": 0.5, "focal": 2.0, "boundary": 1.0}
    expected = sum(weight * LOSSES[name](logits[0], targets[0]).item() for name, weight in parts.items())
    assert mixed_loss(logits, targets, LossSettings(**parts)).item() == pytest.approx(expected, rel=1e-5)
    alone = mixed_loss(logits, targets, LossSettings(bce=0, dice=0, lovasz=1, boundary=0))
    assert alone.item() == pytest.approx(lovasz_hinge_loss(logits[0], targets[0]).item())
