"""Test images that join the training with another experiment's masks."""

import json

import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image

from pipeline.artifacts import Artifacts
from pipeline.config import UNNAMED
from pipeline.data.cache import open_small, read_folds, read_images, read_true_masks
from pipeline.data.classes import mask_ids
from pipeline.data.probabilities import write_probabilities
from pipeline.geometry import restore
from pipeline.postprocess import HALF, expected_dice
from pipeline.records import record_of
from pipeline.rle import RleTable, dice, from_edges, read_csv, to_edges

SIZE = (64, 64)
MODELS = ("a", "b")


@pytest.fixture
def experiments(tmp_path, write_experiment, command_line):
    """A first experiment with made-up probabilities and a second one, both prepared and split: (file, options)."""
    return make_experiments(tmp_path, write_experiment, command_line)


def make_experiments(folder, write_experiment, command_line, classes=(UNNAMED,), **sections):
    network = {"architecture": "Unet", "encoder": "resnet18"}
    file = write_experiment(folder, models=dict.fromkeys(MODELS, network), training={"epochs": 1}, **sections)
    second = ["--set", "name=second", "--set", "pseudo.experiment=tiny", "--set", "pseudo.share=0.5"]
    for options in ([], second):
        for stage in ("prepare", "split"):
            status, _, errors = command_line(stage, "--experiment", file, *options)
            assert status == 0, errors
    rng = np.random.default_rng(0)
    for name in ("tiny", "second"):
        artifacts = Artifacts(folder, name)
        for model in MODELS:
            for fold in range(2):
                write_maps(artifacts, model, fold, classes, rng)
    assert command_line("ensemble", "--experiment", file)[::2] == (0, "")
    return file, second


def write_maps(artifacts, model, fold, classes, rng):
    folds = read_folds(artifacts)
    held_out = mask_ids(folds["image_id"][folds["fold"] == fold], classes)
    test = mask_ids(read_images(artifacts, "test")["image_id"], classes)
    for path, ids in ((artifacts.fold(model, fold).oof, held_out), (artifacts.fold(model, fold).tests[0], test)):
        # Bright in the upper part; the surer, the later in the list.
        contrast = np.linspace(10, 120, len(ids))[:, None, None] * np.where(np.arange(64) < 30, 1, -1)[:, None]
        maps = (128 + contrast + rng.integers(-5, 6, (len(ids), *SIZE))).astype(np.uint8)
        write_probabilities(path, ids, SIZE, [maps])


def test_each_fold_gets_masks_of_networks_that_have_not_seen_its_images(tmp_path, experiments, command_line):
    file, second = experiments
    status, out, errors = command_line("pseudo", "--experiment", file, *second)
    assert status == 0, errors
    first, artifacts = Artifacts(tmp_path, "tiny"), Artifacts(tmp_path, "second")
    images = read_images(artifacts, "test")
    count = round(len(images) / 2)
    assert f"pseudo: fold 1: {count} of {len(images)} test images, expected Dice" in out
    for fold in range(2):
        maps = np.mean([zarr.open_array(first.fold(model, fold).tests[0])[:] for model in MODELS], axis=0)
        table = read_csv(artifacts.pseudo(fold))
        assert table.ids == images["image_id"].tolist()[::-1][:count]  # the surest first
        for row, image_id in enumerate(table.ids):
            at = images["image_id"].tolist().index(image_id)
            size = int(images["height"][at]), int(images["width"][at])
            expected = restore(np.rint(maps[at]).astype(np.uint8), *size, "stretch")
            assert (table.heights[row], table.widths[row]) == size
            assert np.array_equal(table[row], to_edges(expected, HALF))


def test_they_join_the_training_and_not_the_validation(tmp_path, experiments, command_line, monkeypatch):
    file, second = experiments
    assert command_line("pseudo", "--experiment", file, *second)[0] == 0
    seen = []

    def remember(network, data, *_):
        seen.append(data)
        return {"epoch": 1}

    monkeypatch.setattr("pipeline.stages.train.train_network", remember)
    for options in ([], second):
        assert command_line("train", "--experiment", file, *options, "--model", "a", "--fold", 0)[0] == 0
    plain, joined = seen
    artifacts = Artifacts(tmp_path, "second")
    table = read_csv(artifacts.pseudo(0))
    ids = read_images(artifacts, "test")["image_id"].tolist()
    small = open_small(artifacts.cache / "test_images.npy")
    assert np.array_equal(joined.held_out_rows, plain.held_out_rows)
    added = joined.training_rows[len(plain.training_rows) :]
    assert len(added) == len(table)
    assert len(joined.empty) == len(joined.images) == len(joined.masks) == len(plain.images) + len(added)
    for row, image_id in zip(added, sorted(table.ids), strict=True):
        assert np.array_equal(joined.images[row], small[ids.index(image_id)])
        at = table.ids.index(image_id)
        whole = from_edges(table[at], (int(table.heights[at]), int(table.widths[at])))
        assert joined.masks[row].shape == (*SIZE, 1)
        assert joined.masks[row].mean() / 255 == pytest.approx(whole.mean(), abs=0.02)


def test_tune_says_what_they_are_worth(tmp_path, experiments, command_line):
    file, second = experiments
    for stage in ("ensemble", "tune"):
        status, out, errors = command_line(stage, "--experiment", file, *second)
        assert status == 0, errors
    first, artifacts = Artifacts(tmp_path, "tiny"), Artifacts(tmp_path, "second")
    against = json.loads(artifacts.tuning.read_text())["against"]
    assert "tune: ensemble against tiny, at 128/255: dice" in out
    assert "% of the images better: that is what the pseudo-labels are worth" in out
    assert against["experiment"] == "tiny"
    means = [mean_dice(each) for each in (artifacts, first)]
    assert against["difference"] == pytest.approx(means[0] - means[1], abs=1e-9)
    assert against["ci95"][0] <= against["difference"] <= against["ci95"][1]


