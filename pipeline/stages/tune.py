"""Choose the post-processing on the out-of-fold maps, exactly, and say what that is honestly worth.

Reads   kfold/<experiment>/ensemble/oof.zarr, every model's oof.zarr, images.csv, folds.csv
Writes  kfold/<experiment>/tuning.json   the settings for the ensemble (thresholds, minimum area, rules on holes and
                                         components); for it and for each model the scores untuned, tuned
                                         (optimistic) and cross-fitted, the plateau and the curve of thresholds; where
                                         test images were pseudo-labelled, the gain over the experiment that did it

All 256 thresholds, all minimum areas and all triplets of them are searched exactly, from one histogram an image. The
cross-fitted score takes for each fold the settings that the same procedure chooses on the other folds. The section
``tuning`` of the experiment file says what is maximised and searched.

    python -m pipeline tune --experiment pipeline/experiments/demo.yaml --choose best
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console

from pipeline.artifacts import Artifacts, nan_as_none, write_json
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, TuningSettings, load_experiment
from pipeline.data.cache import one_row_a_mask, read_folds, read_images, read_true_masks
from pipeline.data.oof import check_ids, read_out_of_fold
from pipeline.data.probabilities import CHUNK, read_probabilities
from pipeline.data.pseudo import check_same_folds, labelling_experiment
from pipeline.geometry import Fit
from pipeline.metrics import Counts, compare
from pipeline.postprocess import UNTUNED, Held, threshold_counts
from pipeline.records import MADE_BY, Record
from pipeline.rle import RleTable
from pipeline.search import (
    Objective,
    Outcome,
    Rows,
    Search,
    Tuning,
    Worth,
    counts_at,
    minimum_areas,
    rule_grid,
    tune_masks,
)

MINIMUM_AREAS = 40
HOLE_SHARES = (1024, 64)  # a hole is at most the 1024th or the 64th part of an image, or of any size
COMPONENT_SHARES = (4096, 1024, 256, 64)


def tune(
    experiment: ExperimentOption,
    overrides: OverridesOption = None,
    choose: Annotated[
        str | None, typer.Option("--choose", metavar="plateau|best", help="In place of tuning.choose.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Choose the post-processing on the out-of-fold maps, at original resolution.

    \b
    Example:
      python -m pipeline tune --experiment pipeline/experiments/demo.yaml --choose best
    """
    changes = [] if choose is None else [f"tuning.choose={choose}"]
    settings = load_experiment(experiment, [*(overrides or []), *changes])
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    classes = settings.data.class_names
    masks = HeldOutMasks.read(artifacts, classes)
    blend = read_probabilities(artifacts.ensemble_oof, "ensemble")
    check_ids(blend, masks.table["mask_id"].tolist(), artifacts.ensemble_oof)
    sets: dict[str, Any] = {
        name: read_out_of_fold(artifacts, name, settings.folds.count, classes) for name in settings.models
    }
    sets["ensemble"] = blend.maps
    of_models = [artifacts.fold(name, fold).oof for name in settings.models for fold in range(settings.folds.count)]
    record = Record.of(settings, "tune", [artifacts.images, artifacts.folds, artifacts.ensemble_oof, *of_models])
    objective, search = objective_of(settings.tuning), search_of(settings.tuning, masks.table)
    tunings, worths, counts = {}, {}, None
    for name, maps in sets.items():
        counts = threshold_counts(
            track(masks.held(maps), len(masks.table), f"tune {name}", console), len(masks.table), settings.image.fit
        )
        tunings[name] = [
            tune_masks(masks.rows(maps, counts, number, settings.image.fit), objective, search)
            for number in range(len(classes))
        ]
        worths[name] = Outcome.of_classes([tuning.outcome for tuning in tunings[name]]).worth(objective)
        _say(name, settings, tunings[name], worths[name], console)
    against = None
    if settings.pseudo.experiment is not None:
        against = compare_with_source(settings, at_half(counts), masks)
        console.print(
            f"tune: ensemble against {settings.pseudo.experiment}, at 128/255: {settings.tuning.metric} "
            f"{against['difference']:+.4f} (95% interval {against['ci95'][0]:+.4f} to {against['ci95'][1]:+.4f}), "
            f"{against['better']:.0%} of the images better: that is what the pseudo-labels are worth"
        )
    content = {
        "metric": settings.tuning.metric,
        "settings": settings.tuning.model_dump(mode="json"),
        "classes": [name or None for name in classes],
        "postprocess": [asdict(tuning.postprocess) for tuning in tunings["ensemble"]],
        "against": against,
        "sets": {
            name: {**worth_record(worths[name]), "classes": [tuning_record(tuning) for tuning in of_classes]}
            for name, of_classes in tunings.items()
        },
        MADE_BY: record.stored(),
    }
    write_json(artifacts.tuning, nan_as_none(content))


def objective_of(settings: TuningSettings) -> Objective:
    """What is maximised."""
    return Objective.named(settings.metric, settings.beta, float(settings.both_empty))


