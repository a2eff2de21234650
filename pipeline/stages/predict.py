"""Predict the held-out and the test images with one trained fold.

Reads   kfold/<experiment>/<model>/fold<k>/weights.safetensors, folds.csv, images.csv and its small copies
Writes  kfold/<experiment>/<model>/fold<k>/oof.zarr    uint8 (N, H, W), the held-out images' masks, 255 = 1.0
        kfold/<experiment>/<model>/fold<k>/test.zarr   uint8 (N, H, W), the test images' masks
        FILE with --preview                            a PNG of some held-out images: truth, prediction, difference
        where views are stored apart (``prediction.views``), each view's: oof@mirrored.zarr, test@mirrored.zarr, ...
        where test images are divided (``prediction.parts``), each part's: test-1of4.zarr, test-2of4.zarr, ...

    python -m pipeline predict --experiment pipeline/experiments/demo.yaml --model unet --fold 0
    python -m pipeline predict --experiment mine.yaml --set prediction.parts=4 --model unet --fold 0 --part 2/4
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline.artifacts import Artifacts
from pipeline.command import (
    ExperimentOption,
    FoldOption,
    ModelOption,
    OverridesOption,
    QuietOption,
    check_fold,
    check_model,
    make_console,
    run_command,
    track,
)  # fmt: skip
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import CachePaths, open_small, read_folds, read_images
from pipeline.data.classes import mask_ids
from pipeline.data.probabilities import part_rows, write_several
from pipeline.errors import DataError
from pipeline.learning.hardware import reserve_gpus
from pipeline.learning.inference import Views, make_engines, predict_batches
from pipeline.learning.networks import load_network
from pipeline.members import member_name
from pipeline.next_step import next_stage, say_next_stage
from pipeline.records import Record, check

PreviewOption = Annotated[
    Path | None,
    typer.Option("--preview", metavar="FILE", help="Draw some held-out images: truth, prediction, difference (PNG)."),
]


def predict(
    experiment: ExperimentOption,
    model: ModelOption,
    fold: FoldOption,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="One of the parts of the test images, the first with what is held out."),
    ] = None,
    overrides: OverridesOption = None,
    preview: PreviewOption = None,
    quiet: QuietOption = False,
) -> None:
    """Predict the held-out images and the test images with one trained fold.

    \b
    Examples:
      python -m pipeline predict --experiment pipeline/experiments/demo.yaml --model unet --fold 0
      python -m pipeline predict --experiment mine.yaml --set prediction.parts=4 --model unet --fold 0 --part 2/4
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    chosen = check_model(settings, model)
    check_fold(settings, fold)
    parts = chosen_parts(part, settings.prediction.parts)
    artifacts = Artifacts.of(settings)
    check(artifacts.cache, artifacts.folder, "prepare")
    all_jobs = jobs_of(settings, model, fold)
    jobs = [job for job in all_jobs if job.part in parts]
    weights = artifacts.fold(model, fold).weights
    check(weights, artifacts.folder, f"train --model {model} --fold {fold}")
    reserve_gpus(1)
    network = load_network(weights)
    options, views = settings.prediction, Views.of(settings)
    images_of = {subset: sum(len(job.rows) for job in jobs if job.subset == subset) for subset in ("train", "test")}
    console.print(
        f"predict: {model} fold {fold}{f', part {part}' if part and options.parts > 1 else ''}: "
        f"{images_of['train']} held-out and {images_of['test']} test images"
        f"{f' in {len(options.stored_views)} views apart' if views.separate else ''}, to {weights.parent}"
    )
    cache = CachePaths(artifacts.cache)
    size, fit, held_out = settings.image.size, settings.image.fit, all_jobs[0].rows
    train_images = open_small(cache.images("train"), size, fit, held_out)
    count = sum(len(job.rows) for job in all_jobs)  # so that all parts take the same engine
    engines = make_engines(network, train_images, held_out, count=count, options=options, views=views)
    largest = max(engines, key=lambda engine: engine.difference or 0)
    name, difference = largest.name, largest.difference
    inputs = [weights, artifacts.images, artifacts.folds, artifacts.cache]
    record = Record.of(settings, "predict", inputs, model)
    started = time.perf_counter()
    for job in jobs:
        images = train_images if job.subset == "train" else open_small(cache.images("test"), size, fit, job.rows)
        batches = predict_batches(
            engines, images, job.rows, batch_size=options.batch_size, workers=chosen.training.workers, views=views
        )
        maps = track(batches, -(-len(job.rows) // options.batch_size), f"predict {job.subset}", console)
        urls = [artifacts.url_of(path) for path in job.paths]
        write_several(job.paths, job.ids, images.shape[1:3], maps, record, urls, engine=name, difference=difference)
    rate = sum(len(job.rows) for job in jobs) / (time.perf_counter() - started)
    exactness = (
        f", probabilities {largest.mean_difference:.5f} from torch fp32's on average, {difference:.4f} at most"
        if difference
        else ""
    )
    console.print(f"  {model} fold {fold}, {rate:.1f} images/s with {name}{exactness}")
    if preview is not None:
        from pipeline.report.preview import draw_preview  # with matplotlib, which predictions do without

        draw_preview(settings, model, fold, preview)
        console.print(f"  {model} fold {fold}, preview in {preview}")
    say_next_stage(console, next_stage("predict", settings), experiment, overrides)


@dataclass(frozen=True)
class Job:
    """Images to predict, and the arrays of their maps."""

    subset: str
    part: int
    """The part that it is done with, counted from 1."""
    rows: np.ndarray
    """int (N,), of the subset's small copies."""
    ids: list[str]
    """Of the masks, N * C."""
    paths: list[Path]
    """Of each view that is stored."""


def jobs_of(settings: Experiment, model: str, fold: int) -> list[Job]:
    """The images that the fold holds out, and each part of the test images."""
    artifacts, options, classes = Artifacts.of(settings), settings.prediction, settings.data.class_names
    of_views = [artifacts.fold(member_name(model, view), fold) for view in options.stored_views]
    folds, test_ids = read_folds(artifacts, settings.folds.count), read_images(artifacts, "test")["image_id"]
    held_out = np.flatnonzero(folds["fold"] == fold)
    ids = mask_ids(folds["image_id"].iloc[held_out], classes)
    jobs = [Job("train", 1, held_out, ids, [each.oof for each in of_views])]
    for part, rows in enumerate(part_rows(len(test_ids), options.parts, options.batch_size), 1):
        ids = mask_ids(test_ids.iloc[rows], classes)
        jobs.append(Job("test", part, rows, ids, [each.test(part) for each in of_views]))
    return jobs


def chosen_parts(text: str | None, count: int) -> list[int]:
    """Numbers of the parts to predict, which count from 1.

    Args:
        text: one of them, such as ``2/4``; None: all.
        count: those that the experiment has.

    Raises:
        typer.BadParameter: the text names no part of anything.
        DataError: it names one of another number of parts.
    """
    if text is None:
        return list(range(1, count + 1))
    found = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise typer.BadParameter(f"{text!r} is none of 1/4, 2/4, 3/4, 4/4 or the like", param_hint="--part")
    if int(found[2]) != count:
        raise DataError(f"--part {text}: the experiment has prediction.parts={count}")
    return [int(found[1])]


if __name__ == "__main__":
    run_command(predict)
