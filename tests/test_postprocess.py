import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import restore
from pipeline.metrics import Counts, dice
from pipeline.postprocess import (
    HALF,
    Held,
    best_threshold,
    counts_by_threshold,
    final_edges,
    joint_histogram,
    threshold_counts,
    tune_threshold,
)
from pipeline.rle import area, intersection, to_edges

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
            edges = final_edges(image.prob_hw, image.height, image.width, fit, threshold)
            assert area(edges) == counts.predicted[row, threshold]
            assert intersection(edges, image.true_edges) == counts.intersection[row, threshold]


def test_an_empty_truth_and_an_empty_list():
    image = Held(np.zeros((32, 32), np.uint8), 40, 50, np.empty(0, np.uint32))
    counts = threshold_counts([image], 1, "stretch")
    assert dice(counts)[0].tolist() == [0.0] + [1.0] * 255
    assert threshold_counts([], 0, "stretch").true.shape == (0, 1)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 1)), max_size=40))
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


@pytest.mark.parametrize(
    ("best", "chosen"),
    [
        ([200], 200),
        ([0, 255], 255),  # 127 away, against 128
        ([100, 130], 130),
        ([127, 129], 127),
        (range(256), HALF),
        (range(50), 49),
        (range(150, 256), 150),
    ],
)
def test_of_equally_good_thresholds_the_one_next_to_one_half_is_taken(best, chosen):
    curve = np.full(256, 0.25)
    curve[list(best)] = 0.75
    assert best_threshold(curve) == chosen


def counts_with_optimum(thresholds):
    """One image each, 100 true pixels, Dice 1 at its own threshold and falling with the distance from it."""
    distance = np.abs(np.arange(256) - np.array(thresholds)[:, None])
    intersection = 100 - np.minimum(distance, 100)
    return Counts(intersection, np.full_like(intersection, 100), np.full((len(thresholds), 1), 100))


def test_cross_fitting_never_looks_at_a_folds_own_images():
    fold = np.array([0, 1, 0, 1, 0, 1])
    tuning = tune_threshold(counts_with_optimum([60, 200, 60, 200, 60, 200]), fold)
    assert tuning.thresholds_by_fold == [200, 60]
    assert tuning.cross_fitted == 0.0
    assert tuning.tuned > 0.25
    assert tuning.curve[tuning.threshold] == pytest.approx(tuning.tuned)


def test_a_folds_threshold_does_not_depend_on_its_own_images():
    fold = np.array([0, 1, 2, 0, 1, 2])
    before = tune_threshold(counts_with_optimum([100, 110, 120, 100, 110, 120]), fold)
    after = tune_threshold(counts_with_optimum([250, 110, 120, 5, 110, 120]), fold)
    assert before.thresholds_by_fold[0] == after.thresholds_by_fold[0]
    assert before.thresholds_by_fold[1:] != after.thresholds_by_fold[1:]


def test_folds_of_unequal_size_weigh_by_their_images():
    fold = np.array([0, 0, 0, 1])
    tuning = tune_threshold(counts_with_optimum([128, 128, 128, 108]), fold)
    assert tuning.thresholds_by_fold == [108, 128]
    assert tuning.cross_fitted == pytest.approx(0.8)
    assert tuning.at_half == pytest.approx((3 * 1 + 0.8) / 4)
    assert tuning.at_half_by_fold == pytest.approx([1.0, 0.8])
    assert (tuning.threshold, tuning.tuned) == (128, pytest.approx(0.95))
    assert len(tuning.curve) == 256


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2)), min_size=6, max_size=12))
def test_tuned_is_never_below_cross_fitted(images):
    thresholds, folds = zip(*images, strict=True)
    fold = np.array([0, 1, 2, *folds[3:]])
    tuning = tune_threshold(counts_with_optimum(thresholds), fold)
    assert tuning.tuned >= max(tuning.at_half, tuning.cross_fitted) - 1e-12
