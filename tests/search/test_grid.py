"""The exact search against trying every setting."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import METRICS, Counts, Objective
from pipeline.postprocess import HALF, Postprocess
from pipeline.search import minimum_areas
from pipeline.search.grid import FAMILIES, FIXED_POINT, Grid, counts_at

ALL = frozenset()
AREAS = (0, 3, 9, 30)
objectives = st.builds(Objective, st.sampled_from(list(METRICS.values())), st.sampled_from([1.0, 0.0, np.nan]))


@st.composite
def images(draw):
    """Pixels of a few images as (probabilities, truth), with their folds; few values, so that many settings tie."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.integers(0, 256, draw(st.integers(1, 6)))
    pixels = []
    for _ in range(draw(st.integers(3, 7))):
        size = rng.integers(1, 40)
        truth = rng.random(size) < rng.choice([0, 0.3, 0.7])
        pixels.append((rng.choice(values, size), truth))
    fold = np.append(rng.integers(0, 3, len(pixels) - 3), [0, 1, 2])
    return pixels, fold


def counts_of(pixels):
    """What ``threshold_counts`` makes of them, by comparing with every threshold."""
    over = [probability >= np.arange(256)[:, None] for probability, _ in pixels]
    return Counts(
        np.array([(each & truth).sum(axis=1) for each, (_, truth) in zip(over, pixels, strict=True)]),
        np.array([each.sum(axis=1) for each in over]),
        np.array([[truth.sum()] for _, truth in pixels]),
    )


def brute_score(objective, counts):
    """The score of (N,) counts; values of images rounded as the search does, so that ties are the same ties."""
    sums = []
    for part in objective.parts(counts):
        real = part.dtype.kind == "f"
        sums.append(sum(round(value * FIXED_POINT) for value in part.tolist()) / FIXED_POINT if real else part.sum())
    score = float(objective.of_sums([np.asarray(each) for each in sums]))
    return -np.inf if np.isnan(score) else score


def emptied(counts, top, area, bottom):
    """Counts of the triplet's masks, image by image."""
    rows = []
    for image in range(len(counts.true)):
        kept = counts.predicted[image, top] >= area
        rows.append((counts.intersection[image, bottom] * kept, counts.predicted[image, bottom] * kept))
    intersection, predicted = np.array(rows).T
    return Counts(intersection, predicted, counts.true[:, 0])


def preference(area, top, bottom):
    """Of equally good settings that with the lowest is taken."""
    return area, abs(bottom - HALF), bottom, abs(top - bottom), top


@given(images(), objectives, st.sampled_from([ALL, frozenset([1]), frozenset([0, 2])]))
@settings(max_examples=25)
def test_the_best_of_every_family_is_that_of_trying_all(drawn, objective, excluded):
    pixels, fold = drawn
    counts = counts_of(pixels)
    cells = Grid(counts, fold, objective, AREAS).best([excluded])[excluded]
    kept = counts.take(~np.isin(fold, list(excluded)))
    # Between two neighbouring values all thresholds are one, apart from ties: try the edges and what ties prefer.
    edges = {int(value) + more for probability, _ in pixels for value in probability for more in (0, 1)}
    tried = sorted({value for value in edges if value < 256} | {0, HALF - 1, HALF, HALF + 1})
    tried = sorted({*tried, *(cell.bottom for cell in cells), *(cell.top for cell in cells)})
    triplets = list(product(AREAS, tried, tried))
    scores = {
        triplet: brute_score(objective, emptied(kept, triplet[1], triplet[0], triplet[2])) for triplet in triplets
    }
    families = [
        [triplet for triplet in triplets if triplet[0] == 0 and triplet[1] == triplet[2]],
        [triplet for triplet in triplets if triplet[1] == triplet[2]],
        triplets,
    ]
    for cell, family in zip(cells, families, strict=True):
        best = max(scores[triplet] for triplet in family)
        expected = min((triplet for triplet in family if scores[triplet] == best), key=lambda each: preference(*each))
        assert (AREAS[cell.area], cell.top, cell.bottom) == expected
        assert cell.score == best


@given(images(), objectives)
@settings(max_examples=10)
def test_every_score_of_the_grid_is_that_of_its_masks(drawn, objective):
    pixels, fold = drawn
    counts = counts_of(pixels)
    grid = Grid(counts, fold, objective, AREAS)
    for number, area in enumerate(AREAS):
        scores = grid.scores(grid.without(grid.sums(number), frozenset([0])))
        rest = counts.take(fold != 0)
        for top in range(0, 256, 5):
            kept = rest.predicted[:, [top]] >= area
            masks = Counts(rest.intersection * kept, rest.predicted * kept, rest.true)
            expected = np.nan_to_num(objective(masks), nan=-np.inf)
            assert scores[top] == pytest.approx(expected, abs=1e-11)


@given(images(), objectives)
@settings(max_examples=10)
def test_the_number_of_threads_changes_nothing(drawn, objective):
    pixels, fold = drawn
    counts = counts_of(pixels)
    choices = [ALL, frozenset([2])]
    found = [Grid(counts, fold, objective, AREAS, workers=workers).best(choices) for workers in (1, 3)]
    assert found[0] == found[1]


@given(images(), st.sampled_from(list(METRICS.values())))
@settings(max_examples=10)
def test_a_poorer_family_searches_less(drawn, metric):
    pixels, fold = drawn
    counts = counts_of(pixels)
    full = Grid(counts, fold, Objective(metric), AREAS).best([ALL])[ALL]
    for number, family in enumerate(FAMILIES, 1):
        assert Grid(counts, fold, Objective(metric), AREAS, family).best([ALL])[ALL] == full[:number]


def test_where_all_settings_are_equal_nothing_is_changed():
    counts = Counts(*np.zeros((2, 4, 256), int), np.ones((4, 1), int))
    grid = Grid(counts, np.array([0, 1, 0, 1]), Objective(METRICS["dice"]), AREAS)
    assert {grid.postprocess(cell) for cell in grid.best([ALL])[ALL]} == {Postprocess()}


@pytest.mark.parametrize(
    ("best", "chosen"),
    [
        ([200], 200),
        ([0, 255], 255),  # 127 away, against 128
        ([100, 130], 130),
        ([127, 129], 127),
        (range(256), HALF),
        (range(50), 49),
        (range(150, 256), 150),
    ],
)
def test_of_equally_good_thresholds_the_one_next_to_one_half_is_taken(best, chosen):
    intersection = np.full((2, 256), 25)
    intersection[:, list(best)] = 75
    counts = Counts(intersection, np.full((2, 256), 100), np.full((2, 1), 100))
    cell = Grid(counts, np.arange(2), Objective(METRICS["dice"]), (0,)).best([ALL])[ALL][0]
    assert (cell.bottom, cell.score) == (chosen, 0.75)


@given(images(), st.integers(0, 255), st.integers(0, 255), st.sampled_from(AREAS))
def test_counts_at_settings_are_read_off_the_table(drawn, top, bottom, area):
    counts = counts_of(drawn[0])
    found = counts_at(counts, Postprocess(bottom, top, area))
    expected = emptied(counts, top, area, bottom)
    assert all(np.array_equal(*pair) for pair in zip(vars(found).values(), vars(expected).values(), strict=True))


@pytest.mark.parametrize("pixels", [1, 64, 76_800, 1920 * 1080])
def test_minimum_areas_rise_from_no_rule_to_a_quarter_of_the_image(pixels):
    areas = minimum_areas(pixels, 40)
    assert areas[0] == 0
    assert list(areas) == sorted(set(areas))
    assert areas[-1] == max(1, pixels // 4)
    assert len(areas) <= 40
