"""Choose the post-processing on the out-of-fold maps, exactly, and say what that is honestly worth.

Reads   kfold/<experiment>/ensemble/oof.zarr, every model's oof.zarr, images.csv, folds.csv
Writes  kfold/<experiment>/tuning.json   the settings for the ensemble (thresholds, minimum area, rules on holes and
                                         components); for it and for each member the scores of what is submitted,
                                         untuned, tuned (optimistic) and cross-fitted, the plateau and the curve of
                                         thresholds; where test images were pseudo-labelled, the gain over the
                                         experiment that did it

All 256 thresholds, all minimum areas and all triplets of them are searched exactly, from one histogram an image. The
cross-fitted score takes for each fold the settings that the same procedure chooses on the other folds. The submission
takes what is found where that is better than one half on the images that chose it and not worse, beyond noise,
cross-fitted; else it stays at one half. The section ``tuning`` of the experiment file says what is maximised and
searched.

    python -m pipeline tune --experiment pipeline/experiments/demo.yaml --choose best
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console

from pipeline.artifacts import Artifacts, nan_as_none
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, TuningSettings, load_experiment
from pipeline.data.held_out import HeldOutMasks
from pipeline.data.oof import check_ids, read_out_of_fold
from pipeline.data.probabilities import chunks, read_probabilities
from pipeline.data.pseudo import check_same_folds, labelling_experiment
from pipeline.metrics import Counts
from pipeline.next_step import next_stage, say_next_stage
from pipeline.postprocess import UNTUNED, Held, threshold_counts
from pipeline.records import Record
from pipeline.search import (
    Rows,
    Search,
    Tuning,
    Worth,
    counts_at,
    minimum_areas,
    rule_grid,
    tune_classes,
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
    overrides = [*(overrides or []), *([] if choose is None else [f"tuning.choose={choose}"])]
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    classes = settings.data.class_names
    masks = HeldOutMasks.read(artifacts, settings.image.fit, classes)
    sets: dict[str, Any] = {
        name: read_out_of_fold(artifacts, name, settings.folds.count, classes) for name in settings.members
    }
    sets["ensemble"] = open_ensemble(artifacts, masks, "ensemble")
    of_members = [artifacts.fold(name, fold).oof for name in settings.members for fold in range(settings.folds.count)]
    record = Record.of(settings, "tune", [artifacts.images, artifacts.folds, artifacts.ensemble_oof, *of_members])
    console.print(f"tune: {', '.join(sets)}: {settings.tuning.metric} of {len(masks)} masks, to {artifacts.tuning}")
    found: dict[str, Tuned] = {}
    for name, maps in sets.items():
        # The blend of a single member is that member; of several it may be one of them, if that has all the weight.
        twin = next((other for other in found if same_maps(sets[other], maps, len(masks))), None)
        found[name] = found[twin] if twin else tune_maps(name, maps, masks, settings.tuning, console)
        _say(name, settings, found[name], console)
    against = None
    if settings.pseudo.experiment is not None:
        against = compare_with_source(settings, found["ensemble"].untuned, masks, console)
    content = nan_as_none(tuning_content(settings, found, against))
    record.write(artifacts.tuning, **content)
    say_next_stage(console, next_stage("tune", settings), experiment, overrides)


def tuning_content(settings: Experiment, found: dict[str, Tuned], against: dict[str, Any] | None) -> dict[str, Any]:
    """For ``tuning.json``."""
    return {
        "metric": settings.tuning.metric,
        "settings": settings.tuning.model_dump(mode="json"),
        "classes": [name or None for name in settings.data.class_names],
        "postprocess": [asdict(tuning.postprocess) for tuning in found["ensemble"].of_classes],
        "against": against,
        "sets": {
            name: {**worth_record(each.worth), "classes": [tuning_record(tuning) for tuning in each.of_classes]}
            for name, each in found.items()
        },
    }


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
class Tuned:
    """What is found for one set of maps."""

    of_classes: list[Tuning]
    worth: Worth
    """Of all classes together."""
    untuned: Counts
    """(N,) of all masks at one half."""


def tune_maps(name: str, maps: Any, masks: HeldOutMasks, settings: TuningSettings, console: Console) -> Tuned:
    """Search the settings of each class, and score them on all; two passes over the maps where components count."""
    objective, search = settings.objective, search_of(settings, masks.table)
    counts = threshold_counts(track(masks.held(maps), len(masks), f"tune {name}", console), len(masks), masks.fit)

    def tune_class(number: int) -> Tuning:
        def images() -> Iterator[Held]:
            of_class = masks.held_of_class(maps, number)
            return track(of_class, len(masks) // masks.classes, f"tune {name}: holes and components", console)

        mine = slice(number, None, masks.classes)
        rows = Rows(counts.take(mine), masks.fold[mine], masks.group[mine], images, masks.fit)
        return tune_masks(rows, objective, search)

    tunings, worth = tune_classes([tune_class(number) for number in range(masks.classes)], objective)
    return Tuned(tunings, worth, counts_at(counts, UNTUNED))


def same_maps(maps: Any, others: Any, count: int) -> bool:
    """Whether two sets of maps are the same, byte by byte; read up to the first difference."""
    return all(np.array_equal(maps[rows], others[rows]) for rows in chunks(count))


def worth_record(worth: Worth) -> dict[str, Any]:
    """For ``tuning.json``."""
    return {**asdict(worth), "submits": worth.submits, "verdict": worth.verdict, "optimism": worth.optimism}


def tuning_record(tuning: Tuning) -> dict[str, Any]:
    """For ``tuning.json``: one class's settings, submitted and found, and what they are worth."""
    return {
        "postprocess": asdict(tuning.postprocess),
        "postprocess_by_fold": [asdict(each) for each in tuning.postprocess_by_fold],
        "found": asdict(tuning.found),
        "found_by_fold": [asdict(each) for each in tuning.found_by_fold],
        **worth_record(tuning.worth),
        "plateau": asdict(tuning.plateau),
        "curve": tuning.curve,
    }


