"""Settings chosen on the held-out images, each fold scored at settings chosen without it.

Tuning has two ways to deceive: of many settings the best one is the luckiest, and of several kinds of rules the
richest one always fits best. So a fold's cross-fitted score takes the settings that the same procedure chooses on
the other folds; and inside that procedure a richer family of rules is taken only if it is better than the simpler
one, beyond noise, on folds that its settings were not chosen on. Sums are additive over folds, so all of this costs
little more than one search.

What is found is kept only where it is better than one half on the very images that it was chosen on, and not worse,
beyond noise, cross-fitted. Otherwise the submission stays at one half, and that is the score to report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Literal

import numpy as np

from pipeline.geometry import Fit
from pipeline.metrics import FEWEST_DRAWN, Comparison, Counts, Objective, optimism
from pipeline.postprocess import UNTUNED, Held, Postprocess
from pipeline.search.components import Rule, rule_counts
from pipeline.search.grid import FAMILIES, THRESHOLD, Cell, Folds, Grid, counts_at
from pipeline.search.noise import Z95, paired_difference
from pipeline.search.plateau import Plateau, find_plateau

Choose = Literal["plateau", "best"]
ALL: Folds = frozenset()
"""No fold is left out."""

LEAST_FOLDS = 3
"""For more than thresholds: one to score, one to choose on, one to check the choice."""


@dataclass(frozen=True)
class Search:
    """What is searched."""

    areas: tuple[int, ...]
    """Minimum areas in pixels, rising, the first 0: no rule."""
    family: str = FAMILIES[-1]
    """One of ``FAMILIES``."""
    rules: tuple[Rule, ...] = ()
    """On holes and components, of ``rule_grid``; none: not searched."""
    choose: Choose = "plateau"
    """The middle of the plateau and the fewest rules on components, or the best of all."""
    workers: int | None = None
    """Threads, all cores where not given; results are the same for every number."""


@dataclass(frozen=True)
class Rows:
    """The held-out images: what they are counted by, and how to go through them again."""

    counts: Counts
    """Of ``threshold_counts``."""
    fold: np.ndarray
    """int (N,), 0..F-1."""
    group: np.ndarray
    """int or text (N,): images that belong together, one person's say; never in two folds."""
    images: Callable[[], Iterable[Held]]
    fit: Fit

    def without(self, excluded: Folds) -> np.ndarray:
        """Which images are in other folds than those, bool (N,)."""
        return ~np.isin(self.fold, list(excluded))


