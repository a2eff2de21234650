"""Transforms, components and set operations against numpy and SciPy on pixels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline import rle

quick = settings(max_examples=80, deadline=None, derandomize=True, database=None)
FULL = {4: [[0, 1, 0], [1, 1, 1], [0, 1, 0]], 8: [[1, 1, 1], [1, 1, 1], [1, 1, 1]]}
connectivities = st.sampled_from([4, 8])


@st.composite
def masks(draw, shape=None):
    """A mask (H, W) uint8 of noise at all densities or of one value, also of a single row or column."""
    side = st.one_of(st.integers(1, 14), st.sampled_from([63, 64, 65]))
    shape = shape or (draw(side), draw(side))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return (rng.random(shape) < draw(st.sampled_from([0.0, 0.05, 0.4, 0.6, 0.95, 1.0]))).astype(np.uint8)


def pixels(edges, shape):
    assert edges.dtype == np.uint32
    mask = rle.from_edges(edges, shape)
    # The edges of a mask are unique: runs that touch are one.
    assert np.array_equal(rle.to_edges(mask), edges)
    return mask


def labelled(mask, connectivity):
    """Component numbers (H, W) in order of the first pixel down the columns, 0 = background, and their count."""
    turned, count = ndimage.label(mask.T, FULL[connectivity])
    return turned.T, count


@given(masks())
@quick
def test_flips_transposition_and_complement(mask):
    edges, shape = rle.to_edges(mask), mask.shape
    assert np.array_equal(pixels(rle.flip_horizontal(edges, shape), shape), mask[:, ::-1])
    assert np.array_equal(pixels(rle.flip_vertical(edges, shape), shape), mask[::-1])
    assert np.array_equal(pixels(rle.complement(edges, shape), shape), 1 - mask)
    assert np.array_equal(pixels(rle.transpose(edges, shape), shape[::-1]), mask.T)


@given(masks())
@quick
def test_bounding_box(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    expected = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if rows.size else None
    assert rle.bounding_box(rle.to_edges(mask), mask.shape[0]) == expected


@given(masks(), st.integers(-9, 20), st.integers(-9, 20), st.integers(1, 20), st.integers(1, 20))
@quick
def test_crop_pads_with_background(mask, top, left, height, width):
    around = np.pad(mask, 40)
    expected = around[40 + top : 40 + top + height, 40 + left : 40 + left + width] if top < 60 else mask
    cropped = rle.crop(rle.to_edges(mask), mask.shape, top, left, (height, width))
    assert np.array_equal(pixels(cropped, (height, width)), expected)


@given(masks(), connectivities)
@quick
def test_components(mask, connectivity):
    expected, count = labelled(mask, connectivity)
    found = rle.components(rle.to_edges(mask), mask.shape[0], connectivity)
    assert found.count == count
    assert found.areas.tolist() == np.bincount(expected.ravel(), minlength=count + 1)[1:].tolist()
    for label in range(count):
        kept = np.arange(count) == label
        assert np.array_equal(pixels(found.edges(kept), mask.shape), expected == label + 1)


@given(masks(), connectivities, st.integers(0, 30))
@quick
def test_small_components_are_removed(mask, connectivity, least):
    labels, count = labelled(mask, connectivity)
    large = [label for label in range(1, count + 1) if (labels == label).sum() >= least]
    result = rle.remove_small(rle.to_edges(mask), mask.shape[0], least, connectivity)
    assert np.array_equal(pixels(result, mask.shape), np.isin(labels, large))


@given(masks(), connectivities, st.integers(0, 4))
@quick
def test_the_largest_components_are_kept(mask, connectivity, count):
    labels, found = labelled(mask, connectivity)
    largest = sorted(range(1, found + 1), key=lambda label: (-(labels == label).sum(), label))[:count]
    result = rle.keep_largest(rle.to_edges(mask), mask.shape[0], count, connectivity)
    assert np.array_equal(pixels(result, mask.shape), np.isin(labels, largest))


@given(masks(), connectivities, st.none() | st.integers(0, 6))
@quick
def test_holes_are_filled(mask, connectivity, most):
    labels, count = labelled(1 - mask, 12 - connectivity)
    border = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
    holes = [
        label
        for label in range(1, count + 1)
        if label not in border and (most is None or (labels == label).sum() <= most)
    ]
    result = rle.fill_holes(rle.to_edges(mask), mask.shape, most, connectivity)
    assert np.array_equal(pixels(result, mask.shape), mask | np.isin(labels, holes))
    if most is None:
        assert np.array_equal(result, rle.to_edges(ndimage.binary_fill_holes(mask, FULL[12 - connectivity])))


@given(st.data())
@quick
def test_set_operations(data):
    first = data.draw(masks())
    several = [first, *(data.draw(masks(first.shape)) for _ in range(data.draw(st.integers(0, 3))))]
    edges = [rle.to_edges(mask) for mask in several]
    assert np.array_equal(pixels(rle.common(edges), first.shape), np.min(several, axis=0))
    assert np.array_equal(pixels(rle.difference(edges[0], edges[-1]), first.shape), first & (1 - several[-1]))


@given(st.data())
@quick
def test_operations_on_tables_are_those_on_their_rows(data):
    shapes = [(3, 5), (70, 2), (1, 1)]
    tables = [table_of([data.draw(masks(shape)) for shape in shapes]) for _ in range(data.draw(st.integers(1, 4)))]
    weights = data.draw(st.none() | st.just([0.5, 0.3, 0.1, 0.1][: len(tables)]))
    for row in range(len(shapes)):
        masks_of_row = [table[row] for table in tables]
        assert np.array_equal(rle.unions(tables)[row], rle.union(masks_of_row))
        assert np.array_equal(rle.votes(tables, weights)[row], rle.vote(masks_of_row, weights))
        assert np.array_equal(
            rle.differences(tables[0], tables[-1])[row], rle.difference(masks_of_row[0], masks_of_row[-1])
        )
        assert rle.dices(tables[0], tables[-1])[row] == rle.dice(masks_of_row[0], masks_of_row[-1])
        assert rle.ious(tables[0], tables[-1])[row] == rle.iou(masks_of_row[0], masks_of_row[-1])
        box = rle.bounding_box(masks_of_row[0], shapes[row][0])
        assert tuple(rle.bounding_boxes(tables[0])[row]) == (box or (0, 0, 0, 0))
        flipped = tables[0].apply(rle.flip_horizontal)
        assert np.array_equal(flipped[row], rle.flip_horizontal(masks_of_row[0], shapes[row]))
    stacked = rle.RleTable.stacked([tables[0], replace(tables[-1], ids=["j0", "j1", "j2"])])
    assert stacked.ids == ["i0", "i1", "i2", "j0", "j1", "j2"]
    assert np.array_equal(stacked[1], tables[0][1])
    assert np.array_equal(stacked[4], tables[-1][1])


def table_of(masks):
    edges = [rle.to_edges(mask) for mask in masks]
    heights, widths = np.array([mask.shape for mask in masks]).T
    offsets = np.concatenate([[0], np.cumsum([each.size for each in edges])])
    return rle.RleTable([f"i{row}" for row in range(len(masks))], offsets, np.concatenate(edges), heights, widths)


def test_large_images_use_all_of_uint32():
    shape = (2**16 - 1, 2**16 + 1)  # 2**32 - 1 pixels
    full = np.array([0, 2**32 - 1], np.uint32)
    assert rle.complement(full, shape).size == 0
    assert rle.bounding_box(full, shape[0]) == (0, 0, *shape)
    last = np.array([2**32 - 2, 2**32 - 1], np.uint32)
    assert np.array_equal(rle.flip_horizontal(rle.flip_vertical(last, shape), shape), [0, 1])
    assert rle.remove_small(full, shape[0], 2**32 - 1).tolist() == full.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda: rle.flip_vertical(np.array([0, 7], np.uint32), (2, 3)),
        lambda: rle.transpose(np.array([3, 1], np.uint32), (2, 3)),
        lambda: rle.crop(np.array([0, 1], np.uint32), (2, 3), 0, 0, (0, 1)),
        lambda: rle.components(np.array([0, 1], np.uint32), 2, connectivity=6),
        lambda: rle.components(np.array([0, 1, 1, 2], np.uint32), 2),
        lambda: rle.complement(np.array([0, 1], np.int64), (2, 3)),
        lambda: rle.common([]),
        lambda: rle.votes([]),
        lambda: rle.unions([]),
        lambda: rle.differences(table_of([np.ones((1, 1))]), table_of([np.ones((1, 1))] * 2)),
    ],
)
def test_what_is_no_mask_of_the_image_is_refused(call):
    with pytest.raises(rle.RleError):
        call()


def test_a_float_map_is_encoded_at_a_threshold():
    prob = np.array([[0.2, 0.5, 0.9], [0.6, 0.1, 0.4]], np.float32)
    assert rle.encode(prob, threshold=0.5) == "2 2 5 1"
    assert rle.encode(prob, "carvana", threshold=0.5) == "2 3"
    assert rle.encode((255 * prob).round().astype(np.uint8), threshold=128) == rle.encode(prob, threshold=0.5)
    with pytest.raises(rle.RleError, match="NaN"):
        rle.encode(np.array([[np.nan]]), threshold=0.5)
    with pytest.raises(rle.RleError, match="compare it with a threshold"):
        rle.encode(prob)
