import csv
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.artifacts import Artifacts, read_json, write_json
from pipeline.config import load_experiment
from pipeline.data.cache import read_folds
from pipeline.data.probabilities import write_probabilities
from pipeline.geometry import restore
from pipeline.graph import Graph
from pipeline.postprocess import Postprocess, final_edges
from pipeline.rle import components, decode, from_edges, to_edges

THRESHOLD = 100
SCORES = {
    "submitted": 0.81,
    "submitted_ci95": [0.78, 0.84],
    "at_half": 0.8,
    "cross_fitted": 0.81,
    "cross_fitted_ci95": [0.78, 0.84],
    "tuned": 0.82,
    "submits": "tuned, cross-fitted",
    "optimism": "chosen on the same images",
    "verdict": "tuning gains",
}


class Prepared:
    """A prepared experiment whose ensemble says something known."""

    def __init__(self, data, experiment):
        self.data, self.experiment = data, experiment
        self.artifacts = Artifacts.of(load_experiment(experiment))
        rng = np.random.default_rng(5)
        self.maps = {image_id: rng.integers(0, 256, (64, 64), dtype=np.uint8) for image_id in data.ids["test"]}
        self.write_maps(data.ids["test"])
        self.write_tuning({"threshold": THRESHOLD})

    def write_tuning(self, postprocess, by_fold=()):
        ensemble = {**SCORES, "classes": [{"postprocess_by_fold": by_fold}]}
        tuning = {"metric": "dice", "postprocess": [postprocess], "sets": {"ensemble": ensemble}}
        write_json(self.artifacts.tuning, tuning)

    def write_maps(self, ids):
        write_probabilities(self.artifacts.ensemble_test, ids, (64, 64), [np.stack([self.maps[i] for i in ids])])

    def rows(self):
        with self.artifacts.submission.open(newline="") as file:
            return list(csv.reader(file))


@pytest.fixture
def prepare(tmp_path, competition, write_experiment, command_line):
    """``prepare(fmt, fit)``: everything that `submit` needs."""

    def make(fmt="kaggle", fit="stretch"):
        data = competition(fmt=fmt)
        source = {"source": "kaggle", "root": str(data.root), "format": fmt, "submission_format": fmt}
        experiment = write_experiment(tmp_path, data=source, image={"size": [64, 64], "fit": fit})
        assert command_line("prepare", "-e", experiment)[::2] == (0, "")
        return Prepared(data, experiment)

    return make


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
def test_rows_and_columns_are_the_sample_submissions(prepare, command_line, fmt, fit):
    prepared = prepare(fmt, fit)
    prepared.data.write("sample_submission.csv", "img,mask", "b2,", "b0,", "b1,")
    status, out, err = command_line("submit", "-e", prepared.experiment)
    assert (status, err) == (0, "")
    assert "3 rows (0 empty masks)" in out
    header, *rows = prepared.rows()
    assert header == ["img", "mask"]
    assert [row[0] for row in rows] == ["b2", "b0", "b1"]
    for image_id, text in rows:
        shape = prepared.data.masks[image_id].shape
        expected = restore(prepared.maps[image_id], *shape, fit) >= THRESHOLD
        assert np.array_equal(decode(text, shape, fmt), expected)


def test_the_provenance_stands_beside_it(prepare, command_line):
    prepared = prepare()
    command_line("submit", "-e", prepared.experiment)
    provenance = read_json(prepared.artifacts.submission.with_suffix(".json"))
    assert provenance["postprocess"] == [{"threshold": THRESHOLD}]
    assert provenance["metric"] == "dice"
    assert provenance["oof_score"] == SCORES
    assert set(provenance["made_by"]["inputs"]) == {"ensemble/test.zarr", "tuning.json", "images.csv"}
    assert provenance["settings"]["name"] == "tiny"


def test_the_score_of_the_submission_before_goes(prepare, command_line):
    prepared = prepare()
    write_json(prepared.artifacts.score, {"score": 0.5})
    command_line("submit", "-e", prepared.experiment)
    assert not prepared.artifacts.score.exists()


