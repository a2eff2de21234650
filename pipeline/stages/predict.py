"""Predict the held-out and the test images with one trained fold.

Reads   kfold/<experiment>/<model>/fold<k>/weights.safetensors, folds.csv, images.csv and its small copies
Writes  kfold/<experiment>/<model>/fold<k>/oof.zarr    uint8 (N, H, W), the held-out images' masks, 255 = 1.0
        kfold/<experiment>/<model>/fold<k>/test.zarr   uint8 (N, H, W), the test images' masks
        FILE with --preview                            a PNG of some held-out images: truth, prediction, difference
        where views are stored apart (``prediction.views``), each view's: oof@mirrored.zarr, test@mirrored.zarr, ...

    python -m pipeline predict --experiment pipeline/experiments/demo.yaml --model unet --fold 0
"""

from __future__ import annotations

import time
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
from pipeline.config import load_experiment
from pipeline.data.cache import CachePaths, open_small, read_folds, read_images
from pipeline.data.classes import mask_ids
from pipeline.data.probabilities import write_several
from pipeline.learning.hardware import reserve_gpus
from pipeline.learning.inference import Views, make_engines, predict_batches
from pipeline.learning.networks import load_network
from pipeline.members import member_name
from pipeline.next_step import next_stage, say_next_stage
from pipeline.records import Record

PreviewOption = Annotated[
    Path | None,
    typer.Option("--preview", metavar="FILE", help="Draw some held-out images: truth, prediction, difference (PNG)."),
]


def predict(
    experiment: ExperimentOption,
    model: ModelOption,
    fold: FoldOption,
    overrides: OverridesOption = None,
    preview: PreviewOption = None,
    quiet: QuietOption = False,
) -> None:
    """Predict the held-out images and the test images with one trained fold.

    \b
    Example:
      python -m pipeline predict --experiment pipeline/experiments/demo.yaml --model unet --fold 0
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    check_model(settings, model)
    check_fold(settings, fold)
    artifacts = Artifacts.of(settings)
    weights = artifacts.fold(model, fold).weights
    reserve_gpus(1)
    network = load_network(weights)
    folds = read_folds(artifacts)
    held_out = np.flatnonzero(folds["fold"] == fold)
    test_ids = read_images(artifacts, "test")["image_id"].tolist()
    cache = CachePaths(artifacts.cache)
    options = settings.prediction
    of_views = [artifacts.fold(member_name(model, view), fold) for view in options.stored_views]
    jobs = (
        ([each.oof for each in of_views], "train", held_out, folds["image_id"].iloc[held_out].tolist()),
        ([each.test for each in of_views], "test", np.arange(len(test_ids)), test_ids),
    )
    count = len(held_out) + len(test_ids)
    classes = settings.data.class_names
    views = Views.of(settings)
    apart = f" in {len(of_views)} views apart" if views.separate else ""
    console.print(
        f"predict: {model} fold {fold}: {len(held_out)} held-out and {len(test_ids)} test images{apart}, "
        f"to {weights.parent}"
    )
    train_images = open_small(cache.images("train"))
    engines = make_engines(network, train_images, held_out, count=count, engine=options.engine, views=views)
    name, difference = engines[0].name, max(engine.difference for engine in engines)
    inputs = [weights, artifacts.images, artifacts.folds]
    record = Record.of(settings, "predict", inputs, model)
    used = {"engine": name, "difference": difference}
    started = time.perf_counter()
    for paths, subset, rows, image_ids in jobs:
        images = open_small(cache.images(subset))
        batches = predict_batches(engines, images, rows, batch_size=options.batch_size, views=views)
        maps = track(batches, -(-len(rows) // options.batch_size), f"predict {subset}", console)
        write_several(paths, mask_ids(image_ids, classes), images.shape[1:3], maps, record, **used)
    rate = count / (time.perf_counter() - started)
    exactness = f", probabilities within {difference:.4f} of torch fp32" if difference else ""
    console.print(f"  {model} fold {fold}, {rate:.1f} images/s with {name}{exactness}")
    if preview is not None:
        from pipeline.report.preview import draw_preview  # with matplotlib, which predictions do without

        draw_preview(settings, model, fold, preview)
        console.print(f"  {model} fold {fold}, preview in {preview}")
    say_next_stage(console, next_stage("predict", settings), experiment, overrides)


if __name__ == "__main__":
    run_command(predict)
