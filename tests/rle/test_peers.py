"""Agreement with pycocotools and rlemasklib on masks as large as photographs."""

import numpy as np
import pytest
from pycocotools import mask as coco
from rlemasklib import BoolFunc, RLEMask

from pipeline import rle
from tests.benchmarks.rle import portrait

SHAPES = [(320, 240), (1080, 1920), (1921, 1081)]


def noise(height, width, rng):
    """Some thousand components, in a corner."""
    mask = np.zeros((height, width), np.uint8)
    mask[-200:, -200:] = rng.random((200, 200)) < 0.3
    return mask


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def masks(request):
    """Portraits, noise, an empty and a full mask, all of one shape."""
    rng = np.random.default_rng(request.param[0])
    drawn = [portrait(*request.param, rng) for _ in range(3)]
    return [*drawn, noise(*request.param, rng), np.zeros_like(drawn[0]), np.ones_like(drawn[0])]


def test_codecs(masks):
    for mask in masks:
        expected = coco.encode(np.asfortranarray(mask))
        assert rle.encode(mask, "coco") == expected["counts"].decode()
        assert np.array_equal(rle.decode(expected["counts"].decode(), mask.shape, "coco"), mask)
        counts = rle.encode(mask, "coco-counts").split()
        assert list(map(int, counts)) == RLEMask.from_array(mask).counts.tolist()


def test_overlaps(masks):
    for a in masks:
        for b in masks:
            edges = rle.to_edges(a), rle.to_edges(b)
            cocos = [coco.encode(np.asfortranarray(mask)) for mask in (a, b)]
            assert rle.area(edges[0]) == coco.area(cocos[0])
            assert rle.intersection(*edges) == coco.area(coco.merge(cocos, True))
            if a.any() or b.any():
                assert rle.iou(*edges) == pytest.approx(coco.iou(cocos[:1], cocos[1:], [0])[0, 0], abs=1e-12)


def test_sets_and_votes(masks):
    lib = [RLEMask.from_array(mask) for mask in masks[:5]]
    edges = [rle.to_edges(mask) for mask in masks[:5]]
    shape = masks[0].shape
    cases = {
        "union": (rle.union(edges), RLEMask.union(lib)),
        "common": (rle.common(edges[:3]), RLEMask.intersection(lib[:3])),
        "difference": (rle.difference(*edges[:2]), RLEMask.merge(lib[0], lib[1], BoolFunc.DIFFERENCE)),
        "vote": (rle.vote(edges), RLEMask.merge_many_custom(lib, lambda *votes: sum(votes) > 2)),
        "complement": (rle.complement(edges[3], shape), lib[3].complement()),
    }
    for name, (ours, theirs) in cases.items():
        assert np.array_equal(rle.from_edges(ours, shape), theirs.to_array()), name


def test_shapes(masks):
    """Components, holes, boxes and geometry, of masks that have a few thousand of them too."""
    for mask in masks:
        edges, lib = rle.to_edges(mask), RLEMask.from_array(mask)
        for connectivity in (4, 8):
            found = sorted(part.area() for part in lib.connected_components(connectivity))
            assert sorted(rle.components(edges, mask.shape[0], connectivity).areas) == found
        kept = rle.remove_small(edges, mask.shape[0], 5, connectivity=4)
        assert np.array_equal(
            rle.from_edges(kept, mask.shape), lib.remove_small_components(connectivity=4, min_size=5).to_array()
        )
        assert np.array_equal(rle.from_edges(rle.flip_horizontal(edges, mask.shape), mask.shape), mask[:, ::-1])
        x, y, width, height = (int(side) for side in lib.bbox())
        if mask.any():
            assert rle.bounding_box(edges, mask.shape[0]) == (y, x, y + height, x + width)
