import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import Artifacts
from pipeline.config import FoldSettings
from pipeline.errors import DataError
from pipeline.stages.split import area_strata, assign_folds, check_folds, joined_groups

NO_PAIRS = np.zeros((0, 2), np.int64)


def images_of(groups):
    rows = range(len(groups))
    return pd.DataFrame(
        {"image_id": [f"a{row}" for row in rows], "group": groups, "sha256": [f"sha{row}" for row in rows]}
    )


def shares(count, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 0.9, count)


@pytest.mark.parametrize(
    ("groups", "pairs", "expected"),
    [
        (["a", "b", "a", "c"], [], [0, 1, 0, 2]),
        (["", "", ""], [], [0, 1, 2]),  # no group: independent
        (["a", "b", "", "c"], [[1, 2]], [0, 1, 1, 2]),
        (["a", "b", "b", "c", "c"], [[0, 1], [2, 3]], [0, 0, 0, 0, 0]),  # a chain of duplicates
        ([], [], []),
    ],
)
def test_groups_are_joined_through_duplicates(groups, pairs, expected):
    assert joined_groups(groups, np.array(pairs, np.int64).reshape(-1, 2)).tolist() == expected


def test_strata_have_equal_counts_and_empty_masks_one_of_their_own():
    share = np.array([0, 0.5, 0.1, 0, 0.2, 0.9, 0.3, 0.4, 0.8, 0.7])
    stratum = area_strata(share, 4)
    assert stratum[share == 0].tolist() == [0, 0]
    assert np.bincount(stratum).tolist() == [2, 2, 2, 2, 2]
    assert (np.diff(stratum[np.argsort(share)]) >= 0).all()


@given(st.lists(st.floats(0, 1), max_size=30), st.integers(1, 6))
def test_strata_of_any_shares(share, bins):
    stratum = area_strata(np.array(share), bins)
    assert ((stratum == 0) == (np.array(share) == 0)).all()
    assert stratum.max(initial=0) <= bins


@st.composite
def data_sets(draw):
    """Groups, shares of which some are empty, duplicates, folds; always more filled groups than folds."""
    names = [f"g{number}" for number in range(8)]
    extra = draw(st.lists(st.sampled_from([*names, ""]), max_size=24))
    groups = names + extra
    share = np.array(draw(st.lists(st.floats(0, 1), min_size=len(groups), max_size=len(groups))))
    row = st.integers(8, len(groups) - 1)
    pairs = draw(st.lists(st.tuples(row, row), max_size=3)) if extra else []
    return groups, share, np.array(pairs, np.int64).reshape(-1, 2), draw(st.integers(2, 3)), draw(st.integers(0, 9))


@given(data_sets())
def test_every_image_has_a_fold_and_no_group_is_split(data):
    groups, share, pairs, count, seed = data
    images = images_of(groups)
    try:
        folds = assign_folds(images, share, pairs, FoldSettings(count=count, seed=seed))
    except DataError:
        # Only where there is too little to divide: few groups after joining, or few masks that aren't empty.
        joined = joined_groups(groups, pairs)
        filled = {group for group, part in zip(joined, share, strict=True) if part > 0}
        assert len(filled) < 2 * count or len(set(joined)) < count
        return
    assert folds["image_id"].tolist() == images["image_id"].tolist()
    assert set(folds["fold"]) == set(range(count))
    assert (folds.groupby("group")["fold"].nunique() == 1).all()
    for name in set(groups) - {""}:
        assert folds["fold"][images["group"] == name].nunique() == 1
    fold = folds["fold"].to_numpy()
    assert (fold[pairs[:, 0]] == fold[pairs[:, 1]]).all()
    check_folds(folds, images, pairs)


def test_folds_depend_on_the_arguments_alone():
    images, share = images_of([f"g{row // 3}" for row in range(60)]), shares(60)
    settings = FoldSettings(count=4, seed=3)
    first = assign_folds(images, share, NO_PAIRS, settings)
    np.random.default_rng().random()
    np.random.seed(99)  # noqa: NPY002 - the global generator must not matter
    pd.testing.assert_frame_equal(first, assign_folds(images, share, NO_PAIRS, settings))
    other = assign_folds(images, share, NO_PAIRS, FoldSettings(count=4, seed=4))
    assert first["fold"].tolist() != other["fold"].tolist()


