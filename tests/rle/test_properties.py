"""Every codec and operation against a naive reference, on random masks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import rle

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def reference_edges(mask: np.ndarray, order: str = "F") -> list[int]:
    """Where the value changes, with background in front of the first pixel and behind the last."""
    pixels = [0, *mask.ravel(order).tolist(), 0]
    return [i for i in range(len(pixels) - 1) if pixels[i] != pixels[i + 1]]


def reference_text(mask: np.ndarray, fmt: rle.RleFormat) -> str:
    """The text as the formats' descriptions have it, for the styles made of plain numbers."""
    edges = reference_edges(mask, fmt.order)
    if fmt.style == "counts":
        bounds = [0, *edges] if edges[-1:] == [mask.size] else [0, *edges, mask.size]
        return " ".join(str(b - a) for a, b in itertools.pairwise(bounds))
    starts, ends = edges[::2], edges[1::2]
    origins = [0, *ends] if fmt.style == "gaps" else [-fmt.base] * len(starts)
    pairs = [(s - origin, e - s) for s, e, origin in zip(starts, ends, origins, strict=False)]
    return " ".join(f"{s} {length}" for s, length in pairs) or fmt.empty


@st.composite
def masks(draw, shape=None):
    """A mask (H, W) of noise, stripes along either axis, or one value; widths around the 64-byte blocks."""
    side = st.one_of(st.integers(1, 12), st.sampled_from([63, 64, 65, 127, 128, 129]))
    height, width = shape or (draw(side), draw(side))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    stripes = rng.random((height, 1)) < 0.5 if draw(st.booleans()) else rng.random((1, width)) < 0.5
    return (noise ^ stripes if draw(st.booleans()) else noise).astype(np.uint8)


@st.composite
def mask_lists(draw):
    """One to six masks of one shape."""
    first = draw(masks())
    return [first, *(draw(masks(first.shape)) for _ in range(draw(st.integers(0, 5))))]


@given(masks())
@quick
def test_edges(mask):
    edges = rle.to_edges(mask)
    assert edges.dtype == np.uint32
    assert edges.tolist() == reference_edges(mask)
    again = rle.from_edges(edges, mask.shape)
    assert again.dtype == np.uint8
    assert again.flags.c_contiguous
    np.testing.assert_array_equal(again, mask)


@given(masks(), st.sampled_from(["bool", "int8", "int64", "F", "strided", "reversed", "read-only"]))
@quick
def test_edges_of_any_layout(mask, kind):
    views = {
        "F": lambda: np.asfortranarray(mask),
        "strided": lambda: np.repeat(np.repeat(mask, 2, axis=0), 3, axis=1)[::2, ::3],
        "reversed": lambda: mask[::-1, ::-1].copy()[::-1, ::-1],
        "read-only": lambda: np.frombuffer(mask.tobytes(), np.uint8).reshape(mask.shape),
    }
    view = views[kind]() if kind in views else mask.astype(kind)
    assert rle.to_edges(view).tolist() == reference_edges(mask)
    assert rle.encode(view, "carvana") == reference_text(mask, rle.get_format("carvana"))


@given(masks(), st.integers(0, 256), st.integers(0, 2**32 - 1))
@quick
def test_edges_of_a_probability_map(mask, threshold, seed):
    prob = np.random.default_rng(seed).integers(0, 256, mask.shape).astype(np.uint8) // 2 + 127 * mask
    assert rle.to_edges(prob, threshold).tolist() == reference_edges(prob >= threshold)


@pytest.mark.parametrize("name", rle.FORMATS)
@given(mask=masks())
@quick
def test_texts(name, mask):
    fmt = rle.get_format(name)
    text = rle.encode(mask, name)
    if fmt.style != "coco":
        assert text == reference_text(mask, fmt)
    np.testing.assert_array_equal(rle.decode(text, mask.shape, name), mask)
    edges = rle.text_to_edges(text, mask.shape, name)
    np.testing.assert_array_equal(edges, rle.to_edges(mask))
    assert rle.edges_to_text(edges, mask.shape, name) == text


@given(masks(), st.data())
@quick
def test_text_with_extra_spaces_and_split_runs(mask, data):
    """Touching runs are merged, and spaces may surround every number."""
    numbers = []
    edges = reference_edges(mask)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        cut = data.draw(st.integers(start + 1, end)) if len(edges) < 20 else end
        numbers += [start + 1, cut - start] + ([cut + 1, end - cut] if cut < end else [])
    gaps = st.sampled_from([" ", " ", "  ", "   "])
    text = "".join(f"{number}{data.draw(gaps) if len(edges) < 20 else ' '}" for number in numbers)
    assert rle.text_to_edges(" " + text, mask.shape).tolist() == edges


@given(st.lists(st.integers(1, 10**6), max_size=60), st.booleans())
@quick
def test_numbers_of_every_length(steps, long_first_gap):
    """Texts without a shape: positions of up to ten digits, cut off at the largest edge."""
    edges = np.cumsum([2 * 10**9 if long_first_gap else 0, *steps])
    edges = edges[: edges.size // 2 * 2]
    text = " ".join(f"{s + 1} {e - s}" for s, e in edges.reshape(-1, 2))
    assert rle.text_to_edges(text, None).tolist() == edges.tolist()
    assert rle.edges_to_text(edges.astype(np.uint32), None) == text


@given(mask_lists())
@quick
def test_areas_and_overlaps(masks):
    edges = [rle.to_edges(mask) for mask in masks]
    a, b = masks[0].astype(bool), masks[-1].astype(bool)
    both, either, total = int((a & b).sum()), int((a | b).sum()), int(a.sum() + b.sum())
    assert rle.area(edges[0]) == a.sum()
    assert rle.intersection(edges[0], edges[-1]) == both
    assert rle.iou(edges[0], edges[-1]) == (both / either if either else 1.0)
    assert rle.dice(edges[0], edges[-1]) == (2 * both / total if total else 1.0)
    assert rle.union(edges).tolist() == reference_edges(np.any(masks, axis=0))


@given(mask_lists(), st.data())
@quick
def test_votes(masks, data):
    edges = [rle.to_edges(mask) for mask in masks]
    share = np.mean(masks, axis=0)
    assert rle.vote(edges).tolist() == reference_edges(share > 0.5)
    weights = data.draw(st.lists(st.integers(0, 9), min_size=len(masks), max_size=len(masks)))
    weights[0] += 1
    expected = reference_edges(2 * np.tensordot(weights, masks, 1) > sum(weights))
    assert rle.vote(edges, weights).tolist() == expected
    assert rle.vote(edges, [weight / 10 for weight in weights]).tolist() == expected


@given(mask_lists(), st.data())
@quick
def test_tables(masks, data):
    edges = [rle.to_edges(mask) for mask in masks]
    offsets = np.cumsum([0, *(e.size for e in edges)])
    ids = [str(i) for i in range(len(masks))]
    sides = [np.full(len(masks), side) for side in masks[0].shape]
    table = rle.RleTable(ids, offsets, np.concatenate(edges), *sides)
    order = data.draw(st.permutations(range(len(masks))))
    taken = table.take(order)
    assert [taken[i].tolist() for i in range(len(taken))] == [edges[i].tolist() for i in order]
    assert taken.ids == [ids[i] for i in order]
    assert rle.areas(taken).tolist() == [int(masks[i].sum()) for i in order]
    renamed = rle.RleTable(ids, taken.offsets, taken.edges, taken.heights, taken.widths)
    assert rle.intersections(table, renamed).tolist() == [int((masks[i] & masks[j]).sum()) for i, j in enumerate(order)]
