"""Assign images to folds, keeping groups and duplicates together.

Reads   kfold/<experiment>/images.csv and its small copies
Writes  kfold/<experiment>/folds.csv   image_id, fold, group, stratum; its record names the duplicates

    python -m pipeline split --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.artifacts import Artifacts
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command
from pipeline.config import FoldSettings, load_experiment
from pipeline.data.cache import EMPTY_STRATUM, CachePaths, open_small, read_images, read_true_masks
from pipeline.data.duplicates import duplicate_pairs
from pipeline.errors import DataError
from pipeline.next_step import next_stage, say_next_stage
from pipeline.records import Record, recorded
from pipeline.rle import areas


def split(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Assign every training image to a fold, keeping groups and duplicates together.

    \b
    Example:
      python -m pipeline split --experiment pipeline/experiments/demo.yaml --set folds.count=5
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    images = read_images(artifacts, "train")
    classes = settings.data.class_names
    masks = read_true_masks(artifacts, images["image_id"].tolist(), classes)
    covered = areas(masks).reshape(-1, len(classes)).sum(axis=1)
    share = covered / (images["height"] * images["width"]).to_numpy()
    small = open_small(CachePaths(artifacts.cache).images("train"), settings.image.size, settings.image.fit)
    pairs = duplicate_pairs(images, small, settings.folds, settings.image.fit)
    folds = assign_folds(images, share, pairs, settings.folds)
    check_folds(folds, images, pairs)
    found = images["image_id"].to_numpy(object)[pairs].tolist()
    record = Record.of(settings, "split", [artifacts.images, artifacts.cache])
    with recorded(artifacts.folds, record, duplicates=found) as path:
        folds.to_csv(path, index=False, lineterminator="\n")
    _print_folds(folds, share, len(pairs), console)
    say_next_stage(console, next_stage("split", settings), experiment, overrides)


def assign_folds(images: pd.DataFrame, share: np.ndarray, pairs: np.ndarray, settings: FoldSettings) -> pd.DataFrame:
    """A fold for every image: a pure function of its arguments.

    Args:
        images: training rows of ``images.csv``.
        share: float (N,), the part of each image that its masks cover.
        pairs: int (P, 2), row numbers of images that are duplicates of each other.
        settings: number of folds and of area bins, and the seed of the shuffle.

    Returns:
        Columns image_id, fold, group (connected images share one), stratum (0 = empty mask).

    Raises:
        DataError: fewer groups or masks than folds, or a fold whose images are all empty.
    """
    group = joined_groups(images["group"].tolist(), pairs)
    found, filled = len(np.unique(group)), int(np.count_nonzero(share > 0))
    if found < settings.count:
        raise DataError(
            f"{found} groups of images cannot fill {settings.count} folds: set folds.count to {found} or less, "
            "or give more groups"
        )
    if filled < settings.count:
        raise DataError(
            f"{filled} images with a mask cannot fill {settings.count} folds: set folds.count lower, "
            "or give more labelled images"
        )
    # A bin needs an image for every fold.
    stratum = area_strata(share, min(settings.area_bins, filled // settings.count))
    splitter = StratifiedGroupKFold(settings.count, shuffle=True, random_state=settings.seed)
    fold = np.full(len(images), -1)
    with warnings.catch_warnings():
        # A stratum with fewer images than folds cannot be in every fold; the printed table shows it.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(share, stratum, group)):
            fold[held_out] = number
    blank = [number for number in range(settings.count) if not np.any(share[fold == number] > 0)]
    if blank:
        raise DataError(
            f"fold {blank[0]} has no image with a mask: set folds.count lower, or give more labelled groups"
        )
    return pd.DataFrame({"image_id": images["image_id"], "fold": fold, "group": group, "stratum": stratum})


def joined_groups(groups: list[str], pairs: np.ndarray) -> np.ndarray:
    """Connected components of "same given group" and "duplicates", as int (N,) in order of first appearance."""
    count = len(groups)
    first_of: dict[str, int] = {}
    links = [(first_of.setdefault(name, row), row) for row, name in enumerate(groups) if name]
    ends = np.concatenate([np.array(links, np.int64).reshape(-1, 2), pairs.reshape(-1, 2)])
    graph = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def area_strata(share: np.ndarray, bins: int) -> np.ndarray:
    """Bins of equal count by mask area; empty masks are a bin of their own."""
    stratum = np.full(len(share), EMPTY_STRATUM)
    filled = share > 0
    if filled.any():
        limits = np.quantile(share[filled], np.linspace(0, 1, bins + 1)[1:-1])
        stratum[filled] = EMPTY_STRATUM + 1 + np.searchsorted(limits, share[filled], side="right")
    return stratum


def check_folds(folds: pd.DataFrame, images: pd.DataFrame, pairs: np.ndarray) -> None:
    """Refuse an assignment that leaks.

    Raises:
        DataError: a given group or a pair of duplicates is in two folds.
    """
    fold = folds["fold"].to_numpy()
    named = images["group"] != ""
    spread = pd.Series(fold[named]).groupby(images.loc[named, "group"].to_numpy()).nunique()
    if (spread > 1).any():
        raise DataError(f"the group {spread.index[spread > 1][0]!r} is in {spread.max()} folds")
    torn = pairs[fold[pairs[:, 0]] != fold[pairs[:, 1]]] if len(pairs) else pairs
    if len(torn):
        first, second = images["image_id"].iloc[torn[0]]
        raise DataError(f"the duplicates {first} and {second} are in two folds")


def _print_folds(folds: pd.DataFrame, share: np.ndarray, duplicates: int, console: Console) -> None:
    table = Table(title=f"split: {len(folds)} images, {duplicates} pairs of duplicates", title_justify="left")
    for column in ("fold", "images", "groups", "empty", "mean area"):
        table.add_column(column, justify="right")
    for number, rows in folds.groupby("fold").indices.items():
        groups = folds["group"].iloc[rows].nunique()
        empty = int((share[rows] == 0).sum())
        table.add_row(str(number), str(len(rows)), str(groups), str(empty), f"{share[rows].mean():.1%}")
    console.print(table)


if __name__ == "__main__":
    run_command(split)
