"""Two finished runs on the same images, made without training a network."""

import itertools
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from pipeline.artifacts import Artifacts
from pipeline.config import UNNAMED, load_experiment
from pipeline.data.cache import read_folds, read_images, read_true_masks
from pipeline.data.probabilities import write_probabilities
from pipeline.geometry import shrink
from pipeline.report.against import open_other
from pipeline.report.finished import FinishedRun
from pipeline.report.scores import score_masks
from pipeline.rle import RleTable, from_edges
from pipeline.stages.prepare import prepare
from pipeline.stages.split import split
from pipeline.stages.tune import tune

SIZE = (64, 64)
DATA = {"source": "generated", "people": 8, "photos": 3, "test_people": 2, "heights": [64, 90], "widths": [64, 90]}
SEARCH = {"search": "threshold", "components": False}


def write_maps(experiment, blur, seed, level):
    """Out-of-fold maps like those of a network that is wrong near the outline and now and then altogether.

    Args:
        level: of what is inside: below 128 one half is a bad threshold.
    """
    artifacts = Artifacts.of(experiment)
    images, fold = read_images(artifacts, "train"), read_folds(artifacts)["fold"].to_numpy()
    truth = read_true_masks(artifacts, images["image_id"].tolist(), [UNNAMED])
    rng = np.random.default_rng(seed)
    maps = np.empty((len(images), *SIZE), np.uint8)
    for row, size in enumerate(zip(images["height"].tolist(), images["width"].tolist(), strict=True)):
        mask = from_edges(truth[row], size) * np.uint8(level)
        small = shrink(np.roll(mask, int(rng.integers(0, blur)), 0), SIZE, "stretch", height=size[0], width=size[1])
        maps[row] = small + rng.integers(0, 60, SIZE)
    for number in range(experiment.folds.count):
        paths = artifacts.fold("unet", number)
        ids = images["image_id"][fold == number].tolist()
        write_probabilities(paths.oof, ids, SIZE, [maps[fold == number]])
        epochs = np.arange(1, 5)
        history = {"epoch": epochs, "train_loss": 0.5 / epochs, "val_loss": 0.6 / epochs, "val_dice": 1 - 0.3 / epochs}
        pd.DataFrame(history).to_csv(paths.history, index=False)
        last = {"epoch": 4, "val_dice": 0.925, "images_per_second": 51.2, "waiting": 0.031}
        paths.metrics.write_text(json.dumps({**last, "parameters": 3_579_665, "total_seconds": 90.0 + number}))
    write_probabilities(artifacts.ensemble_oof, images["image_id"].tolist(), SIZE, [maps])


def finish(file, blur, seed, level):
    """From the experiment's file to tuning.json."""
    for stage in (prepare, split):
        stage(file, quiet=True)
    experiment = load_experiment(file)
    write_maps(experiment, blur, seed, level)
    tune(file, quiet=True)
    Artifacts.of(experiment).settings.write_text(yaml.safe_dump(experiment.model_dump(mode="json")))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, write_experiment):
    """The runs ``tiny``, tuned, and with larger errors ``other``, submitted at one half: their files and artifacts."""
    folder = tmp_path_factory.mktemp("report")
    files = {}
    for name, blur, seed, level in (("tiny", 6, 0, 110), ("other", 14, 1, 190)):
        (folder / name).mkdir()
        files[name] = write_experiment(
            folder / name,
            name=name,
            workspace=str(folder),
            data={**DATA, "root": str(folder / "data")},
            folds={"count": 3},
            tuning=SEARCH,
        )
        finish(files[name], blur, seed, level)
    return SimpleNamespace(files=files, artifacts={name: Artifacts(folder, name) for name in files}, folder=folder)


@pytest.fixture(scope="session")
def run(finished):
    return FinishedRun.read(load_experiment(finished.files["tiny"]))


@pytest.fixture(scope="session")
def scores(run):
    return score_masks(run, Console(quiet=True))


@pytest.fixture(scope="session")
def other(run):
    return open_other(run, "other")


@pytest.fixture(scope="session")
def other_scores(other):
    return score_masks(other, Console(quiet=True))


class Repeated:
    """Maps of a longer run, made as they are read."""

    def __init__(self, maps, count):
        self.maps, self.count = maps[:], count

    def __getitem__(self, rows):
        return self.maps[np.arange(self.count)[rows] % len(self.maps)]


@pytest.fixture(scope="session")
def enlarge():
    """``enlarge(run, ids)``: as many masks as ids, the run's own over and over."""

    def call(run, ids):
        rows = np.arange(len(ids)) % len(run.masks)
        images = run.images.iloc[rows].reset_index(drop=True).assign(image_id=ids)
        folds = run.folds.iloc[rows].reset_index(drop=True).assign(image_id=ids)
        masks = run.masks.iloc[rows].reset_index(drop=True).assign(image_id=ids, mask_id=ids)
        table = run.truth
        lengths = np.diff(table.offsets)[rows]
        edges = np.concatenate([table[row] for row in rows])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        truth = RleTable(list(ids), offsets, edges, table.heights[rows], table.widths[rows])
        pairs = [list(pair) for pair in itertools.pairwise(ids)]
        maps = Repeated(run.maps, len(ids))
        held_out = replace(
            run.held_out, table=masks, truth=truth, fold=run.held_out.fold[rows], group=run.held_out.group[rows]
        )
        changes = {"images": images, "folds": folds, "held_out": held_out, "masks": masks, "maps": maps}
        return replace(run, **changes, duplicates=pairs)

    return call
