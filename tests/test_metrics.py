import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline import metrics
from pipeline.metrics import METRICS, Comparison, Counts, compare, dice, fbeta, interval, iou, score_all

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


def draw(count, seed=0, quality=0.8):
    """Counts of random images, int64 (count,)."""
    rng = np.random.default_rng(seed)
    true = rng.integers(1, 1000, count)
    intersection = np.minimum(rng.binomial(true, quality), true)
    return Counts(intersection, intersection + rng.binomial(true, 1 - quality), true)


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


@given(mask_pairs)
def test_precision_recall_and_their_mean_are_those_of_the_definition(pairs):
    counts = count(pairs[:, 0], pairs[:, 1])
    expected = []
    for both, predicted, true in zip(counts.intersection, counts.predicted, counts.true, strict=True):
        empty = float(predicted == true == 0)
        p, r = (both / area if area else empty for area in (predicted, true))
        expected.append((p, r, 1.25 * p * r / (0.25 * p + r) if p + r else 0.0))
    scores = score_all(counts)
    found = [scores[name] for name in ("precision", "recall", "fbeta")]
    assert found == pytest.approx(np.mean(expected, axis=0))
    assert fbeta(counts, beta=1) == pytest.approx(dice(counts))


@pytest.mark.parametrize(
    ("intersection", "union", "hits"),
    [(50, 100, 0), (51, 100, 1), (60, 100, 2), (61, 100, 3), (95, 100, 9), (96, 100, 10), (7, 10, 4), (0, 0, 10)],
)
def test_tgs_counts_the_thresholds_that_iou_exceeds(intersection, union, hits):
    counts = Counts(*(np.array([area]) for area in (intersection, union, intersection)))
    assert METRICS["tgs-map"](counts) == hits / 10


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


@pytest.mark.parametrize("name", METRICS)
def test_both_empty_follows_the_rule(name):
    counts = Counts(np.array([0, 8]), np.array([0, 8]), np.array([0, 8]))
    pooled = name == "global-dice"
    assert METRICS[name](counts, 0.0) == (1.0 if pooled else 0.5)
    assert METRICS[name](counts, np.nan) == 1.0
    nothing = Counts(*np.zeros((3, 2), np.int64))
    assert METRICS[name](nothing, 0.0) == 0.0
    assert np.isnan(METRICS[name](nothing, np.nan))
    assert np.isnan(interval(METRICS[name], nothing, np.nan)).all()


def test_an_image_left_out_is_one_that_is_not_there():
    counts = draw(40)
    padded = Counts(*(np.append(part, [0] * 9) for part in (counts.intersection, counts.predicted, counts.true)))
    for name, metric in METRICS.items():
        assert metric(padded, np.nan) == pytest.approx(metric(counts)), name


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


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    counts = draw(400)
    low, high = interval(METRICS["dice"], counts, resamples=20_000)
    error = dice(counts).std() / np.sqrt(400)
    assert (low + high) / 2 == pytest.approx(dice(counts).mean(), abs=0.1 * error)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_the_interval_of_a_pooled_score_is_that_of_a_ratio():
    counts = draw(400)
    low, high = interval(METRICS["global-dice"], counts, resamples=20_000)
    pooled = METRICS["global-dice"](counts)
    whole = counts.predicted + counts.true
    error = (2 * counts.intersection - pooled * whole).std() / whole.mean() / np.sqrt(400)  # the delta method
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.03)


def test_images_of_a_group_are_drawn_together():
    counts = draw(50)
    repeated = Counts(*(np.repeat(part, 8) for part in (counts.intersection, counts.predicted, counts.true)))
    groups = np.repeat(np.arange(50) * 7, 8)
    for name in ("dice", "global-dice"):
        alone = interval(METRICS[name], counts)
        assert interval(METRICS[name], repeated, groups=groups) == pytest.approx(alone)
        low, high = interval(METRICS[name], repeated)
        assert high - low < 0.5 * (alone[1] - alone[0])


