"""How long a part of an experiment's folds and views takes, what the part costs, and what fits a time limit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.artifacts import Artifacts
from pipeline.config import Experiment, PredictionSettings, data_root
from pipeline.data.cache import CachePaths, open_small, read_folds, read_images
from pipeline.data.classes import mask_rows
from pipeline.data.held_out import HeldOutMasks, spread
from pipeline.data.image_range import reading_of
from pipeline.data.images import read_image
from pipeline.errors import DataError
from pipeline.geometry import scaled_size
from pipeline.learning.inference import Views
from pipeline.learning.predictor import Predictor, to_network_size
from pipeline.metrics import Comparison, Counts
from pipeline.rle import RleTable, area, areas, dice, intersection

START = 1.0  # minutes to start Python, install packages and compile
HELD_OUT = 200  # images of the first fold on which fewer views are priced


@dataclass(frozen=True)
class Plan:
    """How much of an experiment predicts."""

    folds: int
    """So many of each model's, the first ones."""
    scales: tuple[float, ...]
    flip: bool

    @classmethod
    def whole(cls, settings: Experiment) -> Plan:
        """All of it, as for the submission."""
        return cls(settings.folds.count, settings.prediction.scales, settings.prediction.flip)

    @property
    def views(self) -> str:
        """In words."""
        return ", ".join(f"{scale:g}" for scale in self.scales) + " and mirrored" * self.flip

    def __str__(self) -> str:
        return f"{self.folds} fold{'s' if self.folds > 1 else ''}, views {self.views}"

    def options(self, settings: Experiment) -> list[str]:
        """What the command ``segment`` is to be told; nothing for the whole."""
        options = [] if self.folds == settings.folds.count else ["--folds", str(self.folds)]
        for name in ("scales", "flip"):
            if getattr(self, name) != getattr(settings.prediction, name):
                options += ["--set", f"prediction.{name}={json.dumps(getattr(self, name))}"]
        return options


def possible_plans(settings: Experiment) -> list[Plan]:
    """From the whole, the first, downwards: without mirrored views, of one size, and with fewer folds of each."""
    return [
        replace(views, folds=folds)
        for views in _possible_views(Plan.whole(settings), settings.prediction)
        for folds in range(settings.folds.count, 0, -1)
    ]


def _possible_views(whole: Plan, prediction: PredictionSettings) -> list[Plan]:
    if prediction.views == "separate":  # each has a weight of its own, which the others' settings rest on
        return [whole]
    one = (min(whole.scales, key=lambda scale: abs(scale - 1)),)
    sides, sizes = dict.fromkeys((whole.flip, False)), dict.fromkeys((whole.scales, one))
    return [replace(whole, scales=scales, flip=flip) for scales in sizes for flip in sides]


@dataclass(frozen=True)
class Estimate:
    """What a plan takes and costs."""

    plan: Plan
    minutes: float
    likeness: float
    """Mean Dice of its masks with those of the whole, on some test images."""
    price: Comparison | None
    """Of its views against all of them, out of fold, by one network of each model; None for all of them."""


def choose_plan(settings: Experiment, count: int, limit: float, console: Console) -> Plan:
    """The plan that fits the limit with masks as near to the whole's as can be; prints what all of them cost.

    Args:
        count: images of the hidden test set.
        limit: minutes.

    Raises:
        DataError: none fits.
    """
    plans = possible_plans(settings)
    whole = plans[0]
    console.print(f"bundle: timing {whole}, on some test images")
    trial = Trial.run(settings, count)
    if trial.minutes(whole, count) <= limit:
        console.print(f"bundle: {whole}: about {trial.minutes(whole, count):.1f} minutes for {count} images")
        return whole
    of_one_fold = [replace(plan, folds=1) for plan in plans if plan.folds == whole.folds]
    prices = price_views(trial.predictor, of_one_fold) if len(of_one_fold) > 1 else {}
    estimates = [
        Estimate(plan, trial.minutes(plan, count), trial.likeness(plan), prices.get(plan.views)) for plan in plans
    ]
    console.print(estimates_table(estimates, settings.tuning.metric, count))
    return best_within(estimates, limit).plan


