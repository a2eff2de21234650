import os
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from pipeline import PROJECT
from pipeline.artifacts import Artifacts
from pipeline.config import UNNAMED, load_experiment
from pipeline.data.cache import CachePaths, open_small, read_images, read_true_masks
from pipeline.data.images import read_image
from pipeline.geometry import content_box
from pipeline.records import outdated
from pipeline.rle import encode, from_edges
from pipeline.stages.prepare import SmallCopies


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system has no posix_fallocate")
def test_room_for_the_small_copies_is_taken_at_once(tmp_path):
    folder = tmp_path / "cache"
    SmallCopies.create(folder, Counter(train=50, test=0), (64, 64), classes=2)
    paths = CachePaths(folder)
    for path in (paths.images("train"), paths.masks):
        assert path.stat().st_blocks * 512 >= path.stat().st_size > 50 * 64 * 64
    assert open_small(paths.images("test")).shape == (0, 64, 64, 3)


@pytest.fixture(params=["stretch", "letterbox"])
def prepared(request, tmp_path, write_experiment, command_line, competition):
    data = competition()
    settings = {"source": "kaggle", "root": str(data.root), "group_column": "person", "test_truth": "truth.csv"}
    text = (data.root / "sample_submission.csv").read_text().replace(",\n", ",1 3\n")
    (data.root / "truth.csv").write_text(text)
    experiment = write_experiment(tmp_path, data=settings, image={"size": [64, 96], "fit": request.param})
    assert command_line("prepare", "-e", experiment)[::2] == (0, "")
    return data, load_experiment(experiment)


def test_the_table_has_every_image_its_size_and_its_mask(prepared):
    data, settings = prepared
    artifacts = Artifacts.of(settings)
    images = read_images(artifacts)
    assert images["image_id"].tolist() == [*data.ids["train"], *data.ids["test"]]
    assert images["subset"].tolist() == ["train"] * 6 + ["test"] * 3
    assert images["group"].tolist()[:6] == [data.people[image_id] for image_id in data.ids["train"]]
    masks = read_true_masks(artifacts, data.ids["train"][::-1], [UNNAMED])
    for row, image_id in enumerate(data.ids["train"][::-1]):
        assert np.array_equal(from_edges(masks[row], data.masks[image_id].shape), data.masks[image_id])
    sizes = dict(zip(images["image_id"], zip(images["height"], images["width"], strict=True), strict=True))
    assert sizes == {image_id: mask.shape for image_id, mask in data.masks.items()}
    assert (images["sha256"].str.len() == 64).all()
    assert images["phash"].is_unique


@pytest.mark.parametrize("said", ["kaggle", "carvana"])
@pytest.mark.parametrize("written", ["kaggle", "carvana"])
def test_masks_that_are_read_along_the_wrong_direction_are_refused_unless_they_were_checked(
    tmp_path, write_experiment, command_line, competition, written, said
):
    data = competition(fmt=written)
    experiment = write_experiment(tmp_path, data={"source": "kaggle", "root": str(data.root), "format": said})
    for checked in (False, True):
        status, out, err = command_line("prepare", "-e", experiment, "--set", f"data.format_checked={checked}")
        problem = f"{data.root / 'train.csv'}: masks look turned: "
        wrong = written != said
        assert status == (wrong and not checked)
        assert err.startswith(f"error: {problem}") == (wrong and not checked)
        assert (f". data.format: {written} fits, " in err) == (wrong and not checked)
        assert err.endswith("set data.format_checked: true\n") == (wrong and not checked)
        assert (f"prepare: {problem}" in out and "data.format_checked lets them pass" in out) == (wrong and checked)
        assert Artifacts.of(load_experiment(experiment)).images.exists() == (checked or not wrong)


@pytest.mark.parametrize(
    ("fmt", "advice"),
    [
        ("contrails", "data.format: carvana fits, but for empty masks, which are '' there, unless heights"),
        ("siim", "no format is the same along the other direction, unless heights"),
    ],
)
def test_turned_masks_of_a_format_that_has_no_twin(tmp_path, write_experiment, command_line, competition, fmt, advice):
    data = competition()
    transposed = {image_id: encode(np.ascontiguousarray(data.masks[image_id].T), fmt) for image_id in data.ids["train"]}
    data.write_csv(**transposed)
    experiment = write_experiment(tmp_path, data={"source": "kaggle", "root": str(data.root), "format": fmt})
    status, _, err = command_line("prepare", "-e", experiment)
    assert (status, advice in err) == (1, True)


