"""Artifacts that are damaged, or that do not belong together, through the real command line; and clocks."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import Artifacts
from pipeline.config import EASYPORTRAIT_TARGETS, Experiment, Settings, TrainingSettings, load_experiment
from pipeline.records import SECTIONS, WITHOUT_EFFECT
from pipeline.stage_code import LEFT_OUT

FOLD_0 = ("--model", "unet", "--fold", 0)
FUTURE, PAST = 2_200_000_000, 1_000_000_000  # seconds: in the years 2039 and 2001


@pytest.fixture
def run(one_network, tmp_path):
    """A finished run of its own."""
    return one_network.copy(tmp_path / "run")


@pytest.fixture
def plan(command_line):
    """``plan(run, *options)``: what a dry run prints."""

    def call(run, *options):
        status, out, err = command_line("run", "-e", run.experiment, "--dry-run", *options)
        assert (status, err) == (0, "")
        return out

    return call


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path, place=-1):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_digit(path):
    """Change one digit of a JSON file, which stays one."""
    text = path.read_text()
    start = text.index('"threshold": ') + len('"threshold": ')
    path.write_text(text[:start] + str(int(text[start]) % 8 + 1) + text[start + 1 :])


def chunk_of(folder):
    return max(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")


def take_from_fold_1(weights):
    """A network in the place of one that has not seen the same images."""
    for name in ("weights.safetensors", "weights.safetensors.json"):
        shutil.copy(weights.parents[1] / "fold1" / name, weights.with_name(name))


DAMAGES = {
    "the masks of the test images": (lambda made: made.truth, truncate),
    "a byte of the small copies": (lambda made: made.cache / "train_images.npy", flip),
    "the folds": (lambda made: made.folds, lambda path: flip(path, -2)),
    "the history of a training": (lambda made: made.fold("unet", 1).history, truncate),
    "the figures of a training": (lambda made: made.fold("unet", 0).metrics, truncate),
    "weights of another fold": (lambda made: made.fold("unet", 0).weights, take_from_fold_1),
    "a bit of a network's maps": (lambda made: made.fold("unet", 0).oof, lambda maps: flip(chunk_of(maps))),
    "a bit of the blend": (lambda made: made.ensemble_test, lambda maps: flip(chunk_of(maps))),
    "a digit of a threshold": (lambda made: made.tuning, flip_digit),
    "the score": (lambda made: made.score, lambda path: path.write_text(path.read_text().replace("0.", "1.", 1))),
    "the submission": (lambda made: made.submission, lambda path: flip(path, -3)),
    "the page": (lambda made: made.page, truncate),
}


@pytest.fixture(scope="module")
def damaged(one_network, tmp_path_factory, python):
    """Output of a dry run of a run in which everything is damaged."""
    run = one_network.copy(tmp_path_factory.mktemp("damaged") / "run")
    for artifact, damage in DAMAGES.values():
        damage(artifact(run.artifacts))
    result = python("-m", "pipeline", "run", "-e", run.experiment, "--dry-run")
    assert result.returncode == 0, result.stderr
    return run.artifacts, result.stdout


@pytest.mark.parametrize("artifact", [artifact for artifact, _ in DAMAGES.values()], ids=DAMAGES.keys())
def test_a_changed_artifact_of_any_kind_is_noticed(damaged, artifact):
    artifacts, printed = damaged
    name = artifact(artifacts).name
    named = [line for line in printed.splitlines() if line.startswith("run: ") and name in line]
    assert any("damaged" in line for line in named), printed


@pytest.mark.parametrize(
    ("artifact", "job"),
    [(lambda made: made.truth, "prepare"), (lambda made: made.fold("unet", 1).history, "train unet fold1")],
)
def test_only_what_makes_a_damaged_artifact_is_done_again_at_first(run, plan, artifact, job):
    truncate(artifact(run.artifacts))
    *_, planned, count = plan(run).splitlines()
    assert planned.startswith(f"would run: {job}: ")
    assert count == "1 jobs would run"


def test_a_damaged_artifact_that_comes_out_as_it_was_outdates_nothing(run, python):
    artifacts = run.artifacts
    before = {path: path.read_bytes() for path in artifacts.folder.glob("*.[cjh]*") if path.is_file()}
    trained = artifacts.fold("unet", 0).weights.stat().st_mtime_ns
    truncate(artifacts.truth)
    result = python("-m", "pipeline", "run", "-e", run.experiment)
    assert result.returncode == 0, result.stderr
    assert "truth.csv is damaged" in result.stdout
    assert {path: path.read_bytes() for path in before} == before
    assert artifacts.fold("unet", 0).weights.stat().st_mtime_ns == trained


@pytest.mark.parametrize(
    ("damage", "command", "complaint"),
    [
        (lambda made: flip(made.cache / "train_images.npy"), "split", "train_images.npy is damaged"),
        (lambda made: flip(made.cache / "train_masks.npy"), "train", "train_masks.npy is damaged"),
        (lambda made: flip(made.cache / "test_images.npy"), "predict", "test_images.npy is damaged"),
        (lambda made: (made.cache / "train_images.npy").write_bytes(b""), "train", "train_images.npy is damaged"),
        (lambda made: flip(made.images, -2), "split", "images.csv is damaged"),
    ],
)
def test_stages_refuse_damaged_images(run, command_line, damage, command, complaint):
    damage(run.artifacts)
    words = () if command == "split" else FOLD_0
    status, _, err = command_line(command, "-e", run.experiment, *words)
    assert status == 1
    [line] = err.splitlines()
    assert complaint in line
    assert line.endswith("run the stage 'prepare' again")


@pytest.mark.parametrize(
    ("damage", "command", "stage"),
    [
        (lambda made: flip(made.folds, -2), "train", "split"),
        (lambda made: flip_digit(made.tuning), "submit", "tune"),
        (lambda made: flip_digit(made.tuning), "report", "tune"),
        (lambda made: truncate(made.fold("unet", 1).history), "report", "train --model unet --fold 1"),
        (lambda made: take_from_fold_1(made.fold("unet", 0).weights), "predict", "train --model unet --fold 0"),
    ],
)
def test_stages_refuse_what_is_damaged_and_say_which_to_run_again(run, command_line, damage, command, stage):
    damage(run.artifacts)
    words = FOLD_0 if command in ("train", "predict") else ()
    status, _, err = command_line(command, "-e", run.experiment, *words)
    assert status == 1
    [line] = err.splitlines()
    assert "damaged" in line
    assert line.endswith(f"run the stage {stage!r} again")


@pytest.fixture
def put_back(run, tmp_path, write_experiment, command_line):
    """A run whose small copies are of other images, of the same ids and number."""
    data = {**run.settings["data"], "root": str(tmp_path / "other" / "data"), "heights": [66, 80]}
    (tmp_path / "other").mkdir()
    assert command_line("prepare", "-e", write_experiment(tmp_path / "other", data=data))[0] == 0
    other = Artifacts(tmp_path / "other", "tiny")
    shutil.rmtree(run.artifacts.cache)
    for path in other.folder.glob("cache*"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, run.artifacts.folder / path.name)
    return run


@pytest.mark.parametrize("command", ["split", "train", "predict"])
def test_small_copies_of_other_images_are_refused(put_back, command_line, command):
    words = () if command == "split" else FOLD_0
    status, _, err = command_line(command, "-e", put_back.experiment, *words)
    cache = put_back.artifacts.cache
    assert (status, err) == (
        1,
        f"error: {cache} was made from another images.csv than is there now: run the stage 'prepare' again\n",
    )


def test_a_run_notices_small_copies_of_other_images(put_back, plan):
    printed = plan(put_back)
    assert "run: cache.json: settings have changed: " in printed
    assert "data.heights [66, 80] -> [64, 80]" in printed
    assert "would run: prepare: out of date" in printed


def test_small_copies_that_were_fitted_otherwise_are_refused(run, command_line):
    status, _, err = command_line("train", "-e", run.experiment, *FOLD_0, "--set", "image.fit=letterbox")
    assert status == 1
    assert "copies made with image.fit=stretch, now it is letterbox: run the stage 'prepare' again" in err


def test_networks_of_other_folds_are_refused(run, command_line):
    assert command_line("split", "-e", run.experiment, "--set", "folds.area_bins=1")[0] == 0
    status, _, err = command_line("predict", "-e", run.experiment, *FOLD_0)
    weights = run.artifacts.fold("unet", 0).weights
    assert (status, err) == (
        1,
        f"error: {weights} was made from another folds.csv than is there now: "
        "run the stage 'train --model unet --fold 0' again\n",
    )


def records_of(run):
    return [*sorted(run.artifacts.folder.rglob("*.json")), run.artifacts.submission_record]


def test_records_from_the_future_are_no_obstacle(run, python):
    """A file server's clock may be ahead of the machine's: what jobs make is then older than what they read."""
    artifacts = run.artifacts
    for path in (artifacts.images, artifacts.ensemble_test):
        os.utime(path.with_name(f"{path.name}.json"), (FUTURE, FUTURE))
    trained = artifacts.fold("unet", 0).weights.stat().st_mtime_ns
    result = python("-m", "pipeline", "run", "-e", run.experiment, "--set", "tuning.choose=best")
    assert result.returncode == 0, result.stderr
    assert artifacts.submission_record.exists()
    assert artifacts.fold("unet", 0).weights.stat().st_mtime_ns == trained


@pytest.mark.parametrize(
    "times",
    [lambda number: FUTURE, lambda number: PAST, lambda number: FUTURE - number, lambda number: PAST + number],
    ids=["all in the future", "all in the past", "falling", "rising"],
)
def test_times_decide_nothing(run, plan, times):
    """Files that are copied, checked out or restored have any times, in any order, and none of Snakemake's notes."""
    for number, path in enumerate(records_of(run)):
        os.utime(path, (times(number), times(number)))
    os.utime(run.artifacts.truth, (FUTURE, FUTURE))
    shutil.rmtree(run.artifacts.folder / ".snakemake")
    assert plan(run) == "nothing would run: all is up to date\n"