def test_an_empty_mask_is_an_empty_field(prepare, command_line):
    prepared = prepare()
    prepared.maps["b1"] = np.full((64, 64), THRESHOLD - 1, np.uint8)
    prepared.maps["b2"] = np.full((64, 64), THRESHOLD, np.uint8)
    prepared.write_maps(["b0", "b1", "b2"])
    assert "(1 empty masks)" in command_line("submit", "-e", prepared.experiment)[1]
    rows = dict(prepared.rows())
    assert rows["b1"] == ""
    assert rows["b2"] == f"1 {prepared.data.masks['b2'].size}"


def test_all_rules_are_applied(prepare, command_line):
    prepared = prepare()
    rules = Postprocess(
        threshold=90, top_threshold=200, min_area=400, fill_holes=12, min_component=30, max_components=2
    )
    prepared.write_tuning(asdict(rules))
    status, _, err = command_line("submit", "-e", prepared.experiment)
    assert (status, err) == (0, "")
    for image_id, text in prepared.rows()[1:]:
        shape = prepared.data.masks[image_id].shape
        expected = from_edges(final_edges(prepared.maps[image_id], *shape, "stretch", rules), shape)
        assert np.array_equal(decode(text, shape), expected)
        assert components(to_edges(expected), shape[0]).count <= 2


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ({"threshold": "128"}, "threshold"),
        ({"threshold": None}, "threshold"),
        ({"threshold": 128.5}, "threshold"),
        ({"threshold": -1}, "threshold"),
        ({"threshold": 128, "min_area": -5}, "min_area"),
        ({"threshold": 128, "max_components": 0}, "max_components"),
        ({"threshold": 128, "smooth": True}, "smooth"),
        ([], "postprocess.0"),
    ],
)
def test_a_tuning_of_wrong_types_or_ranges_is_one_line(prepare, command_line, rules, key):
    prepared = prepare()
    prepared.write_tuning(rules)
    status, _, err = command_line("submit", "-e", prepared.experiment)
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"error: {prepared.artifacts.tuning}: postprocess.0")
    assert f"{key}: " in err
    assert not prepared.artifacts.submission.exists()


def test_the_tuning_of_another_version_is_refused(prepare, command_line):
    prepared = prepare()
    write_json(prepared.artifacts.tuning, {"metric": "dice", "threshold": 100})
    status, _, err = command_line("submit", "-e", prepared.experiment)
    assert status == 1
    assert (
        err
        == f"error: {prepared.artifacts.tuning}: postprocess: Field required (and 2 more): run the stage 'tune' again\n"
    )


def test_ids_that_are_not_the_test_images_are_refused_and_the_old_submission_kept(prepare, command_line):
    prepared = prepare()
    command_line("submit", "-e", prepared.experiment)
    before = prepared.artifacts.submission.read_bytes()
    prepared.data.write("sample_submission.csv", "image_id,rle", "b0,", "b1,", "b3,")
    status, out, err = command_line("submit", "-e", prepared.experiment)
    assert (status, out) == (1, "")
    sample = prepared.data.root / "sample_submission.csv"
    assert err == f"error: {sample}: its ids are not those of the test images: b2, b3\n"
    assert prepared.artifacts.submission.read_bytes() == before


def test_maps_of_other_images_are_refused(prepare, command_line):
    prepared = prepare()
    prepared.write_maps(["b0", "b2", "b1"])
    status, out, err = command_line("submit", "-e", prepared.experiment)
    assert (status, out) == (1, "")
    assert "map 1 is of 'b2', not of 'b1'" in err
    assert not prepared.artifacts.submission.exists()


@pytest.mark.parametrize(("artifact", "stage"), [("tuning", "tune"), ("images", "prepare")])
def test_a_missing_artifact_names_its_stage(prepare, command_line, artifact, stage):
    prepared = prepare()
    path = getattr(prepared.artifacts, artifact)
    path.unlink()
    assert command_line("submit", "-e", prepared.experiment) == (
        1,
        "",
        f"error: {path} is missing: run the stage {stage!r} first\n",
    )


