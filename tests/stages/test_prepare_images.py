"""All that images and mask files hold reaches the small copies whole, or `prepare` says what would be lost."""

import os
import re
import resource
import socket
import subprocess
import sys

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from pipeline import PROJECT
from pipeline.artifacts import Artifacts
from pipeline.config import load_experiment
from pipeline.data.cache import CachePaths, open_small, read_images
from pipeline.rle import decode, encode
from tests.pngs import write_grey_png, write_png

SIZE = (64, 64)


@pytest.fixture
def folder_of(tmp_path, write_experiment):
    """``folder_of(**data)``: an experiment on ``download/``, a folder of images with masks in ``masks/``."""

    def make(**data):
        root = tmp_path / "download"
        layout = {"source": "folder", "root": str(root), "train_masks": "masks", "mask_suffix": "", "test_images": None}
        return write_experiment(tmp_path, data={**layout, **data})

    root = tmp_path / "download"
    for name in ("train", "masks", "test"):
        (root / name).mkdir(parents=True)
    make.root = root
    return make


def write_mask(path, shape=SIZE):
    mask = np.zeros(shape, np.uint8)
    mask[5:40, 8:30] = 255
    Image.fromarray(mask).save(path)


def small_of(experiment, subset="train"):
    return open_small(CachePaths(Artifacts.of(load_experiment(experiment)).cache).images(subset))


def prepare(command_line, experiment, *words):
    return command_line("prepare", "-e", experiment, *words)


# ---------------------------------------------------------------------------------------------------- 16-bit values


def ramp(low, high):
    """Rows of one value each, so that nothing is averaged: int (64, 64)."""
    return np.repeat(np.linspace(low, high, 64).round().astype(int)[:, None], 64, axis=1)


@pytest.mark.parametrize("kind", ["png", "<u2", ">u2", "<i2", "<f4"])
def test_deep_images_have_one_scale_from_all_of_them(folder_of, command_line, kind):
    shift = -600 if kind in ("<i2", "<f4") else 0
    stored = {"train": [(0, 100), (0, 700)], "test": [(50, 1008)]}
    for subset, ranges in stored.items():
        for number, (low, high) in enumerate(ranges):
            place = folder_of.root / subset / f"{subset}{number}"
            values = ramp(low, high) + shift
            if kind == "png":
                place.with_suffix(".png").write_bytes(imagecodecs.png_encode(values.astype(np.uint16)))
            else:
                dtype = np.dtype(kind)
                tifffile.imwrite(place.with_suffix(".tif"), values.astype(dtype), byteorder=kind[0])
            if subset == "train":
                write_mask(folder_of.root / "masks" / f"{subset}{number}.png")
    experiment = folder_of(test_images="test")
    status, out, err = prepare(command_line, experiment)
    assert (status, err) == (0, "")
    for subset, ranges in stored.items():
        for row, (low, high) in enumerate(ranges):
            expected = np.rint(ramp(low, high) * 255 / 1008)
            assert np.array_equal(small_of(experiment, subset)[row, ..., 0], expected)
    assert f"values, from {shift} to {1008 + shift} in all of them" in out
    from pipeline.data.image_range import read_range
    from pipeline.data.images import ValueRange

    place = Artifacts.of(load_experiment(experiment)).image_range
    assert read_range(place) == ValueRange(shift, 1008 + shift)


def test_deep_images_that_cannot_be_read_are_named_with_all_others(folder_of, command_line):
    for name, values in (("a", [[0.5, 2]]), ("b", [[0, np.nan]]), ("c", [[0, np.inf]]), ("d", [[0, 9]])):
        tifffile.imwrite(folder_of.root / "train" / f"{name}.tif", np.array(values, np.float32))
        write_mask(folder_of.root / "masks" / f"{name}.png", (1, 2))
    whole = (folder_of.root / "train" / "d.tif").read_bytes()
    (folder_of.root / "train" / "d.tif").write_bytes(whole[:-4])
    status, _, err = prepare(command_line, folder_of())
    assert (status, err.count("\n")) == (1, 3)
    for name, reason in (("b", "no finite numbers"), ("c", "no finite numbers"), ("d", "truncated")):
        assert f"{name}.tif: " in err
        assert reason in err