def test_folds_are_balanced_in_number_and_area():
    images, share = images_of([f"g{row // 4}" for row in range(400)]), shares(400)
    fold = assign_folds(images, share, NO_PAIRS, FoldSettings(count=5))["fold"].to_numpy()
    assert np.bincount(fold).tolist() == pytest.approx([80] * 5, abs=8)
    assert [share[fold == number].mean() for number in range(5)] == pytest.approx([share.mean()] * 5, abs=0.05)


def test_fewer_groups_than_folds_are_refused():
    images = images_of(["a", "a", "b", "b", "", ""])
    with pytest.raises(DataError, match=r"4 groups of images cannot fill 5 folds: set folds\.count to 4 or less"):
        assign_folds(images, shares(6), NO_PAIRS, FoldSettings(count=5))
    with pytest.raises(DataError, match="3 groups of images cannot fill 4 folds"):
        assign_folds(images, shares(6), np.array([[3, 4]]), FoldSettings(count=4))


def test_a_fold_without_any_mask_is_refused():
    share = np.array([0.5, 0.4, 0.3, 0, 0, 0, 0, 0])
    images = images_of(["a", "a", "a", "", "", "", "", ""])
    with pytest.raises(DataError, match=r"fold \d has no image with a mask"):
        assign_folds(images, share, NO_PAIRS, FoldSettings(count=2))


@pytest.mark.parametrize("filled", [0, 1, 2])
def test_fewer_masks_than_folds_are_refused(filled):
    share = np.repeat([0.5, 0.0], [filled, 8 - filled])
    with pytest.raises(DataError, match=f"{filled} images with a mask cannot fill 3 folds"):
        assign_folds(images_of([""] * 8), share, NO_PAIRS, FoldSettings(count=3))


@pytest.mark.parametrize(("count", "filled", "empty"), [(3, 6, 2), (2, 3, 1), (5, 5, 0), (3, 3, 1)])
def test_few_images_are_divided_with_fewer_strata(count, filled, empty):
    share = np.concatenate([shares(filled), np.zeros(empty)])
    folds = assign_folds(images_of([""] * len(share)), share, NO_PAIRS, FoldSettings(count=count, area_bins=4))
    assert np.bincount(folds["fold"][share > 0]).tolist() == pytest.approx([filled / count] * count, abs=0.5)


def folds_of(*numbers):
    return pd.DataFrame({"fold": numbers})


def test_a_leaked_group_is_named():
    with pytest.raises(DataError, match="the group 'b' is in 2 folds"):
        check_folds(folds_of(0, 0, 1), images_of(["a", "b", "b"]), NO_PAIRS)


def test_images_without_group_may_be_anywhere():
    check_folds(folds_of(0, 1, 0), images_of(["", "", ""]), NO_PAIRS)


def test_duplicates_in_two_folds_are_named():
    with pytest.raises(DataError, match="the duplicates a0 and a2 are in two folds"):
        check_folds(folds_of(0, 0, 1), images_of(["a", "b", "c"]), np.array([[0, 1], [0, 2]]))
    check_folds(folds_of(0, 0, 1), images_of(["a", "b", "c"]), np.array([[0, 1]]))


def test_another_seed_leaves_the_folds_as_they_are_and_folds_seed_changes_them(
    tmp_path, write_experiment, command_line
):
    experiment = write_experiment(tmp_path, folds={"count": 2, "near_duplicate_bits": 0})
    artifacts = Artifacts(tmp_path, "tiny")

    def run(*overrides):
        words = [word for override in overrides for word in ("--set", override)]
        for stage in ("prepare", "split"):
            status, _, errors = command_line(stage, "--experiment", experiment, *words)
            assert status == 0, errors
        return artifacts.images.read_bytes(), artifacts.folds.read_bytes()

    images, folds = run()
    assert run("seed=5") == (images, folds)
    assert run("folds.seed=0", "data.seed=0") == (images, folds)
    others = {run(f"folds.seed={seed}") for seed in range(1, 4)}
    assert {pictures for pictures, _ in others} == {images}
    assert len({assigned for _, assigned in others} - {folds}) > 0
    assert run("data.seed=1")[0] != images
