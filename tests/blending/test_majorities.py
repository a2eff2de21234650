from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.blending.majorities import WHOLE_WEIGHTS, Ballots, all_votes, learn_weights, winning_sets
from pipeline.metrics import METRICS, Counts, Objective
from pipeline.rle import RleTable, pixels_by_set, to_edges, votes

SHAPE = (6, 7)


def table_of(masks):
    edges = [to_edges(mask) for mask in masks]
    offsets = np.cumsum([0, *(each.size for each in edges)])
    sides = (np.full(len(masks), side) for side in SHAPE)
    return RleTable([f"a{i}" for i in range(len(masks))], offsets, np.concatenate(edges), *sides)


def problem(masks, images, seed, right=0.8):
    """Random truths, and as many predictions of each that are right about most pixels."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((images, *SHAPE)) < 0.4).astype(np.uint8)
    wrong = [rng.random(truth.shape) > share for share in np.broadcast_to(right, masks)]
    return [(truth ^ each).astype(np.uint8) for each in wrong], truth


def ballots_of(predicted, truth):
    return Ballots.count([table_of(each) for each in predicted], table_of(truth))


def counts_of_pixels(predicted, truth, weights):
    """By hand, in whole numbers."""
    won = 2 * sum(int(w) * mask.astype(int) for w, mask in zip(weights, predicted, strict=True)) > sum(
        map(int, weights)
    )
    return Counts((won & (truth > 0)).sum((1, 2)), won.sum((1, 2)), truth.astype(int).sum((1, 2)))


@given(st.integers(1, 4), st.integers(0, 10**6))
def test_pixels_are_counted_by_the_masks_that_they_are_in(masks, seed):
    predicted, _ = problem(masks, 3, seed)
    predicted[0][1] = 0
    counted = pixels_by_set([table_of(each) for each in predicted])
    numbers = sum(each.astype(int) << k for k, each in enumerate(predicted))
    for row in range(3):
        expected = np.bincount(numbers[row].ravel(), minlength=2**masks)
        assert counted[row, 1:].tolist() == expected[1:].tolist()
        assert counted[row, 0] == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), st.integers(0, 10**6))
def test_an_outcome_is_that_of_the_vote_itself(weights, seed):
    predicted, truth = problem(len(weights), 4, seed)
    counts = ballots_of(predicted, truth).outcome(np.array(weights))
    expected = counts_of_pixels(predicted, truth, weights)
    voted = votes([table_of(each) for each in predicted], weights)
    for name in ("intersection", "predicted", "true"):
        assert getattr(counts, name).tolist() == getattr(expected, name).tolist()
    assert [voted[row][1::2].sum() - voted[row][::2].sum() for row in range(4)] == expected.predicted.tolist()


@pytest.mark.parametrize("masks", WHOLE_WEIGHTS)
def test_larger_weights_give_no_further_votes(masks):
    kinds = np.unique(winning_sets(all_votes(masks)), axis=1).shape[1]
    larger = np.indices((WHOLE_WEIGHTS[masks] + 3,) * masks).reshape(masks, -1)[:, 1:]
    assert kinds == all_votes(masks).shape[1] == np.unique(winning_sets(larger), axis=1).shape[1]


def test_of_three_masks_there_are_ten_votes():
    assert all_votes(3).T.tolist()[:1] == [[1, 1, 1]]
    assert sorted(sorted(weights) for weights in all_votes(3).T.tolist()) == [
        *([[0, 0, 1]] * 3),
        *([[0, 1, 1]] * 3),
        [1, 1, 1],
        *([[1, 1, 2]] * 3),
    ]


@pytest.mark.parametrize("both_empty", [1.0, 0.0, np.nan])
@pytest.mark.parametrize("metric", ["dice", "global-dice", "tgs-map"])
@pytest.mark.parametrize("masks", [2, 3, 4])
def test_no_weights_beat_those_that_are_learnt(masks, metric, both_empty):
    predicted, truth = problem(masks, 8, seed=masks, right=np.linspace(0.7, 0.9, masks))
    truth[:3] = 0
    for number, each in enumerate(predicted):
        each[: 1 + number] = 0
    objective = Objective(METRICS[metric], both_empty)
    learnt = learn_weights(ballots_of(predicted, truth), np.arange(8) % 2, objective)
    grid = [weights for weights in product(range(6), repeat=masks) if any(weights)]
    best = max(float(objective(counts_of_pixels(predicted, truth, weights))) for weights in grid)
    assert learnt.optimistic == pytest.approx(best, abs=1e-12)
    assert learnt.search == "exact"
    own = float(objective(counts_of_pixels(predicted, truth, learnt.weights)))
    assert learnt.optimistic == pytest.approx(own, abs=1e-12)


def test_the_cross_fitted_score_is_that_of_weights_chosen_elsewhere():
    predicted, truth = problem(3, 9, seed=5, right=[0.7, 0.75, 0.8])
    fold = np.arange(9) % 3
    learnt = learn_weights(ballots_of(predicted, truth), fold, Objective(METRICS["dice"]))
    votes_by_weight = [counts_of_pixels(predicted, truth, weights) for weights in all_votes(3).T]
    scores = np.array([[METRICS["dice"].formula(counts, 1.0)] for counts in votes_by_weight])[:, 0]
    honest = [scores[scores[:, fold != k].mean(axis=1).argmax()][fold == k] for k in range(3)]
    assert learnt.cross_fitted == pytest.approx(np.concatenate(honest).mean(), abs=1e-12)
    assert learnt.cross_fitted <= learnt.optimistic


def test_the_best_of_unequal_masks_outvotes_the_others_and_noise_does_not_pay():
    dice = Objective(METRICS["dice"])
    unequal = learn_weights(ballots_of(*problem(3, 60, 1, right=[0.97, 0.6, 0.6])), np.arange(60) % 5, dice)
    assert unequal.weights.tolist() == [1, 0, 0]
    assert unequal.against_equal.is_gain
    alike = learn_weights(ballots_of(*problem(3, 60, 2)), np.arange(60) % 5, dice)
    assert not alike.against_equal.is_gain
    assert alike.cross_fitted <= alike.optimistic


def test_many_masks_are_selected_greedily_and_never_end_below_equal_weights():
    predicted, truth = problem(7, 20, seed=3, right=[0.95, *[0.55] * 6])
    ballots = ballots_of(predicted, truth)
    learnt = learn_weights(ballots, np.arange(20) % 4, Objective(METRICS["dice"]))
    assert learnt.search == "greedy"
    assert learnt.weights[0] > learnt.weights[1:].max()
    assert learnt.optimistic >= float(METRICS["dice"](ballots.outcome(np.ones(7, np.int64))))