# --------------------------------------------------------------------------------------------------- out of fold


class OutOfFold(Prepared):
    """Also what is said about the training images, in two folds with settings of their own."""

    def __init__(self, data, experiment):
        super().__init__(data, experiment)
        self.ids = data.ids["train"]
        rng = np.random.default_rng(6)
        self.maps |= {image_id: rng.integers(0, 256, (64, 64), dtype=np.uint8) for image_id in self.ids}
        write_probabilities(
            self.artifacts.ensemble_oof, self.ids, (64, 64), [np.stack([self.maps[i] for i in self.ids])]
        )
        self.by_fold = [Postprocess(80), Postprocess(170, fill_holes=None, max_components=1)]
        self.write_tuning({"threshold": THRESHOLD}, [asdict(each) for each in self.by_fold])


@pytest.fixture
def out_of_fold(prepare, command_line):
    """``out_of_fold(fmt, fit)``: everything that `submit --oof` needs."""

    def make(fmt="kaggle", fit="stretch"):
        prepared = prepare(fmt, fit)
        assert command_line("split", "-e", prepared.experiment)[::2] == (0, "")
        return OutOfFold(prepared.data, prepared.experiment)

    return make


@pytest.mark.parametrize(("fmt", "fit"), [("kaggle", "letterbox"), ("carvana", "stretch")])
def test_training_images_get_masks_by_the_settings_of_their_fold(out_of_fold, command_line, fmt, fit):
    prepared = out_of_fold(fmt, fit)
    prepared.data.write("sample_submission.csv", "img,mask", "b2,", "b0,", "b1,")
    status, out, err = command_line("submit", "-e", prepared.experiment, "--oof")
    assert (status, err) == (0, "")
    assert out.endswith("submissions/tiny-oof.csv, read back and checked\n")
    with prepared.artifacts.oof_masks.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["img", "mask"]
    assert [row[0] for row in rows] == prepared.ids
    fold = dict(read_folds(prepared.artifacts)[["image_id", "fold"]].to_numpy())
    assert set(fold.values()) == {0, 1}
    for image_id, text in rows:
        shape = prepared.data.masks[image_id].shape
        edges = final_edges(prepared.maps[image_id], *shape, fit, prepared.by_fold[fold[image_id]])
        assert np.array_equal(decode(text, shape, fmt), from_edges(edges, shape))
    provenance = read_json(prepared.artifacts.oof_masks.with_suffix(".json"))
    assert provenance["postprocess_by_fold"] == [[asdict(each)] for each in prepared.by_fold]
    inputs = {"ensemble/oof.zarr", "tuning.json", "images.csv", "folds.csv"}
    assert set(provenance["made_by"]["inputs"]) == inputs
    assert not prepared.artifacts.submission.exists()


def test_settings_of_other_folds_or_of_another_version_are_refused(out_of_fold, command_line):
    prepared = out_of_fold()
    prepared.write_tuning({}, [asdict(prepared.by_fold[0])] * 3)
    status, out, err = command_line("submit", "-e", prepared.experiment, "--oof")
    assert (status, out) == (1, "")
    tuning = prepared.artifacts.tuning
    assert err == f"error: {tuning} has settings of 3 folds, not of 2: run the stage 'tune' again\n"
    write_json(tuning, {"metric": "dice", "postprocess": [{}], "sets": {"ensemble": SCORES}})
    err = command_line("submit", "-e", prepared.experiment, "--oof")[2]
    assert err == f"error: {tuning} has no valid 'postprocess_by_fold' ('classes'): run the stage 'tune' again\n"
    write_json(tuning, {"metric": "dice", "postprocess": [{}, {}], "sets": {"ensemble": SCORES}})
    err = command_line("submit", "-e", prepared.experiment)[2]
    assert err == f"error: {tuning} has settings of 2 classes, not of 1: run the stage 'tune' again\n"
    assert not prepared.artifacts.oof_masks.exists()


