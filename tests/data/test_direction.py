"""Right masks of every shape must pass, turned ones be seen."""

import cv2
import numpy as np
import pytest

from pipeline.data.direction import Votes, fitting_format
from pipeline.data.portraits import draw_portrait
from pipeline.rle import FORMATS, get_format, text_to_edges, to_edges, transpose

COUNT = 6  # masks of a data set
SIZES = [(80, 100), (240, 320), (320, 240), (500, 50), (50, 500), (256, 1600), (128, 64), (64, 128), (101, 100)]


def blobs(rng, mask):
    height, width = mask.shape
    for _ in range(rng.integers(1, 4)):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (int(rng.integers(3, max(4, width // 3))), int(rng.integers(3, max(4, height // 3))))
        cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)


def around_blobs(rng, mask):
    blobs(rng, mask)
    mask[:] = 1 - mask


def rectangles(rng, mask):
    height, width = mask.shape
    top, left = rng.integers(0, height - 9), rng.integers(0, width - 9)
    mask[top : top + rng.integers(5, height), left : left + rng.integers(5, width)] = 1


def vessels(rng, mask):
    height, width = mask.shape
    x, y, angle = rng.integers(width), rng.integers(height), rng.random() * 6
    for _ in range(80):
        start, angle = (int(x), int(y)), angle + rng.normal() * 0.4
        x, y = x + 6 * np.cos(angle), y + 6 * np.sin(angle)
        cv2.line(mask, start, (int(x), int(y)), 1, int(rng.integers(1, 4)))


def upright_lines(rng, mask):
    height, width = mask.shape
    for _ in range(rng.integers(1, 4)):
        left, (top, bottom) = rng.integers(width), sorted(rng.integers(0, height, 2))
        mask[top : bottom + 1, left : left + rng.integers(1, 4)] = 1


def poles(rng, mask):
    """From near the top to near the bottom."""
    height, width = mask.shape
    for left in range(2, width - 3, max(4, width // 6)):
        mask[int(height * rng.uniform(0, 0.2)) : height - int(height * rng.uniform(0, 0.2)), left : left + 2] = 1


def full_columns(rng, mask):
    for _ in range(3):
        left = rng.integers(mask.shape[1])
        mask[:, left : left + rng.integers(1, 6)] = 1
    mask[: rng.integers(0, 3)] = 0


def stripes(rng, mask):
    mask[:, :: rng.integers(2, 20)] = 1


def grids(rng, mask):
    period = rng.integers(4, 20)
    mask[::period], mask[:, ::period] = 1, 1


def ground(rng, mask):
    """All below a skyline."""
    height, width = mask.shape
    line = (height // 2 + rng.integers(-height // 4, height // 4) + np.cumsum(rng.integers(-1, 2, width))).clip(
        1, height
    )
    mask[:] = np.arange(height)[:, None] >= line


def noise(rng, mask):
    mask[:] = rng.random(mask.shape) < rng.choice([0.01, 0.1, 0.5])


def dots(rng, mask):
    height, width = mask.shape
    for _ in range(30):
        cv2.circle(mask, (int(rng.integers(width)), int(rng.integers(height))), int(rng.integers(0, 4)), 1, -1)


def diagonals(rng, mask):
    height, width = mask.shape
    cv2.line(mask, (int(rng.integers(width)), 0), (int(rng.integers(width)), height - 1), 1, 1)


UPRIGHT = [upright_lines, poles, full_columns, stripes]
SHAPES = [blobs, around_blobs, rectangles, vessels, *UPRIGHT, grids, ground, noise, dots, diagonals]


def draw(shape, size, lying):
    """A data set; lying: its shapes turned by a quarter, in images of the same size."""
    masks = []
    for seed in range(COUNT):
        mask = np.zeros(size[::-1] if lying else size, np.uint8)
        shape(np.random.default_rng(seed), mask)
        masks.append(to_edges(np.ascontiguousarray(mask.T) if lying else mask))
    return masks


def votes(masks, size, fmt):
    return Votes.count(((mask, size) for mask in masks), get_format(fmt))


def misread(mask, size, fmt):
    """Return what a mask becomes when its text, along the other direction, is read as this format says."""
    height, width = size
    if fmt == "kaggle":
        return transpose(mask, size)  # row-major numbers, taken for column-major ones
    return transpose(mask, (width, height))


@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
@pytest.mark.parametrize("lying", [False, True], ids=["upright", "lying"])
@pytest.mark.parametrize("shape", SHAPES)
def test_right_masks_of_any_shape_and_size_pass(shape, lying, fmt):
    assert not [size for size in SIZES if votes(draw(shape, size, lying), size, fmt).convict]


@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
@pytest.mark.parametrize("size", [(80, 100), (240, 320), (320, 240)])
@pytest.mark.parametrize("shape", [blobs, around_blobs, rectangles, vessels])
def test_turned_masks_are_seen(shape, size, fmt):
    masks = [misread(mask, size, fmt) for mask in draw(shape, size, lying=False)]
    found = votes(masks, size, fmt)
    assert found.convict, found


@pytest.mark.parametrize(("fmt", "other"), [("kaggle", "carvana"), ("carvana", "kaggle")])
def test_portraits_touch_the_border_and_are_seen_all_the_same(fmt, other):
    size = (160, 120)
    faces = [to_edges(draw_portrait(0, person, 0, size)[1]) for person in range(10)]
    people = [to_edges(1 - draw_portrait(0, person, 0, size)[1]) for person in range(10)]
    for masks in (faces, people):
        masks = [mask for mask in masks if mask.size >= 4]
        assert votes(masks, size, fmt).right == len(masks)
        found = votes([misread(mask, size, fmt) for mask in masks], size, fmt)
        assert found.turned >= 0.8 * len(masks)
        assert found.convict
        along = {"kaggle": "down the columns", "carvana": "along the rows"}
        assert f"read {along[fmt]}, as {fmt} says, than {along[other]}, the median mask " in found.evidence(
            get_format(fmt)
        )


def test_too_few_masks_square_images_and_single_runs_say_nothing():
    size = (80, 100)
    wrong = [misread(mask, size, "kaggle") for mask in draw(blobs, size, lying=False)]
    assert votes(wrong[:3], size, "kaggle").convict
    assert not votes(wrong[:2], size, "kaggle").convict
    square = [misread(mask, (90, 90), "kaggle") for mask in draw(blobs, (90, 90), lying=False)]
    assert votes(square, (90, 90), "kaggle").masks == 0
    runs = [text_to_edges(f"{start} 5", size) for start in range(1, 60, 5)]
    assert votes([*runs, np.empty(0, np.uint32)], size, "kaggle").masks == 0


def test_one_mask_in_twenty_that_looks_right_acquits():
    size = (80, 100)
    right = draw(blobs, size, lying=False)
    wrong = [misread(mask, size, "kaggle") for mask in right]
    assert votes(wrong * 4 + right[:1], size, "kaggle").convict
    assert not votes(wrong * 4 + right[:2], size, "kaggle").convict


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("kaggle", "carvana"),
        ("carvana", "kaggle"),
        ("vesuvius", "kaggle"),
        ("tgs", "carvana"),
        ("siim", None),
        ("coco", None),
    ],
)
def test_the_format_that_fits_differs_in_its_direction_only(name, fits):
    assert fitting_format(get_format(name)) == fits
    if fits:
        assert (FORMATS[fits].style, FORMATS[fits].base) == (FORMATS[name].style, FORMATS[name].base)
