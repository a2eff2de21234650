"""Trainings that several processes share, trainings on tiles, and trainings that diverge."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
import zarr

from pipeline.artifacts import Artifacts
from pipeline.config import load_experiment
from pipeline.data.cache import CachePaths, open_small
from pipeline.learning.networks import load_network
from pipeline.learning.training import SegmentationTraining, mask_dice
from pipeline.records import outdated, record_of
from pipeline.stages import train

SLURM = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
"""What a job of Slurm's finds, which is one task, whatever it starts."""

DATA = {"source": "generated", "people": 7, "photos": 1, "test_people": 1, "heights": [64, 80], "widths": [64, 80]}


@pytest.mark.parametrize("average", [{"ema_decay": 0.9}, {"soup": 2}])
def test_two_processes_share_a_training_and_score_every_held_out_image_once(
    tmp_path, write_experiment, command_line, python, average, monkeypatch
):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    recipe = {"epochs": 2, "batch_size": 4, "devices": 2, "precision": "fp32", **average}
    shallow = {"encoder_depth": 4, "decoder_channels": [32, 16, 16, 8]}  # of whose encoder a part is not used
    models = {"unet": {"architecture": "Unet", "encoder": "resnet18", "options": shallow}}
    experiment = write_experiment(tmp_path, data=DATA, training=recipe, models=models)
    for stage in ("prepare", "split"):
        assert command_line(stage, "--experiment", experiment)[0] == 0
    artifacts = Artifacts(tmp_path, "tiny")
    folds = pd.read_csv(artifacts.folds)["fold"].to_numpy()
    fold = int(np.argmax([(folds == number).sum() % 2 for number in range(2)]))
    held_out = np.flatnonzero(folds == fold)
    assert len(held_out) % 2  # the processes get unequal parts

    result = python("-m", "pipeline", "train", "--experiment", experiment, "--model", "unet", "--fold", fold)

    assert result.returncode == 0, result.stderr
    paths = artifacts.fold("unet", fold)
    history = pd.read_csv(paths.history)
    assert history["epoch"].tolist() == [1, 2]
    assert result.stdout.count("epoch   2/2") == 1
    cache = CachePaths(artifacts.cache)
    images = torch.from_numpy(open_small(cache.images("train"))[held_out]).permute(0, 3, 1, 2)
    masks = torch.from_numpy(open_small(cache.masks)[held_out]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        scores = mask_dice(load_network(paths.weights)(images) > 0, masks >= 128)
    assert history["val_dice"].iloc[-1] == pytest.approx(scores.mean().item(), abs=1e-3)


def test_tiles_from_photographs_to_maps_of_the_whole_size(tmp_path, write_experiment, command_line):
    tiles = {"size": [96, 96], "tile": [64, 32], "overlap": 0.3}
    recipe = {"epochs": 1, "batch_size": 2, "precision": "fp32"}
    # In bf16 oneDNN's convolutions with a stride read past the end of images that have become one or two pixels wide.
    exact = {"precision": "fp32"}
    experiment = write_experiment(tmp_path, data=DATA, image=tiles, training=recipe, prediction=exact)
    one = ("--model", "unet", "--fold", 0)
    for stage in (["prepare"], ["split"], ["train", *one], ["predict", *one]):
        status, _, errors = command_line(*stage, "--experiment", experiment)
        assert status == 0, errors
    artifacts = Artifacts(tmp_path, "tiny")
    held_out = int((pd.read_csv(artifacts.folds)["fold"] == 0).sum())
    assert zarr.open_array(artifacts.fold("unet", 0).oof).shape == (held_out, 96, 96)
    about = json.loads(artifacts.fold("unet", 0).weights.with_name("weights.safetensors.json").read_text())
    assert about["made_by"]["settings"]["image"] == {"fit": "stretch", "size": [96, 96], "tile": [64, 32]}
    message = command_line("prepare", "--experiment", experiment, "--set", "image.tile=[128, 32]")[2]
    assert "tile [128, 32] is larger than size [96, 96]" in message


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["image.size=[32, 32]"], "has copies of 64 x 64, image.size is 32 x 32: run the stage 'prepare' again"),
        (["training.devices=4", "training.batch_size=8"], "at least 4 and 8 are needed"),
        (["training.devices=2", "training.batch_size=3"], "2 devices need a batch_size of at least 4"),
    ],
)
def test_what_a_training_cannot_work_with_is_refused(tmp_path, write_experiment, command_line, changes, problem):
    experiment = write_experiment(tmp_path, data=DATA)
    for stage in ("prepare", "split"):
        assert command_line(stage, "--experiment", experiment)[0] == 0
    options = [word for change in changes for word in ("--set", change)]
    status, _, errors = command_line("train", "--model", "unet", "--fold", 0, "--experiment", experiment, *options)
    assert status == 1
    assert problem in errors
    assert errors.count("\n") == 1