def test_8_bit_images_are_as_they_were_and_need_no_scale(folder_of, command_line):
    Image.fromarray((ramp(0, 100)).astype(np.uint8)).save(folder_of.root / "train" / "a.png")
    write_mask(folder_of.root / "masks" / "a.png")
    experiment = folder_of()
    status, out, _ = prepare(command_line, experiment)
    assert status == 0
    assert "values" not in out
    assert np.array_equal(small_of(experiment)[0, ..., 1], ramp(0, 100))
    from pipeline.data.image_range import read_range

    assert read_range(Artifacts.of(load_experiment(experiment)).image_range) is None


def test_images_of_8_and_of_16_bits_have_no_scale_in_common(folder_of, command_line):
    for name, dtype in (("a", np.uint8), ("b", np.uint8), ("c", np.uint16)):
        Image.fromarray((ramp(0, 100)).astype(dtype)).save(folder_of.root / "train" / f"{name}.png")
        write_mask(folder_of.root / "masks" / f"{name}.png")
    status, _, err = prepare(command_line, folder_of())
    assert (status, err.count("\n")) == (1, 1)
    assert "2 images have 8 bits a channel (a.png, b.png) and 1 have 16-bit values (c.png)" in err


# ------------------------------------------------------------------------------------------------ pages and channels


def test_pages_and_channels_that_would_be_lost_are_refused_with_their_number(folder_of, command_line):
    rgb = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    tifffile.imwrite(folder_of.root / "train" / "pages.tif", np.stack([rgb] * 3), photometric="rgb")
    for number in range(7):
        four = np.concatenate([rgb, rgb[..., :1]], axis=2)
        Image.fromarray(four).save(folder_of.root / "train" / f"four{number}.png")
    Image.fromarray(np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=2)).save(
        folder_of.root / "train" / "opaque.png"
    )
    for path in (folder_of.root / "train").iterdir():
        write_mask(folder_of.root / "masks" / f"{path.stem}.png")
    status, _, err = prepare(command_line, folder_of())
    assert (status, err.count("\n")) == (1, 2)
    assert "pages.tif: has 3 pages or frames" in err
    assert "7 images: " in err
    assert "four0.png" in err
    assert "has 4 channels (RGBA), the last one not constant" in err
    assert "opaque" not in err


# ------------------------------------------------------------------------------------------------------- mask files


CLASSES = np.zeros(SIZE, np.uint8)
CLASSES[5:40, 8:30] = 2
CLASSES[50:60, 8:30] = 1


def write_easyportrait(root, classes, bits):
    for kind in ("images", "annotations"):
        (root / kind / "train").mkdir(parents=True)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "images/train/a.jpg")
    write_grey_png(root / "annotations/train/a.png", classes, bits)
    (root / "meta.csv").write_text("image_name\tuser_id\na.jpg\tu\n")
    return {"source": "easyportrait", "root": str(root), "test_split": None}


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_annotations_of_few_bits_keep_their_classes(tmp_path, write_experiment, command_line, bits):
    data = write_easyportrait(tmp_path / "download", CLASSES, bits)
    experiment = write_experiment(tmp_path, data=data)
    assert prepare(command_line, experiment)[::2] == (0, "")
    table = pd.read_csv(Artifacts.of(load_experiment(experiment)).images, dtype=str, keep_default_na=False)
    assert np.array_equal(decode(table["rle"][0], SIZE), CLASSES == 2)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_annotations_of_classes_that_there_are_not_are_refused(tmp_path, write_experiment, command_line, bits):
    classes = CLASSES.copy()
    classes[0, :3] = (9, 12, 9)
    experiment = write_experiment(tmp_path, data=write_easyportrait(tmp_path / "download", classes, bits))
    status, _, err = prepare(command_line, experiment)
    assert (status, err.count("\n")) == (1, 1)
    assert "annotations/train/a.png: has the values 9, 12; annotations of EasyPortrait have 0 (background) to 8" in err


@pytest.mark.parametrize("bits", [1, 2, 4, 16])
@pytest.mark.parametrize("rule", ["0/1", "0/255"])
def test_folder_masks_of_other_than_8_bits(folder_of, command_line, bits, rule):
    truth = np.where(CLASSES == 2, 1, 0)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder_of.root / "train" / "a.png")
    write_grey_png(folder_of.root / "masks" / "a.png", truth * (1 if rule == "0/1" else 2**bits - 1), bits)
    experiment = folder_of(mask_values=rule)
    assert prepare(command_line, experiment)[::2] == (0, "")
    table = pd.read_csv(Artifacts.of(load_experiment(experiment)).images, dtype=str, keep_default_na=False)
    assert np.array_equal(decode(table["rle"][0], SIZE), truth)


