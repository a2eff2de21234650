import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.errors import DataError
from pipeline.geometry import restore
from pipeline.metrics import dice
from pipeline.postprocess import (
    UNTUNED,
    Held,
    Postprocess,
    counts_by_threshold,
    final_edges,
    for_each_image,
    joint_histogram,
    mask_edges,
    stored_postprocess,
    threshold_counts,
)
from pipeline.rle import area, from_edges, intersection, to_edges

FITS = ("stretch", "letterbox")


def held_images(count=3, seed=0):
    """Maps of 32 x 32 that are somewhat right about masks of other sizes."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        height, width = rng.integers(20, 70, 2).tolist()
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 : height // 2, width // 3 :] = 1
        yield Held(rng.integers(0, 256, (32, 32), dtype=np.uint8), height, width, to_edges(mask))


@pytest.mark.parametrize("fit", FITS)
def test_counts_are_those_of_trying_every_threshold(fit):
    images = list(held_images())
    counts = threshold_counts(images, len(images), fit)
    for row, image in enumerate(images):
        restored = restore(image.prob_hw, image.height, image.width, fit)
        true = np.zeros(image.height * image.width, bool)
        for start, end in image.true_edges.reshape(-1, 2):
            true[start:end] = True
        true = true.reshape(image.width, image.height).T
        assert counts.true[row, 0] == true.sum()
        for threshold in range(256):
            predicted = restored >= threshold
            assert counts.predicted[row, threshold] == predicted.sum()
            assert counts.intersection[row, threshold] == (predicted & true).sum()


@pytest.mark.parametrize("fit", FITS)
def test_the_submitted_mask_is_the_one_that_was_tuned(fit):
    for row, image in enumerate(images := list(held_images(seed=1))):
        counts = threshold_counts(images, len(images), fit)
        for threshold in range(256):
            edges = final_edges(image.prob_hw, image.height, image.width, fit, Postprocess(threshold))
            assert area(edges) == counts.predicted[row, threshold]
            assert intersection(edges, image.true_edges) == counts.intersection[row, threshold]


def test_an_empty_truth_and_an_empty_list():
    image = Held(np.zeros((32, 32), np.uint8), 40, 50, np.empty(0, np.uint32))
    counts = threshold_counts([image], 1, "stretch")
    assert dice(counts)[0].tolist() == [0.0] + [1.0] * 255
    assert threshold_counts([], 0, "stretch").true.shape == (0, 1)


@given(
    st.one_of(
        st.lists(st.tuples(st.integers(0, 255), st.integers(0, 1)), max_size=40),
        st.lists(st.tuples(st.sampled_from([0, 255]), st.integers(0, 1), st.integers(1, 20))).map(
            lambda runs: [(value, truth) for value, truth, length in runs for _ in range(length)]
        ),
    )
)
def test_the_histogram_counts_every_pixel_once(pixels):
    probability, mask = np.array(pixels, np.uint8).reshape(-1, 2).T.copy()
    histogram = joint_histogram(probability, mask)
    expected = np.zeros((2, 256), np.int64)
    for value, truth in pixels:
        expected[truth, value] += 1
    assert np.array_equal(histogram, expected)
    inside, predicted = counts_by_threshold(histogram)
    assert predicted[0] == len(pixels)
    assert inside[0] == mask.sum()


@pytest.mark.parametrize("workers", [1, 3])
def test_counts_do_not_depend_on_the_number_of_threads(workers):
    images = list(held_images(40, seed=2))
    expected = threshold_counts(images, len(images), "stretch")
    counts = threshold_counts(iter(images), len(images), "stretch", workers)
    assert all(np.array_equal(*pair) for pair in zip(vars(counts).values(), vars(expected).values(), strict=True))


def test_few_images_wait_however_many_there_are():
    waiting, most = set(), 0

    def read():
        nonlocal most
        for number in range(2000):
            waiting.add(number)
            most = max(most, len(waiting))
            yield number

    for_each_image(lambda row, _: waiting.remove(row), read(), workers=2)
    assert not waiting
    assert most < 100


def test_an_error_in_a_thread_is_not_lost():
    with pytest.raises(ZeroDivisionError):
        for_each_image(lambda row, image: row / image, [1, 0], workers=2)


# ------------------------------------------------------------------------------------------------- masks by rules


@st.composite
def restored_maps(draw):
    """uint8 (H, W) of five values, in patches, as noise or both."""
    shape = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = np.array([0, 60, 128, 200, 255], np.uint8)
    coarse = levels[rng.integers(0, 5, [-(-side // 3) for side in shape])]
    patches = np.repeat(np.repeat(coarse, 3, 0), 3, 1)[: shape[0], : shape[1]]
    noisy = rng.random(shape) < draw(st.sampled_from([0, 0.2, 1]))
    return np.where(noisy, levels[rng.integers(0, 5, shape)], patches)


def postprocesses():
    small = st.integers(0, 40)
    return st.builds(
        Postprocess,
        threshold=st.sampled_from([0, 60, 61, 128, 200, 255]),
        top_threshold=st.sampled_from([None, 0, 128, 201, 255]),
        min_area=small,
        fill_holes=st.one_of(st.none(), small),
        min_component=small,
        max_components=st.sampled_from([None, 1, 2, 5]),
    )


def naive_mask(restored, rules):
    """What the rules say, on pixels; bool (H, W)."""
    mask = restored >= rules.threshold
    if (restored >= rules.top).sum() < rules.min_area:
        mask[:] = False
    holes, count = ndimage.label(~mask)  # background hangs together at sides only
    outside = {*holes[0], *holes[-1], *holes[:, 0], *holes[:, -1]}
    limit = np.inf if rules.fill_holes is None else rules.fill_holes
    for label in range(1, count + 1):
        if label not in outside and (holes == label).sum() <= limit:
            mask |= holes == label
    turned, count = ndimage.label(mask.T, np.ones((3, 3)))  # numbered down the columns, as ties are decided
    areas = [int((turned == label).sum()) for label in range(1, count + 1)]
    kept = [label for label, area in enumerate(areas, 1) if area >= rules.min_component]
    kept.sort(key=lambda label: -areas[label - 1])
    return np.isin(turned.T, kept[: rules.max_components])


@given(restored_maps(), postprocesses())
@settings(max_examples=300)
def test_a_mask_is_what_its_rules_say(restored, rules):
    edges = mask_edges(restored, rules)
    assert np.array_equal(from_edges(edges, restored.shape), naive_mask(restored, rules))


def test_without_tuning_a_mask_is_everything_above_one_half():
    prob = np.array([[127, 128], [129, 0]], np.uint8)
    assert final_edges(prob, 2, 2, "stretch", UNTUNED).tolist() == to_edges(prob >= 128).tolist()


@given(postprocesses())
def test_settings_survive_being_stored(rules):
    content = json.loads(json.dumps({"postprocess": [asdict(rules)]}))
    assert stored_postprocess(content, Path("tuning.json")) == [rules]


@pytest.mark.parametrize(
    "content", [{"threshold": 100}, {"postprocess": [{"treshold": 100}]}, {"postprocess": None}, []]
)
def test_stored_settings_of_another_version_are_refused(content):
    with pytest.raises(DataError, match=r"tuning.json has no valid 'postprocess' .*: run the stage 'tune' again"):
        stored_postprocess(content, Path("tuning.json"))


def test_settings_in_words():
    assert str(UNTUNED) == "threshold 128/255"
    rules = Postprocess(100, 200, 50, fill_holes=9, min_component=7, max_components=1)
    assert str(rules) == (
        "threshold 100/255, empty below 50 pixels at 200/255, holes up to 9 filled, components below 7 removed, "
        "the largest kept"
    )
    assert (
        str(Postprocess(fill_holes=None, max_components=3)) == "threshold 128/255, all holes filled, the 3 largest kept"
    )