def test_a_run_stops_before_it_trains_on_turned_masks(tmp_path, write_experiment, command_line, competition):
    data = competition(fmt="carvana")
    data.write("truth.csv", "image_id,rle", *(f"{i},{encode(data.masks[i])}" for i in data.ids["test"]))
    source = {"source": "kaggle", "root": str(data.root)}
    experiment = write_experiment(tmp_path, data=source)
    status, out, err = command_line("run", "-e", experiment, "--quiet")
    assert status == 1
    assert "data.format: carvana fits" in out + err
    assert not any((tmp_path / "kfold/tiny/unet").glob("*"))
    # Answers are looked at as well, here written otherwise than the training masks.
    options = ("--set", "data.format=carvana", "--set", "data.test_truth=truth.csv")
    status, _, err = command_line("prepare", "-e", experiment, *options)
    assert status == 1
    assert err.startswith(
        f"error: {data.root / 'truth.csv'}: masks look turned: 3 of 3 masks looked at have more runs "
    )


def test_images_may_lie_outside_the_data_set(tmp_path, write_experiment, command_line, competition):
    data = competition()
    other = tmp_path / "other disk"
    other.mkdir()
    (data.root / "train").rename(other / "train")
    (tmp_path / "link").symlink_to(data.root)
    images = {"root": str(tmp_path / "link"), "train_images": str(other / "train"), "test_images": "../download/test"}
    experiment = write_experiment(tmp_path, data={"source": "kaggle", **images})
    assert command_line("prepare", "-e", experiment)[::2] == (0, "")
    settings = load_experiment(experiment)
    table = read_images(Artifacts.of(settings))
    assert table["path"].tolist()[0] == "../other disk/train/a0.jpg"
    assert table["path"].tolist()[-1] == "test/b2.jpg"
    assert all((settings.data.root / path).is_file() for path in table["path"])


def test_the_truth_has_the_test_images_alone(prepared):
    data, settings = prepared
    truth = pd.read_csv(Artifacts.of(settings).truth)
    assert truth["image_id"].tolist() == data.ids["test"]
    assert truth["rle"].tolist() == ["1 3"] * 3


def test_small_copies_show_the_images_and_their_masks(prepared):
    data, settings = prepared
    paths = CachePaths(Artifacts.of(settings).cache)
    images, masks = open_small(paths.images("train")), open_small(paths.masks)
    assert (images.shape, masks.shape) == ((6, 64, 96, 3), (6, 64, 96, 1))
    assert open_small(paths.images("test")).shape == (3, 64, 96, 3)
    for row, image_id in enumerate(data.ids["train"]):
        mask, pixels = data.masks[image_id], read_image(data.file("train", image_id)).pixels
        box = content_box(*mask.shape, settings.image.size, settings.image.fit)
        assert masks[row].sum() / 255 / (box.height * box.width) == pytest.approx(mask.mean(), rel=0.05)
        assert box.cut(images[row]).mean(axis=(0, 1)) == pytest.approx(pixels.mean(axis=(0, 1)), abs=3)


def test_a_second_time_gives_the_same_bytes(prepared, tmp_path, command_line):
    folder = Artifacts.of(prepared[1]).folder
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert command_line("prepare", "-e", tmp_path / "tiny.yaml", "--quiet") == (0, "", "")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_changed_data_outdate_the_table_and_data_that_are_put_away_do_not(prepared):
    data, settings = prepared
    assert outdated(settings) == {}
    csv = data.root / "train.csv"
    csv.write_text(csv.read_text() + "\n")
    reasons = outdated(settings)
    assert {path.name for path in reasons} == {"images.csv.json", "truth.csv.json", "cache.json", "image_range.json"}
    assert all("train.csv is another one" in reason for reason in reasons.values())
    data.root.rename(data.root.with_name("archive"))
    assert outdated(settings) == {}


