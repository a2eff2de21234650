"""The plateau against testing every setting against the best by itself."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.metrics import METRICS, Counts, Objective
from pipeline.postprocess import Postprocess
from pipeline.search import FAMILIES
from pipeline.search.grid import Grid
from pipeline.search.noise import Z95, paired_difference
from pipeline.search.plateau import find_plateau

ALL = frozenset()
AREAS = (0, 40, 90)


def draw(count=40, seed=0):
    """Counts of images whose truth is the brighter, but not clearly, and of some that have none; their groups."""
    rng = np.random.default_rng(seed)
    histogram = np.zeros((count, 2, 256), int)
    for image in range(count):
        centre = rng.normal(170, 25)
        inside = 0 if image % 4 == 0 else rng.integers(50, 400)
        histogram[image, 1] = bincount(rng.normal(centre, 40, inside))
        histogram[image, 0] = bincount(rng.normal(centre - 110, 45, rng.integers(50, 400)))
    above = histogram[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    return Counts(above[:, 1], above.sum(axis=1), above[:, 1, :1]), rng.integers(0, count // 2, count)


def bincount(values):
    return np.bincount(values.clip(0, 255).astype(int), minlength=256)


def naive_members(objective, counts, groups, best, area, top):
    """Which bottom thresholds are as good as the best (area, top, bottom), at one area and top threshold."""

    def masks(area, top):
        kept = counts.predicted[:, [top]] >= area
        return Counts(counts.intersection * kept, counts.predicted * kept, counts.true)

    at_best = masks(*best[:2])
    at_best = Counts(at_best.intersection[:, best[2]], at_best.predicted[:, best[2]], counts.true[:, 0])
    at_best = Counts(at_best.intersection[:, None], at_best.predicted[:, None], counts.true)
    difference, error = paired_difference(objective, masks(area, top), at_best, groups)
    return -difference <= Z95 * error + 1e-12


def naive_region(objective, counts, groups, grid, cell, level):
    best = AREAS[cell.area], cell.top, cell.bottom
    members = np.zeros((len(AREAS), 256, 256), bool)
    for number, area in enumerate(AREAS):
        for top in range(256):
            members[number, top] = naive_members(objective, counts, groups, best, area, top)
    place = (cell.area, cell.top, cell.bottom)
    if level < 2:
        members, place = np.diagonal(members, axis1=1, axis2=2), (cell.area, cell.bottom)
    if level == 0:
        members = members[:1]
    labels = ndimage.label(members)[0]
    return np.argwhere(labels == labels[place])


@pytest.mark.parametrize("level", range(3), ids=FAMILIES)
@pytest.mark.parametrize("name", ["dice", "global-dice", "recall"])
def test_it_holds_what_noise_cannot_tell_from_the_best(level, name):
    counts, groups = draw()
    objective = Objective(METRICS[name])
    grid = Grid(counts, np.arange(40) % 2, objective, AREAS)
    cell = grid.best([ALL])[ALL][level]
    found = find_plateau(grid, counts, groups, level, cell)
    region = naive_region(objective, counts, groups, grid, cell, level)
    assert found.size == len(region)
    assert found.threshold == (region[:, -1].min(), region[:, -1].max())
    assert found.min_area == (AREAS[region[:, 0].min()], AREAS[region[:, 0].max()])
    middle = [AREAS.index(found.middle.min_area), found.middle.top, found.middle.threshold]
    assert middle[0] == 0 or (middle if level == 2 else middle[::2]) in region.tolist()
    if level == 2:
        assert found.top_threshold == (region[:, 1].min(), region[:, 1].max())


@pytest.mark.parametrize("name", ["dice", "global-dice"])
def test_far_settings_that_are_clearly_worse_are_not_as_good(name):
    """Where the score is no straight line from them to the best, or a group has most of the images."""
    counts, _ = draw(120, seed=5)
    groups = np.where(np.arange(120) < 70, 0, np.arange(120))
    objective = Objective(METRICS[name])
    grid = Grid(counts, np.arange(120) % 2, objective, (0,))
    cell = grid.best([ALL])[ALL][0]
    found = find_plateau(grid, counts, groups, 0, cell)
    scores = objective(counts)
    for end in found.threshold:
        ends = Counts(counts.intersection[:, end], counts.predicted[:, end], counts.true[:, 0])
        at_best = Counts(counts.intersection[:, cell.bottom], counts.predicted[:, cell.bottom], counts.true[:, 0])
        assert objective.compare(ends, at_best, groups).ci95[1] > -0.01
    assert scores[found.middle.threshold] > cell.score - 0.03


def test_the_excluded_folds_do_not_matter():
    counts, groups = draw()
    fold = np.arange(40) % 3
    objective = Objective(METRICS["dice"])
    excluded = frozenset([1])
    grid = Grid(counts, fold, objective, AREAS)
    cell = grid.best([excluded])[excluded][2]
    found = find_plateau(grid, counts, groups, 2, cell, excluded)
    rows = fold != 1
    kept = Counts(counts.intersection[rows], counts.predicted[rows], counts.true[rows])
    alone = Grid(kept, np.arange(rows.sum()) % 2, objective, AREAS)
    assert found == find_plateau(alone, kept, groups[rows], 2, cell)


def test_the_middle_of_a_flat_top_is_taken():
    intersection = np.full((4, 256), 50)
    intersection[:, 141:180] = 80
    intersection[:, 150] = 81  # the sharpest, but for one pixel of one image
    intersection[1:, 150] = 80
    counts = Counts(intersection, np.full((4, 256), 100), np.full((4, 1), 100))
    grid = Grid(counts, np.arange(4) % 2, Objective(METRICS["dice"]), (0,))
    cell = grid.best([ALL])[ALL][0]
    assert cell.bottom == 150
    found = find_plateau(grid, counts, np.arange(4), 0, cell)
    assert (found.threshold, found.size) == ((141, 179), 39)
    assert found.middle == Postprocess(160)


def test_a_sharp_top_is_a_plateau_of_its_own():
    intersection = np.full((6, 256), 50)
    intersection[:, 150] = np.arange(80, 86)
    counts = Counts(intersection, np.full((6, 256), 100), np.full((6, 1), 100))
    grid = Grid(counts, np.arange(6) % 2, Objective(METRICS["dice"]), (0,))
    found = find_plateau(grid, counts, np.arange(6), 0, grid.best([ALL])[ALL][0])
    assert (found.threshold, found.size, found.middle) == ((150, 150), 1, Postprocess(150))


def test_without_any_score_nothing_is_chosen():
    nothing = np.zeros((4, 256), int)
    counts = Counts(nothing, nothing, nothing[:, :1])
    grid = Grid(counts, np.arange(4) % 2, Objective(METRICS["dice"], np.nan), AREAS)
    for level, cell in enumerate(grid.best([ALL])[ALL]):
        found = find_plateau(grid, counts, np.arange(4), level, cell)
        assert (found.middle, found.size) == (Postprocess(), 1)
