"""What is refused, and the exact message for it."""

import numpy as np
import pytest

from pipeline import rle

LARGEST = 2**32 - 1

MALFORMED = [  # in a 10x10 image
    ("kaggle", "1 3 10", "token 3 '10': a start without a length (odd number of tokens)"),
    ("kaggle", "7", "token 1 '7': a start without a length (odd number of tokens)"),
    ("kaggle", "0 3", "token 1 '0': start below 1, the first pixel's number"),
    ("kaggle", "1 3 10 0", "token 4 '0': a run's length must be at least 1"),
    ("kaggle", "1 -3", "token 2 '-3': negative"),
    ("kaggle", "-1 3", "token 1 '-1': negative"),
    ("kaggle", "-1", "token 1 '-1': negative"),
    ("kaggle", "-", "token 1 '-': not a whole number"),
    ("kaggle", "+1 3", "token 1 '+1': not a whole number"),
    ("kaggle", "1.0 3", "token 1 '1.0': not a whole number"),
    ("kaggle", "1 1e1", "token 2 '1e1': not a whole number"),
    ("kaggle", "1 3,10 5", "token 2 '3,10': not a whole number"),
    ("kaggle", "1\t3", "token 1 '1\\t3': not a whole number"),
    ("kaggle", "1 3\n", "token 2 '3\\n': not a whole number"),
    ("kaggle", "1_0 3", "token 1 '1_0': not a whole number"),
    ("kaggle", "\u0661 3", "token 1 '\u0661': not a whole number"),
    ("kaggle", "1\u00a03", "token 1 '1\\xa03': not a whole number"),
    ("kaggle", "\ud800 3", "token 1 '\\ud800': not a whole number"),
    ("kaggle", "nan", "token 1 'nan': not a whole number"),
    ("kaggle", "10 5 1 3", "token 3 '1': run starts before the one in front of it (runs must be sorted)"),
    ("kaggle", "1 5 3 9", "token 3 '3': run overlaps the one in front of it, which ends at pixel 5"),
    ("kaggle", "1 3 1 3", "token 3 '1': run overlaps the one in front of it, which ends at pixel 3"),
    ("kaggle", "99 3", "token 2 '3': run ends at pixel 101, the image 10x10 has 100 pixels"),
    ("kaggle", "101 1", "token 2 '1': run ends at pixel 101, the image 10x10 has 100 pixels"),
    ("kaggle", "1 4294967296", "token 2 '4294967296': too large, no image has more than 4294967295 pixels"),
    ("kaggle", "1 99999999999999999999", "token 2 '99999999999999999999': too large, no image has more than "
     "4294967295 pixels"),
    ("kaggle", "0" * 5000 + "1 x", "token 2 'x': not a whole number"),
    ("kaggle", "x" * 99, "token 1 '" + "x" * 37 + "...': not a whole number"),
    ("carvana", "99 3", "token 2 '3': run ends at pixel 101, the image 10x10 has 100 pixels"),
    ("siim", "1 0", "token 2 '0': a run's length must be at least 1"),
    ("siim", "50 25 0 26", "token 4 '26': run ends at pixel 101, the image 10x10 has 100 pixels"),
    ("siim", "1 2 3", "token 3 '3': a start without a length (odd number of tokens)"),
    ("coco-counts", "50 49", "counts add up to 99, the image 10x10 has 100 pixels"),
    ("coco-counts", "50 51", "token 2 '51': run ends at pixel 101, the image 10x10 has 100 pixels"),
    ("coco-counts", "50 0 50", "token 2 '0': a run's length must be at least 1"),
    ("coco", "T3 ", None),
    ("coco", "T~", "token 2 '~': not a character of compressed COCO counts"),
    ("coco", "TTT", "compressed COCO counts end in the middle of a count"),
    ("coco", "O", "token 1 '-1': negative"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), MALFORMED)
def test_malformed_texts(name, text, message):
    if message is None:  # the same characters without the fault are a valid text
        assert rle.text_to_edges(text, (10, 10), name).size == 0
        return
    with pytest.raises(rle.RleError) as error:
        rle.text_to_edges(text, (10, 10), name)
    assert str(error.value) == message
    with pytest.raises(rle.RleError):
        rle.decode(text, (10, 10), name)


