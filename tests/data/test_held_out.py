"""Maps beside their true masks, for one class and for several."""

import numpy as np
import pandas as pd
import pytest

from pipeline.artifacts import Artifacts
from pipeline.config import UNNAMED
from pipeline.data.cache import COLUMNS
from pipeline.data.held_out import HeldOutMasks
from pipeline.geometry import shrink
from pipeline.rle import encode, from_edges

SIZE = (8, 6)
IMAGES = 37  # more than two chunks
CLASSES = {"one": [UNNAMED], "two": ["left", "right"]}


def sides(number):
    return 9 + number % 4, 7 + number % 5


def mask_of(number, place):
    rng = np.random.default_rng(100 * number + place)
    return (rng.random(sides(number)) < 0.4).astype(np.uint8)


@pytest.fixture(params=CLASSES)
def written(request, tmp_path):
    """images.csv and folds.csv of images with other sizes and masks each; their classes."""
    classes, artifacts = CLASSES[request.param], Artifacts(tmp_path, "tiny")
    artifacts.folder.mkdir(parents=True)
    ids = [f"a{number:02d}" for number in range(IMAGES)]
    table = pd.DataFrame({"image_id": ids, "subset": "train"}).reindex(columns=COLUMNS)
    table["height"], table["width"] = zip(*map(sides, range(IMAGES)), strict=True)
    for place, name in enumerate(classes):
        column = "rle" if name == UNNAMED else f"rle_{name}"
        table[column] = [encode(mask_of(number, place)) for number in range(IMAGES)]
    table.to_csv(artifacts.images, index=False)
    fold = np.arange(IMAGES) % 3
    folds = pd.DataFrame({"image_id": ids, "fold": fold, "group": [f"g{n // 5}" for n in range(IMAGES)], "stratum": 0})
    folds.to_csv(artifacts.folds, index=False)
    return artifacts, classes


def maps_of(count):
    """The first pixel tells which map it is."""
    maps = np.random.default_rng(0).integers(0, 256, (count, *SIZE), dtype=np.uint8)
    maps[:, 0, 0] = np.arange(count)
    return maps


def test_every_mask_comes_with_its_own_map_and_size(written):
    artifacts, classes = written
    masks = HeldOutMasks.read(artifacts, "stretch", classes)
    assert len(masks) == len(masks.ids) == IMAGES * len(classes)
    held = list(masks.held(maps_of(len(masks))))
    assert [int(each.prob_hw[0, 0]) for each in held] == list(range(len(masks)))
    for row, each in enumerate(held):
        number, place = divmod(row, len(classes))
        assert (each.height, each.width) == masks.sizes[row] == sides(number)
        assert np.array_equal(from_edges(each.true_edges, sides(number)), mask_of(number, place))
        assert (masks.fold[row], masks.group[row]) == (number % 3, number // 5)
        assert masks.ids[row] == f"a{number:02d}" + (f"/{classes[place]}" if len(classes) > 1 else "")


def test_a_class_and_a_fold_are_parts_of_all(written):
    artifacts, classes = written
    masks = HeldOutMasks.read(artifacts, "stretch", classes)
    maps = maps_of(len(masks))
    for place in range(len(classes)):
        numbers = [int(each.prob_hw[0, 0]) for each in masks.held_of_class(maps, place)]
        assert numbers == list(range(place, len(masks), len(classes)))
    part = masks.of_fold(1)
    rows = np.flatnonzero(masks.fold == 1)
    assert part.ids == [masks.ids[row] for row in rows]
    for row, each in zip(rows, part.held(maps[rows]), strict=True):
        assert int(each.prob_hw[0, 0]) == row
        assert np.array_equal(each.true_edges, masks.truth[row])


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_small_masks_are_those_of_the_training_without_a_border(written, fit):
    artifacts, classes = written
    masks = HeldOutMasks.read(artifacts, fit, classes)
    makers = [maps_of(len(masks)), maps_of(len(masks))[::-1]]
    chosen = np.array([0, 3, 17, len(masks) - 1])
    found = list(masks.small(makers, chosen))
    assert len(found) == 4
    for row, (says, covered) in zip(chosen, found, strict=True):
        number, place = divmod(row, len(classes))
        height, width = sides(number)
        whole = shrink(np.full((height, width), 255, np.uint8), SIZE, fit, height=height, width=width)
        small = shrink(mask_of(number, place) * np.uint8(255), SIZE, fit, height=height, width=width)
        inside = whole > 0
        assert says.shape == (inside.sum(), 2)
        assert np.array_equal(covered, small[inside])
        for maker, column in zip(makers, says.T, strict=True):
            assert np.array_equal(column, maker[row][inside])
