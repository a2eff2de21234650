import pytest
import torch

from pipeline.learning.losses import bce_dice_loss, soft_dice_loss


def test_soft_dice_is_the_mean_over_images_of_its_definition():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 4, generator=generator)
    targets = torch.rand(3, 5, 4, generator=generator)
    expected = 0.0
    for p, t in zip(logits.sigmoid(), targets, strict=True):
        expected += 1 - (2 * sum((p * t).flatten()) + 1) / (sum(p.flatten()) + sum(t.flatten()) + 1)
    assert soft_dice_loss(logits, targets).item() == pytest.approx(float(expected) / 3, abs=1e-6)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_certain_right_answer_costs_nothing_even_when_empty(target):
    targets = torch.full((2, 8, 8), target)
    logits = torch.full((2, 8, 8), 100.0 if target else -100.0)
    assert bce_dice_loss(logits, targets, 0.5).item() == pytest.approx(0, abs=1e-5)


def test_a_false_face_in_an_empty_image_costs_almost_all():
    assert soft_dice_loss(torch.full((1, 8, 8), 100.0), torch.zeros(1, 8, 8)).item() == pytest.approx(1 - 1 / 65)


def test_the_weight_mixes_both_losses():
    logits, targets = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1)), torch.ones(2, 4, 4)
    bce, dice = bce_dice_loss(logits, targets, 0.0), bce_dice_loss(logits, targets, 1.0)
    assert dice.item() == pytest.approx(soft_dice_loss(logits, targets).item())
    assert bce_dice_loss(logits, targets, 0.25).item() == pytest.approx(0.75 * bce.item() + 0.25 * dice.item())
