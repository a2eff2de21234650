"""What each ingredient of a recipe is worth: variants of an experiment, trained and compared on the same folds.

    python tests/benchmarks/ablation.py pipeline/experiments/portrait.yaml tests/benchmarks/ablation.yaml \
        --set data.root=DIR --folds 0 1 [--workspace DIR]

The second file names the variants and the settings that each changes; `base` is what the others are compared with.
Prints a Markdown table: Dice of the held-out images at original resolution and probability 1/2, the difference to
`base` with its 95% interval (paired bootstrap over the groups of images that belong together), the share of images
that got better, the network's parameters, its training speed, and the time of the trainings. What is done is not done
again, so an interrupted run goes on, and a variant that only predicts otherwise takes the weights of `base`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline.artifacts import Artifacts, read_json
from pipeline.config import Experiment, load_experiment
from pipeline.data.held_out import HeldOutMasks
from pipeline.data.probabilities import read_probabilities
from pipeline.members import member_name
from pipeline.metrics import METRICS, Counts, compare, interval
from pipeline.postprocess import UNTUNED, threshold_counts
from pipeline.search import counts_at

PROJECT = Path(__file__).parents[2]
BASE = "base"
DICE = METRICS["dice"]


def stage(name: str, settings: list[str], *arguments: str) -> None:
    command = [sys.executable, "-m", "pipeline", name, *settings, *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(PROJECT)})


def run_variant(settings: list[str], experiment: Experiment, base: Experiment, folds: list[int]) -> None:
    """All that is missing of a variant, up to the probabilities of the held-out images."""
    artifacts, base_artifacts = Artifacts.of(experiment), Artifacts.of(base)
    if not artifacts.images.exists():
        stage("prepare", settings)
    if not artifacts.folds.exists():
        stage("split", settings)
    same_training = experiment is not base and (experiment.models, experiment.image) == (base.models, base.image)
    for model in experiment.models:
        for fold in folds:
            paths = artifacts.fold(model, fold)
            if not paths.weights.exists() and same_training:
                maps = shutil.ignore_patterns("*.zarr")
                shutil.copytree(base_artifacts.fold(model, fold).folder, paths.folder, ignore=maps)
            elif not paths.weights.exists():
                stage("train", settings, "--model", model, "--fold", str(fold))
            members = [member_name(model, view) for view in experiment.prediction.stored_views]
            if not all(artifacts.fold(member, fold).oof.exists() for member in members):
                stage("predict", settings, "--model", model, "--fold", str(fold))


@dataclass(frozen=True)
class Result:
    """One model, or one of its views, on the chosen folds."""

    counts: Counts
    groups: np.ndarray
    parameters: int
    images_per_second: float
    minutes: float


def measure(experiment: Experiment, member: str, folds: list[int]) -> Result:
    artifacts = Artifacts.of(experiment)
    masks = HeldOutMasks.read(artifacts, experiment.image.fit, experiment.data.class_names)
    of_folds = [masks.of_fold(fold) for fold in folds]
    counts = []
    for fold, held_out in zip(folds, of_folds, strict=True):
        maps = read_probabilities(artifacts.fold(member, fold).oof, "predict").maps
        counts.append(counts_at(threshold_counts(held_out.held(maps), len(held_out), masks.fit), UNTUNED))
    history = pd.concat([pd.read_csv(artifacts.fold(member, fold).history) for fold in folds])
    return Result(
        Counts.stacked(counts),
        np.concatenate([held_out.group for held_out in of_folds]),
        read_json(artifacts.fold(member, folds[0]).metrics)["parameters"],
        history["images_per_second"].median(),
        history["seconds"].sum() / 60,
    )


def table_row(name: str, result: Result, base: Result) -> str:
    low, high = interval(DICE, result.counts, groups=result.groups)
    cells = [name, f"{float(DICE(result.counts)):.4f} ({low:.4f} to {high:.4f})", "", ""]
    if result is not base:
        gain = compare(DICE, result.counts, base.counts, groups=result.groups)
        cells[2:] = [f"{gain.difference:+.4f} ({gain.ci95[0]:+.4f} to {gain.ci95[1]:+.4f})", f"{gain.better:.0%}"]
    cells += [f"{result.parameters / 1e6:.1f}", f"{result.images_per_second:.0f}", f"{result.minutes:.1f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("variants", type=Path, help="YAML: name: {setting: value}")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folds", nargs="+", type=int, default=[0])
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "ablation")
    arguments = parser.parse_args()
    variants = yaml.safe_load(arguments.variants.read_text(encoding="utf-8"))
    common = variants.pop(BASE)
    rows: list[str] = []
    base = base_result = None
    for name, changes in {BASE: {}, **variants}.items():
        overrides = [f"workspace={arguments.workspace}", f"name={name.replace(' ', '-')}", *arguments.overrides]
        overrides += [f"{key}={json.dumps(value)}" for key, value in {**common, **changes}.items()]
        experiment = load_experiment(arguments.experiment, overrides)
        base = base or experiment
        settings = ["--experiment", str(arguments.experiment.resolve())]
        for override in overrides:
            settings += ["--set", override]
        run_variant(settings, experiment, base, arguments.folds)
        for member in experiment.members:
            result = measure(experiment, member, arguments.folds)
            base_result = base_result or result
            rows.append(table_row(name if len(experiment.members) == 1 else f"{name}, {member}", result, base_result))
        print("| variant | Dice (95% interval) | to base | better | M parameters | images/s | minutes |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", *rows, sep="\n", flush=True)


if __name__ == "__main__":
    main()