def test_malformed_numbers_are_refused_wherever_the_blocks_of_64_bytes_end():
    for pairs in range(1, 40):
        text = " ".join(f"{2 * i + 1} 1" for i in range(pairs))
        assert rle.text_to_edges(text, None).size == 2 * pairs
        for bad in (text + " 0", text[:-1] + "x", text[:-2] + "\t1", text + " " + text):
            with pytest.raises(rle.RleError):
                rle.text_to_edges(bad, None)


def test_texts_that_are_no_texts():
    with pytest.raises(rle.RleError, match="must be a string, not nan"):
        rle.decode(float("nan"), (2, 2))


def test_a_shape_is_needed_for_some_formats():
    one = np.array([0, 1], np.uint32)
    assert rle.edges_to_text(one, None, "siim") == "0 1"
    assert rle.text_to_edges("0 1", None, "coco-counts").tolist() == [0, 1]
    for name in ("carvana", "coco", "coco-counts"):
        with pytest.raises(rle.RleError, match=f"format {name} needs the image's shape"):
            rle.edges_to_text(one, None, name)
    with pytest.raises(rle.RleError, match="format vesuvius needs the image's shape"):
        rle.text_to_edges("1 1", None, "vesuvius")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.array([[0, 2]], np.uint8), "values other than 0 and 1"),
        (np.full((64, 64), 255, np.uint8), "values other than 0 and 1"),
        (np.pad(np.full((1, 1), 2, np.uint8), ((99, 0), (69, 0))), "values other than 0 and 1"),
        (np.pad(np.full((1, 1), 2, np.uint8), ((99, 0), (69, 0))).T, "values other than 0 and 1"),
        (np.array([[0, -1]], np.int8), "values other than 0 and 1"),
        (np.array([[0, -1]], np.int64), "values other than 0 and 1"),
        (np.array([[0, 257]], np.int16), "values other than 0 and 1"),
        (np.array([[0.0, 1.0]]), "bool or integers 0 and 1, not float64"),
        (np.zeros(4, bool), r"two dimensions \(H, W\), not \(4,\)"),
        (np.zeros((2, 2, 1), bool), r"two dimensions \(H, W\), not \(2, 2, 1\)"),
        (np.zeros((0, 4), bool), "an image of 0x4 has no pixels"),
        (np.zeros((4, 0), bool), "an image of 4x0 has no pixels"),
        (
            np.broadcast_to(np.False_, (65536, 65536)),
            "an image of 65536x65536 has more than 4294967295 pixels",
        ),
    ],
)
def test_masks_that_are_no_masks(mask, message):
    with pytest.raises(rle.RleError, match=message):
        rle.to_edges(mask)
    with pytest.raises(rle.RleError, match=message):
        rle.encode(mask, "carvana")


def test_a_single_wrong_value_is_found_anywhere():
    for shape in [(3, 21), (2, 64), (3, 65), (5, 130)]:
        for position in range(0, shape[0] * shape[1], 7):
            mask = np.ones(shape, np.uint8)
            mask.reshape(-1)[position] = 2
            for view in (mask, mask.T):
                with pytest.raises(rle.RleError, match="values other than 0 and 1"):
                    rle.to_edges(view)


@pytest.mark.parametrize(
    ("mask", "threshold", "message"),
    [
        (np.full((2, 2), np.nan, np.float32), 0.5, "NaN"),
        (np.zeros((2, 2), bool), 1, "for floats, or a whole one for uint8; not 1 for bool"),
        (np.zeros((2, 2), np.uint8), 0.5, "for floats, or a whole one for uint8; not 0.5 for uint8"),
        (np.zeros((2, 2), np.uint8), float("nan"), "a threshold is a number, not nan"),
        (np.zeros((2, 2), np.float32), float("inf"), "a threshold is a number, not inf"),
        (np.zeros((2, 2), np.uint8), 257, r"0 \(everything\) to 256 \(nothing\), not 257"),
        (np.zeros((2, 2), np.uint8), -1, r"0 \(everything\) to 256 \(nothing\), not -1"),
    ],
)
def test_thresholds(mask, threshold, message):
    with pytest.raises(rle.RleError, match=message):
        rle.to_edges(mask, threshold)


@pytest.mark.parametrize("edges", [[2, 1], [0, 1, 1, 2], [3, 4, 1, 2], [0, 5], [2, 2], [0, LARGEST]])
def test_edges_that_do_not_fit(edges):
    edges = np.array(edges, np.uint32)
    with pytest.raises(rle.RleError, match="not the edges of a mask of 2x2"):
        rle.from_edges(edges, (2, 2))
    with pytest.raises(rle.RleError, match="not the edges of a mask of 4 pixels"):
        rle.edges_to_text(edges, (2, 2))


