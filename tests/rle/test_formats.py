"""The conventions: golden texts from the competitions' own pages and tools."""

import numpy as np
import pytest
from pycocotools import mask as coco

from pipeline import rle

KAGGLE_PIXELS = [1, 2, 3, 10, 11, 12, 13, 14]  # what '1 3 10 5' implies, on every Kaggle evaluation page


@pytest.mark.parametrize("name", ["kaggle", "airbus", "tgs", "severstal", "hubmap", "uw-madison", "contrails"])
def test_the_kaggle_example_down_the_columns(name):
    mask = rle.decode("1 3 10 5", (4, 5), name)
    assert (np.flatnonzero(mask.ravel("F")) + 1).tolist() == KAGGLE_PIXELS
    assert rle.encode(mask, name) == "1 3 10 5"


@pytest.mark.parametrize("name", ["carvana", "vesuvius", "sennet"])
def test_the_kaggle_example_along_the_rows(name):
    mask = rle.decode("1 3 10 5", (4, 5), name)
    assert (np.flatnonzero(mask.ravel("C")) + 1).tolist() == KAGGLE_PIXELS
    assert rle.encode(mask, name) == "1 3 10 5"


def test_the_siim_example():
    """A row of the competition's train-rle.csv (1024x1024), decoded as its mask_functions.py does."""
    text = "387620 23 996 33 986 43 977 51 968 58 962 65 956 70 952 74 949 76 946 79"
    numbers = [int(token) for token in text.split()]
    pixels = np.zeros(1024 * 1024, np.uint8)
    position = 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += gap
        pixels[position : position + length] = 1
        position += length
    mask = pixels.reshape(1024, 1024).T
    np.testing.assert_array_equal(rle.decode(text, (1024, 1024), "siim"), mask)
    assert rle.encode(mask, "siim") == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kaggle", ""),
        ("carvana", ""),
        ("contrails", "-"),
        ("siim", "-1"),
        ("sennet", "1 0"),
        ("coco-counts", "6"),
    ],
)
def test_empty_masks(name, text):
    empty = np.zeros((2, 3), bool)
    assert rle.encode(empty, name) == text
    assert not rle.decode(text, (2, 3), name).any()
    assert not rle.decode("", (2, 3), name).any()
    assert not rle.decode(f" {text} ", (2, 3), name).any()


def test_full_masks():
    full = np.ones((2, 3), np.uint8)
    assert rle.to_edges(full).tolist() == [0, 6]
    assert [rle.encode(full, name) for name in ("kaggle", "carvana", "siim", "coco-counts")] == [
        "1 6",
        "1 6",
        "0 6",
        "0 6",
    ]


@pytest.mark.parametrize("seed", range(20))
def test_coco_against_pycocotools(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 90, 2))
    mask = (np.kron(rng.random(shape), np.ones((1, 1))) < rng.choice([0, 0.01, 0.5, 0.99, 1])).astype(np.uint8)
    theirs = coco.encode(np.asfortranarray(mask))["counts"].decode()
    assert rle.encode(mask, "coco") == theirs
    np.testing.assert_array_equal(rle.decode(theirs, shape, "coco"), mask)
    counts = [int(count) for count in rle.encode(mask, "coco-counts").split()]
    compressed = coco.frPyObjects({"counts": counts, "size": [int(side) for side in shape]}, *shape)
    assert compressed["counts"].decode() == theirs


def test_a_coco_count_is_as_long_as_it_needs_to_be(tmp_path):
    """Zeros on top of a number change nothing, but nobody writes them: refused alone as in a file."""
    assert rle.text_to_edges("`2", (1, 80), "coco").size == 0
    assert rle.text_to_edges("`RPPPP0", (1, 80), "coco").size == 0
    path = tmp_path / "a.csv"
    path.write_text("id,rle,height,width\na,`RPPPPP0,1,80\n")
    message = "a compressed COCO count of more than 7 characters"
    with pytest.raises(rle.RleError, match=message):
        rle.text_to_edges("`RPPPPP0", (1, 80), "coco")
    with pytest.raises(rle.RleError, match=message):
        rle.read_csv(path, "coco")


def test_coco_counts_of_many_bits():
    """Changes of count of both signs that need several characters."""
    mask = np.zeros((1000, 1000), np.uint8)
    for start, end in [(3, 700_000), (700_001, 700_002), (800_000, 800_033), (990_000, 999_999)]:
        mask.T.reshape(-1)[start:end] = 1
    mask = np.ascontiguousarray(mask)
    theirs = coco.encode(np.asfortranarray(mask))["counts"].decode()
    assert rle.encode(mask, "coco") == theirs
    np.testing.assert_array_equal(rle.decode(theirs, mask.shape, "coco"), mask)


def test_counts_with_a_zero_in_the_middle_are_touching_runs():
    assert rle.text_to_edges("1 2 0 3", (2, 3), "coco-counts").tolist() == [1, 6]


def test_formats_by_name():
    assert rle.get_format("airbus") == rle.get_format("kaggle")
    own = rle.RleFormat("own", order="C", base=0)
    assert rle.get_format(own) is own
    assert rle.encode(np.array([[0, 1], [1, 0]]), own) == "1 2"
    with pytest.raises(rle.RleError, match=r"unknown RLE format 'carvanna'; did you mean 'carvana'\?"):
        rle.get_format("carvanna")
    with pytest.raises(rle.RleError, match="order must be 'F' or 'C'"):
        rle.RleFormat("own", order="A")
    with pytest.raises(rle.RleError, match="style must be pairs, gaps, counts or coco, not 'runs'"):
        rle.RleFormat("own", style="runs")


@pytest.mark.parametrize(
    ("name", "empty"), [("kaggle:-1", "-1"), ("carvana:-", "-"), ("sennet:", ""), ("siim:0 0", "0 0")]
)
def test_a_preset_may_have_another_text_for_an_empty_mask(name, empty):
    fmt = rle.get_format(name)
    assert (fmt.name, fmt.empty) == (name, empty)
    mask = np.zeros((4, 5), np.uint8)
    assert rle.encode(mask, name) == empty
    assert not rle.decode(empty, (4, 5), name).any()
    mask[1, 2:4] = 1
    assert rle.encode(mask, name) == rle.encode(mask, name.partition(":")[0])
    assert np.array_equal(rle.decode(rle.encode(mask, name), (4, 5), name), mask)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("kaggle:1 5", "'1 5' cannot stand for an empty mask, it has runs or outer spaces"),
        ("kaggle: -1", "' -1' cannot stand for an empty mask"),
        ("coco:-1", "its counts have a text of their own for an empty mask, not '-1'"),
        ("kagle:-1", "unknown RLE format 'kagle:-1'; did you mean 'kaggle'"),
    ],
)
def test_a_text_that_cannot_stand_for_an_empty_mask_is_refused(name, problem):
    with pytest.raises(rle.RleError) as refused:
        rle.get_format(name)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a b.jpg", "a b.jpg"),
        ("é", "é"),
        (" a", "' a'"),
        ("a\n", r"'a\n'"),
        ("\udce9.jpg", r"'\udce9.jpg'"),
        ("", "''"),
    ],
)
def test_texts_are_shown_so_that_a_terminal_can_show_them(name, text):
    assert rle.shown(name) == text
