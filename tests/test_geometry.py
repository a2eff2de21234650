from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import Box, Tiling, content_box, restore, shrink

FITS = ("stretch", "letterbox")
sides = st.integers(1, 300)
sizes = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(lambda halves: (32 * halves[0], 32 * halves[1]))
fits = st.sampled_from(FITS)


@given(sides, sides, sizes, fits, st.sampled_from([(), (3,)]))
def test_shapes_are_those_asked_for(height, width, size, fit, channels):
    pixels = np.full((height, width, *channels), 7, np.uint8)
    small = shrink(pixels, size, fit, height=height, width=width)
    assert small.shape == (*size, *channels)
    assert small.dtype == np.uint8
    if not channels:
        assert restore(small, height, width, fit).shape == (height, width)


@given(sides, sides, sizes)
def test_a_letterbox_lies_inside_in_the_middle_and_touches_two_sides(height, width, size):
    box = content_box(height, width, size, "letterbox")
    below, right = size[0] - box.top - box.height, size[1] - box.left - box.width
    assert min(box.top, box.left) >= 0
    assert below - box.top in (0, 1)
    assert right - box.left in (0, 1)
    assert box.height == size[0] or box.width == size[1]
    # One pixel of rounding at most: the aspect ratio is kept.
    scale = min(size[0] / height, size[1] / width)
    assert abs(box.height - max(1, height * scale)) <= 0.5
    assert abs(box.width - max(1, width * scale)) <= 0.5


@given(sides, sides, sizes, fits, st.integers(0, 255))
def test_constant_maps_stay_constant(height, width, size, fit, value):
    assert (restore(np.full(size, value, np.uint8), height, width, fit) == value).all()
    small = shrink(np.full((height, width), value, np.uint8), size, fit, height=height, width=width)
    box = content_box(height, width, size, fit)
    assert (box.cut(small) == value).all()
    assert int(small.sum()) == value * box.height * box.width  # the border is 0


def ellipse(height, width):
    rows, columns = np.ogrid[:height, :width]
    return (((rows - 0.55 * height) / (0.3 * height)) ** 2 + ((columns - 0.45 * width) / (0.35 * width)) ** 2) <= 1


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(240, 320), (320, 240), (97, 101), (64, 64), (50, 200), (1080, 1920)])
@pytest.mark.parametrize("size", [(128, 96), (96, 128)])
def test_a_smooth_mask_survives_the_round_trip(shape, size, fit):
    mask = ellipse(*shape)
    small = shrink(mask * np.uint8(255), size, fit, height=shape[0], width=shape[1])
    back = restore(small, *shape, fit) >= 128
    assert 2 * (mask & back).sum() / (mask.sum() + back.sum()) > 0.97


@pytest.mark.parametrize("fit", FITS)
def test_an_input_of_the_networks_size_is_left_as_it_is(fit):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    assert np.array_equal(shrink(pixels, (64, 32), fit, height=64, width=32), pixels)
    assert np.array_equal(restore(pixels[..., 0], 64, 32, fit), pixels[..., 0])


def test_a_reduced_decoding_lies_where_the_full_one_does():
    full = np.zeros((400, 200, 3), np.uint8)
    full[100:300, 50:150] = 240
    box = content_box(400, 200, (64, 64), "letterbox")
    for pixels in (full, full[::4, ::4]):
        small = shrink(pixels, (64, 64), "letterbox", height=400, width=200)
        assert small[:, : box.left].max() == 0
        assert small[:, box.left + box.width :].max() == 0
        assert (small[20:44, 28:36] == 240).all()


def test_letterbox_borders_have_no_part_in_what_is_restored():
    prob_hw = np.full((64, 64), 255, np.uint8)
    box = content_box(100, 50, (64, 64), "letterbox")
    box.cut(prob_hw)[...] = 10
    assert (restore(prob_hw, 100, 50, "letterbox") == 10).all()


@given(
    side=st.integers(1, 40),
    extra=st.integers(0, 200),
    other=st.integers(1, 30),
    overlap=st.sampled_from([0, 0.25, 0.9]),
)
def test_tiles_cover_the_picture_and_overlap_at_least_as_much_as_asked(side, extra, other, overlap):
    tiling = Tiling((side, other), overlap)
    height, width = side + extra, other
    boxes = tiling.boxes(height, width)
    assert {box.left for box in boxes} == {0}
    tops = [box.top for box in boxes]
    assert tops == sorted(set(tops))
    assert tops[0] == 0
    assert tops[-1] == height - side
    # Rounding the even spacing costs half a pixel at either end.
    assert all(after - before <= max(1, side * (1 - overlap)) + 1 for before, after in pairwise(tops))
    covered = np.zeros((height, width))
    for box in boxes:
        box.cut(covered)[...] += tiling.window()
    assert (covered > 0).all()


def test_a_picture_of_one_tile_is_left_whole():
    assert Tiling((96, 64), 0.25).boxes(96, 64) == [Box(0, 0, 96, 64)]