def test_groups_are_those_of_the_rows_that_masks_are_in(tmp_path, write_experiment, command_line, competition):
    """Another column may have the same values in another order."""
    data = competition()
    ids = data.ids["train"]
    rows = [f"{ids[n - 1]},{ids[n]},p{n // 2},{encode(data.masks[ids[n]])}" for n in range(len(ids))]
    data.write("train.csv", "previous, id, patient, rle", *rows)
    source = {"source": "kaggle", "root": str(data.root), "group_column": "patient"}
    experiment = write_experiment(tmp_path, data=source)
    assert command_line("prepare", "-e", experiment)[::2] == (0, "")
    images = read_images(Artifacts.of(load_experiment(experiment)), "train")
    assert images["group"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    for column in ("id", "rle"):
        status, _, err = command_line("prepare", "-e", experiment, "--set", f"data.group_column={column}")
        assert status == 1
        assert err.startswith(f"error: {data.root / 'train.csv'}: data.group_column {column!r} is the column of the ")


@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
def test_classes_that_overlap_are_refused_where_they_exclude_each_other(
    tmp_path, write_experiment, command_line, competition, fmt
):
    """Two classes beside each other, and one that is not asked for on top of both."""
    data = competition(fmt=fmt)

    def write(row, shift):
        rows = []
        for image_id in data.ids["train"]:
            mask = data.masks[image_id].astype(bool)
            upper, lower = mask.copy(), mask.copy()
            upper[15:] = False
            lower[: 15 - shift * (image_id in row)] = False
            rows += [
                f"{image_id},{name},{encode(m, fmt)}" for name, m in (("up", upper), ("low", lower), ("all", mask))
            ]
        data.write("train.csv", "id,class,rle", *rows)

    data.write("sample_submission.csv", "id,class,rle", *(f"{i},{c}," for i in data.ids["test"] for c in ("up", "low")))
    settings = {"source": "kaggle", "root": str(data.root), "format": fmt, "classes": ["up", "low"]}
    experiment = write_experiment(tmp_path, data=settings)
    write((), 0)
    assert command_line("prepare", "-e", experiment)[::2] == (0, "")
    write(("a1", "a4"), 2)
    status, _, err = command_line("prepare", "-e", experiment)
    shared = {image_id: 2 * int(data.masks[image_id][12].sum()) for image_id in ("a1", "a4")}
    pixels, foreground = sum(shared.values()), sum(int(data.masks[image_id].sum()) for image_id in data.ids["train"])
    assert (status, err) == (
        1,
        f"error: {data.root / 'train.csv'}: 2 of 6 images have pixels in several classes: {pixels} pixels, "
        f"{pixels / foreground:.1%} of the foreground, most in a4 ({shared['a4']}), a1 ({shared['a1']}); "
        "classes exclude each other here: give each pixel one class, or make an experiment for each class "
        "(data.classes=[up], data.sample_submission=null)\n",
    )
    assert command_line("prepare", "-e", experiment, "--set", "data.classes=[low]")[0] == 1  # the sample has both
    for name in ("up", "low"):
        alone = ("--set", f"data.classes=[{name}]", "--set", "data.sample_submission=null")
        assert command_line("prepare", "-e", experiment, *alone)[::2] == (0, "")


HELD_UP = """
import os, time
from pathlib import Path
from fsspec.implementations.local import LocalFileSystem
from pipeline import locks
from pipeline.__main__ import app
from pipeline.command import run_command
from pipeline.data import portraits

waits, end = Path(os.environ["SECOND_WAITS"]), time.monotonic() + 120

def after_the_second_waits(function):
    def call(*arguments, **options):
        while not waits.exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        return function(*arguments, **options)
    return call

portraits.draw_portrait = after_the_second_waits(portraits.draw_portrait)
LocalFileSystem.get_file = after_the_second_waits(LocalFileSystem.get_file)
wait_for_lock = locks.wait_for_lock
locks.wait_for_lock = lambda file: (waits.touch(), wait_for_lock(file))
run_command(app)
"""


@pytest.fixture
def prepare_at_once(tmp_path, write_experiment):
    """``prepare_at_once(data, folder)``: two processes; the first is held up until the second one waits for it."""

    def call(data, folder):
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "SECOND_WAITS": str(tmp_path / "waits")}
        processes = []
        for name in ("first", "second"):
            workspace = tmp_path / name
            workspace.mkdir()
            command = [sys.executable, "-c", HELD_UP, "prepare", "-e", write_experiment(workspace, data=data)]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))
            end = time.monotonic() + 60
            while not any(path.name.startswith(".") for path in folder.rglob("*")):
                assert time.monotonic() < end
                time.sleep(0.01)
        results = [(*process.communicate(), process.returncode) for process in processes]
        assert [(errors, status) for _, errors, status in results] == [("", 0)] * 2
        tables = [(tmp_path / name / "kfold" / "tiny" / "images.csv").read_bytes() for name in ("first", "second")]
        assert tables[0] == tables[1]
        assert not [path for path in folder.rglob(".*") if path.name != ".DS_Store"]
        return [printed for printed, _, _ in results]

    return call


def test_two_experiments_that_draw_one_data_set_at_once_get_the_same_one(tmp_path, prepare_at_once):
    root = tmp_path / "data" / "drawn"
    root.parent.mkdir()
    data = {"source": "generated", "root": str(root), "people": 12, "test_people": 4, "heights": [200, 240]}
    prepare_at_once(data, root.parent)
    assert {path.name for path in root.parent.iterdir()} == {"drawn"}


def test_two_experiments_that_fetch_one_data_set_at_once_copy_each_file_once(tmp_path, competition, prepare_at_once):
    remote = competition(train=20)
    root = tmp_path / "copy"
    root.mkdir()
    data = {"source": "kaggle", "url": f"file://{remote.root}", "root": str(root)}
    first, second = prepare_at_once(data, root)
    copied = sum(path.is_file() for path in remote.root.rglob("*"))
    assert f"prepare: {copied} files copied" in first
    assert f"prepare: waiting for another process that copies to {root}\nprepare: 0 files copied" in second
