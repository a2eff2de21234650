import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.artifacts import FoldArtifacts
from pipeline.config import ModelSettings, TrainingSettings
from pipeline.learning.networks import build_network
from pipeline.learning.training import FoldData, MovingAverage, image_dice, resumable, train_network, warmup_cosine


def test_the_learning_rate_rises_and_falls():
    factor = warmup_cosine(steps=100, warmup=10)
    rates = [factor(step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == 1
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert 0 < rates[-1] < 0.001


def test_no_warm_up_and_a_single_step_are_ordinary():
    assert warmup_cosine(steps=1, warmup=0)(0) == 1


def test_image_dice_is_per_image_and_one_where_both_are_empty():
    predicted = torch.tensor([[[1, 1]], [[0, 0]], [[1, 0]]], dtype=torch.bool)
    true = torch.tensor([[[1, 0]], [[0, 0]], [[0, 1]]], dtype=torch.bool)
    assert image_dice(predicted, true).tolist() == pytest.approx([2 / 3, 1, 0])


def test_the_moving_average_forgets_its_start_and_then_moves_slowly():
    update = MovingAverage(decay=0.9)._kwargs["multi_avg_fn"]
    average, weights = [torch.zeros(1)], [torch.ones(1)]
    update(average, weights, torch.tensor(0))
    assert average[0].item() == pytest.approx(0.9)
    update(average, [torch.zeros(1)], torch.tensor(1000))
    assert average[0].item() == pytest.approx(0.81)


def test_only_a_whole_checkpoint_of_the_same_run_is_resumed(tmp_path):
    path = tmp_path / "last.ckpt"
    assert resumable(path, {"seed": 1}) is None
    torch.save({"origin": {"seed": 1}}, path)
    assert resumable(path, {"seed": 1}) == path
    assert resumable(path, {"seed": 2}) is None
    assert not path.exists()
    torch.save({"origin": {"seed": 1}}, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert resumable(path, {"seed": 1}) is None
    assert not path.exists()


def test_an_interruption_after_the_last_epoch_changes_nothing(tmp_path):
    """All epochs are in the checkpoint, none is left to train: the weights are still the moving average."""
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), np.full((6, 32, 32), 255, np.uint8)
    data = FoldData(images, masks, np.arange(4), np.arange(4, 6))
    model = ModelSettings(architecture="Unet", encoder="resnet18", options={"decoder_channels": [16, 8, 8, 8, 8]})
    states = []
    for _ in range(2):
        network = build_network(model, seed=1)
        recipe = TrainingSettings(epochs=2, batch_size=2)
        train_network(network, data, recipe, 1, FoldArtifacts(tmp_path), {"run": 1}, say=lambda _: None)
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