@pytest.fixture
def easyportrait(tmp_path, write_experiment, command_line):
    """A prepared experiment on a small data set in EasyPortrait's layout."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for kind in ("images", "annotations"):
            (tmp_path / "data" / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            classes = np.repeat(rng.integers(0, 9, (8, 8), dtype=np.uint8), 8, axis=0).repeat(8, axis=1)
            Image.fromarray(pixels).save(tmp_path / "data" / "images" / split / f"{split}{number}.jpg")
            Image.fromarray(classes).save(tmp_path / "data" / "annotations" / split / f"{split}{number}.png")
    people = [f"train{number}\tp{number}\n" for number in range(6)]
    (tmp_path / "data" / "meta.csv").write_text("".join(["attachment_id\tuser_id\n", *people]))
    data = {"source": "easyportrait", "root": str(tmp_path / "data"), "test_split": "test"}
    path = write_experiment(tmp_path, data=data)
    for stage in ("prepare", "split"):
        status, _, err = command_line(stage, "-e", path)
        assert (status, err) == (0, "")
    return path


def test_another_meaning_of_face_outdates_all(easyportrait, command_line, monkeypatch):
    monkeypatch.setitem(EASYPORTRAIT_TARGETS, "face", (2, 3))
    status, out, _ = command_line("run", "-e", easyportrait, "--dry-run")
    assert status == 0
    change = "settings have changed: data.resolved.class_indices. [2, 3, 4, 5, 6, 7, 8] -> [2, 3]"
    assert f"run: images.csv.json: {change}" in out
    assert "would run: prepare: out of date" in out
    assert "would run: split: reads what another job makes anew" in out


def test_a_record_holds_the_classes_that_face_stands_for(easyportrait):
    images = Artifacts.of(load_experiment(easyportrait)).images
    made_by = json.loads(images.with_name("images.csv.json").read_text())["made_by"]
    assert made_by["settings"]["data"]["resolved"]["class_indices"] == {"": [2, 3, 4, 5, 6, 7, 8]}


BEFORE = {
    "split": "prepare",
    "train": "split",
    "predict": "train",
    "ensemble": "predict",
    "tune": "ensemble",
    "submit": "tune",
    "score": "submit",
    "report": "tune",
}
"""The stage whose record is among each one's inputs; what that one uses counts, too."""


