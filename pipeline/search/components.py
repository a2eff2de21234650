"""The rules on holes and components: counted for a few settings, since no histogram knows what hangs together.

One labelling of a mask serves all rules with the same holes filled: removing small components and keeping the
largest ones both leave the first few in order of size, so their counts are prefix sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from pipeline.geometry import Fit, restore
from pipeline.postprocess import Held, Postprocess, for_each_image, gated_edges
from pipeline.rle import components, fill_holes


@dataclass(frozen=True)
class Rule:
    """What happens to holes and components; the fields are those of ``Postprocess``."""

    fill_holes: int | None = 0
    min_component: int = 0
    max_components: int | None = None

    @property
    def active(self) -> int:
        """How many of the three do anything."""
        return (self.fill_holes != 0) + (self.min_component > 0) + (self.max_components is not None)

    def added_to(self, settings: Postprocess) -> Postprocess:
        return replace(settings, **vars(self))


def rule_grid(holes: Sequence[int | None], areas: Sequence[int], counts: Sequence[int | None]) -> list[Rule]:
    """All combinations, those with the fewest active rules first; the very first does nothing."""
    rules = {Rule(*values) for values in product((0, *holes), (0, *areas), (None, *counts))}
    return sorted(rules, key=lambda rule: (rule.active, *map(_mildness, vars(rule).values())))


def _mildness(value: int | None) -> float:
    return float("inf") if value is None else value


def rule_counts(
    images: Iterable[Held],
    count: int,
    fit: Fit,
    bases: Sequence[Postprocess],
    rules: Sequence[Rule],
    workers: int | None = None,
) -> np.ndarray:
    """Intersection and predicted area of every image, setting and rule.

    Args:
        images: as many as ``count``; read once.
        fit: how they were brought to network size.
        bases: thresholds and minimum areas.
        rules: what is done to their masks.
        workers: threads; the result is the same for every number.

    Returns:
        int64 (2, N, len(bases), len(rules)), as ``final_edges`` would give them.
    """
    out = np.empty((2, count, len(bases), len(rules)), np.int64)
    by_filling = _by_filling(rules)

    def fill(row: int, image: Held) -> None:
        restored = restore(image.prob_hw, image.height, image.width, fit)
        true_before = _counter(image.true_edges)
        for place, settings in enumerate(bases):
            edges = gated_edges(restored, settings)
            _count_mask(edges, restored.shape, true_before, by_filling, out[:, row, place])

    for_each_image(fill, images, workers)
    return out


@dataclass(frozen=True)
class _Filling:
    """The rules that fill the same holes."""

    places: np.ndarray
    """int (R,), their numbers."""
    min_component: np.ndarray
    max_components: np.ndarray
    """int64 (R,) both."""


def _by_filling(rules: Sequence[Rule]) -> dict[int | None, _Filling]:
    groups: dict[int | None, list[int]] = {}
    for place, rule in enumerate(rules):
        groups.setdefault(rule.fill_holes, []).append(place)
    return {
        filling: _Filling(
            np.array(places),
            np.array([rules[place].min_component for place in places]),
            np.array([_at_most(rules[place].max_components) for place in places]),
        )
        for filling, places in groups.items()
    }


def _at_most(count: int | None) -> int:
    return np.iinfo(np.int64).max if count is None else count


def _count_mask(
    edges: np.ndarray,
    shape: tuple[int, int],
    true_before: Callable[[np.ndarray], np.ndarray],
    by_filling: dict[int | None, _Filling],
    out: np.ndarray,
) -> None:
    """Intersection and area by each rule into ``out``, int64 (2, rules)."""
    unfilled = _largest_first(edges, shape[0], true_before)
    solid = fill_holes(edges, shape)
    has_holes = not np.array_equal(solid, edges)
    for holes, filling in by_filling.items():
        areas, sums = unfilled
        if has_holes and holes != 0:
            filled = solid if holes is None else fill_holes(edges, shape, holes)
            areas, sums = _largest_first(filled, shape[0], true_before)
        kept = np.searchsorted(-areas, -filling.min_component, side="right")
        out[:, filling.places] = sums[:, np.minimum(kept, filling.max_components)]


def _largest_first(
    edges: np.ndarray, height: int, true_before: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Areas of the components, falling, int64 (C,); intersection and area of the first 0..C, int64 (2, C + 1)."""
    found = components(edges, height)
    columns, begins, ends = found.segments.T
    true = true_before(columns * height + ends) - true_before(columns * height + begins)
    # Whole numbers below 2**53, which the sums of bincount keep exactly.
    inside = np.bincount(found.labels, true, minlength=found.count).astype(np.int64)
    order = np.argsort(-found.areas, kind="stable")
    sums = np.zeros((2, found.count + 1), np.int64)
    np.cumsum([inside[order], found.areas[order]], axis=1, out=sums[:, 1:])
    return found.areas[order], sums


def _counter(edges: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function of positions down the columns: how many of a mask's pixels lie before each."""
    starts, ends = edges[::2].astype(np.int64), edges[1::2].astype(np.int64)
    lengths = np.concatenate([[0], np.cumsum(ends - starts)])
    ends = np.concatenate([[0], ends])

    def before(positions: np.ndarray) -> np.ndarray:
        run = np.searchsorted(starts, positions, side="right")
        return lengths[run] - np.maximum(ends[run] - positions, 0)

    return before
