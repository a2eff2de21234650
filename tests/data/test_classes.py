import numpy as np
import pytest

from pipeline.config import UNNAMED
from pipeline.data.classes import (
    Overlaps,
    image_ids,
    mask_ids,
    mask_rows,
    mirrored,
    rle_column,
    row_columns,
    shared_pixels,
)
from pipeline.rle import from_edges, to_edges


def test_a_single_class_is_called_as_if_there_were_none():
    assert mask_ids(["a", "b"], [UNNAMED]) == ["a", "b"]
    assert image_ids(["a", "b"], [UNNAMED]) == ["a", "b"]
    assert rle_column(UNNAMED) == "rle"
    assert row_columns(None) == ("image_id", "rle")


def test_an_images_masks_are_next_to_each_other():
    ids = mask_ids(["a", "b"], ["skin", "lips"])
    assert ids == ["a/skin", "a/lips", "b/skin", "b/lips"]
    assert image_ids(ids, ["skin", "lips"]) == ["a", "b"]
    assert [ids[row] for row in mask_rows(np.array([1]), 2)] == ["b/skin", "b/lips"]
    assert rle_column("skin") == "rle_skin"
    assert row_columns("part", ("id", "pixels")) == ("id", "part", "pixels")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["skin", "left_eye", "right_eye"], [0, 2, 1]),
        (["right-lung", "heart", "left-lung"], [2, 1, 0]),
        (["left", "right"], [1, 0]),
        (["left_eye", "lips"], [0, 1]),  # no right eye to change places with
        (["brightness", "upright"], [0, 1]),  # parts of words are no sides
        ([UNNAMED], [0]),
    ],
)
def test_left_and_right_change_places_in_a_mirror(names, expected):
    assert mirrored(names) == expected


@pytest.mark.parametrize("classes", [0, 1, 2, 3, 5])
def test_pixels_in_several_classes_are_counted_once(classes):
    rng = np.random.default_rng(classes)
    overlaps, expected, foreground = Overlaps(), {}, 0
    for number in range(20):
        masks = rng.random((classes, 9, 7)) < rng.choice([0, 0.1, 0.5], (classes, 1, 1))
        edges = [to_edges(mask) for mask in masks]
        shared = masks.sum(axis=0) > 1
        assert np.array_equal(from_edges(shared_pixels(edges), (9, 7)), shared)
        overlaps.look(f"i{number}", edges)
        foreground += int(masks.any(axis=0).sum())
        expected |= {f"i{number}": int(shared.sum())} if shared.any() else {}
    assert (overlaps.images, overlaps.found, overlaps.foreground) == (20, expected, foreground)


def test_overlaps_name_the_images_with_most_of_them():
    overlaps = Overlaps()
    for image_id, end in (("a", 0), ("b", 3), ("c", 10)):
        overlaps.look(image_id, [np.array([0, 10], np.uint32), np.array([10 - end, 20 - end], np.uint32)])
    assert str(overlaps) == (
        "2 of 3 images have pixels in several classes: 13 pixels, 27.7% of the foreground, most in c (10), b (3)"
    )
