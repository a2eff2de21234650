"""Average the folds for the test images, and blend the models.

Reads   kfold/<experiment>/<model>/fold<k>/oof.zarr and test.zarr of every model and fold, folds.csv, images.csv
Writes  kfold/<experiment>/ensemble/oof.zarr       uint8 (N, H, W), all training images' masks, as images.csv has them
        kfold/<experiment>/ensemble/test.zarr      uint8 (N, H, W), all test images' masks
        kfold/<experiment>/ensemble/weights.json   the weight of each model, summing to one, the space that is averaged
                                                   in, what both are worth, what each model adds, how alike they are

Weights and space are searched on the out-of-fold maps and kept if that pays beyond noise; else the models weigh the
same, and probabilities are averaged. Fold k's out-of-fold maps are blended by weights chosen on the other folds, so
that `tune` scores maps in which their own masks had no part. All scores are at the images' original resolution.

    python -m pipeline ensemble --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.artifacts import Artifacts, write_json
from pipeline.blending.recipes import Chooser, HeldOut, Recipe, Scored, score_recipe
from pipeline.blending.spaces import SPACES, Blend, make_scale
from pipeline.blending.weights import default_search, gather
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import one_row_a_mask, read_folds, read_images, read_true_masks, small_masks
from pipeline.data.classes import mask_ids, mask_rows
from pipeline.data.oof import OutOfFold, check_size, open_test_maps, read_out_of_fold
from pipeline.data.probabilities import CHUNK, write_probabilities
from pipeline.geometry import Fit, content_box
from pipeline.metrics import beyond_noise, compare, metrics_by_name
from pipeline.postprocess import Held, threshold_counts
from pipeline.records import MADE_BY, Record
from pipeline.rle import RleTable


def ensemble(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Average the folds for the test images, and blend the models.

    \b
    Example:
      python -m pipeline ensemble --experiment pipeline/experiments/demo.yaml --set ensemble.weights=equal
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    names = list(settings.models)
    train_ids, test_ids = (
        mask_ids(read_images(artifacts, subset)["image_id"], settings.data.class_names) for subset in ("train", "test")
    )
    maps, tests = open_maps(settings, test_ids)
    fold = maps[0].fold
    held_out = HeldOut(maps, fold)
    if len(names) == 1:
        alone = Blend(make_scale("probability", np.ones((1, 256))), np.ones(1))
        recipe, about = Recipe.of("probability", alone, settings.folds.count), {}
    else:
        recipe, about = Study(settings, held_out, console).choose()
    of_folds = [artifacts.fold(name, number) for name in names for number in range(settings.folds.count)]
    inputs = [artifacts.images, artifacts.folds, *(path for fold in of_folds for path in (fold.oof, fold.test))]
    record = Record.of(settings, "ensemble", inputs)
    write_blends(artifacts, held_out, tests, recipe, (train_ids, test_ids), record, console)
    weights = {name: round(float(weight), 6) for name, weight in zip(names, recipe.blends[-1].weights, strict=True)}
    content = {"weights": weights, "space": recipe.spaces[-1], **about}
    write_json(artifacts.ensemble_weights, {**content, MADE_BY: record.stored()})
    shares = ", ".join(f"{name} {weight:.3f}" for name, weight in weights.items())
    console.print(
        f"ensemble: {shares}, averaged as {recipe.spaces[-1]}; "
        f"{len(fold)} out-of-fold and {len(test_ids)} test maps, {settings.folds.count} folds averaged"
    )


def open_maps(settings: Experiment, test_ids: list[str]) -> tuple[list[OutOfFold], list[list[Any]]]:
    """Every model's out-of-fold maps, and its folds' maps of the test images.

    Raises:
        DataError: some are missing, of other images or folds, or of another size than the first model's.
    """
    artifacts = Artifacts.of(settings)
    held_out, tests = [], []
    first = artifacts.fold(next(iter(settings.models)), 0).oof
    for name in settings.models:
        held_out.append(read_out_of_fold(artifacts, name, settings.folds.count, settings.data.class_names))
        check_size(held_out[-1].maps[0], artifacts.fold(name, 0).oof, held_out[0].maps[0], first)
        tests.append([open_test_maps(artifacts, name, fold, test_ids) for fold in range(settings.folds.count)])
        for fold, maps in enumerate(tests[-1]):
            check_size(maps, artifacts.fold(name, fold).test, held_out[0].maps[0], first)
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
    blend = recipe.blends[-1]

    def blended_tests(rows: slice) -> np.ndarray:
        # Maps that weigh nothing are not read.
        used = zip(tests, blend.weights, strict=True)
        return blend([[maps[rows] for maps in folds] if weight else [] for folds, weight in used])

    jobs = (
        (artifacts.ensemble_oof, train_ids, lambda rows: held_out.blended(recipe, rows)),
        (artifacts.ensemble_test, test_ids, blended_tests),
    )
    size = tests[0][0].shape[1:]
    for path, of_maps, blended in jobs:
        batches = (blended(rows) for rows in chunks(len(of_maps)))
        steps = -(-len(of_maps) // CHUNK)
        write_probabilities(path, of_maps, size, track(batches, steps, f"ensemble {path.stem}", console), record)


def chunks(count: int) -> Iterator[slice]:
    """Consecutive rows, as many as are stored together."""
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))


@dataclass(frozen=True)
class Pictures:
    """What is known of the training images' masks besides their maps, in the order of ``images.csv``."""

    heights: list[int]
    widths: list[int]
    truth: RleTable
    fit: Fit

    @classmethod
    def read(cls, artifacts: Artifacts, fit: Fit, classes: Sequence[str]) -> Pictures:
        images = read_images(artifacts, "train")
        truth = read_true_masks(artifacts, images["image_id"].tolist(), classes)
        masks = one_row_a_mask(images, classes)
        return cls(masks["height"].tolist(), masks["width"].tolist(), truth, fit)

    def __len__(self) -> int:
        return len(self.heights)

    def small(self, held_out: HeldOut, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What the models say of some masks and the share that the true one covers: uint8 (P, M), uint8 (P,).

        A letterbox's border is left out.
        """
        for rows in chunks(len(self)):
            mine = chosen[(chosen >= rows.start) & (chosen < rows.stop)]
            if len(mine):
                maps = np.stack([of_model[rows] for of_model in held_out.maps], axis=-1)
            for row in mine:
                size = maps.shape[1:3]
                box = content_box(self.heights[row], self.widths[row], size, self.fit)
                mask = small_masks([self.truth[row]], self.heights[row], self.widths[row], size, self.fit)[..., 0]
                yield box.cut(maps[row - rows.start]).reshape(-1, maps.shape[-1]), box.cut(mask).ravel()

    def held(self, held_out: HeldOut, recipe: Recipe) -> Iterator[Held]:
        """Every mask with its blended map."""
        for rows in chunks(len(self)):
            for row, prob_hw in enumerate(held_out.blended(recipe, rows), rows.start):
                yield Held(prob_hw, self.heights[row], self.widths[row], self.truth[row])


class Study:
    """Which blend of several models to use, and what is known about it."""

    def __init__(self, settings: Experiment, held_out: HeldOut, console: Console) -> None:
        options = settings.ensemble
        self.names = list(settings.models)
        self.held_out, self.console = held_out, console
        self.metric_name = settings.tuning.metric
        self.metric = metrics_by_name(settings.tuning.beta)[self.metric_name]
        self.searches_weights = options.weights == "auto"
        given = options.weights if isinstance(options.weights, dict) else dict.fromkeys(self.names, 1.0)
        self.shares = np.array([given[name] for name in self.names])
        self.spaces = SPACES if options.space == "auto" else (options.space,)
        artifacts = Artifacts.of(settings)
        classes = settings.data.class_names
        self.pictures = Pictures.read(artifacts, settings.image.fit, classes)
        self.groups = np.repeat(read_folds(artifacts)["group"].to_numpy(), len(classes))
        images = len(self.pictures) // len(classes)
        chosen = np.linspace(0, images - 1, min(images, options.images)).round().astype(np.int64)
        chosen = mask_rows(chosen, len(classes))
        small = track(self.pictures.small(held_out, chosen), len(chosen), "ensemble sample", console)
        search = default_search(len(self.names)) if options.search == "auto" else options.search
        self.chooser = Chooser(gather(small), held_out.fold[chosen], settings.folds.count, self.metric, search)

    def choose(self) -> tuple[Recipe, dict[str, Any]]:
        """The recipe to use, and what ``weights.json`` says about it; prints the same as tables."""
        recipe = self.chooser.fixed(self.spaces[0], self.shares)
        scored = self.score("plain", self.held_out, recipe)
        about = {"metric": self.metric_name, "masks": len(self.chooser.sample), "plain": self.describe(recipe, scored)}
        kept = "plain"
        if self.searches_weights or len(self.spaces) > 1:
            found, scored_found, about["searched"] = self.search()
            gain = compare(self.metric, scored_found.counts, scored.counts, groups=self.groups)
            about |= {"difference": gain.difference, "ci95": gain.ci95}
            if beyond_noise(gain, len(np.unique(self.groups))):
                kept, recipe, scored = "searched", found, scored_found
        self.say_blends(about, kept)
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
        count = len(self.pictures)
        held = track(self.pictures.held(held_out, recipe), count, f"ensemble {what}", self.console)
        return score_recipe(threshold_counts(held, count, self.pictures.fit), held_out.fold, self.metric)

    def describe(self, recipe: Recipe, scored: Scored) -> dict[str, Any]:
        """A recipe and its scores for ``weights.json``."""
        weights = [self.named(blend.weights) for blend in recipe.blends]
        *by_fold, final = [{"space": s, "weights": w} for s, w in zip(recipe.spaces, weights, strict=True)]
        return {**final, "cross_fitted": scored.cross_fitted, "optimistic": scored.tuned, "by_fold": by_fold}

    def named(self, weights: np.ndarray) -> dict[str, float]:
        """Weights by model, for reading."""
        return {name: round(float(weight), 6) for name, weight in zip(self.names, weights, strict=True)}

    def leave_one_out(self, kept: Recipe, scored: Scored, again: bool) -> list[dict[str, Any]]:
        """What each model adds to the others, cross-fitted; ``again``: the others' weights are searched anew."""
        rows = []
        for model, name in enumerate(self.names):
            chooser, held_out = self.chooser.without(model), self.held_out.without(model)
            if again:
                rest = chooser.searched(kept.spaces[-1:], None)[0]
            else:
                rest = chooser.fixed(kept.spaces[-1], np.delete(kept.blends[-1].weights, model))
            without = self.score(f"without {name}", held_out, rest)
            gain = compare(self.metric, scored.counts, without.counts, groups=self.groups)
            weight = round(float(kept.blends[-1].weights[model]), 6)
            rows.append({"model": name, "weight": weight, "without": gain.score})
            rows[-1] |= {"adds": gain.difference, "ci95": gain.ci95}
        table = right_aligned("what each model adds, cross-fitted", "model", "weight", "without it", "adds", "95%")
        for row in rows:
            numbers = f"{row['weight']:.3f}", f"{row['without']:.4f}", f"{row['adds']:+.4f}", span(row["ci95"])
            table.add_row(row["model"], *numbers)
        self.console.print(table)
        return rows

    def pairs(self) -> list[dict[str, Any]]:
        """How alike each two models are."""
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

    def say_blends(self, about: dict[str, Any], kept: str) -> None:
        """Print the recipes that were compared, and the verdict."""
        headings = "averaged as", *self.names, "cross-fitted", "optimistic"
        table = right_aligned(f"blends, by {self.metric_name}", "weights", *headings)
        for name in ("plain", "searched"):
            if name in about:
                row = about[name]
                scores = f"{row['cross_fitted']:.4f}", f"{row['optimistic']:.4f}"
                table.add_row(name, row["space"], *(f"{w:.3f}" for w in row["weights"].values()), *scores)
        self.console.print(table)
        if "difference" in about:
            verdict = "is kept" if kept == "searched" else "is not beyond noise: the plain blend is kept"
            self.console.print(
                f"ensemble: what was searched gains {about['difference']:+.4f}, cross-fitted "
                f"(95% interval {span(about['ci95'])}), which {verdict}"
            )


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
