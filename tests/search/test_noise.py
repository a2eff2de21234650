import numpy as np
import pytest

from pipeline.metrics import METRICS, Counts, Objective, compare
from pipeline.search.noise import paired_difference


def draw(true, rng, quality):
    intersection = rng.binomial(true, quality)
    return Counts(intersection, intersection + rng.binomial(true, 1 - quality), true)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("size", [1, 4])
def test_the_error_of_a_difference_is_the_bootstraps(name, size):
    rng = np.random.default_rng(1)
    quality = np.repeat(rng.uniform(0.5, 0.9, 300), size)  # images of a group are alike
    true = rng.integers(1, 1000, 300 * size)
    counts, other = draw(true, rng, quality), draw(true, rng, quality**1.5)
    groups = np.repeat(rng.permutation(300), size)
    difference, error = paired_difference(Objective(METRICS[name]), counts, other, groups)
    expected = compare(METRICS[name], counts, other, groups=groups, resamples=4000)
    low, high = expected.ci95
    assert difference == pytest.approx(expected.difference)
    assert error == pytest.approx((high - low) / 2 / 1.96, rel=0.08)


@pytest.mark.parametrize("name", METRICS)
def test_several_settings_are_compared_at_once(name):
    rng = np.random.default_rng(2)
    true = rng.integers(1, 1000, 50)
    other, *several = (draw(true, rng, quality) for quality in (0.9, 0.5, 0.7, 0.9))
    stacked = (
        np.stack(columns, axis=1) for columns in zip(*((c.intersection, c.predicted) for c in several), strict=True)
    )
    groups = rng.integers(0, 20, 50)
    objective = Objective(METRICS[name])
    against = Counts(other.intersection[:, None], other.predicted[:, None], true[:, None])
    found = paired_difference(objective, Counts(*stacked, true[:, None]), against, groups)
    for number, counts in enumerate(several):
        expected = paired_difference(objective, counts, other, groups)
        assert (found[0][number], found[1][number]) == pytest.approx(expected)


def test_a_setting_does_not_differ_from_itself():
    rng = np.random.default_rng(3)
    counts = draw(rng.integers(1, 1000, 30), rng, 0.8)
    for metric in METRICS.values():
        assert paired_difference(Objective(metric), counts, counts, np.arange(30)) == (0, 0)
