"""`submit` in every format, with and without classes, for images of one size and of different sizes.

What is written is read by a decoder of the test's own, pixel by pixel, from the formats' published descriptions.
"""

import csv
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import Artifacts, write_json
from pipeline.bundling.checking import Room
from pipeline.config import load_experiment
from pipeline.data.probabilities import write_probabilities
from pipeline.geometry import restore
from pipeline.postprocess import Postprocess
from pipeline.rle import FORMATS, RleError, get_format, write_csv
from pipeline.stages.prepare import prepare
from pipeline.stages.submit import check_written, submit

CLASSES = {"one": None, "several": {"car": 2, "road": 1}}
SIZES = {"equal": [(64, 80)] * 4, "different": [(64, 80), (72, 66), (91, 70), (66, 91)]}
THRESHOLDS = {"one": [100], "several": [100, 140]}
SCORES = {"submitted": 0.8, "submitted_ci95": [0.7, 0.9], "at_half": 0.8, "cross_fitted": 0.8}
SCORES |= {"cross_fitted_ci95": [0.7, 0.9], "tuned": 0.8, "submits": "", "optimism": "", "verdict": ""}


def numbers_of(text, style):
    """The numbers that a text consists of; COCO's compression as maskApi.c describes it."""
    if style != "coco":
        return [int(token) for token in text.split()]
    counts, place = [], 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            letter = ord(text[place]) - 48
            value |= (letter & 31) << shift
            more, place, shift = bool(letter & 32), place + 1, shift + 5
        if letter & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def pixels_of(text, shape, fmt):
    """The mask of a text, bool (H, W); a pixel past the end is an error."""
    flat = np.zeros(shape[0] * shape[1], bool)
    if text not in ("", fmt.empty):
        numbers, place = numbers_of(text, fmt.style), 0
        if fmt.style in ("counts", "coco"):
            assert sum(numbers) == flat.size
        for first, length in zip(numbers[::2], numbers[1::2], strict=False):
            place = first - fmt.base if fmt.style == "pairs" else place + first
            assert place >= 0
            assert place + length <= flat.size
            assert not flat[place : place + length].any()
            flat[place : place + length] = True
            place += length
    return flat.reshape(shape, order=fmt.order)