def open_ensemble(artifacts: Artifacts, masks: HeldOutMasks, stage: str) -> Any:
    """An experiment's blended out-of-fold maps; raises ``DataError`` if they are missing or of other images."""
    stored = read_probabilities(artifacts.ensemble_oof, stage, artifacts.folder)
    check_ids(stored, masks.ids, artifacts.ensemble_oof)
    return stored.maps


def compare_with_source(settings: Experiment, counts: Counts, masks: HeldOutMasks, console: Console) -> dict[str, Any]:
    """This experiment's out-of-fold score against that of the one whose masks it was trained on, mask by mask.

    Images that belong together are drawn together by the bootstrap.
    """
    source, source_artifacts = labelling_experiment(settings)
    check_same_folds(Artifacts.of(settings), source_artifacts)
    maps = open_ensemble(source_artifacts, masks, f"run of {source.name}")
    other = counts_at(threshold_counts(masks.held(maps), len(masks), source.image.fit), UNTUNED)
    gain = settings.tuning.objective.compare(counts, other, masks.group)
    what = "images" if masks.classes == 1 else "masks"
    advice = f"; beyond noise, the submission of {source.name} is the better one" if gain.is_loss else ""
    verdict = f"{gain.verdict(f'training on the pseudo-labels of {source.name}')}{advice}"
    console.print(
        f"tune: ensemble against {source.name}, at 128/255: {settings.tuning.metric} {gain.size}, "
        f"{gain.better:.0%} of the {what} better: that is what the pseudo-labels are worth{advice}"
    )
    return {"experiment": source.name, **asdict(gain), "verdict": verdict}


def _say(name: str, settings: Experiment, found: Tuned, console: Console) -> None:
    worth = found.worth
    low, high = worth.cross_fitted_ci95
    console.print(
        f"tune: {name}: {settings.tuning.metric} {worth.at_half:.4f} at threshold 128/255; {worth.cross_fitted:.4f} "
        f"tuned, cross-fitted (95% interval {low:.4f} to {high:.4f}); {worth.tuned:.4f} {worth.optimism}\n"
        f"tune: {name}: {worth.verdict}"
    )
    for of_class, tuning in zip(settings.data.class_names, found.of_classes, strict=True):
        first, last = tuning.plateau.threshold
        taken = tuning.postprocess if tuning.kept else f"{tuning.postprocess} (found, and not taken: {tuning.found})"
        console.print(
            f"tune: {' '.join(filter(None, (name, of_class)))}: settings: {taken}; {tuning.plateau.size} "
            f"are as good, with thresholds {first} to {last}"
        )


if __name__ == "__main__":
    run_command(tune)