def best_within(estimates: Sequence[Estimate], limit: float) -> Estimate:
    """Of those that take no longer than the limit the one whose masks are most like the whole's.

    Raises:
        DataError: there is none.
    """
    fitting = [each for each in estimates if each.minutes <= limit]
    if not fitting:
        fastest = min(estimates, key=lambda each: each.minutes)
        raise DataError(
            f"--time-limit {limit:g}: the fastest, {fastest.plan}, takes about {fastest.minutes:.1f} minutes"
        )
    return max(fitting, key=lambda each: each.likeness)


def estimates_table(estimates: Sequence[Estimate], metric: str, count: int) -> Table:
    """A row for each plan."""
    table = Table(title=f"what fewer folds and views take and cost, {count} images", title_justify="left")
    table.add_column("folds", no_wrap=True)
    table.add_column("views", no_wrap=True)
    for heading in ("minutes", f"{metric} of the views*", "95%", "masks' Dice**"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in estimates:
        price = ("", "")
        if each.price is not None:
            price = (f"{each.price.difference:+.4f}", "{:+.4f} to {:+.4f}".format(*each.price.ci95))
        table.add_row(str(each.plan.folds), each.plan.views, f"{each.minutes:.1f}", *price, f"{each.likeness:.4f}")
    table.caption = (
        "* against all views, out of fold, by one network of each model; what fewer folds cost cannot be told out of "
        "fold, where each image has one network\n** with the masks of all folds and views, on test images"
    )
    table.caption_justify = "left"
    return table


def first_photographs(settings: Experiment) -> dict[str, Path]:
    """Test images by id, a batch of them, as `predict` has had them together.

    Raises:
        DataError: there are none.
    """
    images = read_images(Artifacts.of(settings), "test").head(settings.prediction.batch_size)
    if images.empty:
        raise DataError(f"the experiment {settings.name!r} has no test images to try the bundle on")
    root = data_root(settings.data)
    return {image_id: root / path for image_id, path in zip(images["image_id"], images["path"], strict=True)}


@dataclass(frozen=True)
class Trial:
    """All folds and views at work on some test images, each apart, so that any part of them can be told from it."""

    predictor: Predictor
    """Whose views are apart."""
    maps: list[list[np.ndarray]]
    """Of ``Predictor.maps``."""
    sizes: list[tuple[int, int]]
    """Height and width of the images."""
    loading: float
    """Seconds to load all networks."""
    network: float
    """Seconds an image in all networks."""
    rest: float
    """Seconds an image for decoding and post-processing."""

    @classmethod
    def run(cls, settings: Experiment, count: int) -> Trial:
        """Decode, load, predict and post-process as for ``count`` images, and take the time of each."""
        read = partial(read_image, at_least=settings.image.size, reading=reading_of(settings))
        with ThreadPoolExecutor() as pool:
            photographs, decoding = timed(lambda: list(pool.map(read, first_photographs(settings).values())))
        small, shrinking = timed(lambda: np.stack([to_network_size(each, settings) for each in photographs]))
        predictor, loading = timed(lambda: Predictor.load(settings, small, count))
        apart = replace(predictor, views=replace(predictor.views, separate=True))
        sizes = [(each.height, each.width) for each in photographs]
        for _ in range(2):  # a first call is slower
            maps, network = timed(partial(apart.maps, small))
            _, finishing = timed(partial(masks_by, Plan.whole(settings), apart, maps, sizes))
        rest = decoding + shrinking + finishing
        return cls(apart, maps, sizes, loading, network / len(sizes), rest / len(sizes))

    def minutes(self, plan: Plan, count: int) -> float:
        """What the notebook takes for so many images on a machine like this one."""
        settings = self.predictor.settings
        pixels = np.array([height * width for (height, width), _ in copies(settings)])
        folds, views = plan.folds / settings.folds.count, pixels[chosen_views(plan, settings)].sum() / pixels.sum()
        return START + (folds * self.loading + count * (self.rest + folds * views * self.network)) / 60

    @cached_property
    def whole(self) -> list[np.ndarray]:
        """The masks by all folds and views."""
        return masks_by(Plan.whole(self.predictor.settings), self.predictor, self.maps, self.sizes)

    def likeness(self, plan: Plan) -> float:
        """Mean Dice of a plan's masks with those of the whole."""
        masks = masks_by(plan, self.predictor, self.maps, self.sizes)
        return float(np.mean([dice(*pair) for pair in zip(masks, self.whole, strict=True)]))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and the seconds that it takes."""
    started = time.perf_counter()
    return function(), time.perf_counter() - started


def copies(settings: Experiment) -> list[tuple[tuple[int, int], bool]]:
    """Size of each view of an image and whether it is mirrored, in the order in which views are predicted."""
    sides = (False, True) if settings.prediction.flip else (False,)
    return [(size, mirrored) for size in Views.of(settings).tilings(settings.image.size) for mirrored in sides]


def chosen_views(plan: Plan, settings: Experiment) -> list[int]:
    """The numbers of a plan's views among all ``copies``."""
    sizes = {scaled_size(settings.image.size, scale) for scale in plan.scales}
    return [
        number for number, (size, mirrored) in enumerate(copies(settings)) if size in sizes and mirrored <= plan.flip
    ]


def masks_by(
    plan: Plan, predictor: Predictor, maps: Sequence[Sequence[np.ndarray]], sizes: Sequence[tuple[int, int]]
) -> list[np.ndarray]:
    """Edges of the masks of some images, each image's classes next to each other, by a part of what was predicted.

    Args:
        maps: of ``Predictor.maps``, views apart.
        sizes: height and width of each image.
    """
    settings = predictor.settings
    views = chosen_views(plan, settings)
    members = [[view] for view in views] if settings.prediction.views == "separate" else [views]
    of_members = [
        [np.rint(of_fold[member].mean(axis=0)).astype(np.uint8) for of_fold in of_model[: plan.folds]]
        for of_model in maps
        for member in members
    ]
    return [edges for of_image in predictor.edges(of_members, sizes) for edges in of_image]


def price_views(predictor: Predictor, plans: Sequence[Plan]) -> dict[str, Comparison]:
    """What fewer views than all cost on held-out images of the first fold, by that fold's networks.

    Args:
        predictor: with views apart.
        plans: the whole first, and what is to be compared with it; of one fold each.

    Returns:
        By ``Plan.views``, of all but the first.
    """
    settings = predictor.settings
    artifacts, classes = Artifacts.of(settings), settings.data.class_names
    rows = spread(np.flatnonzero(read_folds(artifacts)["fold"] == 0), HELD_OUT)
    masks = HeldOutMasks.read(artifacts, settings.image.fit, classes).take(mask_rows(rows, len(classes)))
    path = CachePaths(artifacts.cache).images("train")
    images = open_small(path, settings.image.size, settings.image.fit, rows)
    sizes = masks.sizes[:: len(classes)]
    first_fold = replace(predictor, engines=[of_model[:1] for of_model in predictor.engines])
    found: list[list[np.ndarray]] = [[] for _ in plans]
    for start in range(0, len(rows), settings.prediction.batch_size):
        batch = slice(start, start + settings.prediction.batch_size)
        maps = first_fold.maps(images[rows[batch]])
        for plan, edges in zip(plans, found, strict=True):
            edges += masks_by(plan, predictor, maps, sizes[batch])
    whole, *others = (count_pixels(edges, masks.truth) for edges in found)
    compared = (settings.tuning.objective.compare(each, whole, masks.group) for each in others)
    return {plan.views: price for plan, price in zip(plans[1:], compared, strict=True)}


def count_pixels(edges: Sequence[np.ndarray], truth: RleTable) -> Counts:
    """Of masks against the true ones, row by row."""
    both = np.array([intersection(mine, truth[row]) for row, mine in enumerate(edges)])
    return Counts(both, np.array([area(mine) for mine in edges]), areas(truth))
