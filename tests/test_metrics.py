import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline import metrics
from pipeline.metrics import METRICS, Counts, dice, iou, score_all

mask_pairs = arrays(np.bool_, st.tuples(st.integers(1, 5), st.just(2), st.integers(1, 6), st.integers(1, 6)))


def count(predicted, true):
    """(N, H, W) bool twice."""
    over = (1, 2)
    return Counts((predicted & true).sum(over), predicted.sum(over), true.sum(over))


def naive(predicted, true):
    """Intersection, sum of areas and union of one image, pixel by pixel."""
    both = either = total = 0
    for p, t in zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True):
        both += p and t
        either += p or t
        total += p + t
    return both, total, either


def share(part, whole):
    return part / whole if whole else 1.0


@given(mask_pairs)
def test_scores_are_those_of_counting_pixel_by_pixel(pairs):
    predicted, true = pairs[:, 0], pairs[:, 1]
    found = [naive(p, t) for p, t in zip(predicted, true, strict=True)]
    scores = score_all(count(predicted, true))
    assert scores["dice"] == pytest.approx(np.mean([share(2 * both, total) for both, total, _ in found]))
    assert scores["iou"] == pytest.approx(np.mean([share(both, either) for both, _, either in found]))
    both, total, _ = np.sum(found, axis=0)
    assert scores["global-dice"] == pytest.approx(share(2 * both, total))


@pytest.mark.parametrize("name", METRICS)
def test_both_empty_is_perfect(name):
    nothing = np.zeros(3, np.int64)
    assert METRICS[name](Counts(nothing, nothing, nothing)) == 1.0


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(("predicted", "true"), [(5, 0), (0, 5), (5, 5)])
def test_no_overlap_is_worth_nothing(name, predicted, true):
    assert METRICS[name](Counts(np.array([0]), np.array([predicted]), np.array([true]))) == 0.0


@given(mask_pairs)
def test_dice_and_iou_are_one_order(pairs):
    counts = count(pairs[:, 0], pairs[:, 1])
    assert np.allclose(dice(counts), 2 * iou(counts) / (1 + iou(counts)))


def test_the_pooled_score_weighs_by_area():
    counts = Counts(np.array([900, 0]), np.array([1000, 10]), np.array([1000, 10]))
    scores = score_all(counts)
    assert scores["dice"] == pytest.approx(0.45)
    assert scores["global-dice"] == pytest.approx(1800 / 2020)


def test_counts_of_many_thresholds_broadcast_against_one_truth():
    intersection = np.array([[4, 2, 0], [0, 0, 0]])
    predicted = np.array([[8, 2, 0], [3, 0, 0]])
    scores = METRICS["dice"](Counts(intersection, predicted, np.array([[4], [0]])))
    assert scores == pytest.approx([(8 / 12 + 0) / 2, (4 / 6 + 1) / 2, (0 + 1) / 2])


def test_large_areas_do_not_overflow():
    area = np.array([2**32 - 1] * 4)
    assert score_all(Counts(area, area, area)) == dict.fromkeys(METRICS, 1.0)


def test_the_example_in_the_documentation():
    result = doctest.testmod(metrics, extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0
