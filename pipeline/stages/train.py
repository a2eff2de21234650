"""Train one model with one fold held out.

Reads   kfold/<experiment>/folds.csv, images.csv and its small copies; pseudo/fold<k>.csv if test images join
Writes  kfold/<experiment>/<model>/fold<k>/weights.safetensors   the network, and weights.safetensors.json
        .../history.csv    epoch, train_loss, val_loss, val_dice, learning_rate, images_per_second, waiting, seconds
        .../metrics.json   the last epoch's row, parameters, seconds
        .../last.ckpt      while training; an interrupted training resumes from it

    python -m pipeline train --experiment pipeline/experiments/demo.yaml --model unet --fold 0
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from pipeline.artifacts import Artifacts, need
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
)  # fmt: skip
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import EMPTY_STRATUM, CachePaths, open_small, read_folds, read_images
from pipeline.data.classes import image_ids, mask_ids, mirrored
from pipeline.data.pseudo import Chosen, Joined, SmallMasks
from pipeline.errors import DataError, some
from pipeline.learning.hardware import reserve_gpus
from pipeline.learning.networks import build_network, save_network
from pipeline.learning.training import FoldData, train_network
from pipeline.next_step import next_stage, say_next_stage
from pipeline.records import Record, check
from pipeline.rle import areas, read_csv


def train(
    experiment: ExperimentOption,
    model: ModelOption,
    fold: FoldOption,
    overrides: OverridesOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train one model with one fold held out.

    \b
    Example:
      python -m pipeline train --experiment pipeline/experiments/demo.yaml --model unet --fold 0
    """
    settings = load_experiment(experiment, overrides)
    # DDP starts this command again for every further device; those processes stay silent.
    console = make_console(quiet or rank_zero_only.rank > 0)
    chosen = check_model(settings, model)
    check_fold(settings, fold)
    artifacts = Artifacts.of(settings)
    paths = artifacts.fold(model, fold)
    data = _fold_data(settings, fold, chosen.training.devices)
    inputs = [artifacts.images, artifacts.folds, artifacts.cache]
    if settings.pseudo.experiment is not None:
        inputs.append(artifacts.pseudo(fold))
    if chosen.weights_file is not None:
        inputs.append(chosen.weights_file)
    started = time.perf_counter()
    reserve_gpus(chosen.training.devices)
    # Each model and fold starts from its own random decoder, and the same ones always from the same.
    seed = int(np.random.SeedSequence([settings.seed_of(model), fold]).generate_state(1)[0] % 2**31)
    network = build_network(chosen, seed, len(settings.data.class_names), settings.image.tiling.size)
    record = Record.of(settings, "train", inputs, model)
    origin = {"seed": seed, "settings": record.settings, "code": record.code, "inputs": record.inputs}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    console.print(
        f"train: {model} ({chosen.architecture}, {chosen.encoder}, weights: {chosen.weights or 'from scratch'}, "
        f"{parameters / 1e6:.1f} M parameters), fold {fold}: {len(data.training_rows)} images, "
        f"{len(data.held_out_rows)} held out, to {paths.folder}"
    )

    def say(text: str) -> None:
        console.print(f"  {model} fold {fold}, {text}")  # folds train at once, and may share a terminal

    paths.metrics.unlink(missing_ok=True)  # of a training before, whose history now goes
    last = train_network(network, data, chosen.training, seed, paths, origin, say)
    if last is None:
        return
    save_network(network, paths.weights, record)
    seconds = round(time.perf_counter() - started, 1)
    record.write(paths.metrics, paths.history, **last, parameters=parameters, total_seconds=seconds)
    paths.checkpoint.unlink(missing_ok=True)
    say_next_stage(console, next_stage("train", settings, model, fold), experiment, overrides)


def _fold_data(settings: Experiment, fold: int, devices: int) -> FoldData:
    artifacts = Artifacts.of(settings)
    check(artifacts.cache, artifacts.folder, "prepare")
    table = read_folds(artifacts, settings.folds.count)
    folds = table["fold"].to_numpy()
    cache = CachePaths(artifacts.cache)
    data = FoldData(
        open_small(cache.images("train"), settings.image.size, settings.image.fit),
        open_small(cache.masks, settings.image.size, settings.image.fit),
        table["stratum"].to_numpy() == EMPTY_STRATUM,
        np.flatnonzero(folds != fold),
        np.flatnonzero(folds == fold),
        settings.image.tiling,
        mirrored(settings.data.class_names),
    )
    trained, held_out = len(data.training_rows), len(data.held_out_rows)
    if trained < 2 * devices or held_out < devices:
        raise DataError(
            f"{artifacts.folds}: fold {fold} holds out {held_out} images and leaves {trained} to train on; at least "
            f"{devices} and {2 * devices} are needed"
        )
    return data if settings.pseudo.experiment is None else _with_pseudo(data, settings, fold)


def _with_pseudo(data: FoldData, settings: Experiment, fold: int) -> FoldData:
    """The fold's training images and, behind all images, the test images that were given masks for it."""
    artifacts = Artifacts.of(settings)
    classes = settings.data.class_names
    check(need(artifacts.pseudo(fold), "pseudo"), artifacts.folder, "pseudo")
    table = read_csv(artifacts.pseudo(fold), class_column=settings.data.class_column_of_csvs, own=True)
    test_ids = read_images(artifacts, "test")["image_id"].tolist()
    labelled = set(image_ids(table.ids, classes))
    rows = np.array([row for row, image_id in enumerate(test_ids) if image_id in labelled], np.int64)
    wanted = mask_ids([test_ids[row] for row in rows], classes)
    if set(wanted) != set(table.ids):
        differing = sorted(set(wanted) ^ set(table.ids))
        raise DataError(f"{artifacts.pseudo(fold)}: not of these test images, run 'pseudo' again: {some(differing)}")
    row_of = {each: row for row, each in enumerate(table.ids)}
    table = table.take([row_of[each] for each in wanted])
    path = CachePaths(artifacts.cache).images("test")
    images = open_small(path, settings.image.size, settings.image.fit, rows)
    return replace(
        data,
        images=Joined(data.images, Chosen(images, rows)),
        masks=Joined(data.masks, SmallMasks(table, len(classes), settings.image.size, settings.image.fit)),
        empty=np.concatenate([data.empty, areas(table).reshape(-1, len(classes)).sum(axis=1) == 0]),
        training_rows=np.concatenate([data.training_rows, len(data.images) + np.arange(len(rows))]),
    )


if __name__ == "__main__":
    run_command(train)
