from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from pipeline.errors import DataError
from pipeline.metrics import dice
from pipeline.report.against import compare_runs, open_other
from pipeline.report.scores import score_masks


def test_the_difference_is_that_of_what_is_submitted(run, scores, other, other_scores):
    found = compare_runs(run, scores, other, other_scores)
    tuned = [each.tuning["sets"]["ensemble"]["submitted"] for each in (run, other)]
    assert (found.score, found.comparison.score) == tuple(tuned)
    assert found.comparison.difference == pytest.approx(tuned[0] - tuned[1], abs=1e-12)
    low, high = found.comparison.ci95
    assert 0 < low < found.comparison.difference < high
    assert found.verdict == "This run is better, beyond noise."
    assert (found.masks, found.only_here, found.only_there, found.folds_differ) == (len(run.masks), 0, 0, False)
    back = compare_runs(other, other_scores, run, scores)
    assert back.comparison.difference == -found.comparison.difference
    assert back.verdict == "This run is worse, beyond noise."
    assert compare_runs(run, scores, run, scores).verdict == "The difference may be noise."


def test_the_masks_that_changed_most_come_first(run, scores, other, other_scores):
    found = compare_runs(run, scores, other, other_scores)
    gains = dice(scores.cross_fitted) - dice(other_scores.cross_fitted)
    listed = [each.dice - each.other for each in found.better]
    assert listed == sorted(gains[gains > 0], reverse=True)[:12]
    assert [each.dice - each.other for each in found.worse] == sorted(gains[gains < 0])[:12]
    assert [each.picture is not None for each in found.better] == [number < 3 for number in range(len(found.better))]
    assert found.better[0].picture != found.better[0].other_picture


def test_masks_that_only_one_run_leaves_empty_are_gains_whatever_they_score(run, scores, other, other_scores):
    (row, *_) = np.flatnonzero((scores.cross_fitted.true == 0) & (scores.cross_fitted.predicted == 0))
    predicted = other_scores.cross_fitted.predicted.copy()
    predicted[row] = 5
    found = {}
    for rule in (1.0, 0.0, np.nan):
        theirs = replace(other_scores, cross_fitted=replace(other_scores.cross_fitted, predicted=predicted))
        against = compare_runs(run, replace(scores, both_empty=rule), other, theirs)
        found[rule] = [(each.dice, each.other) for each in against.better if each.mask_id == run.masks["mask_id"][row]]
    assert found[1.0] == [(1.0, 0.0)]
    assert found[0.0] == []
    assert np.array_equal(found[np.nan], [(np.nan, 0.0)], equal_nan=True)


def test_rows_are_joined_by_id_and_others_are_counted(run, scores, other, other_scores):
    """Another order, and some images in one run only, as when data.root got new images."""
    rows = np.random.default_rng(0).permutation(len(other.masks))[:-4]
    part = replace(
        other,
        masks=other.masks.iloc[rows].reset_index(drop=True),
        held_out=other.held_out.take(rows),
        maps=other.maps[:][rows],
    )
    part_scores = score_masks(part, Console(quiet=True))
    found = compare_runs(run, scores, part, part_scores)
    assert (found.masks, found.only_here, found.only_there) == (len(rows), 4, 0)
    mine = np.sort(rows)
    expected = dice(scores.cross_fitted)[mine].mean() - dice(other_scores.cross_fitted)[mine].mean()
    assert found.comparison.difference == pytest.approx(expected, abs=1e-12)


def test_settings_that_differ_are_listed(run, scores, other, other_scores):
    assert compare_runs(run, scores, other, other_scores).settings == []
    longer = other.settings.model_copy(update={"seed": 7})
    found = compare_runs(run, scores, replace(other, settings=longer), other_scores)
    assert [(each.key, each.value, each.other) for each in found.settings] == [("seed", 0, 7)]


def test_runs_that_cannot_be_compared_are_refused(run, scores, other, other_scores):
    for name, message in (
        ("tiny", "that is this experiment itself"),
        ("gone", "has no finished run; others there: other"),
    ):
        with pytest.raises(DataError, match=message):
            open_other(run, name)
    truth = replace(other.truth, edges=other.truth.edges + np.uint32(1))
    moved = replace(other, held_out=replace(other.held_out, truth=truth))
    with pytest.raises(DataError, match="--against other: has other true masks for"):
        compare_runs(run, scores, moved, other_scores)
    renamed = replace(other, masks=other.masks.assign(mask_id=other.masks["mask_id"] + "x"))
    with pytest.raises(DataError, match="has no training image in common with tiny"):
        compare_runs(run, scores, renamed, other_scores)