# -------------------------------------------------------------------------------------------------- EXIF orientation


def write_photograph(path, stored, orientation):
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, quality=95)


def blob(height, width, number):
    """A mask with a slanted outline, uint8 (height, width) of 0 and 1."""
    rows, columns = np.mgrid[:height, :width]
    return ((rows - height // 2) ** 2 * 2 + (columns - width // 3 - number) ** 2 < 300).astype(np.uint8)


@pytest.fixture
def photographs(tmp_path, write_experiment):
    """``photographs(turned=3, drawn="stored", ...)``: an experiment on 12 photographs, some turned by EXIF.

    They are stored 60 x 80; the masks are drawn on the pixels as stored, or on those turned.
    """

    def make(turned=3, drawn="stored", orientation=6, fmt="kaggle", columns="", upright=9, **data):
        root = tmp_path / "download"
        (root / "train").mkdir(parents=True)
        lines = []
        for number in range(upright + turned):
            sideways = number < turned
            stored = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
            write_photograph(root / "train" / f"a{number:02}.jpg", stored, orientation if sideways else 1)
            on_its_side = sideways and orientation >= 5 and drawn == "turned"
            mask = blob(*((80, 60) if on_its_side else (60, 80)), number)
            sizes = f",{mask.shape[0]},{mask.shape[1]}" if columns else ""
            lines.append(f"a{number:02},{encode(mask, fmt)}{sizes}\n")
        (root / "train.csv").write_text(f"id,rle{columns}\n" + "".join(lines))
        layout = {"test_images": None, "sample_submission": None, "format": fmt}
        return write_experiment(tmp_path, data={"source": "kaggle", "root": str(root), **layout, **data})

    return make


TURNED = "a00.jpg, a01.jpg, a02.jpg"


@pytest.mark.parametrize("columns", ["", ",height,width"])
@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
@pytest.mark.parametrize(("drawn", "wrong", "right"), [("stored", "apply", "ignore"), ("turned", "ignore", "apply")])
def test_masks_drawn_on_other_pixels_than_exif_says_name_the_setting(
    photographs, command_line, columns, fmt, drawn, wrong, right
):
    experiment = photographs(drawn=drawn, columns=columns, fmt=fmt)
    given = () if wrong == "apply" else ("--set", f"data.exif={wrong}")  # which is the default
    status, out, err = prepare(command_line, experiment, *given)
    assert (status, err.count("\n")) == (1, 1), out + err
    assert "3 images that EXIF turns" in err
    assert TURNED in err
    assert f"set data.exif: {right}" in err
    status, out, err = prepare(command_line, experiment, "--set", f"data.exif={right}")
    assert (status, err) == (0, "")
    assert f"3 of 12 images carry an EXIF orientation, 3 training images on their side ({TURNED})" in out
    assert "warning" not in out
    images = read_images(Artifacts.of(load_experiment(experiment)))
    assert (images["height"][0], images["width"][0]) == ((60, 80) if right == "ignore" else (80, 60))


@pytest.mark.parametrize("wrong", ["apply", "ignore"])
def test_mask_files_of_other_sizes_name_the_setting(folder_of, command_line, wrong):
    for number in range(4):
        stored = np.zeros((60, 80, 3), np.uint8)
        write_photograph(folder_of.root / "train" / f"a{number:02}.jpg", stored, 8 if number < 3 else 1)
        upright = number < 3 and wrong == "ignore"
        write_mask(folder_of.root / "masks" / f"a{number:02}.png", (80, 60) if upright else (60, 80))
    right = {"apply": "ignore", "ignore": "apply"}[wrong]
    status, _, err = prepare(command_line, folder_of(**({} if wrong == "apply" else {"exif": wrong})))
    assert (status, err.count("\n")) == (1, 1)
    assert "3 images that EXIF turns have the size of the pixels" in err
    assert f"{TURNED}; set data.exif: {right}" in err
    assert prepare(command_line, folder_of(exif=right))[::2] == (0, "")


def test_masks_that_fit_both_ways_say_that_no_setting_is_right(folder_of, command_line):
    for number in range(3):
        write_photograph(folder_of.root / "train" / f"a{number}.jpg", np.zeros((60, 80, 3), np.uint8), 6)
        write_mask(folder_of.root / "masks" / f"a{number}.png", (80, 60) if number else (60, 80))
    status, _, err = prepare(command_line, folder_of())
    assert status == 1
    assert "1 images that EXIF turns have the size of the pixels as stored" in err
    assert "But those of 2 others fit turned as EXIF says (a1.jpg, a2.jpg): no setting is right for all" in err


def test_a_few_masks_that_look_drawn_on_other_pixels_are_a_warning(photographs, command_line):
    status, out, _ = prepare(command_line, photographs(turned=2, upright=10))
    assert status == 0
    assert "warning: the masks of 2 images look drawn on the pixels as stored: a00.jpg, a01.jpg; see data.exif" in out


def test_masks_that_the_user_has_looked_at_pass_with_a_warning(photographs, command_line):
    experiment = photographs()
    assert "data.format_checked: true if the masks are right" in prepare(command_line, experiment)[2]
    status, out, err = prepare(command_line, experiment, "--set", "data.format_checked=true")
    assert (status, err) == (0, "")
    assert "warning: the masks of 3 images look drawn on the pixels as stored" in out


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_orientations_that_no_size_shows_are_named(photographs, command_line, orientation):
    status, out, _ = prepare(command_line, photographs(orientation=orientation))
    assert status == 0
    assert f"3 training images upside down or mirrored ({TURNED}): they are turned as it says (data.exif)" in out
    assert "shows in no size" in out


def test_masks_in_another_format_are_no_matter_of_exif(photographs, command_line):
    _, _, err = prepare(command_line, photographs(drawn="turned", fmt="carvana"), "--set", "data.format=kaggle")
    assert "set data.exif" not in err
    assert "masks look turned" in err


def test_commands_on_csv_files_read_sizes_as_data_exif_does(photographs, command_line, tmp_path):
    experiment = photographs(columns=",height,width")
    root = tmp_path / "download"
    rows = pd.read_csv(root / "train.csv", dtype=str)
    rows[["id", "rle"]].to_csv(tmp_path / "plain.csv", index=False)
    for exif, first in (("apply", ["80", "60"]), ("ignore", ["60", "80"])):
        words = ("--images", root / "train", "--exif", exif)
        assert (
            command_line("convert", tmp_path / "plain.csv", "-o", tmp_path / "out.csv", "--with-sizes", *words)[0] == 0
        )
        assert pd.read_csv(tmp_path / "out.csv", dtype=str).loc[0, ["height", "width"]].tolist() == first
        status, out, _ = command_line("score", tmp_path / "plain.csv", tmp_path / "plain.csv", *words, "--json")
        assert status == 0
        assert command_line("lint", tmp_path / "plain.csv", *words)[0] == 0
    assert prepare(command_line, experiment)[0] == 1
    out = prepare(command_line, experiment, "--set", "data.exif=ignore")
    assert out[0] == 0


# --------------------------------------------------------------------------------------------- files and their sizes


@pytest.fixture
def in_a_process(monkeypatch):
    """``in_a_process(*words, memory=None)``: (status, stderr) of `python -m pipeline` that may use so many bytes."""

    def call(*words, memory=None):
        limit = (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))) if memory else None
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-m", "pipeline", *map(str, words)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=100, preexec_fn=limit, check=False
        )
        return done.returncode, done.stderr

    return call


