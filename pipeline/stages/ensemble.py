"""Average the folds for the test images, and blend the models.

Reads   kfold/<experiment>/<model>/fold<k>/oof.zarr and test.zarr of every model and fold, folds.csv, images.csv;
        where the views of an image are stored apart, those of every view: each is blended like a model of its own
Writes  kfold/<experiment>/ensemble/oof.zarr       uint8 (N, H, W), all training images' masks, as images.csv has them
        kfold/<experiment>/ensemble/test.zarr      uint8 (N, H, W), all test images' masks
        kfold/<experiment>/ensemble/weights.json   the weight of each member, summing to one, the space that is averaged
                                                   in, what both are worth, what each member adds, how alike they are

Weights and space are searched on the out-of-fold maps and kept if that pays beyond noise; else all members weigh the
same, and probabilities are averaged. Fold k's out-of-fold maps are blended by weights chosen on the other folds, so
that `tune` scores maps in which their own masks had no part. All scores are at the images' original resolution.

    python -m pipeline ensemble --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.artifacts import Artifacts, nan_as_none
from pipeline.blending.recipes import Chooser, HeldOut, Recipe, Scored, score_recipe
from pipeline.blending.spaces import SPACES, Blend, make_scale
from pipeline.blending.weights import default_search, gather
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import read_images
from pipeline.data.classes import mask_ids, mask_rows
from pipeline.data.held_out import HeldOutMasks, spread
from pipeline.data.oof import OutOfFold, check_size, open_test_maps, read_out_of_fold
from pipeline.data.probabilities import CHUNK, chunks, write_probabilities
from pipeline.next_step import next_stage, say_next_stage
from pipeline.postprocess import threshold_counts
from pipeline.records import Record


def ensemble(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Average the folds for the test images, and blend the models.

    \b
    Example:
      python -m pipeline ensemble --experiment pipeline/experiments/demo.yaml --set ensemble.weights=equal
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    names = settings.members
    masks = HeldOutMasks.read(artifacts, settings.image.fit, settings.data.class_names)
    test_ids = mask_ids(read_images(artifacts, "test")["image_id"], settings.data.class_names)
    maps, tests = open_maps(settings, test_ids)
    console.print(
        f"ensemble: {', '.join(names)}: {len(masks)} out-of-fold and {len(test_ids)} test maps, "
        f"{settings.folds.count} folds averaged, to {artifacts.ensemble_oof.parent}"
    )
    held_out = HeldOut(maps, masks.fold)
    if len(names) == 1:
        alone = Blend(make_scale("probability", np.ones((1, 256))), np.ones(1))
        recipe, about = Recipe.of("probability", alone, settings.folds.count), {}
    else:
        recipe, about = Study(settings, masks, held_out, console).choose()
    of_folds = [artifacts.fold(name, number) for name in names for number in range(settings.folds.count)]
    inputs = [artifacts.images, artifacts.folds, *(path for fold in of_folds for path in (fold.oof, *fold.tests))]
    record = Record.of(settings, "ensemble", inputs)
    write_blends(artifacts, held_out, tests, recipe, (masks.ids, test_ids), record, console)
    weights = {name: round(float(weight), 6) for name, weight in zip(names, recipe.blends[-1].weights, strict=True)}
    content = {"weights": weights, "space": recipe.spaces[-1], **nan_as_none(about)}
    record.write(artifacts.ensemble_weights, **content)
    shares = ", ".join(f"{name} {weight:.3f}" for name, weight in weights.items())
    console.print(f"ensemble: {shares}, averaged as {recipe.spaces[-1]}")
    say_next_stage(console, next_stage("ensemble", settings), experiment, overrides)


def open_maps(settings: Experiment, test_ids: list[str]) -> tuple[list[OutOfFold], list[list[Any]]]:
    """Every member's out-of-fold maps, and its folds' maps of the test images.

    Raises:
        DataError: some are missing, of other images or folds, or of another size than the first member's.
    """
    artifacts = Artifacts.of(settings)
    held_out, tests = [], []
    first = artifacts.fold(settings.members[0], 0).oof
    for name in settings.members:
        held_out.append(read_out_of_fold(artifacts, name, settings.folds.count, settings.data.class_names))
        check_size(held_out[-1].maps[0], artifacts.fold(name, 0).oof, held_out[0].maps[0], first)
        tests.append([open_test_maps(artifacts, name, fold, test_ids) for fold in range(settings.folds.count)])
        for fold, maps in enumerate(tests[-1]):
            check_size(maps, artifacts.fold(name, fold).tests[0], held_out[0].maps[0], first)
    return held_out, tests


def write_blends(
    artifacts: Artifacts,
    held_out: HeldOut,
    tests: Sequence[Sequence[Any]],
    recipe: Recipe,
    ids: tuple[list[str], list[str]],
    record: Record,
    console: Console,
) -> None:
    """Write both arrays of blended maps, of training and of test images; a chunk of them in memory at a time."""
    train_ids, test_ids = ids
    blend, blended_oof = recipe.blends[-1], held_out.blended(recipe)

    def blended_tests(rows: slice) -> np.ndarray:
        # Maps that weigh nothing are not read.
        used = zip(tests, blend.weights, strict=True)
        return blend([[maps[rows] for maps in folds] if weight else [] for folds, weight in used])

    jobs = (
        (artifacts.ensemble_oof, train_ids, blended_oof.__getitem__),
        (artifacts.ensemble_test, test_ids, blended_tests),
    )
    size = tests[0][0].shape[1:]
    for path, of_maps, blended in jobs:
        batches = (blended(rows) for rows in chunks(len(of_maps)))
        maps = track(batches, -(-len(of_maps) // CHUNK), f"ensemble {path.stem}", console)
        write_probabilities(path, of_maps, size, maps, record, artifacts.url_of(path))


class Study:
    """Which blend of several members to use, and what is known about it."""

    def __init__(self, settings: Experiment, masks: HeldOutMasks, held_out: HeldOut, console: Console) -> None:
        options = settings.ensemble
        self.names = settings.members
        self.masks, self.held_out, self.console = masks, held_out, console
        self.metric_name, self.objective = settings.tuning.metric, settings.tuning.objective
        self.searches_weights = options.weights == "auto"
        given = options.weights if isinstance(options.weights, dict) else dict.fromkeys(self.names, 1.0)
        self.shares = np.array([given[name] for name in self.names])
        self.spaces = SPACES if options.space == "auto" else (options.space,)
        images = len(masks) // masks.classes
        chosen = mask_rows(spread(np.arange(images), options.images), masks.classes)
        small = track(masks.small(held_out.maps, chosen), len(chosen), "ensemble sample", console)
        search = default_search(len(self.names)) if options.search == "auto" else options.search
        self.chooser = Chooser(gather(small), held_out.fold[chosen], settings.folds.count, self.objective, search)

    def choose(self) -> tuple[Recipe, dict[str, Any]]:
        """The recipe to use, and what ``weights.json`` says about it; prints the same as tables."""
        recipe = self.chooser.fixed(self.spaces[0], self.shares)
        scored = self.score("plain", self.held_out, recipe)
        about = {"metric": self.metric_name, "masks": len(self.chooser.sample), "plain": self.describe(recipe, scored)}
        kept, gain = "plain", None
        if self.searches_weights or len(self.spaces) > 1:
            found, scored_found, about["searched"] = self.search()
            gain = self.objective.compare(scored_found.counts, scored.counts, self.masks.group)
            about |= {"difference": gain.difference, "ci95": gain.ci95}
            if gain.is_gain:
                kept, recipe, scored = "searched", found, scored_found
        self.say_blends(about)
        if gain is not None:
            self.console.print(f"ensemble: {gain.verdict('searching')}: the {kept} blend is kept")
        added = self.leave_one_out(recipe, scored, again=kept == "searched" and self.searches_weights)
        result = {"kept": kept, "choice": about, "leave_one_out": added, "pairs": self.pairs()}
        if recipe.spaces[-1] == "rank":  # without which the ranks are not to be had again
            result["histograms"] = dict(zip(self.names, self.chooser.sample.histograms().tolist(), strict=True))
        return recipe, result

    def search(self) -> tuple[Recipe, Scored, dict[str, Any]]:
        """The best recipe, its honest score, and the two described."""
        nested, usable = self.chooser.searched(self.spaces, None if self.searches_weights else self.shares)
        scored = self.score("searched", self.held_out, nested)
        optimistic = self.score("optimistic", self.held_out, usable.for_test()).tuned
        how = self.chooser.search if self.searches_weights else "space only"
        return usable, scored, {**self.describe(nested, scored), "optimistic": optimistic, "search": how}

    def score(self, what: str, held_out: HeldOut, recipe: Recipe) -> Scored:
        """A recipe's scores at original resolution, in one pass over the maps."""
        count = len(self.masks)
        held = track(self.masks.held(held_out.blended(recipe)), count, f"ensemble {what}", self.console)
        return score_recipe(threshold_counts(held, count, self.masks.fit), held_out.fold, self.objective)

    def describe(self, recipe: Recipe, scored: Scored) -> dict[str, Any]:
        """A recipe and its scores for ``weights.json``."""
        weights = [self.named(blend.weights) for blend in recipe.blends]
        *by_fold, final = [{"space": s, "weights": w} for s, w in zip(recipe.spaces, weights, strict=True)]
        return {**final, "cross_fitted": scored.cross_fitted, "optimistic": scored.tuned, "by_fold": by_fold}

    def named(self, weights: np.ndarray) -> dict[str, float]:
        """Weights by member, for reading."""
        return {name: round(float(weight), 6) for name, weight in zip(self.names, weights, strict=True)}

    def leave_one_out(self, kept: Recipe, scored: Scored, again: bool) -> list[dict[str, Any]]:
        """What each member adds to the others, cross-fitted; ``again``: the others' weights are searched anew."""
        rows = []
        for member, name in enumerate(self.names):
            chooser, held_out = self.chooser.without(member), self.held_out.without(member)
            if again:
                rest = chooser.searched(kept.spaces[-1:], None)[0]
            else:
                rest = chooser.fixed(kept.spaces[-1], np.delete(kept.blends[-1].weights, member))
            without = self.score(f"without {name}", held_out, rest)
            gain = self.objective.compare(scored.counts, without.counts, self.masks.group)
            weight = round(float(kept.blends[-1].weights[member]), 6)
            rows.append({"model": name, "weight": weight, "without": gain.score})
            rows[-1] |= {"adds": gain.difference, "ci95": gain.ci95}
        table = right_aligned("what each model adds, cross-fitted", "model", "weight", "without it", "adds", "95%")
        for row in rows:
            numbers = f"{row['weight']:.3f}", f"{row['without']:.4f}", f"{row['adds']:+.4f}", span(row["ci95"])
            table.add_row(row["model"], *numbers)
        self.console.print(table)
        return rows

    def pairs(self) -> list[dict[str, Any]]:
        """How alike each two members are."""
        correlations, disagreements = self.chooser.sample.correlations(), self.chooser.sample.disagreements()
        rows = []
        table = right_aligned("how alike two models are", "models", "correlation", "masks differ by")
        for i, j in combinations(range(len(self.names)), 2):
            correlation = float(correlations[i, j])
            defined = None if np.isnan(correlation) else round(correlation, 6)  # a constant model has none
            differ = round(float(disagreements[i, j]), 6)
            rows.append({"models": [self.names[i], self.names[j]], "correlation": defined, "disagreement": differ})
            table.add_row(f"{self.names[i]}, {self.names[j]}", f"{correlation:.4f}", f"{differ:.1%}")
        self.console.print(table)
        return rows

    def say_blends(self, about: dict[str, Any]) -> None:
        """Print the recipes that were compared."""
        compared = [name for name in ("plain", "searched") if name in about]
        blends = [about[name] for name in compared]
        table = right_aligned(f"blends, by {self.metric_name}", "weights", *compared)
        for member in self.names:
            table.add_row(member, *(f"{blend['weights'][member]:.3f}" for blend in blends))
        table.add_section()
        table.add_row("averaged as", *(blend["space"] for blend in blends))
        lower = any(blend["optimistic"] < blend["cross_fitted"] for blend in blends)  # by chance of the folds
        optimistic = "on the same images" if lower else "optimistic, on the same images"
        for score, heading in (("cross_fitted", "cross-fitted"), ("optimistic", optimistic)):
            table.add_row(heading, *(f"{blend[score]:.4f}" for blend in blends))
        self.console.print(table)


def right_aligned(title: str, first: str, *others: str) -> Table:
    """A table of numbers with a column of names."""
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def span(ci95: tuple[float, float]) -> str:
    """An interval of a difference."""
    return f"{ci95[0]:+.4f} to {ci95[1]:+.4f}"


if __name__ == "__main__":
    run_command(ensemble)
