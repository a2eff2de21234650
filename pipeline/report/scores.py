"""Every mask's pixel counts, at the settings of the submission and cross-fitted, and what kind of error it has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from rich.console import Console

from pipeline.command import track
from pipeline.geometry import restore
from pipeline.metrics import Counts, dice
from pipeline.postprocess import Held, for_each_image, mask_edges
from pipeline.report.finished import FinishedRun
from pipeline.rle import area, intersection

DICE_LIMITS = (0.5, 0.8, 0.9, 0.95)
"""Between the bands of the table of errors."""


@dataclass(frozen=True)
class Scores:
    """Counts of N masks at their images' own size, int64 (N,) each."""

    chosen: Counts
    """At the submission's settings: optimistic where they are tuned, since they were chosen on these masks."""
    cross_fitted: Counts
    """Each mask at the submission's settings as they are chosen without its fold; at one half where it stays there."""
    both_empty: float = 1.0
    """What a mask scores where nothing is and nothing is predicted; NaN leaves it out."""

    @cached_property
    def dice(self) -> np.ndarray:
        """float64 (N,), at the submission's settings; NaN for masks that are left out."""
        return dice(self.chosen, self.both_empty)

    @cached_property
    def worst_first(self) -> np.ndarray:
        """int (n,), rows by rising Dice, without masks that are left out."""
        order = np.argsort(self.dice, kind="stable")
        return order[~np.isnan(self.dice[order])]


def score_masks(run: FinishedRun, console: Console) -> Scores:
    """Count all masks of a run, in one pass over its maps and O(a few images) memory besides the result."""
    count = len(run.masks)
    found = np.zeros((2, 2, count), np.int64)  # settings, (intersection, predicted), masks
    true = np.zeros(count, np.int64)

    def fill(row: int, image: Held) -> None:
        restored = restore(image.prob_hw, image.height, image.width, run.settings.image.fit)
        true[row] = area(image.true_edges)
        for kind, postprocess in enumerate((run.chosen(row), run.cross_fitted(row))):
            edges = mask_edges(restored, postprocess)
            found[kind, :, row] = intersection(edges, image.true_edges), area(edges)

    for_each_image(fill, track(run.held(), count, f"report {run.settings.name}", console))
    both_empty = float(run.tuning["settings"]["both_empty"])
    return Scores(Counts(*found[0], true), Counts(*found[1], true), both_empty)


@dataclass(frozen=True)
class ErrorKind:
    """Masks with one kind of error, and what they cost."""

    name: str
    masks: int
    lost: float
    """Their share of all Dice that is lost; 0..1."""
    missed: float
    """Their share of the true pixels that are missed."""
    extra: float
    """Their share of the predicted pixels that are not true."""


def error_kinds(counts: Counts, both_empty: float = 1.0) -> list[ErrorKind]:
    """Where the score is lost: masks by kind of error, each mask that is not left out in one of them."""
    values = dice(counts, both_empty)
    counted = ~np.isnan(values)
    counts, values = counts.take(counted), values[counted]
    lost, missed = 1 - values, counts.true - counts.intersection
    extra = counts.predicted - counts.intersection
    kinds = []
    for name, mine in _kinds(counts, values):
        shares = [part[mine].sum() / max(part.sum(), 1e-12) for part in (lost, missed, extra)]
        kinds.append(ErrorKind(name, int(mine.sum()), *map(float, shares)))
    return kinds


def _kinds(counts: Counts, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Names and bool (N,), which together hold every mask once; no value is NaN."""
    false_alarm = (counts.true == 0) & (counts.predicted > 0)
    overlooked = (counts.true > 0) & (counts.predicted == 0)
    kinds = [("nothing there, something predicted", false_alarm), ("something there, nothing predicted", overlooked)]
    rest = ~(false_alarm | overlooked)
    for low, high in zip((0.0, *DICE_LIMITS), (*DICE_LIMITS, np.inf), strict=True):
        name = f"Dice below {high:g}" if low == 0 else f"{low:g} to {high:g}" if high < np.inf else f"{low:g} and above"
        kinds.append((name, rest & (values >= low) & (values < high)))
    return kinds
