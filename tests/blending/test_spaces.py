import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.blending.spaces import FINEST, SPACES, Blend, make_scale, normalised

SEEDS = st.integers(0, 10**6)


def histograms_of(rng, models):
    """As of real maps: most pixels at both ends, and some bytes that no pixel has."""
    counts = rng.integers(0, 50, (models, 256)) * (rng.random((models, 256)) < 0.7)
    counts[:, 0] += 90_000
    counts[:, 255] += 9_000
    return counts


def random_blend(space, models, seed):
    rng = np.random.default_rng(seed)
    blend = Blend(make_scale(space, histograms_of(rng, models)), normalised(rng.random(models)))
    return blend, [[rng.integers(0, 256, (3, 5, 4), dtype=np.uint8)] for _ in range(models)]


@pytest.mark.parametrize("space", SPACES)
@given(seed=SEEDS)
def test_one_model_gets_its_bytes_back(space, seed):
    scale = make_scale(space, histograms_of(np.random.default_rng(seed), 1))
    every_byte = np.arange(256, dtype=np.uint8)
    assert np.array_equal(Blend(scale, np.ones(1))([[every_byte]]), every_byte)
    assert scale.tables.min() >= 0
    assert scale.tables.max() <= FINEST
    assert np.all(np.diff(scale.back.astype(int)) >= 0)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("folds", [1, 4, 5, 40])
def test_what_all_are_sure_of_stays_sure_however_many_they_are(space, folds):
    """Sums of so many rounded numbers may exceed the scale's end."""
    sure = np.full((2, 2), 255, np.uint8)
    for models in range(1, 41):
        scale = make_scale(space, histograms_of(np.random.default_rng(models), models))
        blend = Blend(scale, normalised(np.random.default_rng(models).random(models)))
        equal = Blend(scale, normalised(np.ones(models)))
        assert all(each([[sure] * folds] * models).min() >= 254 for each in (blend, equal))


@pytest.mark.parametrize("space", SPACES)
@given(models=st.integers(1, 5), seed=SEEDS)
def test_the_models_order_does_not_matter(space, models, seed):
    rng = np.random.default_rng(seed)
    histograms, weights = histograms_of(rng, models), normalised(rng.random(models))
    maps = [[rng.integers(0, 256, 200, dtype=np.uint8)] for _ in range(models)]
    order = rng.permutation(models)
    one = Blend(make_scale(space, histograms), weights)(maps)
    other = Blend(make_scale(space, histograms[order]), weights[order])([maps[model] for model in order])
    assert np.abs(one.astype(int) - other).max() <= 1  # sums of floats in another order


@given(models=st.integers(1, 5), seed=SEEDS)
def test_probabilities_are_averaged_as_they_are(models, seed):
    blend, maps = random_blend("probability", models, seed)
    mean = sum(weight * own[0].astype(float) for weight, own in zip(blend.weights, maps, strict=True))
    assert np.abs(blend(maps) - mean).max() <= 0.501


@given(models=st.integers(1, 5), seed=SEEDS)
def test_logits_are_averaged_as_the_formula_says(models, seed):
    blend, maps = random_blend("logit", models, seed)
    inside = [np.clip(own[0] / 255, 0.25 / 255, 254.75 / 255) for own in maps]
    logit = sum(weight * np.log(p / (1 - p)) for weight, p in zip(blend.weights, inside, strict=True))
    assert np.abs(blend(maps) - 255 / (1 + np.exp(-logit))).max() <= 0.55


@given(seed=SEEDS)
def test_ranks_do_not_see_how_a_model_spreads_its_probabilities(seed):
    """A model and the same one squeezed have the same ranks, so that their blend orders pixels as each of them does."""
    rng = np.random.default_rng(seed)
    squeeze = np.sort(rng.choice(256, 100, replace=False))
    own = rng.integers(0, 100, 5000)
    maps = [own.astype(np.uint8), squeeze[own].astype(np.uint8)]
    histograms = np.stack([np.bincount(each, minlength=256) for each in maps])
    blend = Blend(make_scale("rank", histograms), np.array([0.3, 0.7]))
    blended = blend([[each] for each in maps])
    order = np.argsort(own, kind="stable")
    assert np.all(np.diff(blended[order].astype(int)) >= 0)
    assert len(np.unique(blended)) > 90


@pytest.mark.parametrize("space", SPACES)
def test_folds_of_a_model_count_alike_and_a_weightless_model_is_not_needed(space):
    blend, maps = random_blend(space, 2, seed=3)
    alone = Blend(blend.scale, np.array([1.0, 0.0]))
    assert np.array_equal(alone([maps[0], []]), alone(maps))
    assert np.array_equal(alone([maps[0] * 3, []]), alone(maps))


def test_an_images_blend_does_not_depend_on_the_others():
    blend, maps = random_blend("rank", 3, seed=4)
    first = blend([[own[0][:1]] for own in maps])
    assert np.array_equal(first, blend(maps)[:1])


def test_weights_become_shares():
    assert normalised([2, 1, 1]).tolist() == [0.5, 0.25, 0.25]
    assert normalised([0, 0]).tolist() == [0.5, 0.5]
