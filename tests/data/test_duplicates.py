import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import FoldSettings
from pipeline.data import duplicates
from pipeline.data.duplicates import close_hashes, duplicate_pairs, mean_difference

SETTINGS = FoldSettings(near_duplicate_bits=4, near_duplicate_difference=10)


def table(phashes, shas=None):
    shas = shas or [f"sha{row}" for row in range(len(phashes))]
    texts = [f"{value:016x}" for value in phashes]
    return pd.DataFrame({"sha256": shas, "phash": texts, "height": 8, "width": 8})


def pictures(*seeds):
    return np.stack([np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8) for seed in seeds])


def test_a_close_hash_and_a_close_picture_make_a_pair():
    pairs = duplicate_pairs(table([0b1111, 2**63, 0b0111]), pictures(1, 2, 1), SETTINGS, "stretch")
    assert pairs.tolist() == [[0, 2]]
    assert pairs.dtype == np.int64


def test_a_close_hash_alone_makes_no_pair():
    assert duplicate_pairs(table([7, 7]), pictures(1, 2), SETTINGS, "stretch").shape == (0, 2)


def test_a_close_picture_alone_makes_no_pair():
    assert duplicate_pairs(table([0, 0b11111]), pictures(1, 1), SETTINGS, "stretch").shape == (0, 2)


def test_identical_files_are_pairs_whatever_their_hashes():
    images = table([0, 2**64 - 1, 2**32 - 1, 5], ["x", "y", "x", "x"])
    assert duplicate_pairs(images, pictures(1, 2, 3, 4), SETTINGS, "stretch").tolist() == [[0, 2], [0, 3]]


def test_a_pair_found_twice_is_listed_once():
    assert duplicate_pairs(table([3, 3], ["x", "x"]), pictures(1, 1), SETTINGS, "stretch").tolist() == [[0, 1]]


def test_blank_pictures_are_copies_of_nothing():
    """And are not compared with each other: of a thousand that would take minutes."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 254, (1000, 1, 1, 3)) + rng.integers(0, 2, (1000, 8, 8, 3))  # and some noise
    small = np.concatenate([colours.astype(np.uint8), pictures(1, 1)])
    shas = [f"sha{row // 2}" for row in range(1002)]
    images = table([2**63] * 1002, shas)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "mean_difference", counted := Counted(mean_difference))
        assert duplicate_pairs(images, small, SETTINGS, "stretch").tolist() == [[1000, 1001]]
    assert counted.calls < 2500


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


def test_a_letterboxes_border_is_no_part_of_the_picture():
    bright, other = pictures(1)[0, :4] // 2 + 20, pictures(2)[0, :4]
    framed = np.zeros((3, 8, 8, 3), np.uint8)
    framed[0, 2:6], framed[1, 2:6], framed[2, 2:6] = bright, bright + 60, other // 4
    images = table([0, 0, 0]).assign(height=20, width=40)
    assert duplicate_pairs(images, framed, SETTINGS, "letterbox").tolist() == [[0, 1]]


def test_no_images_have_no_pairs():
    assert duplicate_pairs(table([]), np.zeros((0, 8, 8, 3), np.uint8), SETTINGS, "stretch").shape == (0, 2)


def test_brightness_is_no_difference_but_contrast_is():
    first = pictures(1)[0] // 2
    assert mean_difference(first, first + 40) == pytest.approx(0)
    assert mean_difference(first, first * 2) > 20


@pytest.mark.parametrize("block", [1, 3, 1024])
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 15), max_size=9), st.integers(0, 16))
def test_close_hashes_are_those_of_comparing_all(block, values, bits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", block)
        found = close_hashes(np.array(values, np.uint64), bits)
    assert sorted(found) == [
        (first, second)
        for first in range(len(values))
        for second in range(first + 1, len(values))
        if (values[first] ^ values[second]).bit_count() <= bits
    ]