@pytest.fixture(scope="module", params=[(c, s) for c in CLASSES for s in SIZES], ids="-".join)
def prepared(request, tmp_path_factory, write_experiment):
    """Inputs of `submit`: the experiment's file, the classes, the sizes and the true maps of the test images."""
    classes, sizes = request.param
    folder = tmp_path_factory.mktemp("grid")
    rng = np.random.default_rng(0)
    for kind, letter in (("train", "t"), ("masks", "t"), ("test", "u")):
        (folder / "own" / kind).mkdir(parents=True)
        for number, shape in enumerate(SIZES[sizes]):
            pixels = rng.integers(0, 256, (*shape, 3), np.uint8)
            if kind == "masks":
                pixels = (
                    rng.integers(0, 3, shape, np.uint8) if CLASSES[classes] else 255 * np.eye(*shape, dtype=np.uint8)
                )
            Image.fromarray(pixels).save(folder / "own" / kind / f"{letter}{number}.png")
    data = {"source": "folder", "root": str(folder / "own"), "train_masks": "masks", "mask_suffix": ""}
    if CLASSES[classes]:
        data["classes"] = CLASSES[classes]
    file = write_experiment(folder, data=data, image={"size": [64, 64]})
    prepare(file, quiet=True)
    artifacts = Artifacts.of(load_experiment(file))
    names = [*(CLASSES[classes] or [""])]
    ids = [f"u{number}/{name}".rstrip("/") for number in range(4) for name in names]
    maps = rng.integers(0, 200, (len(ids), 8, 8)).repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8)
    maps[1] = 0  # a mask without a pixel
    maps[2] = 255  # and one of all
    write_probabilities(artifacts.ensemble_test, ids, (64, 64), [maps])
    postprocess = [asdict(Postprocess(threshold=threshold)) for threshold in THRESHOLDS[classes]]
    write_json(artifacts.tuning, {"metric": "dice", "postprocess": postprocess, "sets": {"ensemble": SCORES}})
    return file, artifacts, classes, SIZES[sizes], dict(zip(ids, maps, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_submitted_is_what_another_reader_reads(prepared, name):
    file, artifacts, classes, sizes, maps = prepared
    fmt = get_format(name)
    submit(file, [f"data.submission_format={name}"], quiet=True)
    with artifacts.submission.open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    assert header == (["image_id", "rle"] if classes == "one" else ["image_id", "class", "rle"])
    assert ["/".join(row[:-1]) for row in rows] == list(maps)
    for place, (row, prob_hw) in enumerate(zip(rows, maps.values(), strict=True)):
        shape = sizes[int(row[0][1:])]
        thresholds = THRESHOLDS[classes]
        expected = restore(prob_hw, *shape, "stretch") >= thresholds[place % len(thresholds)]
        assert np.array_equal(pixels_of(row[-1], shape, fmt), expected)
        if fmt.style in ("pairs", "gaps"):
            assert (row[-1] == fmt.empty) == (not expected.any())


@pytest.mark.parametrize("name", ["kaggle", "carvana"])
def test_a_bundles_masks_are_compared_in_every_order_of_pixels(prepared, tmp_path, name):
    file, artifacts, *_ = prepared
    submit(file, [f"data.submission_format={name}"], quiet=True)
    room = object.__new__(Room)
    room.settings, room.artifacts = load_experiment(file, [f"data.submission_format={name}"]), artifacts
    room.expected, room.found = artifacts.submission, tmp_path / "found.csv"
    header, first, *rest = artifacts.submission.read_text().splitlines()
    room.found.write_text("\n".join([header, first.rpartition(",")[0] + ",", *rest]) + "\n")
    assert room.mean_dice(header.split(",")) == pytest.approx(1 - 1 / (1 + len(rest)))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", FORMATS)
def test_a_mask_that_is_none_of_its_image_is_refused_when_read_back(tmp_path, name, classes, sizes):
    names = [*(CLASSES[classes] or [""])]
    ids = [f"u{number}/{each}".rstrip("/") for number in range(4) for each in names]
    shapes = {each: SIZES[sizes][int(each[1])] for each in ids}
    columns = ["id", "class", "rle"] if CLASSES[classes] else ["id", "rle"]
    fmt, path = get_format(name), tmp_path / "submission.csv"
    height, width = shapes[ids[-1]]
    # The image's first pixel and one below the last of its last column, which no image of this size has.
    texts = {
        "pairs": f"{fmt.base} 1 {height * width + fmt.base} 1",
        "gaps": f"0 1 {height * width - 1} 1",
        "counts": f"0 1 {height * width - 1} 1",
        "coco": "01" + compressed(height * width - 1) + "0",
    }
    empty = {"counts": lambda h, w: str(h * w), "coco": lambda h, w: compressed(h * w)}.get(fmt.style)
    written = [empty(*shapes[each]) if empty else fmt.empty for each in ids]
    written[-1] = texts[fmt.style]
    masks = {each: np.empty(0, np.uint32) for each in ids}
    # What the text says in column-major order, so that nothing but its size tells that it is wrong.
    masks[ids[-1]] = np.array([0, 1, height * width, height * width + 1], np.uint32)
    write_csv(path, ids, written, columns=tuple(columns))
    with pytest.raises(RleError, match=f"row {len(ids) + 1} "):
        check_written(path, name, columns, masks, ids, shapes)


def compressed(count):
    """A count as COCO compresses it."""
    text = ""
    while True:
        bits, count = count & 31, count >> 5
        done = count == 0 and not bits & 16
        text += chr(48 + (bits if done else bits | 32))
        if done:
            return text
