from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipeline.metrics import METRICS, Counts, dice
from pipeline.report.scores import Scores, error_kinds, score_masks
from pipeline.rle import area, intersection

counts = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)), min_size=1).map(
    lambda rows: Counts(*np.array([(min(row), row[1], row[2]) for row in rows]).T)
)


def test_scores_agree_with_tuning_to_the_last_digit(run, scores, other, other_scores):
    fold = run.masks["fold"].to_numpy()
    for each, found, at_all in ((run, scores, "tuned"), (other, other_scores, "at_half")):
        tuned = each.tuning["sets"]["ensemble"]
        assert float(METRICS["dice"](found.chosen)) == tuned[at_all]
        assert float(METRICS["dice"](found.cross_fitted)) == tuned["submitted"]
        by_fold = [float(METRICS["dice"](found.cross_fitted.take(fold == number))) for number in range(3)]
        assert by_fold == tuned["submitted_by_fold"]
    assert run.tuning["sets"]["ensemble"]["submitted"] == run.tuning["sets"]["ensemble"]["cross_fitted"]
    assert other.tuning["sets"]["ensemble"]["submitted"] == other.tuning["sets"]["ensemble"]["at_half"]


def test_counts_are_those_of_the_submissions_masks(run, scores):
    for row in range(0, len(run.masks), 5):
        edges = run.predicted(row, run.chosen(row))
        expected = intersection(edges, run.truth[row]), area(edges), area(run.truth[row])
        assert tuple(int(part[row]) for part in vars(scores.chosen).values()) == expected


@pytest.mark.parametrize("rule", [0, "nan"])
def test_scores_follow_the_rule_of_tuning(run, scores, rule):
    tuning = {**run.tuning, "settings": {**run.tuning["settings"], "both_empty": rule}}
    found = score_masks(replace(run, tuning=tuning), Console(quiet=True))
    empty = (scores.chosen.true == 0) & (scores.chosen.predicted == 0)
    assert empty.any()
    assert np.array_equal(found.dice, np.where(empty, float(rule), scores.dice), equal_nan=True)
    assert np.nanmean(found.dice) == pytest.approx(METRICS["dice"](found.chosen, float(rule)))


@given(counts)
def test_every_mask_has_one_kind_of_error(some):
    kinds = error_kinds(some)
    assert sum(kind.masks for kind in kinds) == len(some.true)
    for part, name in (
        (1 - dice(some), "lost"),
        (some.true - some.intersection, "missed"),
        (some.predicted - some.intersection, "extra"),
    ):
        assert sum(getattr(kind, name) for kind in kinds) == pytest.approx(1.0 if part.sum() else 0.0)


def test_kinds_of_errors():
    some = Counts(np.array([0, 0, 1, 9, 0]), np.array([5, 0, 5, 10, 0]), np.array([0, 5, 5, 10, 0]))
    kinds = {kind.name: kind for kind in error_kinds(some)}
    assert kinds["nothing there, something predicted"].masks == 1
    assert kinds["something there, nothing predicted"].missed == pytest.approx(5 / 10)
    assert kinds["Dice below 0.5"].masks == 1
    assert kinds["0.9 to 0.95"].masks == 1
    assert kinds["0.95 and above"].masks == 1
    assert kinds["nothing there, something predicted"].lost == pytest.approx(1 / 2.9)


def test_masks_without_anything_count_as_they_are_told_to():
    some = Counts(np.array([9, 0, 0, 1]), np.array([10, 0, 0, 5]), np.array([10, 0, 0, 5]))
    low = {}
    for rule in (1.0, 0.0, np.nan):
        kinds = error_kinds(some, rule)
        low[rule] = next(kind for kind in kinds if kind.name == "Dice below 0.5")
        assert sum(kind.masks for kind in kinds) == (2 if np.isnan(rule) else 4)
    assert [low[rule].masks for rule in low] == [1, 3, 1]
    assert [low[rule].lost for rule in low] == pytest.approx([0.8 / 0.9, 2.8 / 2.9, 0.8 / 0.9])
    orders = [Scores(some, some, rule).worst_first.tolist() for rule in low]
    assert orders == [[3, 0, 1, 2], [1, 2, 3, 0], [3, 0]]