@dataclass(frozen=True)
class Outcome:
    """Counts of the held-out masks, (N,) each: without tuning, at settings found on all of them, and cross-fitted."""

    untuned: Counts
    tuned: Counts
    cross_fitted: Counts
    submitted: Counts
    """``cross_fitted`` of the classes whose settings are kept, ``untuned`` of the others."""
    fold: np.ndarray
    group: np.ndarray
    kept: tuple[bool, ...] = (True,)
    """Whether the submission takes the tuned settings, for each class."""

    @classmethod
    def of_classes(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """All classes' masks together; a group holds all masks of its images."""
        names = ("untuned", "tuned", "cross_fitted", "submitted")
        counts = [Counts.stacked([getattr(each, name) for each in outcomes]) for name in names]
        rows = [np.concatenate([getattr(each, name) for each in outcomes]) for name in ("fold", "group")]
        return cls(*counts, *rows, tuple(kept for each in outcomes for kept in each.kept))

    def dropped(self) -> Outcome:
        """Return the outcome where the tuned settings are not kept."""
        return replace(self, submitted=self.untuned, kept=(False,) * len(self.kept))

    def what_is_kept(self) -> Outcome:
        """Return a class's outcome as if its settings were never found, if they are not kept."""
        return self if all(self.kept) else replace(self, tuned=self.untuned, cross_fitted=self.untuned)

    def worth(self, objective: Objective) -> Worth:
        """Its scores."""
        folds = range(int(self.fold.max()) + 1)
        ci95 = objective.interval(self.cross_fitted, self.group)
        return Worth(
            at_half=float(objective(self.untuned)),
            at_half_by_fold=[float(objective(self.untuned.take(self.fold == fold))) for fold in folds],
            tuned=float(objective(self.tuned)),
            cross_fitted=float(objective(self.cross_fitted)),
            cross_fitted_ci95=ci95,
            cross_fitted_by_fold=[float(objective(self.cross_fitted.take(self.fold == fold))) for fold in folds],
            gain=objective.compare(self.cross_fitted, self.untuned, self.group),
            submitted=float(objective(self.submitted)),
            submitted_ci95=ci95 if all(self.kept) else objective.interval(self.submitted, self.group),
            submitted_by_fold=[float(objective(self.submitted.take(self.fold == fold))) for fold in folds],
            tuned_classes=sum(self.kept),
            of_classes=len(self.kept),
        )


@dataclass(frozen=True)
class Worth:
    """What settings are worth."""

    at_half: float
    """Without tuning."""
    at_half_by_fold: list[float]
    tuned: float
    """At the settings found: optimistic, since they were found on the same images."""
    cross_fitted: float
    """Each fold at the settings found on the others: what tuning is really worth."""
    cross_fitted_ci95: tuple[float, float]
    """Of the bootstrap over groups."""
    cross_fitted_by_fold: list[float]
    gain: Comparison
    """Cross-fitted against untuned."""
    submitted: float
    """Score of what is submitted: cross-fitted where the tuned settings are kept, untuned elsewhere."""
    submitted_ci95: tuple[float, float]
    submitted_by_fold: list[float]
    tuned_classes: int
    """How many classes' tuned settings are kept, of how many."""
    of_classes: int

    @property
    def pays(self) -> bool:
        """Whether the settings found are to be kept: better where they were found, and on other images not worse.

        Not worse beyond noise, that is; of so few groups that noise cannot be told, not worse at all.
        """
        can_tell = self.gain.drawn >= FEWEST_DRAWN
        loses = self.gain.is_loss if can_tell else self.gain.difference < 0
        return self.tuned > self.at_half and not loses

    @property
    def submits(self) -> str:
        """Say in words what ``submitted`` is the score of."""
        if self.tuned_classes == self.of_classes:
            return "tuned, cross-fitted"
        if self.tuned_classes:
            return f"{self.tuned_classes} of {self.of_classes} classes tuned, cross-fitted"
        return "at 1/2"

    @property
    def verdict(self) -> str:
        """Whether tuning gains anything and what is submitted, in words."""
        if self.tuned_classes == self.of_classes:
            taken = "the submission takes the tuned settings"
        elif self.tuned_classes:
            taken = f"the submission takes the tuned settings of {self.tuned_classes} of {self.of_classes} classes"
        else:
            taken = "the submission stays at 1/2"
        if not self.tuned_classes and not self.tuned > self.at_half:
            taken += f", which the tuned settings do not beat on the images that they were chosen on ({self.tuned:.4f})"
        return f"{self.gain.verdict('tuning')}; {taken}"

    @property
    def optimism(self) -> str:
        """Label the score ``tuned`` wherever it is shown."""
        return optimism(self.tuned, self.cross_fitted)


@dataclass(frozen=True)
class Tuning:
    """The settings that are found and those that are submitted, and how the held-out masks come out with them."""

    found: Postprocess
    found_by_fold: list[Postprocess]
    """Each without the fold's images."""
    plateau: Plateau
    curve: list[float]
    """The score at each of the 256 thresholds without any other rule."""
    worth: Worth
    outcome: Outcome = field(compare=False)

    @property
    def kept(self) -> bool:
        """Whether the submission takes what is found."""
        return all(self.outcome.kept)

    @property
    def postprocess(self) -> Postprocess:
        """Settings that are submitted."""
        return self.found if self.kept else UNTUNED

    @property
    def postprocess_by_fold(self) -> list[Postprocess]:
        """Settings of each fold, chosen without it."""
        return self.found_by_fold if self.kept else [UNTUNED] * len(self.found_by_fold)

    def dropped(self, objective: Objective) -> Tuning:
        """Return the tuning of a submission that stays at one half."""
        outcome = self.outcome.dropped()
        return replace(self, outcome=outcome, worth=outcome.worth(objective))


def tune_masks(rows: Rows, objective: Objective, search: Search) -> Tuning:
    """Choose post-processing settings, and score the choice on images that it was not made on.

    Args:
        rows: the held-out images, of at least two folds.
        objective: what is maximised.
        search: what is tried, and how to choose.
    """
    grid = Grid(rows.counts, rows.fold, objective, search.areas, search.family, search.workers)
    short_lists, plateau = _choose_pixel_rules(rows, grid, search)
    masks = _Masks(rows, objective, search, short_lists)
    untuned, found = counts_at(rows.counts, UNTUNED), masks.choose(ALL)
    by_fold = [masks.choose(frozenset([fold])) for fold in range(grid.folds)]
    cross_fitted = _assembled(rows, {fold: masks.counts(each) for fold, each in enumerate(by_fold)})
    outcome = Outcome(untuned, masks.counts(found), cross_fitted, cross_fitted, rows.fold, rows.group)
    curve = [round(float(score), 6) for score in objective(rows.counts)]
    tuning = Tuning(found, by_fold, plateau, curve, outcome.worth(objective), outcome)
    return tuning if tuning.worth.pays else tuning.dropped(objective)


def tune_classes(tunings: Sequence[Tuning], objective: Objective) -> tuple[list[Tuning], Worth]:
    """The classes' tunings, and their worth together; none is kept if those that are kept lose together."""
    kept = Outcome.of_classes([tuning.outcome.what_is_kept() for tuning in tunings])
    if len(tunings) > 1 and any(kept.kept) and not kept.worth(objective).pays:
        tunings = [tuning.dropped(objective) for tuning in tunings]
    return [*tunings], Outcome.of_classes([tuning.outcome for tuning in tunings]).worth(objective)


# ------------------------------------------------------------------------------------- thresholds and minimum area


def _choose_pixel_rules(rows: Rows, grid: Grid, search: Search) -> tuple[dict[Folds, list[Postprocess]], Plateau]:
    """A short list for all images, and for all but each fold: the chosen thresholds and minimum area come first.

    It goes on with the least and the greatest threshold that are as good, since removing what is small may move the
    best one. The plateau is that of all images.
    """
    folds = range(grid.folds)
    left_out = [frozenset(some) for count in range(3) for some in combinations(folds, count) if count < grid.folds]
    found = grid.best(left_out)
    short_lists, plateaus = {}, {}
    for excluded in left_out:
        if len(excluded) > 1:
            continue
        level = _earned_level(rows, grid, found, excluded)
        best = found[excluded][level]
        plateaus[excluded] = find_plateau(grid, rows.counts, rows.group, level, best, excluded)
        chosen = plateaus[excluded].middle if search.choose == "plateau" else grid.postprocess(best)
        ends = (replace(chosen, threshold=end) for end in plateaus[excluded].threshold)
        short_lists[excluded] = list(dict.fromkeys([chosen, *ends])) if search.rules else [chosen]
    return short_lists, plateaus[ALL]


def _earned_level(rows: Rows, grid: Grid, found: Mapping[Folds, list[Cell]], excluded: Folds) -> int:
    """The richest family that is better than the simpler ones on folds that its settings were not chosen on.

    Of two folds, the one that is left when the other is held out has nothing to check that on: there, for every
    choice alike, it is the simplest.
    """
    if grid.folds < LEAST_FOLDS:
        return THRESHOLD
    inner = [fold for fold in range(grid.folds) if fold not in excluded]
    held_out = []
    for level in range(grid.levels):
        cells = {fold: grid.postprocess(found[excluded | {fold}][level]) for fold in inner}
        held_out.append(_assembled(rows, {fold: counts_at(rows.counts, cell) for fold, cell in cells.items()}))
    earned = 0
    for richer in range(1, grid.levels):
        if _is_better(rows, grid.objective, held_out[richer], held_out[earned], excluded):
            earned = richer
    return earned


# ------------------------------------------------------------------------------------------- holes and components


class _Masks:
    """The masks of the short lists under every rule on holes and components; chooses among them.

    Args:
        rows: the images, which are read again if there are rules to try.
        objective: what is maximised.
        search: the rules, and how to choose.
        short_lists: settings by the folds that they were chosen without, the chosen one first.
    """

    def __init__(
        self, rows: Rows, objective: Objective, search: Search, short_lists: Mapping[Folds, list[Postprocess]]
    ) -> None:
        self.rows, self.objective, self.choose_best = rows, objective, search.choose == "best"
        bases = list(dict.fromkeys(base for short_list in short_lists.values() for base in short_list))
        rules = search.rules or (Rule(),)
        self.column = {rule.added_to(base): column for column, (base, rule) in enumerate(product(bases, rules))}
        self.options = {
            excluded: [short_list[0], *(rule.added_to(base) for rule in rules[1:] for base in short_list)]
            for excluded, short_list in short_lists.items()
        }
        if search.rules:
            table = rule_counts(rows.images(), len(rows.fold), rows.fit, bases, rules, search.workers)
            table = table.reshape(2, len(rows.fold), -1)
        else:
            found = [counts_at(rows.counts, base) for base in bases]
            table = np.stack([(each.intersection, each.predicted) for each in found], axis=-1)
        self.table = Counts(*table, rows.counts.true)

    def counts(self, settings: Postprocess) -> Counts:
        """Of all images, (N,), by one of the options."""
        column = self.column[settings]
        return Counts(self.table.intersection[:, column], self.table.predicted[:, column], self.table.true[:, 0])

    def choose(self, excluded: Folds) -> Postprocess:
        """The best option, if its rules are better than none on folds that they were not chosen on."""
        plain = self.options[excluded][0]
        folds = int(self.rows.fold.max()) + 1
        if len(self.options[excluded]) == 1 or folds < LEAST_FOLDS:
            return plain
        inner = [fold for fold in range(folds) if fold not in excluded]
        held_out = {fold: self.counts(self._best(excluded, excluded | {fold})) for fold in inner}
        if _is_better(self.rows, self.objective, _assembled(self.rows, held_out), self.counts(plain), excluded):
            return self._best(excluded, excluded)
        return plain

    def _best(self, excluded: Folds, unseen: Folds) -> Postprocess:
        """Of a set's options, on all folds but the unseen: the best, or the one of the fewest rules that is as good."""
        options, seen = self.options[excluded], self.rows.without(unseen)
        columns = [self.column[option] for option in options]
        counts = Counts(
            self.table.intersection[seen][:, columns], self.table.predicted[seen][:, columns], self.table.true[seen]
        )
        best = int(np.argmax(np.nan_to_num(self.objective(counts), nan=-np.inf)))
        if self.choose_best:
            return options[best]
        at_best = Counts(counts.intersection[:, [best]], counts.predicted[:, [best]], counts.true)
        difference, error = paired_difference(self.objective, counts, at_best, self.rows.group[seen])
        as_good = -difference <= Z95 * error
        as_good[best] = True
        return options[int(np.argmax(as_good))]


# ---------------------------------------------------------------------------------------------------------- common


def _assembled(rows: Rows, of_folds: Mapping[int, Counts]) -> Counts:
    """Counts (N,) that have each fold's images from the counts given for that fold; 0 for other folds."""
    parts = np.zeros((3, len(rows.fold)), np.int64)
    for fold, counts in of_folds.items():
        mine = rows.fold == fold
        parts[:, mine] = counts.intersection[mine], counts.predicted[mine], counts.true[mine]
    return Counts(*parts)


def _is_better(rows: Rows, objective: Objective, counts: Counts, other: Counts, excluded: Folds) -> bool:
    """Whether counts beat others beyond noise, the excluded folds left aside; of few groups that cannot be told."""
    seen = rows.without(excluded)
    if len(np.unique(rows.group[seen])) < FEWEST_DRAWN:
        return False
    difference, error = paired_difference(objective, counts.take(seen), other.take(seen), rows.group[seen])
    return bool(difference > Z95 * error)