def write_huge_png(path, side=60_000):
    """The header of a PNG of that many pixels a side, and next to nothing in it."""
    write_png(path, side, side, 8, 2, bytes(1000))


def test_what_is_no_photograph_is_one_line_each(folder_of, in_a_process):
    root = folder_of.root
    os.mkfifo(root / "train" / "fifo.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "train" / "socket.png"))
    (root / "train" / "device.png").symlink_to("/dev/zero")
    (root / "train" / "folder.png").mkdir()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "train" / "script.png", "EPS")
    write_huge_png(root / "train" / "huge.png")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / "train" / "good.png")
    for name in ("script", "huge", "good"):
        write_mask(root / "masks" / f"{name}.png")
    status, err = in_a_process("prepare", "-e", folder_of(), memory=6 * 2**30)
    huge, script = sorted(err.splitlines())
    assert status == 1
    need = re.escape("huge.png: 60000 x 60000 pixels (height x width) need 14.4 GB to decode, and images may take ")
    assert re.search(need + r"\d+\.\d GB here", huge)
    assert "script.png: not an image of JPEG, PNG, TIFF, WEBP, GIF or BMP; it is EPS" in script


@pytest.mark.parametrize("name", ["fifo.png", "script.png", "huge.png", "folder.png/inner.png", "caf\udce9.png"])
def test_segment_names_what_is_no_photograph_and_goes_on(finished, tmp_path, command_line, name, monkeypatch):
    _, experiment, photographs = finished
    good, bad = sorted(photographs.iterdir())[0], tmp_path / name
    bad.parent.mkdir(exist_ok=True)
    if name == "fifo.png":
        os.mkfifo(bad)
    elif name == "script.png":
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(bad, "EPS")
    elif name == "huge.png":
        write_huge_png(bad)
        monkeypatch.setattr("pipeline.memory.DECODING._total", 10**9)
    elif name == "caf\udce9.png":
        bad.write_bytes(good.read_bytes())
    else:
        bad.mkdir()
        bad = bad.parent / "bad.png"
        bad.symlink_to("/dev/zero")
    words = ("-o", tmp_path / "out", "--no-overlays", "--folds", 1)
    status, _, err = command_line("segment", "--experiment", experiment, bad, good, *words)
    assert (status, err.count("\n")) == (1, 1)
    assert ascii(bad.name)[1:-1] in err
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == [f"{good.stem}.png"]