@pytest.mark.parametrize("number", [1, 7, 300, 70_000])  # the last is more than are drawn at once
def test_an_interval_is_a_function_of_the_seed(number):
    counts = draw(number)
    first, again, other = (interval(METRICS["iou"], counts, seed=seed, resamples=20) for seed in (3, 3, 4))
    assert first == again
    assert (first == other) == (number == 1)


@pytest.mark.parametrize("name", METRICS)
def test_a_planted_difference_is_found(name):
    worse = draw(300, quality=0.6)
    found = worse.intersection + (worse.true - worse.intersection) // 2
    better = Counts(found, worse.predicted + found - worse.intersection, worse.true)
    comparison = compare(METRICS[name], better, worse)
    assert comparison.score == METRICS[name](worse)
    assert comparison.difference == pytest.approx(float(METRICS[name](better)) - comparison.score)
    low, high = comparison.ci95
    assert 0 < low < comparison.difference < high
    assert comparison.better > 0.9
    assert comparison.worse == 0
    assert comparison.better + comparison.equal == pytest.approx(1)


def test_a_comparison_is_paired():
    counts = draw(300)
    nearly = Counts(counts.intersection, counts.predicted + counts.predicted // 20, counts.true)
    low, high = compare(METRICS["dice"], counts, nearly).ci95
    alone = interval(METRICS["dice"], counts)
    assert high - low < 0.5 * (alone[1] - alone[0])
    same = compare(METRICS["dice"], counts, counts)
    assert (same.difference, same.ci95, same.better, same.worse, same.equal) == (0, (0, 0), 0, 0, 1)


def test_a_right_empty_prediction_is_better_than_a_wrong_one_also_where_it_is_left_out():
    counts = Counts(*np.array([[0, 5], [0, 9], [0, 9]]))
    other = Counts(*np.array([[0, 5], [4, 9], [0, 9]]))
    comparison = compare(METRICS["dice"], counts, other, np.nan)
    assert (comparison.better, comparison.worse, comparison.equal) == (0.5, 0, 0.5)


def test_the_example_in_the_documentation():
    result = doctest.testmod(metrics)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("ci95", "drawn", "verdict"),
    [
        ((0.01, 0.1), 6, "it gains +0.0500 (95% interval +0.0100 to +0.1000)"),
        ((0.0, 0.1), 60, "it gains nothing beyond noise: +0.0500 (95% interval +0.0000 to +0.1000)"),
        (
            (0.01, 0.1),
            5,
            "it gains nothing that 5 images or groups tell from noise: +0.0500 (95% interval +0.0100 to +0.1000)",
        ),
    ],
)
def test_a_gain_is_beyond_noise_if_its_interval_is_above_0_and_of_enough_images(ci95, drawn, verdict):
    comparison = Comparison(0.5, 0.05, ci95, 1.0, 0.0, 0.0, drawn)
    assert comparison.verdict("it") == verdict
    assert (comparison.is_gain, comparison.is_loss) == (verdict.startswith("it gains +"), False)


@pytest.mark.parametrize(("drawn", "is_loss"), [(6, True), (5, False)])
def test_a_loss_is_beyond_noise_likewise(drawn, is_loss):
    comparison = Comparison(0.5, -0.05, (-0.1, -0.01), 0.0, 1.0, 0.0, drawn)
    words = "loses" if is_loss else "gains nothing that 5 images or groups tell from noise:"
    assert comparison.verdict("it") == f"it {words} -0.0500 (95% interval -0.1000 to -0.0100)"
    assert (comparison.is_gain, comparison.is_loss) == (False, is_loss)


def test_a_comparison_counts_what_the_bootstrap_draws_from():
    counts = Counts(*np.array([[5, 9, 9]] * 4).T)
    assert compare(METRICS["dice"], counts, counts).drawn == 4
    assert compare(METRICS["dice"], counts, counts, groups=np.array([3, 3, 7, 7])).drawn == 2
