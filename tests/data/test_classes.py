import numpy as np
import pytest

from pipeline.config import UNNAMED
from pipeline.data.classes import image_ids, mask_ids, mask_rows, mirrored, rle_column, row_columns


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