def recorded_settings(stage):
    """Names of the settings whose values are in a stage's record or further up, as (section, setting)."""
    names = {("training", name) for name in WITHOUT_EFFECT}
    while stage:
        if stage == "train":
            names |= {("training", name) for name in TrainingSettings.model_fields}
        for section, left_out in SECTIONS[stage].items():
            fields = getattr(Experiment.model_fields[section].annotation, "model_fields", None)
            names |= {(section, name) for name in fields or ()} - {(section, name) for name in left_out}
        stage = BEFORE.get(stage)
    return names


@pytest.fixture
def settings_read(monkeypatch):
    """The settings that are read, as (section, setting), but for what modules read that decide no content."""
    read = set()
    sections = {field.annotation: name for name, field in Experiment.model_fields.items()}
    plain = Settings.__getattribute__

    def noted(self, name):
        caller = sys._getframe(1).f_globals["__name__"].removeprefix("pipeline.")
        if type(self) in sections and name in type(self).model_fields and caller not in LEFT_OUT:
            read.add((sections[type(self)], name))
        return plain(self, name)

    monkeypatch.setattr(Settings, "__getattribute__", noted)
    return read


@pytest.mark.parametrize("stage", ["split", "train", "predict", "ensemble", "tune", "submit"])
def test_a_stage_reads_no_setting_that_is_in_no_record(run, command_line, settings_read, stage):
    options = FOLD_0 if stage in ("train", "predict") else ()
    assert command_line(stage, "-e", run.experiment, *options)[::2] == (0, "")
    assert settings_read
    assert settings_read <= recorded_settings(stage)