def test_the_size_of_a_huge_png_is_read_from_its_header(tmp_path, in_a_process):
    (tmp_path / "images").mkdir()
    write_huge_png(tmp_path / "images" / "huge.png", side=50_000)
    (tmp_path / "a.csv").write_text("id,rle\nhuge,1 2\n")
    words = ("--images", tmp_path / "images", "--with-sizes", "-o", tmp_path / "b.csv")
    assert in_a_process("convert", tmp_path / "a.csv", *words, memory=6 * 2**30) == (0, "")
    assert (tmp_path / "b.csv").read_text().splitlines()[1] == "huge,1 2,50000,50000"


def test_a_name_that_is_no_text_is_named(folder_of, in_a_process):
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder_of.root / "train" / "good.png")
    write_mask(folder_of.root / "masks" / "good.png")
    (folder_of.root / "train" / "good.png").rename(os.fsdecode(bytes(folder_of.root / "train") + b"/caf\xe9.png"))
    (folder_of.root / "masks" / "good.png").rename(os.fsdecode(bytes(folder_of.root / "masks") + b"/caf\xe9.png"))
    status, err = in_a_process("prepare", "-e", folder_of())
    assert (status, err.count("\n")) == (1, 1)
    assert "caf" in err
    assert "Traceback" not in err


PEAK = r"""
import re, sys
from pathlib import Path
from pipeline.data.images import read_image
# getrusage would tell of the process that has started this one.
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024
read_image(Path(sys.argv[1]), at_least=(64, 64))
before = peak()
photograph = read_image(Path(sys.argv[2]), at_least=(64, 64))
print(peak() - before, photograph.height, photograph.width, *photograph.pixels.mean(axis=(0, 1)))
"""


@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 64, "compression": "deflate"}, {"tile": (256, 256)}])
def test_a_large_tiff_needs_memory_for_a_few_rows(tmp_path, python, options):
    rgb = np.zeros((8000, 8000, 3), np.uint8)
    rgb[:, 4000:] = (200, 100, 50)
    tifffile.imwrite(tmp_path / "large.tif", rgb, photometric="rgb", **options)
    tifffile.imwrite(tmp_path / "small.tif", rgb[:99, :99], photometric="rgb", **options)
    del rgb
    done = python("-c", PEAK, tmp_path / "small.tif", tmp_path / "large.tif")
    assert done.returncode == 0, done.stderr
    megabytes, *size_and_means = done.stdout.split()
    assert int(megabytes) < 160  # 119 here; the pixels alone are 192
    assert size_and_means == ["8000", "8000", "100.0", "50.0", "25.0"]


def test_a_scale_that_is_lost_is_found_again_and_nothing_else_is_made_again(one_network, tmp_path, command_line):
    run = one_network.copy(tmp_path / "run")
    run.artifacts.image_range.unlink()
    status, out, err = command_line("run", "--experiment", run.experiment, "--dry-run")
    assert (status, err) == (0, "")
    assert [line for line in out.splitlines() if "would run" in line] == [
        "would run: prepare: out of date",
        "1 jobs would run",
    ]
