"""Run all stages of an experiment, skipping what is done, and print the table of results.

Reads   an experiment file
Writes  kfold/<experiment>/experiment.yaml   the settings as resolved
        everything that the stages write, in the order of pipeline/Snakefile

    python -m pipeline run --experiment pipeline/experiments/demo.yaml --cores 2
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, read_json, save_settings
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command
from pipeline.config import load_experiment
from pipeline.errors import DataError
from pipeline.results import results_table


def run(
    experiment: ExperimentOption,
    overrides: OverridesOption = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Processor cores to use; all when not given.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Run all stages of an experiment, skipping what is done.

    Example: python -m pipeline run --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    if settings.data.root is None:
        raise DataError("data.root is not set: give the folder of the data set with --set data.root=DIR")
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    saved = save_settings(settings)
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "pipeline" / "Snakefile"),
        "--directory", str(artifacts.folder), "--configfile", str(saved), "--cores", str(cores or "all"),
        "--rerun-incomplete", "--quiet", "all", "--config", f"quiet={quiet}",
    ]  # fmt: skip
    status = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=False).returncode
    if status:
        raise typer.Exit(1)
    console.print(results_table(read_json(artifacts.results)))
    console.print(f"submission: {artifacts.submission}")


if __name__ == "__main__":
    run_command(run)