def search_of(settings: TuningSettings, images: pd.DataFrame) -> Search:
    """What is searched; areas that are not set follow from the images' median size."""
    pixels = int((images["height"] * images["width"]).median())
    rules = []
    if settings.components:
        holes, areas = settings.hole_areas, settings.component_areas
        rules = rule_grid(
            (*(pixels // share for share in HOLE_SHARES), None) if holes is None else holes,
            [pixels // share for share in COMPONENT_SHARES] if areas is None else areas,
            settings.component_counts,
        )
    min_areas = (
        minimum_areas(pixels, MINIMUM_AREAS) if settings.min_areas is None else (0, *sorted(set(settings.min_areas)))
    )
    return Search(areas=min_areas, family=settings.search, rules=tuple(rules), choose=settings.choose)


@dataclass(frozen=True)
class HeldOutMasks:
    """What is known of the training images' masks besides their maps; an image's classes are next to each other."""

    table: pd.DataFrame
    """Of ``one_row_a_mask``."""
    truth: RleTable
    fold: np.ndarray
    """int (N,) of the images."""
    group: np.ndarray
    """int (N,) of the images."""
    classes: int

    @classmethod
    def read(cls, artifacts: Artifacts, classes: Sequence[str]) -> HeldOutMasks:
        images, folds = read_images(artifacts, "train"), read_folds(artifacts)
        truth = read_true_masks(artifacts, images["image_id"].tolist(), classes)
        group = np.unique(folds["group"], return_inverse=True)[1]
        return cls(one_row_a_mask(images, classes), truth, folds["fold"].to_numpy(), group, len(classes))

    def held(self, maps: Any) -> Iterator[Held]:
        """All masks with their maps, a chunk of maps in memory at a time."""
        return held_masks(maps, self.table, self.truth)

    def rows(self, maps: Any, counts: Counts, number: int, fit: Fit) -> Rows:
        """The masks of one class, out of the counts of all."""

        def of_class() -> Iterator[Held]:
            return islice(self.held(maps), number, None, self.classes)

        return Rows(counts.take(slice(number, None, self.classes)), self.fold, self.group, of_class, fit)


def worth_record(worth: Worth) -> dict[str, Any]:
    """For ``tuning.json``."""
    return {**asdict(worth), "verdict": worth.verdict}


def tuning_record(tuning: Tuning) -> dict[str, Any]:
    """For ``tuning.json``: one class's settings, and what they are worth."""
    return {
        "postprocess": asdict(tuning.postprocess),
        "postprocess_by_fold": [asdict(each) for each in tuning.postprocess_by_fold],
        **worth_record(tuning.worth),
        "plateau": asdict(tuning.plateau),
        "curve": tuning.curve,
    }


def at_half(counts: Counts) -> Counts:
    """Of counts at all thresholds those at one half."""
    return counts_at(counts, UNTUNED)


def compare_with_source(settings: Experiment, counts: Counts, masks: HeldOutMasks) -> dict[str, Any]:
    """This experiment's out-of-fold score against that of the one whose masks it was trained on, mask by mask.

    Images that belong together are drawn together by the bootstrap.
    """
    artifacts = Artifacts.of(settings)
    source, source_artifacts = labelling_experiment(settings)
    check_same_folds(artifacts, source_artifacts)
    stored = read_probabilities(source_artifacts.ensemble_oof, f"run of {source.name}")
    check_ids(stored, masks.table["mask_id"].tolist(), source_artifacts.ensemble_oof)
    other = at_half(threshold_counts(masks.held(stored.maps), len(masks.table), source.image.fit))
    objective = objective_of(settings.tuning)
    groups = np.repeat(masks.group, masks.classes)
    comparison = compare(objective.metric, counts, other, objective.both_empty, groups=groups)
    return {"experiment": source.name, **asdict(comparison)}


def held_masks(maps: Any, masks: pd.DataFrame, truth: RleTable) -> Iterator[Held]:
    """Maps with sizes and true masks, a chunk of maps in memory at a time."""
    heights, widths = masks["height"].tolist(), masks["width"].tolist()
    for start in range(0, len(masks), CHUNK):
        for row, prob_hw in enumerate(maps[start : min(start + CHUNK, len(masks))], start):
            yield Held(prob_hw, heights[row], widths[row], truth[row])


def _say(name: str, settings: Experiment, tunings: Sequence[Tuning], worth: Worth, console: Console) -> None:
    low, high = worth.cross_fitted_ci95
    console.print(
        f"tune: {name}: {settings.tuning.metric} {worth.at_half:.4f} at threshold 128/255; {worth.cross_fitted:.4f} "
        f"tuned, cross-fitted (95% interval {low:.4f} to {high:.4f}); {worth.tuned:.4f} chosen on the same images\n"
        f"tune: {name}: {worth.verdict}"
    )
    for of_class, tuning in zip(settings.data.class_names, tunings, strict=True):
        first, last = tuning.plateau.threshold
        console.print(
            f"tune: {' '.join(filter(None, (name, of_class)))}: settings: {tuning.postprocess}; {tuning.plateau.size} "
            f"are as good, with thresholds {first} to {last}"
        )


if __name__ == "__main__":
    run_command(tune)
