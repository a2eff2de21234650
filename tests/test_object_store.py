"""Data and probability maps that are not on this machine: fsspec's file system in memory stands for an object store."""

import re
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import zarr
from fsspec.registry import known_implementations

from pipeline.artifacts import Artifacts
from pipeline.config import EasyPortraitData, load_experiment
from pipeline.object_store import files_below
from pipeline.records import outdated, record_of

STORE = ("--set", "probabilities=memory://maps/all/")


@pytest.fixture
def memory():
    """The file system, empty again at the end."""
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


@pytest.fixture
def experiment(tmp_path, write_experiment, competition):
    data = competition(test=20)
    tuning = {"search": "threshold", "components": False}
    return data, write_experiment(tmp_path, data={"source": "kaggle", "root": str(data.root)}, tuning=tuning)


@pytest.fixture
def call(command_line, experiment):
    def call(*words):
        status, out, err = command_line(*words, "-e", experiment[1])
        assert (status, err) == (0, "")
        return out

    return call


def test_data_are_copied_from_a_url_once(tmp_path, experiment, call, memory):
    data, file = experiment
    memory.put(str(data.root), "/bucket/portraits", recursive=True)
    artifacts = Artifacts(tmp_path, "tiny")
    call("prepare")
    images, small = artifacts.images.read_bytes(), np.load(artifacts.cache / "test_images.npy")
    shutil.rmtree(data.root)
    options = ("--set", "data.url=memory://bucket/portraits/", "--set", "data.root=null")
    out = call("prepare", *options)
    root = tmp_path / "data" / "bucket" / "portraits"
    assert f"prepare: 28 files copied from memory://bucket/portraits to {root}\n" in out
    assert artifacts.images.read_bytes() == images
    assert np.array_equal(np.load(artifacts.cache / "test_images.npy"), small)
    (root / "train" / "a1.jpg").unlink()
    (root / "train.csv").write_text("cut")
    assert "prepare: 2 files copied" in call("prepare", *options)
    assert artifacts.images.read_bytes() == images
    assert outdated(load_experiment(file, list(options[1::2]))) == {}


def test_a_connection_that_is_lost_is_one_line_and_the_next_call_goes_on(
    experiment, command_line, call, memory, monkeypatch
):
    data, file = experiment
    memory.put(str(data.root), "/bucket/portraits", recursive=True)
    shutil.rmtree(data.root)
    whole, calls = memory.get_file, iter(range(10**6))

    def lost(source, target, **options):
        if next(calls) >= 5:
            Path(target).write_bytes(b"half a fi")
            raise TimeoutError
        whole(source, target, **options)

    options = ("--set", "data.url=memory://bucket/portraits")
    monkeypatch.setattr(type(memory), "get_file", staticmethod(lost))
    status, _, err = command_line("prepare", "-e", file, *options)
    assert status == 1
    assert re.fullmatch(r"error: memory://bucket/portraits/\S+: TimeoutError; the next call goes on from here\n", err)
    assert len([path for path in data.root.rglob("*") if path.is_file()]) == 5
    monkeypatch.undo()
    assert "prepare: 23 files copied" in call("prepare", *options)


def test_masks_of_the_test_images_are_known_before_they_are_copied(tmp_path, memory):
    data = EasyPortraitData(source="easyportrait", root=tmp_path, url="memory://portraits")
    assert not data.knows_test_truth
    memory.pipe("/portraits/annotations/test/a.png", b"")
    assert data.knows_test_truth


class Bright(torch.nn.Module):
    """Foreground is what is bright."""

    def forward(self, images):
        return images.float().mean(1, keepdim=True) / 32 - 4


def test_maps_in_an_object_store_make_the_same_submission(tmp_path, experiment, call, memory, monkeypatch):
    monkeypatch.setattr("pipeline.stages.predict.load_network", lambda _: Bright())
    artifacts, file = Artifacts(tmp_path, "tiny"), experiment[1]
    oof = artifacts.fold("unet", 0).oof
    call("prepare")
    call("split")

    def submission(*options):
        for fold in range(2):
            call("predict", "-m", "unet", "-k", fold, *options)
        for stage in ("ensemble", "tune", "submit"):
            call(stage, *options)
        return artifacts.submission.read_bytes()

    here = submission()
    assert submission(*STORE) == here
    settings = load_experiment(file, [STORE[1]])
    url = "memory://maps/all/tiny/unet/fold0/oof.zarr"
    assert oof.read_text() == url
    assert artifacts.ensemble_test.read_text() == "memory://maps/all/tiny/ensemble/test.zarr"
    assert len(zarr.open_array(url, mode="r").attrs["image_ids"]) > 0
    assert outdated(settings) == {}
    memory.rm_file("/maps/all/tiny/unet/fold0/oof.zarr/c/0/0/0")
    assert outdated(settings)[record_of(oof)] == "oof.zarr is damaged, or another one than was written"
    call("predict", "-m", "unet", "-k", 0)
    assert oof.is_dir()


def test_a_killed_writing_leaves_no_artifact(tmp_path, experiment, call, memory, monkeypatch):
    monkeypatch.setattr("pipeline.stages.predict.load_network", lambda _: Bright())
    paths = Artifacts(tmp_path, "tiny").fold("unet", 0)
    for words in (["prepare"], ["split"], ["predict", "-m", "unet", "-k", 0, *STORE]):
        call(*words)
    monkeypatch.setattr("pipeline.stages.predict.predict_batches", lambda *_, **__: iter([np.zeros((1, 1, 64, 64))]))
    with pytest.raises(ValueError, match="1 maps for"):
        call("predict", "-m", "unet", "-k", 0, *STORE)
    assert files_below("memory://maps/all/tiny/unet/fold0/oof.zarr")
    assert {path.name for path in paths.folder.iterdir()} == {"test.zarr", "test.zarr.json"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.url=nowhere://a/b", "error: nowhere://a/b/train.csv: Install nowherefs to access Nowhere\n"),
        ("data.url=unheard://a", "error: unheard://a/train.csv: Protocol not known: unheard\n"),
        ("data.url=portraits", "setting 'data.url' is 'portraits': needs a URL such as s3://bucket/folder\n"),
        ("probabilities='memory://'", "setting 'probabilities' is 'memory://': needs a URL such as"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(experiment, command_line, monkeypatch, setting, message):
    missing = {"class": "nowherefs.NowhereFileSystem", "err": "Install nowherefs to access Nowhere"}
    monkeypatch.setitem(known_implementations, "nowhere", missing)
    status, out, err = command_line("prepare", "-e", experiment[1], "--set", setting)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
