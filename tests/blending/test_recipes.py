import numpy as np
import pytest

from pipeline.blending.recipes import Chooser, HeldOut, best_threshold, score_recipe
from pipeline.blending.spaces import SPACES
from pipeline.blending.weights import gather
from pipeline.metrics import METRICS, Counts, Objective
from pipeline.postprocess import HALF

DICE = Objective(METRICS["dice"])
SIDES = (10, 8)


def maps_of(noise, count, seed):
    """Rectangles, and maps of models that err by so much each: uint8 (M, N, H, W) and the truth, (N, H, W) 0/255."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((count, *SIDES), np.uint8)
    for mask in truth:
        top, left = rng.integers(0, 4, 2)
        mask[top : top + 5, left : left + 4] = 255
    means = 60 + 135 * (truth > 0)
    return np.stack([(means + rng.normal(0, each, truth.shape)).clip(0, 255) for each in noise]).astype(np.uint8), truth


def chooser_of(maps, truth, fold):
    flat = maps.reshape(*maps.shape[:2], -1)
    sample = gather((flat[:, row].T, truth[row].ravel()) for row in range(len(fold)))
    return Chooser(sample, fold, int(fold.max()) + 1, DICE, None)


def counts_at_all_thresholds(maps, truth):
    masks = maps.reshape(len(maps), -1, 1) >= np.arange(256)
    true = (truth.reshape(len(maps), -1) > 0)[:, :, None]
    return Counts((masks & true).sum(1), masks.sum(1), true.sum(1))


def scored(held_out, truth, recipe):
    blended = held_out.blended(recipe)[0 : len(truth)]
    return score_recipe(counts_at_all_thresholds(blended, truth), held_out.fold, DICE)


def test_each_image_is_blended_by_its_own_folds_recipe():
    maps, truth = maps_of([30, 60], 12, seed=0)
    fold = np.arange(12) % 3
    recipe = chooser_of(maps, truth, fold).searched(SPACES, None)[0]
    whole = HeldOut(maps, fold).blended(recipe)[2:9]
    for row in range(2, 9):
        alone = recipe.blends[fold[row]]([[maps[model, row]] for model in range(2)])
        assert np.array_equal(whole[row - 2], alone)


def test_a_folds_blend_does_not_depend_on_its_own_masks():
    maps, truth = maps_of([30, 60, 90], 18, seed=1)
    fold = np.arange(18) % 3
    changed = truth.copy()
    changed[fold == 1] = 255 - changed[fold == 1]
    recipes = [chooser_of(maps, each, fold).searched(SPACES, None)[0] for each in (truth, changed)]
    weights = [[blend.weights.tolist() for blend in recipe.blends] for recipe in recipes]
    assert weights[0][1] == weights[1][1]
    assert recipes[0].spaces[1] == recipes[1].spaces[1]
    assert weights[0][3] != weights[1][3]


def test_the_recipe_to_use_has_one_space_and_the_test_blend_for_test_images():
    maps, truth = maps_of([30, 60], 12, seed=2)
    nested, usable = chooser_of(maps, truth, np.arange(12) % 3).searched(SPACES, None)
    assert set(usable.spaces) == {nested.spaces[-1]}
    assert usable.blends[-1] is nested.blends[-1]
    assert all(blend is usable.blends[-1] for blend in usable.for_test().blends)


def test_given_weights_are_kept_in_every_space():
    maps, truth = maps_of([30, 60], 12, seed=3)
    recipe = chooser_of(maps, truth, np.arange(12) % 3).searched(SPACES, np.array([3, 1]))[0]
    assert all(blend.weights.tolist() == [0.75, 0.25] for blend in recipe.blends)


def test_on_equally_good_models_the_search_gains_nothing_that_lasts():
    """Planted noise: on the images that it sees the search finds a better score, and on the others it is gone."""
    found, lasting = [], []
    for seed in range(5):
        maps, truth = maps_of([250] * 4, 15, seed=seed)
        fold = np.arange(15) % 3
        chooser, held_out = chooser_of(maps, truth, fold), HeldOut(maps, fold)
        plain = scored(held_out, truth, chooser.fixed("probability", np.ones(4)))
        nested, usable = chooser.searched(SPACES, None)
        searched, optimistic = scored(held_out, truth, nested), scored(held_out, truth, usable.for_test())
        assert searched.cross_fitted < optimistic.tuned
        assert DICE.compare(searched.counts, plain.counts).ci95[0] <= 0
        found.append(optimistic.tuned - plain.tuned)
        lasting.append(searched.cross_fitted - plain.cross_fitted)
    assert min(found) >= 0
    assert np.mean(found) > 0.002
    assert np.mean(lasting) < np.mean(found) / 2


def test_a_model_that_only_disturbs_is_voted_out_beyond_noise():
    maps, truth = maps_of([40, 200], 30, seed=5)
    fold = np.arange(30) % 3
    chooser, held_out = chooser_of(maps, truth, fold), HeldOut(maps, fold)
    plain = scored(held_out, truth, chooser.fixed("probability", np.ones(2)))
    nested, _ = chooser.searched(("probability",), None)
    searched = scored(held_out, truth, nested)
    assert all(blend.weights[0] > 0.8 for blend in nested.blends)
    assert DICE.compare(searched.counts, plain.counts).ci95[0] > 0


def test_without_a_model_the_others_are_as_if_alone():
    maps, truth = maps_of([30, 60, 90], 12, seed=6)
    fold = np.arange(12) % 3
    rest = chooser_of(maps, truth, fold).without(1)
    alone = chooser_of(maps[[0, 2]], truth, fold)
    assert np.array_equal(rest.sample.histograms(), alone.sample.histograms())
    recipes = [each.searched(("probability",), None)[0] for each in (rest, alone)]
    for left, right in zip(*(recipe.blends for recipe in recipes), strict=True):
        assert left.weights == pytest.approx(right.weights)
    remaining = HeldOut(maps, fold).without(1).maps
    assert np.array_equal(remaining, maps[[0, 2]])


def test_thresholds_are_cross_fitted():
    """Fold 0 is best at 60 and fold 1 at 200: each gets the other's."""
    distance = np.abs(np.arange(256) - np.array([60, 200, 60, 200])[:, None])
    counts = Counts(100 - np.minimum(distance, 100), np.full((4, 256), 100), np.full((4, 1), 100))
    score = score_recipe(counts, np.array([0, 1, 0, 1]), DICE)
    assert score.cross_fitted == 0
    assert score.counts.intersection.tolist() == [0, 0, 0, 0]
    assert score.tuned == pytest.approx(DICE(counts).max())


def test_of_equally_good_thresholds_the_one_next_to_one_half_is_taken():
    assert best_threshold(np.zeros(256)) == HALF
    assert best_threshold(np.where(np.isin(np.arange(256), [40, 150, 240]), 1.0, 0.5)) == 150


@pytest.mark.parametrize(("both_empty", "expected"), [(1.0, (0.75 + 1) / 2), (0.0, 0.5), (np.nan, 0.75)])
def test_images_without_anything_count_as_they_are_told_to(both_empty, expected):
    """From 150 on masks lose two fifths, and images without one stay empty; below, all have masks, whole ones."""
    above = np.arange(256) >= 150
    predicted = np.stack([np.where(above, 30, 50), np.where(above, 0, 20)] * 4)
    true = np.array([[50], [0]] * 4)
    counts = Counts(np.minimum(predicted, true), predicted, true)
    score = score_recipe(counts, np.repeat([0, 1], 4), Objective(METRICS["dice"], both_empty))
    assert (score.tuned, score.cross_fitted) == (pytest.approx(expected), pytest.approx(expected))
