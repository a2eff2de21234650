"""Data and probability maps that are not on this machine: fsspec's file system in memory stands for an object store."""

import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import zarr
from fsspec.registry import known_implementations

from pipeline.artifacts import Artifacts
from pipeline.config import EasyPortraitData, load_experiment
from pipeline.errors import DataError
from pipeline.object_store import fetch, files_below, files_to_fetch
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
    (root / "train.csv").unlink()
    assert "prepare: 2 files copied" in call("prepare", *options)
    assert artifacts.images.read_bytes() == images
    assert outdated(load_experiment(file, list(options[1::2]))) == {}


def test_a_file_that_differs_from_the_stores_is_named_and_stays(experiment, command_line, memory):
    data, file = experiment
    memory.put(str(data.root), "/bucket/portraits", recursive=True)
    (data.root / "train.csv").write_text("mine")
    (data.root / "train" / "a1.jpg").unlink()
    status, _, err = command_line("prepare", "-e", file, "--set", "data.url=memory://bucket/portraits")
    assert status == 1
    assert f"{data.root / 'train.csv'} (4 bytes here, " in err
    assert "delete or rename them to fetch them again, or set data.url to null" in err
    assert (data.root / "train.csv").read_text() == "mine"
    assert not (data.root / "train" / "a1.jpg").exists()


def test_a_file_that_comes_during_the_copying_is_not_replaced(tmp_path, memory, monkeypatch):
    memory.pipe({"/bucket/a.csv": b"theirs", "/bucket/b.csv": b"same"})
    names = files_to_fetch("memory://bucket", ["a.csv", "b.csv"], tmp_path)
    (tmp_path / "a.csv").write_bytes(b"mine")
    (tmp_path / "b.csv").write_bytes(b"same")
    assert names == ["a.csv", "b.csv"]
    with pytest.raises(DataError, match=r"a\.csv: another file has come here meanwhile"):
        list(fetch("memory://bucket", names, tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.csv": b"mine", "b.csv": b"same"}


CLIMBING = {
    "a link's climb": ("/bucket/train/../../../evil", "'..'"),
    "a climb within the folder": ("/bucket/train/sub/../a.jpg", "'..'"),
    "a backslash's climb": ("/bucket/train/..\\..\\evil", "'..'"),
    "a control character": ("/bucket/train/a\x00b.jpg", "a control character"),
}


@pytest.mark.parametrize("key", CLIMBING)
def test_a_listing_that_leads_elsewhere_is_one_line_and_writes_nothing(tmp_path, command_line, experiment, memory, key):
    data, file = experiment
    name, reason = CLIMBING[key]
    memory.put(str(data.root), "/bucket", recursive=True)
    memory.pipe("/bucket/new", b"")
    memory.store[name] = memory.store.pop("/bucket/new")
    root = tmp_path / "here" / "data"
    options = ("--set", "data.url=memory://bucket", "--set", f"data.root={root}")
    status, out, err = command_line("prepare", "-e", file, *options)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert reason in err
    assert f"cannot be a name below {root}" in err
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("place", ["../train.csv", "/etc/passwd", "~/train.csv", "C:/train.csv", "train/../../x.csv"])
def test_a_place_that_leads_elsewhere_is_not_fetched(tmp_path, command_line, experiment, memory, place):
    data, file = experiment
    memory.put(str(data.root), "/bucket/set", recursive=True)
    memory.pipe({"/bucket/train.csv": b"evil", "/bucket/set/~/train.csv": b"evil", "/bucket/set/C:/train.csv": b"evil"})
    options = ("--set", "data.url=memory://bucket/set", "--set", f"data.root={tmp_path / 'here'}")
    status, out, err = command_line("prepare", "-e", file, *options, "--set", f"data.train_csv={place}")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"{place!r} cannot be a name below {tmp_path / 'here'}" in err
    assert not (tmp_path / "here").exists()


def test_masks_may_be_read_from_elsewhere_where_nothing_is_fetched(experiment, call):
    data, _ = experiment
    (data.root / "train.csv").rename(data.root.parent / "mine.csv")
    assert "20 test images" in call("prepare", "--set", "data.train_csv=../mine.csv")


def test_nothing_is_fetched_through_a_link_that_leads_elsewhere(tmp_path, command_line, experiment, memory):
    data, file = experiment
    memory.put(str(data.root), "/bucket", recursive=True)
    root, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "train").symlink_to(elsewhere)
    options = ("--set", "data.url=memory://bucket", "--set", f"data.root={root}")
    status, out, err = command_line("prepare", "-e", file, *options)
    assert (status, out) == (1, "")
    assert f"a link leads to {elsewhere}" in err
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("url", ["memory://bucket/../../evil", "memory://~root/set", "memory://C:/set"])
def test_the_folder_of_a_url_stays_in_the_workspace(experiment, command_line, url):
    status, out, err = command_line(
        "prepare", "-e", experiment[1], "--set", f"data.url={url}", "--set", "data.root=null"
    )
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: data.url: ")
    assert err.endswith("; give data.root\n")


LISTING = (
    """<a href="../">up</a> <a href="/">top</a> <a href="http://elsewhere.org/x.jpg">else</a> <a href="{link}">it</a>"""
)


@pytest.fixture
def listed(tmp_path):
    """``listed(link)``: the URL of a web server that lists a link in its folder ``train``, and has any file."""
    pytest.importorskip("aiohttp")
    servers = []

    def serve(link):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                content, kind = b"content", "image/jpeg"
                if self.path.rstrip("/") == "/set/train":
                    content, kind = LISTING.format(link=link).encode(), "text/html"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/set"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "link", ["../../evil.jpg", "x/../../../evil.jpg", "%2e%2e/%2e%2e/evil.jpg", "..%2f..%2fevil.jpg", "a%00.jpg"]
)
def test_a_web_page_whose_links_climb_is_refused(tmp_path, listed, link):
    folder = tmp_path / "here" / "data"
    with pytest.raises(DataError, match="cannot be a name below"):
        files_to_fetch(listed(link), ["train"], folder)


def test_names_of_a_web_page_are_decoded(tmp_path, listed):
    url = listed("my%20photo.jpg")
    names = files_to_fetch(url, ["train"], tmp_path)
    list(fetch(url, names, tmp_path))
    assert (tmp_path / "train" / "my photo.jpg").read_bytes() == b"content"
    assert files_to_fetch(url, ["train"], tmp_path) == []


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
