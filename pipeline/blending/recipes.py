"""Which blend of several models to keep: chosen out of fold, and against equal weights.

A recipe has a blend for every fold, chosen on the other folds alone, and one for the test images, chosen on all.
What is chosen is to be kept only if its cross-fitted score beats that of equal weights beyond noise. Nothing here reads
a file; maps come as arrays that are sliced a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.blending.spaces import Blend, Scale, Space, make_scale, normalised
from pipeline.blending.weights import Found, Sample, Search, best_score, blended_counts, search_weights
from pipeline.metrics import Counts, Objective
from pipeline.postprocess import HALF


@dataclass(frozen=True)
class Recipe:
    """How to blend."""

    spaces: list[Space]
    """Each fold's, then that for the test images."""
    blends: list[Blend]
    """Likewise: a fold's is chosen without its images."""

    @classmethod
    def of(cls, space: Space, blend: Blend, folds: int) -> Recipe:
        """One blend for all images."""
        return cls([space] * (folds + 1), [blend] * (folds + 1))

    def for_test(self) -> Recipe:
        """The test images' blend for all folds: what is chosen on all images, for a score that is optimistic."""
        return Recipe.of(self.spaces[-1], self.blends[-1], len(self.blends) - 1)


@dataclass(frozen=True)
class Chooser:
    """What recipes are chosen from and by."""

    sample: Sample
    fold: np.ndarray
    """int (n,), the fold of each image of the sample."""
    folds: int
    objective: Objective
    search: Search | None
    """None: as many models as there are decide."""

    def fixed(self, space: Space, weights: np.ndarray) -> Recipe:
        """Given weights in a given space, for all images."""
        return Recipe.of(space, Blend(make_scale(space, self.sample.histograms()), normalised(weights)), self.folds)

    def searched(self, spaces: Sequence[Space], weights: np.ndarray | None) -> tuple[Recipe, Recipe]:
        """The best space and weights.

        Args:
            spaces: to choose among.
            weights: given ones, for which only the space is chosen; None: searched too.

        Returns:
            The recipe in which every fold has the space and the weights that are best on the others, which is what
            the choice is honestly worth; and the recipe to use, whose folds all have the test images' space, so
            that one threshold suits their maps alike.
        """
        histograms = self.sample.histograms()
        blends, scores = {}, {}
        for space in spaces:
            scale = make_scale(space, histograms)
            found = [self._find(scale, images, weights) for images in self._choosing()]
            blends[space] = [Blend(scale, each.weights) for each in found]
            scores[space] = [each.score for each in found]
        best = [max(spaces, key=lambda space: scores[space][number]) for number in range(self.folds + 1)]
        nested = Recipe(best, [blends[space][number] for number, space in enumerate(best)])
        return nested, Recipe(best[-1:] * (self.folds + 1), blends[best[-1]])

    def without(self, model: int) -> Chooser:
        """The same with one model fewer."""
        return Chooser(self.sample.without(model), self.fold, self.folds, self.objective, self.search)

    def _choosing(self) -> Iterator[np.ndarray]:
        """Rows of the sample that each blend is chosen on: all but a fold's, at last all."""
        for number in range(self.folds):
            yield np.flatnonzero(self.fold != number)
        yield np.arange(len(self.fold))

    def _find(self, scale: Scale, images: np.ndarray, weights: np.ndarray | None) -> Found:
        if weights is None:
            return search_weights(self.sample, images, scale, self.objective, self.search)
        weights = normalised(weights)
        return Found(weights, best_score(self.objective(blended_counts(self.sample, images, scale, weights))))


@dataclass(frozen=True)
class HeldOut:
    """The models' out-of-fold maps of all training images."""

    maps: Sequence[Any]
    """Each model's; ``maps[m][a:b]`` is uint8 (b - a, H, W)."""
    fold: np.ndarray
    """int (N,), the fold of each image."""

    def blended(self, recipe: Recipe) -> Blended:
        """Their blend."""
        return Blended(self, recipe)

    def without(self, model: int) -> HeldOut:
        """The same with one model fewer."""
        return HeldOut([maps for number, maps in enumerate(self.maps) if number != model], self.fold)


@dataclass(frozen=True)
class Blended:
    """The blended maps of all training images, made as they are read; ``blended[a:b]`` is uint8 (b - a, H, W)."""

    held_out: HeldOut
    recipe: Recipe

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Each image by its own fold's blend."""
        fold = self.held_out.fold[rows]
        parts = [maps[rows] for maps in self.held_out.maps]
        out = np.empty_like(parts[0])
        for number in np.unique(fold):
            mine = fold == number
            out[mine] = self.recipe.blends[number]([[part[mine]] for part in parts])
        return out


@dataclass(frozen=True)
class Scored:
    """What a recipe is worth at the images' own size."""

    counts: Counts
    """int (N,) each, every fold at the threshold that is best on the others."""
    cross_fitted: float
    """The score of ``counts``."""
    tuned: float
    """The score at the threshold that is best on all images: optimistic."""


def score_recipe(counts: Counts, fold: np.ndarray, objective: Objective) -> Scored:
    """Cross-fit the threshold.

    Args:
        counts: at all thresholds, (N, 256); true of shape (N, 1).
        fold: int (N,).
    """
    threshold = np.empty(len(fold), np.int64)
    for number in np.unique(fold):
        threshold[fold == number] = best_threshold(objective(counts.take(fold != number)))
    images = np.arange(len(fold))
    chosen = Counts(counts.intersection[images, threshold], counts.predicted[images, threshold], counts.true[:, 0])
    return Scored(chosen, float(objective(chosen)), best_score(objective(counts)))


def best_threshold(curve: np.ndarray) -> int:
    """The best byte of a (256,) curve; of equally good ones the nearest to one half."""
    return int(np.lexsort((np.abs(np.arange(256) - HALF), -curve))[0])
