"""What each ingredient of a recipe is worth: variants of an experiment, trained and compared on the same folds.

    python tests/benchmarks/ablation.py pipeline/experiments/portrait.yaml tests/benchmarks/ablation.yaml \
        --set data.root=DIR [--folds 0 1 2 3 4] [--workspace DIR]

The second file names the variants and the settings that each changes; `base` is what the others are compared with.
Prints a Markdown table: Dice of the held-out images at original resolution and probability 1/2, the difference to
`base` with its 95% interval (paired bootstrap over the groups of images that belong together), the share of images
that got better, the network's parameters, its training speed, and the time of the trainings, which run side by side,
one core each. What is done is not done again, so an interrupted run goes on, and a variant that only predicts otherwise
takes the weights of `base`.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline.artifacts import Artifacts, read_json
from pipeline.config import Experiment, load_experiment
from pipeline.data.held_out import HeldOutMasks
from pipeline.data.probabilities import read_probabilities
from pipeline.members import member_name
from pipeline.metrics import METRICS, Counts, compare, interval
from pipeline.postprocess import UNTUNED, threshold_counts
from pipeline.rle.threads import available_cores
from pipeline.search import counts_at
from pipeline.yaml_files import load_yaml

PROJECT = Path(__file__).parents[2]
BASE = "base"
DICE = METRICS["dice"]


@dataclass(frozen=True)
class Variant:
    """An experiment, and the options that make the stages' commands work on it."""

    name: str
    experiment: Experiment
    options: list[str]

    def stage(self, name: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "pipeline", name, *self.options, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment)

    def run_fold(self, model: str, fold: int, base: Experiment, of_base: Future[None] | None) -> None:
        """All that is missing of a fold, up to the probabilities of its held-out images; ``base``'s comes first."""
        artifacts = Artifacts.of(self.experiment)
        paths = artifacts.fold(model, fold)
        same_training = (self.experiment.models, self.experiment.image) == (base.models, base.image)
        if of_base is not None and same_training and not paths.weights.exists():
            of_base.result()
            maps = shutil.ignore_patterns("*.zarr*")
            shutil.copytree(Artifacts.of(base).fold(model, fold).folder, paths.folder, ignore=maps)
        elif not paths.weights.exists():
            self.stage("train", "--model", model, "--fold", str(fold))
        members = [member_name(model, view) for view in self.experiment.prediction.stored_views]
        if not all(artifacts.fold(member, fold).oof.exists() for member in members):
            self.stage("predict", "--model", model, "--fold", str(fold))


def read_variants(experiment: Path, variants: Path, workspace: Path, overrides: list[str]) -> list[Variant]:
    """The base, and the variants of it."""
    changes_of = load_yaml(variants.read_bytes())
    common = changes_of.pop(BASE)
    found = []
    for name, changes in {BASE: {}, **changes_of}.items():
        settings = [f"workspace={workspace}", f"name={re.sub('[^A-Za-z0-9]+', '-', name)}", *overrides]
        settings += [f"{key}={json.dumps(value)}" for key, value in {**common, **changes}.items()]
        options = ["--experiment", str(experiment.resolve())]
        for setting in settings:
            options += ["--set", setting]
        found.append(Variant(name, load_experiment(experiment, settings), options))
    return found


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
    parser.add_argument("--folds", nargs="+", type=int, default=range(5))
    parser.add_argument("--workspace", type=Path, default=Path(tempfile.gettempdir()) / "ablation")
    arguments = parser.parse_args()
    variants = read_variants(arguments.experiment, arguments.variants, arguments.workspace, arguments.overrides)
    for variant in variants:
        artifacts = Artifacts.of(variant.experiment)
        if not artifacts.folds.exists():
            variant.stage("prepare")
            variant.stage("split")
    base = variants[0].experiment
    rows: list[str] = []
    base_result = None
    with ThreadPoolExecutor(available_cores()) as pool:
        done: dict[str, dict[tuple[str, int], Future[None]]] = {}
        for variant in variants:
            of_base = done.get(BASE, {})
            done[variant.name] = {
                job: pool.submit(variant.run_fold, *job, base, of_base.get(job))
                for job in itertools.product(variant.experiment.models, arguments.folds)
            }
        for variant in variants:
            for fold_done in done[variant.name].values():
                fold_done.result()
            members = variant.experiment.members
            for member in members:
                result = measure(variant.experiment, member, list(arguments.folds))
                base_result = base_result or result
                name = variant.name if len(members) == 1 else f"{variant.name}, {member}"
                rows.append(table_row(name, result, base_result))
            print("| variant | Dice (95% interval) | to base | better | M parameters | images/s | minutes |")
            print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", *rows, sep="\n", flush=True)


if __name__ == "__main__":
    main()
