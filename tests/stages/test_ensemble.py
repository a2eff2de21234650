"""`ensemble` through the command line, on probabilities that are made up."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import zarr

from pipeline.artifacts import Artifacts
from pipeline.blending.spaces import Blend, make_scale
from pipeline.data.cache import open_small, read_folds, read_images
from pipeline.data.probabilities import write_probabilities
from pipeline.records import record_of

SIZE = (64, 64)
DATA = {"source": "generated", "people": 8, "photos": 3, "test_people": 2, "heights": [64, 80], "widths": [64, 80]}


class Planted:
    """A prepared experiment whose models err as told: ``noise`` grey levels by model."""

    def __init__(self, experiment, artifacts, noise):
        self.experiment, self.artifacts, self.noise = experiment, artifacts, noise
        self.folds = read_folds(artifacts)
        self.test_ids = read_images(artifacts, "test")["image_id"].tolist()
        masks = self.masks = np.array(open_small(artifacts.cache / "train_masks.npy")[..., 0], np.float64)
        rng = np.random.default_rng(0)
        for model, level in noise.items():
            errors = rng.normal(0, level, masks.shape)
            maps = (40 + masks * 170 / 255 + errors).clip(0, 255).astype(np.uint8)
            for fold in range(2):
                held_out = np.flatnonzero(self.folds["fold"] == fold)
                self.write(model, fold, "oof", self.folds["image_id"].iloc[held_out].tolist(), maps[held_out])
                tests = rng.integers(0, 256, (len(self.test_ids), *SIZE), dtype=np.uint8)
                self.write(model, fold, "test", self.test_ids, tests)

    def path(self, model, fold, kind):
        paths = self.artifacts.fold(model, fold)
        return paths.oof if kind == "oof" else paths.tests[0]

    def write(self, model, fold, kind, ids, maps):
        write_probabilities(self.path(model, fold, kind), ids, maps.shape[1:], [maps])

    def maps(self, model, fold, kind):
        return zarr.open_array(self.path(model, fold, kind))[:]

    @property
    def about(self):
        return json.loads(self.artifacts.ensemble_weights.read_text())


@pytest.fixture
def plant(tmp_path, write_experiment, command_line):
    """``plant(a=40, b=40)``: models of those names and errors; ``empty`` is the share of images without a mask."""

    def make(empty=0.05, **noise):
        network = {"architecture": "Unet", "encoder": "resnet18"}
        data = {**DATA, "empty": empty}
        experiment = write_experiment(tmp_path, data=data, models=dict.fromkeys(noise, network))
        for stage in ("prepare", "split"):
            assert command_line(stage, "-e", experiment)[0] == 0
        return Planted(experiment, Artifacts(tmp_path, "tiny"), noise)

    return make


def test_one_models_maps_stay_and_its_folds_are_averaged(plant, command_line):
    planted = plant(a=60)
    status, out, err = command_line("ensemble", "-e", planted.experiment)
    assert (status, err) == (0, "")
    assert "\nensemble: a 1.000, averaged as probability\n" in out
    assert planted.about.items() >= {"weights": {"a": 1.0}, "space": "probability"}.items()
    assert planted.about.keys() == {"weights", "space", "made_by"}
    blended = zarr.open_array(planted.artifacts.ensemble_oof)[:]
    for fold in range(2):
        assert np.array_equal(blended[planted.folds["fold"] == fold], planted.maps("a", fold, "oof"))
    mean = np.mean([planted.maps("a", fold, "test") for fold in range(2)], axis=0)
    assert np.abs(zarr.open_array(planted.artifacts.ensemble_test)[:] - mean).max() <= 0.501


@pytest.mark.parametrize("search", ["nelder-mead", "greedy"])
def test_a_model_that_disturbs_loses_its_weight_and_the_tables_say_so(plant, command_line, search):
    planted = plant(good=60, bad=500)
    status, out, err = command_line("ensemble", "-e", planted.experiment, "--set", f"ensemble.search={search}")
    assert (status, err) == (0, "")
    about = planted.about
    assert about["kept"] == "searched"
    assert about["weights"]["good"] > 0.8
    assert sum(about["weights"].values()) == pytest.approx(1, abs=1e-5)
    choice = about["choice"]
    assert choice["ci95"][0] > 0
    assert choice["searched"]["cross_fitted"] - choice["plain"]["cross_fitted"] == pytest.approx(choice["difference"])
    assert choice["searched"]["search"] == search
    assert len(choice["searched"]["by_fold"]) == 2
    good, bad = sorted(about["leave_one_out"], key=lambda row: row["model"] == "bad")
    assert good["ci95"][0] > 0
    assert bad["adds"] < 0.01
    assert sorted(about["pairs"][0]["models"]) == ["bad", "good"]
    assert 0 < about["pairs"][0]["disagreement"] < 1
    assert re.search(r"ensemble: searching gains \+.*: the searched blend is kept", out)
    for text in ("what each model adds", "how alike two models are", f"{good['adds']:+.4f}"):
        assert text in out


@pytest.mark.parametrize("both_empty", ["1", "0", "nan"])
def test_scores_are_those_that_tune_finds_on_the_written_maps(plant, command_line, both_empty):
    planted = plant(a=60, b=60)
    rule = ("--set", f"tuning.both_empty={both_empty}")
    assert command_line("ensemble", "-e", planted.experiment, *rule)[0] == 0
    plain = planted.about["choice"]["plain"]
    assert planted.about["kept"] == "plain"
    options = ("tuning.search=threshold", "tuning.components=false", "tuning.choose=best")
    assert command_line("tune", "-e", planted.experiment, *rule, *(w for o in options for w in ("--set", o)))[0] == 0
    tuned = json.loads(planted.artifacts.tuning.read_text())["sets"]["ensemble"]
    assert plain["cross_fitted"] == pytest.approx(tuned["cross_fitted"], abs=1e-9)
    assert plain["optimistic"] == pytest.approx(tuned["tuned"], abs=1e-9)


def test_images_without_anything_count_as_they_are_told_to(plant, command_line):
    """Three fifths of the images have no mask, and the models see none: the scores are told apart by these alone."""
    planted = plant(empty=0.6, a=5, b=5)
    empty = (planted.masks.reshape(len(planted.masks), -1).max(axis=1) == 0).mean()
    scores = {}
    for both_empty in ("1", "0", "nan"):
        assert command_line("ensemble", "-e", planted.experiment, "--set", f"tuning.both_empty={both_empty}")[0] == 0
        scores[both_empty] = planted.about["choice"]["plain"]["optimistic"]
    of_the_others = scores["nan"]
    assert scores["1"] == pytest.approx(empty + (1 - empty) * of_the_others, abs=1e-6)
    assert scores["0"] == pytest.approx((1 - empty) * of_the_others, abs=1e-6)


def test_equal_models_keep_equal_weights_and_probabilities(plant, command_line):
    planted = plant(a=60, b=60, c=60)
    out = command_line("ensemble", "-e", planted.experiment)[1]
    assert planted.about["weights"] == dict.fromkeys("abc", pytest.approx(1 / 3, abs=1e-5))
    assert planted.about["space"] == "probability"
    assert "ensemble: searching gains nothing beyond noise: " in out
    assert ": the plain blend is kept" in out
    assert len(planted.about["pairs"]) == 3
    stacked = [planted.maps(model, fold, "test") for model in "abc" for fold in range(2)]
    assert np.abs(zarr.open_array(planted.artifacts.ensemble_test)[:] - np.mean(stacked, axis=0)).max() <= 0.501


@pytest.mark.parametrize("space", ["probability", "logit", "rank"])
def test_given_weights_and_space_are_taken_as_they_are(plant, command_line, space):
    planted = plant(a=60, b=90)
    words = ("--set", "ensemble.weights={a: 3, b: 1}", "--set", f"ensemble.space={space}")
    status, out, err = command_line("ensemble", "-e", planted.experiment, *words)
    assert (status, err) == (0, "")
    assert (planted.about["weights"], planted.about["space"]) == ({"a": 0.75, "b": 0.25}, space)
    assert "searched" not in planted.about["choice"]
    assert "gains" not in out
    blended = zarr.open_array(planted.artifacts.ensemble_test)[:]
    histograms = planted.about.get("histograms", {"a": [1] * 256, "b": [1] * 256})
    assert ("histograms" in planted.about) == (space == "rank")
    blend = Blend(make_scale(space, np.array([histograms["a"], histograms["b"]])), np.array([0.75, 0.25]))
    assert np.array_equal(blended, blend([[planted.maps(m, fold, "test") for fold in range(2)] for m in "ab"]))


def test_held_out_images_are_blended_by_weights_of_the_other_fold(plant, command_line):
    planted = plant(good=100, bad=250)
    words = ("--set", "ensemble.space=probability")
    assert command_line("ensemble", "-e", planted.experiment, *words)[0] == 0
    blended = zarr.open_array(planted.artifacts.ensemble_oof)[:]
    assert planted.about["kept"] == "searched"
    recipes = planted.about["choice"]["searched"]["by_fold"]
    assert recipes[0]["weights"] != recipes[1]["weights"]
    for fold, recipe in enumerate(recipes):
        expected = sum(weight * planted.maps(model, fold, "oof") for model, weight in recipe["weights"].items())
        assert np.abs(blended[planted.folds["fold"] == fold] - expected).max() <= 0.51


def test_maps_of_another_size_are_refused(plant, command_line):
    planted = plant(a=60, b=60)
    for kind in ("oof", "test"):
        good = planted.maps("b", 1, kind)
        ids = zarr.open_array(planted.path("b", 1, kind)).attrs["image_ids"]
        planted.write("b", 1, kind, ids, good[:, :32])
        status, out, err = command_line("ensemble", "-e", planted.experiment)
        assert (status, out) == (1, "")
        assert f"fold1/{kind}.zarr has maps of 32 x 64, " in err
        assert "of 64 x 64" in err
        planted.write("b", 1, kind, ids, good)
    assert command_line("ensemble", "-e", planted.experiment, "--quiet") == (0, "", "")


def test_maps_of_other_folds_are_refused_with_the_first_differences(plant, command_line):
    planted = plant(a=60, b=60)
    folds = pd.read_csv(planted.artifacts.folds, dtype=str)
    moved = folds.index[folds["fold"] == "0"][0]
    folds.loc[moved, "fold"] = "1"
    folds.to_csv(planted.artifacts.folds, index=False)
    record_of(planted.artifacts.folds).unlink()  # a table of somebody's own making
    status, out, err = command_line("ensemble", "-e", planted.experiment)
    assert (status, out) == (1, "")
    count = int((folds["fold"] == "0").sum())
    assert f"{count + 1} maps for {count} images, with {folds.loc[moved, 'image_id']}; run 'predict' again" in err
    assert not planted.artifacts.ensemble_weights.exists()


@pytest.mark.parametrize("weights", ["{a: 1}", "{a: 1, c: 1}", "{a: 0, b: 0}"])
def test_weights_that_are_not_of_the_models_are_refused(tmp_path, write_experiment, command_line, weights):
    network = {"architecture": "Unet", "encoder": "resnet18"}
    experiment = write_experiment(tmp_path, models=dict.fromkeys("ab", network))
    status, _, err = command_line("ensemble", "-e", experiment, "--set", f"ensemble.weights={weights}")
    assert status == 1
    assert "setting 'ensemble' is " in err
    assert "weights need a number for each of a, b, not all 0" in err