def test_pixels_that_several_classes_get_are_counted(tmp_path, competition, write_experiment, command_line):
    data = competition()
    rows = [f"{i},{name}," for i in data.ids["train"] for name in ("x", "y")]
    data.write("train.csv", "id,class,rle", *rows[1:], f"{data.ids['train'][0]},x,1 3")
    data.write(
        "sample_submission.csv", "id,class,rle", *(f"{i},{name}," for i in data.ids["test"] for name in ("x", "y"))
    )
    source = {"source": "kaggle", "root": str(data.root), "classes": ["x", "y"]}
    experiment = write_experiment(tmp_path, data=source, image={"size": [64, 64]})
    assert command_line("prepare", "-e", experiment)[::2] == (0, "")
    artifacts = Artifacts.of(load_experiment(experiment))
    ids = [f"{i}/{name}" for i in data.ids["test"] for name in ("x", "y")]
    maps = np.zeros((6, 64, 64), np.uint8)
    maps[0, 10:20, 10:20], maps[1, 10:20, 10:20] = 130, 125  # the first image's classes, each above its threshold
    maps[2, 40:50] = maps[3, 50:60] = 255
    write_probabilities(artifacts.ensemble_test, ids, (64, 64), [maps])
    scores = {**SCORES, "classes": [{"postprocess_by_fold": []}] * 2}
    settings = [{"threshold": 128}, {"threshold": 120}]
    write_json(artifacts.tuning, {"metric": "dice", "postprocess": settings, "sets": {"ensemble": scores}})
    status, out, err = command_line("submit", "-e", experiment)
    assert (status, err) == (0, "")
    shape = data.masks["b0"].shape
    masks = [from_edges(final_edges(maps[k], *shape, "stretch", Postprocess(**settings[k])), shape) for k in (0, 1)]
    shared = int((masks[0] & masks[1]).sum())
    assert shared > 100
    assert f"submit: 1 of 3 images have pixels in several classes: {shared} pixels, " in out
    assert f"of the foreground, most in b0 ({shared}): each class has a threshold and rules of its own" in out


@pytest.mark.parametrize(("sample", "written"), [("-", "-"), ("-1", "-1"), ("1 0", "1 0"), ("", ""), ("1 1", "")])
def test_an_empty_mask_is_written_as_the_sample_has_it(prepare, command_line, sample, written):
    prepared = prepare()
    first, *others = prepared.data.ids["test"]
    prepared.maps[first] = np.zeros((64, 64), np.uint8)
    prepared.write_maps(prepared.data.ids["test"])
    rows = [f"{image_id},{sample}" for image_id in prepared.data.ids["test"]]
    prepared.data.write("sample_submission.csv", "image_id,rle", *rows)
    status, _, err = command_line("submit", "-e", prepared.experiment)
    assert (status, err) == (0, "")
    texts = dict(prepared.rows()[1:])
    assert texts[first] == written
    assert all(len(texts[image_id]) > 3 for image_id in others)
    found = command_line(
        "lint", prepared.artifacts.submission, "--sample", prepared.data.root / "sample_submission.csv"
    )
    assert found[0] == 0
    submission = prepared.artifacts.submission
    status, out, err = command_line("score", submission, submission, "--format", f"kaggle:{written}", "--json")
    assert (status, err) == (0, "")
    assert '"dice": 1.0' in out


def test_a_run_scores_the_submission_as_it_is_written(tmp_path, competition, write_experiment):
    data = competition()
    source = {"source": "kaggle", "root": str(data.root), "test_truth": "train.csv"}
    settings = load_experiment(write_experiment(tmp_path, data=source))
    assert Graph(settings, cores=1).score_options()[6:8] == ["--format", "kaggle"]
    data.write("sample_submission.csv", "image_id,rle", *(f"{image_id},-1" for image_id in data.ids["test"]))
    assert Graph(settings, cores=1).score_options()[6:8] == ["--format", "kaggle:-1"]
