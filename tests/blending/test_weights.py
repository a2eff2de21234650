import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.blending.spaces import SPACES, Blend, make_scale, normalised
from pipeline.blending.weights import Sample, blended_counts, gather, greedy_selection, nelder_mead, search_weights
from pipeline.metrics import METRICS, Objective
from pipeline.postprocess import HALF

DICE = Objective(METRICS["dice"])


def images_of(models, count=4, seed=0, noise=60, sides=(12, 10)):
    """Truths of rectangles and maps that are about right, each model with errors of its own: (maps, covered) pairs."""
    rng = np.random.default_rng(seed)
    noises = np.broadcast_to(noise, models)
    for _ in range(count):
        truth = np.zeros(sides)
        top, left = rng.integers(0, 5, 2)
        truth[top : top + 6, left : left + 5] = 1
        covered = (255 * truth).astype(np.uint8).ravel()
        maps = [(60 + 135 * truth.ravel() + rng.normal(0, each, covered.size)).clip(0, 255) for each in noises]
        yield np.stack(maps, axis=1).astype(np.uint8), covered


@given(st.integers(1, 11), st.integers(0, 10**6))
def test_what_is_distinct_is_kept_and_counted(models, seed):
    rng = np.random.default_rng(seed)
    maps = rng.choice([0, 7, 255], (50, models)).astype(np.uint8)
    covered = rng.integers(0, 256, 50, dtype=np.uint8)
    sample = gather([(maps, covered), (maps[:20], covered[:20])])
    for image, size in enumerate((50, 20)):
        rows = slice(*sample.offsets[image : image + 2])
        found = {tuple(c): (p, s) for c, p, s in zip(*(part[rows] for part in parts(sample)), strict=True)}
        unique, inverse = np.unique(maps[:size], axis=0, return_inverse=True)
        pixels = np.bincount(inverse.ravel())
        sums = np.bincount(inverse.ravel(), covered[:size])
        assert found == {tuple(c): (p, s) for c, p, s in zip(unique, pixels, sums, strict=True)}


def parts(sample: Sample):
    return sample.combinations, sample.pixels, sample.covered


