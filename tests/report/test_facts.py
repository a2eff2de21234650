from dataclasses import replace

import numpy as np

from pipeline.data.cache import read_images
from pipeline.report.facts import find_leaks, fold_table, read_trainings, settings_differences


def test_the_fold_table_adds_up(run, scores):
    rows = fold_table(run, scores.chosen.true)
    assert [row.number for row in rows] == [0, 1, 2]
    assert sum(row.images for row in rows) == len(run.images)
    assert sum(row.groups for row in rows) == run.folds["group"].nunique()
    assert sum(row.empty for row in rows) == int((scores.chosen.true == 0).sum())
    assert [row.cross_fitted for row in rows] == run.tuning["sets"]["ensemble"]["cross_fitted_by_fold"]


def test_nothing_leaks_and_duplicates_are_known(run):
    leaks = find_leaks(run)
    assert not any(check.found for check in leaks.checks)
    assert len(leaks.checks) == 5
    assert leaks.pairs
    fold_of = dict(zip(run.folds["image_id"], run.folds["fold"], strict=True))
    assert all(fold_of[pair.first] == fold_of[pair.second] == pair.fold for pair in leaks.pairs)


def test_leaks_are_named(run):
    torn = find_leaks(run).pairs[0]
    moved = run.folds.copy()
    moved.loc[moved["image_id"] == torn.second, "fold"] = (torn.fold + 1) % 3
    group = moved.loc[moved["image_id"] == torn.first, "group"].item()
    found = {check.what: check.found for check in find_leaks(replace(run, folds=moved)).checks}
    assert found["joined groups in two folds"] == [group]
    assert f"{torn.first} and {torn.second}" in found["near-duplicates in two folds"]
    copied = run.images.assign(sha256="same")
    assert find_leaks(replace(run, images=copied)).checks[2].found == ["same"]
    test = read_images(run.artifacts, "test")
    uploaded = run.images.assign(sha256=test["sha256"].iat[1])
    found = {check.what: check.found for check in find_leaks(replace(run, images=uploaded)).checks}
    assert found["identical files in the training and the test set"] == [test["image_id"].iat[1]]


def test_duplicates_that_were_not_written_down_are_not_claimed_to_be_none(run):
    leaks = find_leaks(replace(run, duplicates=None))
    assert leaks.pairs is None
    assert len(leaks.checks) == 4
    assert find_leaks(replace(run, duplicates=[])).pairs == []


def test_trainings_are_those_with_a_history(run):
    found = read_trainings(run.artifacts, ["unet", "gone"], 3)
    assert [(each.model, each.fold) for each in found] == [("unet", 0), ("unet", 1), ("unet", 2)]
    assert found[2].metrics["total_seconds"] == 92.0
    assert np.allclose(found[0].history["val_dice"], [0.7, 0.85, 0.9, 0.925])


def test_settings_differ_by_dotted_name():
    mine = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": {}}
    other = {"a": {"b": 2, "c": [1, 2]}, "e": {"f": 3}}
    found = [(each.key, each.value, each.other) for each in settings_differences(mine, other)]
    assert found == [("a.b", 1, 2), ("e", {}, None), ("e.f", None, 3)]
    assert settings_differences(mine, mine) == []
