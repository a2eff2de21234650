"""Find the best threshold on the out-of-fold maps, exactly.

Reads   kfold/<experiment>/ensemble/oof.zarr, every model's oof.zarr, images.csv, folds.csv
Writes  kfold/<experiment>/tuning.json   threshold of the ensemble; for it and for each model: Dice per fold,
                                         tuned (optimistic), cross-fitted, and the whole curve; where test images
                                         were pseudo-labelled, the gain over the experiment that labelled them

A threshold is a byte t: a pixel is foreground where the stored probability, restored to the image's size,
is >= t. The cross-fitted score takes for each fold the threshold that is best on the other folds.

    python -m pipeline tune --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from pipeline.artifacts import Artifacts, fingerprint, versions, write_json
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import one_row_a_mask, read_folds, read_images, read_true_masks
from pipeline.data.oof import check_ids, read_out_of_fold
from pipeline.data.probabilities import CHUNK, read_probabilities
from pipeline.data.pseudo import check_same_folds, labelling_experiment
from pipeline.metrics import METRICS, Counts, compare
from pipeline.postprocess import HALF, Held, threshold_counts, tune_threshold
from pipeline.rle import RleTable


def tune(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Find the best threshold on the out-of-fold maps, at original resolution.

    \b
    Example:
      python -m pipeline tune --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    classes = settings.data.class_names
    images = read_images(artifacts, "train")
    masks = one_row_a_mask(images, classes)
    folds = np.repeat(read_folds(artifacts)["fold"].to_numpy(), len(classes))
    truth = read_true_masks(artifacts, images["image_id"].tolist(), classes)
    blend = read_probabilities(artifacts.ensemble_oof, "ensemble")
    check_ids(blend, masks["mask_id"].tolist(), artifacts.ensemble_oof)
    sets: dict[str, Any] = {
        name: read_out_of_fold(artifacts, name, settings.folds.count, classes) for name in settings.models
    }
    sets["ensemble"] = blend.maps
    tunings, untuned = {}, {}
    for name, maps in sets.items():
        held = track(held_masks(maps, masks, truth), len(masks), f"tune {name}", console)
        counts = threshold_counts(held, len(masks), settings.image.fit)
        tunings[name], untuned[name] = tune_threshold(counts, folds), at_half(counts)
        _say(name, tunings[name], console)
    against = None
    if settings.pseudo.experiment is not None:
        against = compare_with_source(settings, untuned["ensemble"], masks, truth)
        console.print(
            f"tune: ensemble against {settings.pseudo.experiment}, at 128/255: Dice {against['difference']:+.4f} "
            f"(95% interval {against['ci95'][0]:+.4f} to {against['ci95'][1]:+.4f}), {against['better']:.0%} of the "
            "images better: that is what the pseudo-labels are worth"
        )
    best = tunings["ensemble"]
    content = {
        "metric": "dice",
        "threshold": best.threshold,
        "rule": "foreground where the stored byte, restored to the image's size, is >= threshold",
        "against": against,
        "sets": {name: asdict(tuning) for name, tuning in tunings.items()},
        "inputs": {
            path.name: fingerprint(path) for path in (artifacts.images, artifacts.folds, artifacts.ensemble_oof)
        },
        "versions": versions(),
    }
    write_json(artifacts.tuning, content)


def at_half(counts: Counts) -> Counts:
    """Of counts at all thresholds those at one half."""
    return Counts(counts.intersection[:, HALF], counts.predicted[:, HALF], counts.true[:, 0])


def compare_with_source(settings: Experiment, counts: Counts, masks: pd.DataFrame, truth: RleTable) -> dict[str, Any]:
    """This experiment's out-of-fold Dice against that of the one whose masks it was trained on, image by image.

    Images that belong together are drawn together by the bootstrap.
    """
    artifacts = Artifacts.of(settings)
    source, source_artifacts = labelling_experiment(settings)
    check_same_folds(artifacts, source_artifacts)
    stored = read_probabilities(source_artifacts.ensemble_oof, f"run of {source.name}")
    check_ids(stored, masks["mask_id"].tolist(), source_artifacts.ensemble_oof)
    held = held_masks(stored.maps, masks, truth)
    other = at_half(threshold_counts(held, len(masks), source.image.fit))
    groups = np.repeat(read_folds(artifacts)["group"].to_numpy(), len(settings.data.class_names))
    return {"experiment": source.name, **asdict(compare(METRICS["dice"], counts, other, groups=groups))}


def held_masks(maps: Any, masks: pd.DataFrame, truth: RleTable) -> Iterator[Held]:
    """Maps with sizes and true masks, a chunk of maps in memory at a time."""
    heights, widths = masks["height"].tolist(), masks["width"].tolist()
    for start in range(0, len(masks), CHUNK):
        for row, prob_hw in enumerate(maps[start : min(start + CHUNK, len(masks))], start):
            yield Held(prob_hw, heights[row], widths[row], truth[row])


def _say(name: str, tuning: Any, console: Console) -> None:
    console.print(
        f"tune: {name}: Dice {tuning.at_half:.4f} at threshold 128/255; {tuning.cross_fitted:.4f} tuned, cross-fitted; "
        f"{tuning.tuned:.4f} at {tuning.threshold}/255, chosen on the same images"
    )


if __name__ == "__main__":
    run_command(tune)
