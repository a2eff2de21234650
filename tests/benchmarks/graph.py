"""What the graph of stages costs and saves: wall time of a whole experiment by hand, and by `run` with 1, 2, ... jobs.

    python tests/benchmarks/graph.py [pipeline/experiments/demo.yaml] [--set key.sub=value ...] [--cores 1 2]

By hand is every stage as a command of its own, one after the other, as a shell script would call them; each has the
threads that `run --cores 1` gives it. Every run starts from nothing, in a folder of its own; data that is drawn is
drawn in each.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline.artifacts import Artifacts
from pipeline.config import load_experiment

PROJECT = Path(__file__).parents[2]


def call(*words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "pipeline", *words]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def by_hand(experiment: Path, options: list[str]) -> None:
    settings = load_experiment(experiment, options[1::2])
    common = ["--experiment", str(experiment), *options]
    folds = [(model, str(fold)) for model in settings.models for fold in range(settings.folds.count)]
    for stage in ("prepare", "split"):
        call(stage, *common)
    for stage in ("train", "predict"):
        for model, fold in folds:
            call(stage, *common, "--model", model, "--fold", fold)
    for stage in ("ensemble", "tune", "submit"):
        call(stage, *common)
    artifacts = Artifacts.of(settings)
    if settings.data.knows_test_truth:
        call("score", "--experiment", str(artifacts.settings), str(artifacts.submission), str(artifacts.truth))
    call("report", *common)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path, nargs="?", default=PROJECT / "pipeline" / "experiments" / "demo.yaml")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    ways = {"by hand": None, **{f"run --cores {cores}": cores for cores in arguments.cores}}
    first = None
    print(f"{'':16}{'seconds':>10}{'to by hand':>12}")
    for name, cores in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            options = [word for each in [*arguments.overrides, f"workspace={folder}"] for word in ("--set", each)]
            begin = time.perf_counter()
            if cores is None:
                by_hand(arguments.experiment, options)
            else:
                call("run", "--experiment", str(arguments.experiment), *options, "--cores", str(cores))
            seconds = time.perf_counter() - begin
        first = first or seconds
        print(f"{name:16}{seconds:10.1f}{seconds / first - 1:+12.1%}", flush=True)


if __name__ == "__main__":
    main()