@pytest.mark.parametrize("space", SPACES)
@given(models=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_counts_are_those_of_blending_the_maps(space, models, seed):
    images = list(images_of(models, seed=seed))
    sample = gather(images)
    scale = make_scale(space, sample.histograms())
    weights = normalised(np.random.default_rng(seed).random(models))
    chosen = np.array([2, 0])
    counts = blended_counts(sample, chosen, scale, weights)
    for row, number in enumerate(chosen):
        maps, covered = images[number]
        blended = Blend(scale, weights)([[column] for column in maps.T])
        for threshold in (0, 1, 100, HALF, 200, 255):
            mask = blended >= threshold
            assert counts.predicted[row, threshold] == 255 * mask.sum()
            assert counts.intersection[row, threshold] == covered[mask].sum()
        assert counts.true[row, 0] == covered.sum()


def test_histograms_correlations_and_disagreements_are_those_of_the_pixels():
    images = list(images_of(3))
    sample = gather(images)
    pixels = np.concatenate([maps for maps, _ in images])
    assert np.array_equal(sample.histograms(), [np.bincount(column, minlength=256) for column in pixels.T])
    assert np.allclose(sample.correlations(), np.corrcoef(pixels.T.astype(float)))
    masks = pixels >= HALF
    for i in range(3):
        for j in range(3):
            either, both = (masks[:, i] | masks[:, j]).sum(), (masks[:, i] & masks[:, j]).sum()
            assert sample.disagreements()[i, j] == pytest.approx(1 - both / either)


@pytest.mark.parametrize("byte", [0, 3, 77, 255])
def test_a_constant_model_has_no_correlation_whatever_rounding_says(byte):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        maps = np.stack([rng.integers(0, 256, 301), np.full(301, byte)], axis=1).astype(np.uint8)
        found = gather([(maps, np.zeros(301, np.uint8))]).correlations()
        assert found[0, 0] == pytest.approx(1)
        assert np.isnan([found[0, 1], found[1, 0], found[1, 1]]).all()


def test_a_large_foreground_is_counted_in_full():
    side = 2944  # 255 times its pixels are more than an int32 holds
    sample = gather([(np.full((side**2, 1), 255, np.uint8), np.full(side**2, 255, np.uint8))])
    assert sample.covered.tolist() == [255 * side**2]
    counts = blended_counts(sample, [0], make_scale("probability", sample.histograms()), np.ones(1))
    assert DICE(counts)[128] == 1


def test_many_sure_models_stay_within_the_scale():
    for models in (8, 17, 32, 40):
        maps = np.full((30, models), 255, np.uint8)
        sample = gather([(maps, np.full(30, 255, np.uint8))])
        scale = make_scale("probability", sample.histograms())
        counts = blended_counts(sample, [0], scale, np.full(models, 1 / models))
        assert counts.predicted[0, 254] == 255 * 30


def test_a_model_that_predicts_nothing_has_no_correlation_and_disagrees_fully():
    sample = gather((np.column_stack([maps, np.zeros(len(maps), np.uint8)]), covered) for maps, covered in images_of(1))
    assert np.isnan(sample.correlations()[0, 1])
    assert sample.disagreements()[0, 1] == 1
    assert sample.disagreements()[1, 1] == 0


@pytest.mark.parametrize("search", ["nelder-mead", "greedy"])
@given(models=st.integers(1, 4), seed=st.integers(0, 1000))
def test_found_weights_are_shares_and_no_worse_than_equal_or_single(search, models, seed):
    sample = gather(images_of(models, seed=seed))
    scale, images = make_scale("probability", sample.histograms()), np.arange(4)
    found = search_weights(sample, images, scale, DICE, search)
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights.min() >= 0
    for other in (normalised(np.ones(models)), *np.eye(models)):
        assert found.score >= DICE(blended_counts(sample, images, scale, other)).max()


@pytest.mark.parametrize("search", ["nelder-mead", "greedy"])
def test_a_useless_model_gets_next_to_nothing(search):
    def with_noise():
        rng = np.random.default_rng(9)
        for maps, covered in images_of(2, count=30, noise=25):
            yield np.column_stack([maps, rng.integers(0, 256, len(maps), dtype=np.uint8)]), covered

    sample = gather(with_noise())
    scale = make_scale("probability", sample.histograms())
    weights = search_weights(sample, np.arange(30), scale, DICE, search).weights
    assert weights[2] < 0.07
    assert weights[:2].min() > 0.2


@pytest.mark.parametrize("search", ["nelder-mead", "greedy"])
def test_two_models_that_err_apart_beat_each_alone(search):
    sample = gather(images_of(2, count=30))
    scale = make_scale("probability", sample.histograms())
    images = np.arange(30)
    found = search_weights(sample, images, scale, DICE, search)
    alone = [float(DICE(blended_counts(sample, images, scale, weights)).max()) for weights in np.eye(2)]
    assert found.score > max(alone) + 0.02
    assert found.weights == pytest.approx([0.5, 0.5], abs=0.15)


@pytest.mark.parametrize("method", [nelder_mead, greedy_selection])
@pytest.mark.parametrize("best", [[0.5, 0.3, 0.2], [0.7, 0.3, 0.0], [1.0, 0.0, 0.0]])
def test_a_smooth_optimum_is_found_wherever_the_models_stand(method, best):
    """On the inside, on an edge and at a corner of the simplex."""
    best = np.array(best)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        found = method(lambda weights, order=order: -float(((weights - best[order]) ** 2).sum()), 3)
        assert found == pytest.approx(best[order], abs=0.03)


def test_nelder_mead_does_not_depend_on_the_models_order():
    sample = gather(images_of(3, count=20, noise=[40, 60, 90]))
    order = [2, 0, 1]
    turned = Sample(np.ascontiguousarray(sample.combinations[:, order]), *parts(sample)[1:], sample.offsets)
    found = [
        search_weights(each, np.arange(20), make_scale("probability", each.histograms()), DICE).weights
        for each in (sample, turned)
    ]
    assert found[1] == pytest.approx(found[0][order], abs=0.02)


@pytest.mark.parametrize(("both_empty", "expected"), [(1.0, (0.75 + 1) / 2), (0.0, 0.5), (np.nan, 0.75)])
@pytest.mark.parametrize("search", ["nelder-mead", "greedy"])
def test_images_without_anything_count_as_they_are_told_to(search, both_empty, expected):
    """One model finds masks wholly and sees some where there are none; the other, silent there, finds three fifths."""
    covered = np.repeat(np.array([255, 0], np.uint8), [50, 50])
    rash, careful = np.where(covered, 200, 10), np.where(np.arange(100) < 30, 200, 10)
    ghost = np.where(np.arange(100) < 20, 200, 10)
    with_mask, without = np.column_stack([rash, careful]), np.column_stack([ghost, np.full(100, 10)])
    images = [(with_mask.astype(np.uint8), covered), (without.astype(np.uint8), np.zeros(100, np.uint8))] * 2
    sample = gather(images)
    objective = Objective(METRICS["dice"], both_empty)
    found = search_weights(sample, np.arange(4), make_scale("probability", sample.histograms()), objective, search)
    assert found.score == pytest.approx(expected)
