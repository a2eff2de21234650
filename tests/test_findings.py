"""How masks were written: one mask, or a few, tell nothing of a file, and a file that is wrong is still found."""

import numpy as np
import pytest

from pipeline.rle import dice, encode, read_csv, text_to_edges

HEIGHT, WIDTH = 64, 48


def blob(rng):
    """A disc that touches no border."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return (np.hypot(y - rng.integers(20, 44), x - rng.integers(16, 32)) < rng.integers(6, 14)).astype(np.uint8)


def reaching(rng):
    """A disc cut off by the lower and the right border."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return (np.hypot(y - rng.uniform(50, 70), x - rng.uniform(40, 55)) < rng.uniform(25, 35)).astype(np.uint8)


def inside_by_one(number):
    """A rectangle that is one pixel off the border: so would one look that touches it, counted from 2."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[1 : 15 + number, 1 : 40 - number] = 1
    return mask


def shift(text, by):
    numbers = [int(token) for token in text.split()]
    numbers[::2] = [start + by for start in numbers[::2]]
    return " ".join(map(str, numbers))


@pytest.fixture
def check(command_line, tmp_path):
    """``check(texts, fmt) -> (warnings of lint, its status with --fix, the corrected masks or None)``."""

    def call(texts, fmt="kaggle"):
        path, fixed = tmp_path / "submission.csv", tmp_path / "fixed.csv"
        path.write_text("id,rle\n" + "".join(f"i{number:03d},{text}\n" for number, text in enumerate(texts)))
        words = ["lint", path, "--shape", HEIGHT, WIDTH, "--format", fmt]
        found = [line for line in command_line(*words)[1].splitlines() if line.startswith("warning: ")]
        status = command_line(*words, "--fix", fixed)[0]
        return found, status, read_csv(fixed, fmt, shape=(HEIGHT, WIDTH)) if fixed.exists() else None

    return call


def masks_and_texts(shapes, fmt="kaggle"):
    rng = np.random.default_rng(0)
    masks = [shape(rng) for shape in shapes]
    return masks, [encode(mask, fmt) for mask in masks]


def assert_unchanged(table, texts, fmt="kaggle"):
    for row, text in enumerate(texts):
        assert dice(table[row], text_to_edges(text, (HEIGHT, WIDTH), fmt)) == 1.0


@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
@pytest.mark.parametrize("odd", [1, 5, 20])
def test_a_rectangle_one_pixel_off_the_border_shifts_no_other_mask(check, fmt, odd):
    _, texts = masks_and_texts([blob] * (200 - odd), fmt)
    texts += [encode(inside_by_one(number), fmt) for number in range(odd)]
    found, status, fixed = check(texts, fmt)
    assert [line for line in found if "counted from" in line] == []
    assert status == 0
    assert_unchanged(fixed, texts, fmt)


@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("at_the_border", [200, 70])
def test_a_file_counted_from_another_number_is_found_and_shifted(check, fmt, by, at_the_border):
    _, texts = masks_and_texts([reaching] * at_the_border + [blob] * (200 - at_the_border), fmt)
    base = 1 + by
    found, status, fixed = check([shift(text, by) for text in texts], fmt)
    assert [line for line in found if "counted" in line] == [f"warning: positions look counted from {base}"]
    assert status == 0
    assert_unchanged(fixed, texts, fmt)


def test_masks_that_wrap_around_the_border_are_named_where_the_others_are_right(check):
    _, texts = masks_and_texts([reaching] * 40)
    shifted = [shift(text, 1) if row < 6 else text for row, text in enumerate(texts)]
    found, status, fixed = check(shifted)
    assert [line for line in found if "counted" in line] == ["warning: positions in 6 of 40 masks look counted from 2"]
    assert status == 1  # the last run of a shifted mask leaves its image
    assert fixed is None


@pytest.mark.parametrize(("below", "shifts"), [(1, False), (2, False), (30, True)])
def test_positions_below_the_first_are_of_the_file_only_where_many_are(check, below, shifts):
    _, texts = masks_and_texts([blob] * 100)
    corner = [f"0 {length} 300 5" for length in range(3, 3 + below)]
    _, status, fixed = check([shift(text, -1) for text in texts] + corner)
    if shifts:
        assert status == 0
        assert_unchanged(fixed, texts)
    else:
        assert (status, fixed) == (1, None)


@pytest.mark.parametrize("turned", [3, 20, 90])
def test_turned_masks_turn_the_others_only_where_all_but_a_few_are(check, turned):
    masks, texts = masks_and_texts([blob] * 100)
    mixed = [encode(mask, "carvana") for mask in masks[:turned]] + texts[turned:]
    found, status, fixed = check(mixed)
    assert status == 0
    about = [line for line in found if "direction" in line]
    assert_unchanged(fixed, mixed)
    assert about == ["warning: some masks look written along the other direction"] * (turned >= 10)


def test_a_file_of_turned_masks_is_turned_back(check):
    masks, texts = masks_and_texts([blob] * 97)
    odd = [encode(np.eye(HEIGHT, WIDTH, dtype=np.uint8))] * 3
    found, status, fixed = check([encode(mask, "carvana") for mask in masks] + odd)
    assert "warning: masks look written along the other direction" in found
    assert status == 0
    for row, text in enumerate(texts):
        assert dice(fixed[row], text_to_edges(text, (HEIGHT, WIDTH))) == 1.0


def test_three_odd_masks_do_not_turn_two_hundred_of_one_run(check):
    """Bands over the full height are one run each, which has no direction."""
    bands = [f"{HEIGHT * left + 1} {HEIGHT * (5 + left % 7)}" for left in range(30)] * 6
    masks, _ = masks_and_texts([blob] * 3)
    texts = bands + [encode(mask, "carvana") for mask in masks]
    found, _, fixed = check(texts)
    assert [line for line in found if "direction" in line] == []
    assert_unchanged(fixed, texts)


@pytest.mark.parametrize("odd", [0, 1])
def test_one_mask_does_not_acquit_those_of_half_the_size(check, odd):
    masks, _ = masks_and_texts([reaching] * 60)
    texts = [encode(mask[::2, ::2]) for mask in masks] + [f"5 3 {HEIGHT * WIDTH} 1"] * odd
    assert "warning: masks look made for images of another size" in check(texts)[0]