def test_start_weights_of_another_content_are_noticed(tmp_path, write_experiment, command_line):
    start = tmp_path / "start.pth"
    recipe = {"epochs": 1, "batch_size": 4}
    models = {"unet": {"architecture": "FPN", "encoder": "resnet18", "weights": str(start)}}
    experiment = write_experiment(tmp_path, data=DATA, training=recipe, models=models)
    encoder = torchvision.models.resnet18()
    torch.save(encoder.state_dict(), start)
    for words in (["prepare"], ["split"], ["train", "--model", "unet", "--fold", "0"]):
        assert command_line(*words, "--experiment", experiment)[0] == 0
    record = record_of(Artifacts(tmp_path, "tiny").fold("unet", 0).weights)
    settings = load_experiment(experiment)
    assert record not in outdated(settings)
    encoder.conv1.weight.data += 1
    torch.save(encoder.state_dict(), start)
    assert outdated(settings)[record].endswith("start.pth is another one than it was made from")
    start.unlink()
    assert record not in outdated(settings)


def test_models_of_the_same_settings_become_different_networks_unless_their_seeds_are_given(
    tmp_path, write_experiment, command_line
):
    shallow = {"encoder_depth": 4, "decoder_channels": [32, 16, 16, 8]}
    network = {"architecture": "Unet", "encoder": "resnet18", "options": shallow}
    recipe = {"epochs": 1, "batch_size": 4, "precision": "fp32"}
    experiment = write_experiment(tmp_path, data=DATA, training=recipe, models={"one": network, "two": network})

    def weights(*options):
        for words in (["prepare"], ["split"], *(["train", "--model", name, "--fold", 0] for name in ("one", "two"))):
            status, _, errors = command_line(*words, "--experiment", experiment, *options)
            assert status == 0, errors
        return [Artifacts(tmp_path, "tiny").fold(name, 0).weights.read_bytes() for name in ("one", "two")]

    one, two = weights()
    assert one != two
    same, again = weights("--set", "models.one.seed=3", "--set", "models.two.seed=3")
    assert same == again
    assert same not in (one, two)


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        # What the seed of a model became when it was the experiment's seed and the fold alone.
        (["models.one.seed=0", "models.two.seed=7"], [[821328062, 1817441348], [2083679832, 369571992]]),
        # Those of the first four bytes of the SHA-256 of "0 one" and "0 two", then of "7 one" and "7 two".
        ([], [[593418142, 984884190], [230569630, 2074888468]]),
        (["seed=7"], [[1795186418, 2087632946], [375412420, 1062462769]]),
    ],
)
def test_a_training_is_seeded_by_model_and_fold(tmp_path, write_experiment, command_line, monkeypatch, options, seeds):
    network = {"architecture": "Unet", "encoder": "resnet18"}
    experiment = write_experiment(tmp_path, data=DATA, models={"one": network, "two": network})
    for stage in ("prepare", "split"):
        assert command_line(stage, "--experiment", experiment)[0] == 0
    built, trained = [], []
    monkeypatch.setattr(train, "build_network", lambda model, seed, *_: built.append(seed) or torch.nn.Linear(1, 1))
    monkeypatch.setattr(train, "train_network", lambda *arguments: trained.append(arguments[3]))
    words = [word for option in options for word in ("--set", option)]
    for name in ("one", "two"):
        for fold in (0, 1):
            command = ("train", "--model", name, "--fold", fold, "--experiment", experiment, *words)
            assert command_line(*command)[0] == 0
    assert built == trained == [*seeds[0], *seeds[1]]


@pytest.mark.parametrize("in_training", [True, False])
def test_a_training_that_diverges_stops_with_one_line_and_keeps_its_last_good_epoch(
    tmp_path, write_experiment, command_line, monkeypatch, in_training
):
    recipe = {"epochs": 3, "batch_size": 2, "precision": "fp32"}
    experiment = write_experiment(tmp_path, data=DATA, training=recipe)
    for stage in ("prepare", "split"):
        assert command_line(stage, "--experiment", experiment)[0] == 0
    paths = Artifacts(tmp_path, "tiny").fold("unet", 0)
    whole = SegmentationTraining._loss

    def diverging(module, logits, masks):
        diverged = module.current_epoch == 1 and module.training == in_training
        return whole(module, logits, masks) * (float("nan") if diverged else 1)

    monkeypatch.setattr(SegmentationTraining, "_loss", diverging)
    words = ("train", "--experiment", experiment, "--model", "unet", "--fold", 0)
    status, out, err = command_line(*words)
    assert status == 1
    assert err == (
        f"error: {paths.folder}: the loss of epoch 2 is not a number: lower training.learning_rate, "
        "or set training.precision=fp32\n"
    )
    assert "epoch   1/3" in out
    assert "epoch   2/3" not in out
    assert not paths.weights.exists()
    state = torch.load(paths.checkpoint, weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values())
