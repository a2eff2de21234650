"""Tuning through the command line, on made-up probabilities."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import zarr

from pipeline.artifacts import Artifacts
from pipeline.config import UNNAMED
from pipeline.data.cache import read_folds, read_images, read_true_masks
from pipeline.data.probabilities import write_probabilities
from pipeline.geometry import shrink
from pipeline.metrics import METRICS, Counts
from pipeline.postprocess import UNTUNED, Postprocess, final_edges
from pipeline.rle import area, from_edges, intersection
from pipeline.search import tune_masks
from pipeline.stages import tune

SIZE = (64, 64)
DATA = {"source": "generated", "people": 8, "photos": 3, "test_people": 2, "heights": [64, 90], "widths": [64, 90]}


@pytest.fixture
def tiny(tmp_path, write_experiment, command_line):
    """An experiment whose maps are too dark and have specks; its file."""
    file = write_experiment(tmp_path, data=DATA, folds={"count": 3})
    for stage in ("prepare", "split"):
        assert command_line(stage, "--experiment", file)[::2] == (0, "")
    artifacts = Artifacts(tmp_path, "tiny")
    images, fold = read_images(artifacts, "train"), read_folds(artifacts)["fold"].to_numpy()
    truth = read_true_masks(artifacts, images["image_id"].tolist(), [UNNAMED])
    rng = np.random.default_rng(0)
    maps = np.empty((len(images), *SIZE), np.uint8)
    for row, size in enumerate(zip(images["height"].tolist(), images["width"].tolist(), strict=True)):
        small = shrink(from_edges(truth[row], size) * np.uint8(90), SIZE, "stretch", height=size[0], width=size[1])
        maps[row] = small + rng.integers(0, 30, SIZE)
        maps[row][rng.random(SIZE) < 0.02] = 180
    for number in range(3):
        ids = images["image_id"][fold == number].tolist()
        write_probabilities(artifacts.fold("unet", number).oof, ids, SIZE, [maps[fold == number]])
    write_probabilities(artifacts.ensemble_oof, images["image_id"].tolist(), SIZE, [maps])
    return file


def tuning_of(tmp_path):
    return json.loads(Artifacts(tmp_path, "tiny").tuning.read_text())


def of_only_class(tuning, name):
    """What is said about a set of maps of one class; the scores of all classes are the same."""
    of_all = tuning["sets"][name]
    (of_class,) = of_all.pop("classes")
    assert of_all.items() <= of_class.items()
    return of_class


def recount(tmp_path, metric, postprocess_of_fold):
    """The score of the masks that ``submit`` would make of the out-of-fold maps."""
    artifacts = Artifacts(tmp_path, "tiny")
    images, fold = read_images(artifacts, "train"), read_folds(artifacts)["fold"]
    truth = read_true_masks(artifacts, images["image_id"].tolist(), [UNNAMED])
    maps = zarr.open_array(artifacts.ensemble_oof)[:]
    counts = []
    for row, size in enumerate(zip(images["height"].tolist(), images["width"].tolist(), strict=True)):
        mask = final_edges(maps[row], *size, "stretch", Postprocess(**postprocess_of_fold[fold[row]]))
        counts.append((intersection(mask, truth[row]), area(mask), area(truth[row])))
    return float(METRICS[metric](Counts(*np.array(counts).T)))


@pytest.mark.parametrize("metric", ["dice", "global-dice", "tgs-map"])
def test_the_scores_are_those_of_the_masks(tiny, tmp_path, command_line, metric):
    status, out, err = command_line("tune", "-e", tiny, "--set", f"tuning.metric={metric}")
    assert (status, err) == (0, "")
    tuning = tuning_of(tmp_path)
    found = of_only_class(tuning, "ensemble")
    assert tuning["metric"] == metric
    assert tuning["postprocess"] == [found["postprocess"]]
    assert found["tuned"] == pytest.approx(recount(tmp_path, metric, [found["postprocess"]] * 3), abs=1e-12)
    assert found["cross_fitted"] == pytest.approx(recount(tmp_path, metric, found["postprocess_by_fold"]), abs=1e-12)
    assert found["at_half"] == pytest.approx(recount(tmp_path, metric, [asdict(UNTUNED)] * 3), abs=1e-12)
    assert found["cross_fitted_ci95"][0] < found["cross_fitted"] < found["cross_fitted_ci95"][1]
    assert len(found["curve"]) == 256
    assert len(found["cross_fitted_by_fold"]) == len(found["postprocess_by_fold"]) == 3
    assert f"tune: ensemble: {metric} {found['at_half']:.4f} at threshold 128/255" in out
    assert found["verdict"] in out
    assert found["gain"]["difference"] > 0.1  # the maps are dark: that must be found
    assert found["postprocess"]["min_component"] > 0 or found["postprocess"]["max_components"] == 1


def test_what_is_searched_is_what_is_set(tiny, tmp_path, command_line):
    plain = ("--set", "tuning.search=threshold", "--set", "tuning.components=false")
    assert command_line("tune", "-e", tiny, *plain)[0] == 0
    found = of_only_class(tuning_of(tmp_path), "unet")["postprocess"]
    assert {key for key, value in found.items() if value != asdict(UNTUNED)[key]} == {"threshold"}
    rules = "tuning={hole_areas: [], component_areas: [17], component_counts: []}"
    assert command_line("tune", "-e", tiny, "--set", rules)[0] == 0
    found = of_only_class(tuning_of(tmp_path), "unet")["postprocess"]
    assert (found["fill_holes"], found["min_component"], found["max_components"]) == (0, 17, None)


def test_the_choice_can_be_made_on_the_command_line(tiny, tmp_path, command_line):
    plain = ("--set", "tuning.search=threshold", "--set", "tuning.components=false")
    found = {}
    for choose in ("best", "plateau"):
        assert command_line("tune", "-e", tiny, "--choose", choose, *plain)[0] == 0
        tuning = tuning_of(tmp_path)
        assert tuning["settings"]["choose"] == choose
        found[choose] = of_only_class(tuning, "ensemble")
    curve = found["best"]["curve"]
    assert curve[found["best"]["postprocess"]["threshold"]] == max(curve)
    low, high = found["plateau"]["plateau"]["threshold"]
    assert found["plateau"]["postprocess"]["threshold"] == (low + high) // 2
    status, _, err = command_line("tune", "-e", tiny, "--choose", "sharpest")
    assert status == 1
    assert "setting 'tuning.choose' is 'sharpest'" in err


def test_images_without_anything_may_be_left_out(tiny, tmp_path, command_line):
    assert command_line("tune", "-e", tiny, "--set", "tuning.both_empty=nan")[0] == 0
    left_out = of_only_class(tuning_of(tmp_path), "ensemble")["curve"]
    assert command_line("tune", "-e", tiny)[0] == 0
    assert left_out != of_only_class(tuning_of(tmp_path), "ensemble")["curve"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tuning.metric=dise", "setting 'tuning.metric' is 'dise'"),
        ("tuning.min_areas=[-1]", "setting 'tuning.min_areas' is -1"),
        ("tuning.serach=area", "unknown setting 'tuning.serach'; the nearest valid name is 'tuning.search'"),
        ("tuning.both_empty=2", "setting 'tuning.both_empty' is 2"),
    ],
)
def test_wrong_settings_are_named(tiny, command_line, override, message):
    status, _, err = command_line("tune", "-e", tiny, "--set", override)
    assert status == 1
    assert message in err
    assert len(err.splitlines()) == 1


def counted(monkeypatch):
    """Remembers what is searched."""
    searched = []
    monkeypatch.setattr(tune, "tune_masks", lambda rows, *rest: searched.append(rows) or tune_masks(rows, *rest))
    return searched


def test_maps_that_are_the_same_are_searched_once(tiny, tmp_path, command_line, monkeypatch):
    searched = counted(monkeypatch)
    out = command_line("tune", "-e", tiny)[1]
    assert len(searched) == 1
    sets = tuning_of(tmp_path)["sets"]
    assert sets["unet"] == sets["ensemble"]
    lines = [line for line in out.splitlines() if line.startswith("tune: ")][1:]
    assert [line.replace("unet", "ensemble") for line in lines[:3]] == lines[3:]


def test_maps_that_differ_in_a_single_byte_are_searched_each_for_itself(tiny, tmp_path, command_line, monkeypatch):
    artifacts = Artifacts(tmp_path, "tiny")
    maps = zarr.open_array(artifacts.ensemble_oof, mode="r+")
    last = maps[-1]
    last[0, 0] ^= 1
    maps[-1] = last
    searched = counted(monkeypatch)
    assert command_line("tune", "-e", tiny)[0] == 0
    assert len(searched) == 2


def test_every_pass_has_a_bar_on_a_terminal(tiny, command_line, monkeypatch):
    assert "holes and components" not in command_line("tune", "-e", tiny)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    bars = command_line("tune", "-e", tiny)[1]
    assert "tune unet: holes and components" in bars
    images = len(read_folds(Artifacts(tiny.parent, "tiny")))
    assert f"{images}/{images}" in bars