def test_labels_that_lose_are_called_so_wherever_the_score_stands(tmp_path, write_experiment, command_line):
    data = {"source": "generated", "people": 8, "photos": 2, "test_people": 2, "empty": 0.0}
    data |= {"heights": [64, 80], "widths": [64, 80]}
    file, second = make_experiments(tmp_path, write_experiment, command_line, data=data)
    artifacts = Artifacts(tmp_path, "second")
    folds = read_folds(artifacts)
    for model in MODELS:
        for fold in range(2):
            ids = folds["image_id"][folds["fold"] == fold].tolist()
            write_probabilities(artifacts.fold(model, fold).oof, ids, SIZE, [np.zeros((len(ids), *SIZE), np.uint8)])
    for stage in ("ensemble", "tune", "report"):
        status, out, errors = command_line(stage, "--experiment", file, *second)
        assert status == 0, errors
        if stage == "tune":
            assert "worth; beyond noise, the submission of tiny is the better one" in out
    verdict = json.loads(artifacts.results.read_text())["against"]
    assert verdict.startswith("training on the pseudo-labels of tiny loses -0.")
    assert verdict.endswith("; beyond noise, the submission of tiny is the better one")
    assert f"at 1/2, {verdict}" in " ".join(out.split())


def test_tune_counts_the_masks_of_all_classes(tmp_path, write_experiment, command_line):
    rng = np.random.default_rng(0)
    for kind, ids in (("train", range(6)), ("train_masks", range(6)), ("test", range(6, 8))):
        (tmp_path / "own" / kind).mkdir(parents=True)
        for each in ids:
            pixels = rng.integers(0, 3 if kind == "train_masks" else 256, SIZE).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / kind / f"{each}.png")
    data = {"source": "folder", "root": str(tmp_path / "own"), "train_masks": "train_masks", "mask_suffix": ""}
    data["classes"] = {"car": 2, "road": 1}
    file, second = make_experiments(tmp_path, write_experiment, command_line, ["car", "road"], data=data)
    assert command_line("ensemble", "--experiment", file, *second)[0] == 0
    status, out, errors = command_line("tune", "--experiment", file, *second)
    assert (status, errors) == (0, "")
    assert "% of the masks better: that is what the pseudo-labels are worth" in out


def mean_dice(artifacts):
    images = read_images(artifacts, "train")
    truth: RleTable = read_true_masks(artifacts, images["image_id"].tolist(), [UNNAMED])
    maps = zarr.open_array(artifacts.ensemble_oof)[:]
    sizes = zip(images["height"].tolist(), images["width"].tolist(), strict=True)
    masks = [to_edges(restore(each, *size, "stretch"), HALF) for each, size in zip(maps, sizes, strict=True)]
    return np.mean([dice(mask, truth[row]) for row, mask in enumerate(masks)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "pseudo.experiment is not set"),
        (["--set", "pseudo.experiment=tiny"], "pseudo.experiment 'tiny' is this experiment itself"),
        (["--set", "name=other", "--set", "pseudo.experiment=none"], "run the stage 'run of none' first"),
    ],
)
def test_what_it_needs(tmp_path, write_experiment, command_line, options, message):
    file = write_experiment(tmp_path)
    for command in ("pseudo", "run") if options else ("pseudo",):
        status, _, errors = command_line(command, "--experiment", file, *options)
        assert status == 1
        assert message in errors


def test_without_test_images_there_is_nothing_to_label(tmp_path, experiments, command_line):
    file, second = experiments
    path = Artifacts(tmp_path, "second").images
    images = pd.read_csv(path, dtype=str, keep_default_na=False)
    images[images["subset"] == "train"].to_csv(path, index=False)
    record_of(path).unlink()  # of another file; one without a record is taken as it is
    message = f"error: {path}: no test images that could be given masks: set pseudo.experiment to null\n"
    assert command_line("pseudo", "--experiment", file, *second) == (1, "", message)


def test_other_folds_are_refused(tmp_path, experiments, command_line):
    file, second = experiments
    path = Artifacts(tmp_path, "second").folds
    folds = pd.read_csv(path, dtype=str)
    folds.loc[0, "fold"] = str(1 - int(folds.loc[0, "fold"]))
    folds.to_csv(path, index=False)
    record_of(path).unlink()
    status, _, errors = command_line("pseudo", "--experiment", file, *second)
    assert status == 1
    assert f"differ for 1 images: {folds.loc[0, 'image_id']} is in fold" in errors


def test_expected_dice_is_the_dice_of_the_mean():
    sure = np.where(np.arange(100).reshape(10, 10) < 40, 255, 0).astype(np.uint8)
    assert expected_dice(sure, HALF) == 1
    assert expected_dice(np.zeros((4, 4), np.uint8), HALF) == 1
    half = np.full((4, 4), 153, np.uint8)  # 0.6 everywhere: the whole image is predicted
    assert expected_dice(half, HALF) == pytest.approx(2 * 16 * 0.6 / (16 + 16 * 0.6))
    assert expected_dice(np.full((4, 4), 51, np.uint8), HALF) == pytest.approx(0.8)


def test_experiments_that_turn_images_otherwise_are_refused(experiments, command_line):
    file, second = experiments
    status, _, errors = command_line("pseudo", "--experiment", file, *second, "--set", "data.exif=ignore")
    assert (status, errors.count("\n")) == (1, 1)
    assert "'tiny' has data.exif: apply, this experiment ignore" in errors
