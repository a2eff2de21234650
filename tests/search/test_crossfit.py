"""What is chosen, that no fold is scored at settings chosen on it, and that luck is not taken for gain."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import METRICS, Counts, Objective
from pipeline.postprocess import UNTUNED, Held, Postprocess, final_edges, threshold_counts
from pipeline.rle import area, intersection, to_edges
from pipeline.search import Rows, Search, rule_grid, tune_classes, tune_masks

DICE = Objective(METRICS["dice"])
THRESHOLDS = Search(areas=(0,), family="threshold", choose="best")
AREAS = (0, 5, 20, 80, 320)


def rows_of(counts, fold, group=None):
    fold = np.asarray(fold)
    return Rows(counts, fold, np.arange(len(fold)) if group is None else group, lambda: iter(()), "stretch")


def counts_with_optimum(thresholds):
    """One image each, 100 true pixels, Dice 1 at its own threshold and falling with the distance from it."""
    distance = np.abs(np.arange(256) - np.array(thresholds)[:, None])
    intersection = 100 - np.minimum(distance, 100)
    return Counts(intersection, np.full_like(intersection, 100), np.full((len(thresholds), 1), 100))


def counts_of_histograms(histogram):
    """int (N, 2, 256), pixels outside and inside the truth by probability."""
    above = histogram[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    return Counts(above[:, 1], above.sum(axis=1), above[:, 1, :1])


# ------------------------------------------------------------------------------------------------------- thresholds


def test_cross_fitting_never_looks_at_a_folds_own_images():
    tuning = tune_masks(rows_of(counts_with_optimum([60, 200] * 3), [0, 1] * 3), DICE, THRESHOLDS)
    assert tuning.found_by_fold == [Postprocess(200), Postprocess(60)]
    assert tuning.worth.cross_fitted == 0.0
    assert tuning.worth.tuned > 0.25
    assert tuning.curve[tuning.found.threshold] == pytest.approx(tuning.worth.tuned)
    assert tuning.worth.verdict.startswith("tuning loses -0.3000")


@pytest.mark.parametrize("choose", ["best", "plateau"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_a_folds_settings_do_not_depend_on_its_own_images(choose, seed):
    rng = np.random.default_rng(seed)
    histogram = rng.integers(0, 9, (24, 2, 256)) * (rng.random((24, 2, 1)) < 0.7)
    fold, search = np.arange(24) % 3, Search(AREAS, choose=choose)
    before = tune_masks(rows_of(counts_of_histograms(histogram), fold), DICE, search)
    histogram[fold == 0] = rng.integers(0, 9, (8, 2, 256))
    after = tune_masks(rows_of(counts_of_histograms(histogram), fold), DICE, search)
    assert before.postprocess_by_fold[0] == after.postprocess_by_fold[0]
    assert before.curve != after.curve


def test_folds_of_unequal_size_weigh_by_their_images():
    tuning = tune_masks(rows_of(counts_with_optimum([128, 128, 128, 108]), [0, 0, 0, 1]), DICE, THRESHOLDS)
    assert [each.threshold for each in tuning.found_by_fold] == [108, 128]
    assert tuning.worth.cross_fitted_by_fold == pytest.approx([0.8, 0.8])
    assert tuning.worth.cross_fitted == pytest.approx(0.8)
    assert tuning.worth.at_half == pytest.approx((3 * 1 + 0.8) / 4)
    assert tuning.worth.at_half_by_fold == pytest.approx([1.0, 0.8])
    assert (tuning.postprocess, tuning.worth.tuned) == (UNTUNED, pytest.approx(0.95))
    assert len(tuning.curve) == 256


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2)), min_size=6, max_size=12))
@settings(max_examples=30)
def test_tuned_is_never_below_cross_fitted(images):
    thresholds, folds = zip(*images, strict=True)
    tuning = tune_masks(rows_of(counts_with_optimum(thresholds), [0, 1, 2, *folds[3:]]), DICE, THRESHOLDS)
    assert tuning.worth.tuned >= max(tuning.worth.at_half, tuning.worth.cross_fitted) - 1e-12


def test_the_interval_is_over_groups():
    rng = np.random.default_rng(0)
    counts = counts_with_optimum(np.repeat(rng.integers(60, 200, 20), 6))
    group = np.repeat(np.arange(20), 6)
    alone, together = (tune_masks(rows_of(counts, group % 4, each), DICE, THRESHOLDS) for each in (None, group))
    assert alone.worth.cross_fitted == together.worth.cross_fitted
    widths = [high - low for low, high in (alone.worth.cross_fitted_ci95, together.worth.cross_fitted_ci95)]
    assert widths[1] > 1.5 * widths[0]
    assert together.plateau.size > alone.plateau.size


# ------------------------------------------------------------------------------------------------------ minimum area


def triplet_images(rng, count=60):
    """Half have a mask with a sure core, half have none but a large unsure blob, which a triplet alone tells apart."""
    histogram = np.zeros((count, 2, 256), int)
    for image in range(count):
        unsure = rng.integers(100, 190, 900)
        if image % 2:
            histogram[image, 1] = np.bincount(np.append(unsure, rng.integers(210, 256, 200)), minlength=256)
        else:
            histogram[image, 0] = np.bincount(unsure, minlength=256)
        histogram[image, 0] += np.bincount(rng.integers(0, 100, 2000), minlength=256)
    return counts_of_histograms(histogram)


@pytest.mark.parametrize("choose", ["best", "plateau"])
@pytest.mark.parametrize("name", ["dice", "global-dice"])
def test_a_triplet_is_found_where_nothing_else_helps(choose, name):
    rows = rows_of(triplet_images(np.random.default_rng(0)), np.arange(60) // 2 % 3)
    objective = Objective(METRICS[name])
    tuning = tune_masks(rows, objective, Search(AREAS, choose=choose))
    for chosen in (tuning.postprocess, *tuning.postprocess_by_fold):
        assert chosen.top_threshold > 180
        assert chosen.min_area > 0
        assert chosen.threshold <= 128
    assert tuning.worth.cross_fitted == pytest.approx(tuning.worth.tuned, abs=0.03)
    assert tuning.worth.verdict.startswith("tuning gains +")
    poorer = tune_masks(rows, objective, Search(AREAS, family="threshold", choose=choose))
    assert poorer.worth.cross_fitted < tuning.worth.cross_fitted
    assert poorer.postprocess.min_area == 0


def test_with_two_folds_there_is_nothing_to_check_a_richer_rule_on():
    rows = rows_of(triplet_images(np.random.default_rng(0)), np.arange(60) // 2 % 2)
    tuning = tune_masks(rows, DICE, Search(AREAS))
    assert {each.min_area for each in (tuning.postprocess, *tuning.postprocess_by_fold)} == {0}


def test_a_minimum_area_that_gains_nothing_is_left_out():
    rng = np.random.default_rng(1)
    true = counts_of_histograms(np.stack([triplet_like(rng) for _ in range(40)]))
    tuning = tune_masks(rows_of(true, np.arange(40) % 4), DICE, Search(AREAS))
    assert {each.min_area for each in (tuning.postprocess, *tuning.postprocess_by_fold)} == {0}


def triplet_like(rng):
    inside = np.bincount(rng.normal(170, 30, 500).clip(0, 255).astype(int), minlength=256)
    return np.stack([np.bincount(rng.normal(80, 30, 500).clip(0, 255).astype(int), minlength=256), inside])


@pytest.mark.parametrize("choose", ["best", "plateau"])
def test_luck_is_not_reported_as_a_gain(choose):
    """Probabilities that know nothing: precision is one half whatever is chosen; 330,000 settings vary about it."""
    optimistic, honest = [], []
    for seed in range(10):
        histogram = np.random.default_rng(seed).poisson(0.3, (60, 2, 256))
        histogram[:, :, 255] += 1
        rows = rows_of(counts_of_histograms(histogram), np.arange(60) % 5)
        tuning = tune_masks(rows, Objective(METRICS["precision"]), Search(AREAS, choose=choose))
        assert not tuning.worth.verdict.startswith("tuning gains +")
        assert tuning.worth.gain.ci95[0] < 0
        optimistic.append(tuning.worth.tuned - tuning.worth.at_half)
        honest.append(tuning.worth.gain.difference)
    error = np.std(honest) / np.sqrt(len(honest) - 1)
    assert abs(np.mean(honest)) < 2 * error
    if choose == "best":
        assert min(optimistic) > 0
        assert np.mean(optimistic) > 3 * error
        assert np.mean(optimistic) > 3 * abs(np.mean(honest))


# ---------------------------------------------------------------------------------------------- holes and components


def disc_images(rng, count, specks):
    """Maps of a disc with an unsure outline and single bright pixels that are none of it; the truth is the disc."""
    images = []
    for _ in range(count):
        y, x = np.mgrid[:48, :48]
        distance = np.hypot(y - rng.uniform(20, 28), x - rng.uniform(20, 28)) - rng.uniform(9, 13)
        prob = np.clip(128 - 30 * distance + rng.normal(0, 3, (48, 48)), 0, 255)
        far = np.argwhere(distance > 5)
        places = far[rng.choice(len(far), specks, replace=False)]
        prob[tuple(places.T)] = 250
        images.append(Held(prob.astype(np.uint8), 48, 48, to_edges(distance <= 0)))
    return images


def rows_of_images(images, folds=3):
    counts = threshold_counts(images, len(images), "stretch")
    fold = np.arange(len(images)) % folds
    return Rows(counts, fold, np.arange(len(images)), lambda: iter(images), "stretch")


RULES = tuple(rule_grid((4, None), (6, 30), (1, 2)))


@pytest.mark.parametrize("choose", ["best", "plateau"])
def test_specks_are_removed_by_one_rule(choose):
    rows = rows_of_images(disc_images(np.random.default_rng(0), 30, specks=25))
    tuning = tune_masks(rows, DICE, Search(AREAS, rules=RULES, choose=choose))
    without = tune_masks(rows, DICE, Search(AREAS, choose=choose))
    for chosen in (tuning.postprocess, *tuning.postprocess_by_fold):
        assert chosen.min_component > 0 or chosen.max_components == 1
        assert chosen.fill_holes == 0
    assert tuning.worth.cross_fitted > without.worth.cross_fitted + 0.02
    assert tuning.worth.verdict.startswith("tuning gains +")


def test_few_groups_cannot_tell_that_a_rule_is_better():
    images = disc_images(np.random.default_rng(0), 30, specks=25)
    rows = replace(rows_of_images(images), group=np.arange(30) % 5)
    tuning = tune_masks(rows, DICE, Search(AREAS, rules=RULES))
    for chosen in (tuning.postprocess, *tuning.postprocess_by_fold):
        assert replace(chosen, threshold=128) == UNTUNED


def test_rules_that_gain_nothing_are_left_out():
    rows = rows_of_images(disc_images(np.random.default_rng(1), 30, specks=0))
    tuning = tune_masks(rows, DICE, Search(AREAS, rules=RULES))
    for chosen in (tuning.postprocess, *tuning.postprocess_by_fold):
        assert replace(chosen, threshold=128) == UNTUNED


def naive_score(objective, rows, settings_of_fold):
    masks = [
        final_edges(image.prob_hw, image.height, image.width, rows.fit, settings_of_fold[fold])
        for image, fold in zip(rows.images(), rows.fold, strict=True)
    ]
    truth = [image.true_edges for image in rows.images()]
    both = [intersection(mask, true) for mask, true in zip(masks, truth, strict=True)]
    return float(
        objective(Counts(*(np.array(each) for each in (both, list(map(area, masks)), list(map(area, truth))))))
    )


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("specks", [0, 25])
def test_scores_are_those_of_the_masks_that_are_submitted(name, specks):
    rows = rows_of_images(disc_images(np.random.default_rng(2), 12, specks))
    objective = Objective(METRICS[name])
    tuning = tune_masks(rows, objective, Search(AREAS, rules=RULES))
    assert tuning.worth.tuned == naive_score(objective, rows, [tuning.found] * 3)
    assert tuning.worth.cross_fitted == naive_score(objective, rows, tuning.found_by_fold)
    assert tuning.worth.at_half == naive_score(objective, rows, [UNTUNED] * 3)
    assert tuning.worth.submitted == naive_score(objective, rows, tuning.postprocess_by_fold)
    assert tuning.worth.gain.difference == pytest.approx(tuning.worth.cross_fitted - tuning.worth.at_half)


@pytest.mark.parametrize("choose", ["best", "plateau"])
def test_the_number_of_threads_changes_nothing(choose):
    rows = rows_of_images(disc_images(np.random.default_rng(3), 20, specks=5))
    found = [tune_masks(rows, DICE, Search(AREAS, rules=RULES, choose=choose, workers=workers)) for workers in (1, 3)]
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------------ what is submitted


def wavering_counts(seed, count=40):
    """Images whose scores waver from threshold to threshold: from 90 to 200 it is luck which one is best."""
    rng = np.random.default_rng(seed)
    level = np.where((np.arange(256) >= 90) & (np.arange(256) <= 200), 74, 30)
    walks = np.stack([np.convolve(walk, np.ones(15) / 15, "same") for walk in rng.normal(0, 75, (count, 256))])
    intersection = np.clip(level + walks + rng.normal(0, 8, (count, 1)), 0, 100).astype(int)
    return Counts(intersection, np.full_like(intersection, 100), np.full((count, 1), 100))


def wavering(seed, group=0):
    rows = rows_of(wavering_counts(seed), np.arange(40) % 2, 1000 * group + np.arange(40))
    return tune_masks(rows, DICE, Search(areas=(0,), family="threshold"))


def test_settings_that_are_worse_on_the_images_that_chose_them_are_not_submitted():
    tuning = wavering(30)
    assert tuning.worth.tuned < tuning.worth.at_half - 0.01
    assert tuning.found != UNTUNED
    assert (tuning.postprocess, tuning.postprocess_by_fold) == (UNTUNED, [UNTUNED] * 2)
    assert tuning.worth.submitted == tuning.worth.at_half
    assert tuning.worth.submitted_by_fold == tuning.worth.at_half_by_fold
    assert tuning.worth.submitted_ci95 == DICE.interval(tuning.outcome.untuned, np.arange(40))
    assert tuning.worth.submits == "at 1/2"
    assert tuning.worth.verdict.endswith(
        f"; the submission stays at 1/2, which the tuned settings do not beat on the images that they were chosen on "
        f"({tuning.worth.tuned:.4f})"
    )


def test_settings_that_lose_on_other_images_are_not_submitted():
    """Each half has its own best threshold; on both together one of them is far better than one half."""
    thresholds = np.tile([30, 220], 20)
    distance = np.abs(np.arange(256) - thresholds[:, None])
    intersection = np.where(distance < 10, 100, np.where(np.abs(np.arange(256) - 128) < 30, 60, 5))
    intersection[:, 70:80] = 65
    counts = Counts(intersection, np.full_like(intersection, 100), np.full((40, 1), 100))
    tuning = tune_masks(rows_of(counts, np.arange(40) % 2), DICE, THRESHOLDS)
    assert (tuning.worth.at_half, tuning.worth.tuned) == (pytest.approx(0.6), pytest.approx(0.65))
    assert tuning.worth.cross_fitted == pytest.approx(0.05)
    assert (tuning.worth.submitted, tuning.postprocess) == (tuning.worth.at_half, UNTUNED)
    assert tuning.worth.verdict.startswith("tuning loses -0.5500")
    assert tuning.worth.verdict.endswith("; the submission stays at 1/2")


def test_settings_that_gain_or_lose_nothing_beyond_noise_are_submitted():
    for seed in (4, 9):
        tuning = wavering(seed)
        assert tuning.worth.tuned > tuning.worth.at_half
        assert (tuning.postprocess, tuning.postprocess_by_fold) == (tuning.found, tuning.found_by_fold)
        assert tuning.worth.submitted == tuning.worth.cross_fitted
        assert tuning.worth.submitted_ci95 == tuning.worth.cross_fitted_ci95
        assert tuning.worth.verdict.endswith("; the submission takes the tuned settings")
    assert tuning.worth.gain.difference < 0


def test_of_so_few_groups_that_noise_cannot_be_told_no_loss_is_submitted():
    rows = rows_of(wavering_counts(9), np.arange(40) % 2, np.arange(40) % 4)
    tuning = tune_masks(rows, DICE, Search(areas=(0,), family="threshold"))
    assert tuning.worth.gain.difference < 0
    assert not tuning.worth.gain.is_loss
    assert tuning.postprocess == UNTUNED


def test_a_score_that_is_below_the_cross_fitted_one_is_not_called_optimistic():
    assert wavering(4).worth.optimism == "chosen on the same images, which is optimistic"
    below = wavering(6).worth
    assert below.tuned < below.cross_fitted
    assert below.optimism == (
        "chosen on the same images, below cross-fitted since the folds' own choices suit them better"
    )


def test_each_class_keeps_its_settings_or_stays_at_one_half():
    tunings, worth = tune_classes([wavering(4), wavering(30)], DICE)
    assert [tuning.kept for tuning in tunings] == [True, False]
    assert worth.submitted == pytest.approx((tunings[0].worth.cross_fitted + tunings[1].worth.at_half) / 2)
    assert (worth.tuned_classes, worth.of_classes) == (1, 2)
    assert worth.submits == "1 of 2 classes tuned, cross-fitted"
    assert worth.verdict.endswith("; the submission takes the tuned settings of 1 of 2 classes")


def test_classes_that_lose_together_stay_at_one_half_though_none_loses_beyond_noise_alone():
    alone = [wavering(28, group) for group in range(4)]
    assert all(tuning.kept for tuning in alone)
    tunings, worth = tune_classes(alone, DICE)
    assert [tuning.postprocess for tuning in tunings] == [UNTUNED] * 4
    assert worth.gain.is_loss
    assert worth.submitted == worth.at_half