@pytest.mark.parametrize("edges", [[0, 1], np.array([0, 1]), np.zeros((1, 2), np.uint32)])
def test_edges_of_another_type(edges):
    for call in (rle.area, lambda e: rle.from_edges(e, (2, 2)), lambda e: rle.union([e])):
        with pytest.raises(rle.RleError, match="edges must be a uint32 array of one dimension"):
            call(edges)


def test_edges_that_are_no_pairs():
    """A kernel would look for the last run's end where there is none."""
    odd, even = np.array([0, 1, 2], np.uint32), np.array([0, 3], np.uint32)
    for call in (rle.area, lambda e: rle.from_edges(e, (2, 2)), lambda e: rle.bounding_box(e, 2)):
        with pytest.raises(rle.RleError, match="edges come in pairs, not an odd number of them: 3"):
            call(odd)
    for call in (rle.intersection, rle.iou, rle.dice, rle.difference, lambda a, b: rle.union([a, b])):
        for pair in ((odd, even), (even, odd)):
            with pytest.raises(rle.RleError, match="edges come in pairs, not an odd number of them: 3"):
                call(*pair)


@pytest.mark.parametrize("shape", [(2,), (2, 2, 2), 4, (2.0, 2), None, ("a", "b")])
def test_shapes_that_are_no_shapes(shape):
    with pytest.raises(rle.RleError, match=r"shape is \(height, width\)"):
        rle.from_edges(np.array([0, 1], np.uint32), shape)


def test_from_edges_into_an_array():
    edges = np.array([0, 2, 5, 6], np.uint32)
    out = np.full((3, 2), 9, np.uint8)
    assert rle.from_edges(edges, (3, 2), out) is out
    assert out.tolist() == [[1, 0], [1, 0], [0, 1]]
    read_only = np.zeros((3, 2), np.uint8)
    read_only.flags.writeable = False
    for bad in (np.zeros((2, 3), np.uint8), np.zeros((3, 2), bool), np.zeros((2, 3), np.uint8).T, read_only):
        with pytest.raises(rle.RleError, match="out must be a writable C-contiguous uint8 array"):
            rle.from_edges(edges, (3, 2), bad)


def test_images_of_the_largest_size():
    """Edges up to 2**32 - 1, without any array of that many pixels."""
    top = np.array([0, 1, LARGEST - 1, LARGEST], np.uint32)
    text = f"1 1 {LARGEST} 1"
    assert rle.text_to_edges(text, None).tolist() == top.tolist()
    assert rle.edges_to_text(top, (1, LARGEST)) == text
    assert rle.area(np.array([0, LARGEST], np.uint32)) == LARGEST
    assert rle.union([top, top[:2]]).tolist() == top.tolist()
    assert rle.vote([top, top, top[2:]]).tolist() == top.tolist()
    with pytest.raises(rle.RleError, match=f"run ends at pixel {LARGEST + 1}, no image has more than {LARGEST} pixels"):
        rle.text_to_edges(f"{LARGEST} 2", None)


def test_votes_and_unions_of_nothing():
    empty = np.empty(0, np.uint32)
    some = np.array([1, 3], np.uint32)
    assert rle.union([]).size == 0
    assert rle.vote([empty, some]).size == 0  # a tie is background
    assert rle.vote([some, empty], [0.6, 0.4]).tolist() == [1, 3]
    assert rle.vote([some, some, empty], [0.1, 0.2, 0.3]).size == 0  # as decimals a tie, unlike as floats
    assert rle.vote([some, empty], [1 / 3, 1e-300]).tolist() == [1, 3]
    assert rle.vote([some, empty], [np.float32(0.1), np.int64(0)]).tolist() == [1, 3]
    for weights, message in [
        ([1], "2 masks, but 1 weights"),
        ([1, -1], "must not be negative"),
        ([0, 0], "nor all 0"),
        ([1, float("nan")], "must be finite"),
        ([1, float("inf")], "must be finite"),
    ]:
        with pytest.raises(rle.RleError, match=message):
            rle.vote([some, empty], weights)
    with pytest.raises(rle.RleError, match="at least one mask"):
        rle.vote([])
