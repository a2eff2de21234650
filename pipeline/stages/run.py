"""Run all stages of an experiment, skipping what is done.

Reads   an experiment file
Writes  kfold/<experiment>/experiment.yaml   the settings as resolved
        everything that the stages write, in the order of pipeline/Snakefile

At the end it prints the table of results, whether or not there was anything to do.

    python -m pipeline run --experiment pipeline/experiments/demo.yaml --cores 2
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, read_json, save_settings
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command
from pipeline.config import Experiment, data_root, load_experiment
from pipeline.errors import DataError
from pipeline.results import results_table


def run(
    experiment: ExperimentOption,
    overrides: OverridesOption = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Processor cores to use; all when not given.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Run all stages of an experiment, skipping what is done.

    \b
    Example:
      python -m pipeline run --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    data_root(settings.data)
    if settings.pseudo.experiment is not None:
        from pipeline.data.pseudo import labelling_experiment  # with pandas, which other runs do without

        labelling_experiment(settings)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    if not artifacts.settings.exists():
        _check_networks(settings)
    with _only_run(artifacts.folder):
        save_settings(settings)
        command = [
            sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "pipeline" / "Snakefile"),
            "--directory", str(artifacts.folder), "--configfile", str(artifacts.settings),
            "--cores", str(cores or "all"), "--nolock", "--rerun-incomplete", "--quiet", "all",
            "--config", f"quiet={quiet}",
        ]  # fmt: skip
        status = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=False).returncode
    if status:
        raise typer.Exit(1)
    console.print(results_table(read_json(artifacts.results)))
    console.print(f"submission: {artifacts.submission}")


def _check_networks(settings: Experiment) -> None:
    """Refuse a misspelt network now, and not after an hour of reading images."""
    from pipeline.learning.networks import check_names  # torch takes seconds to import: on a first run only

    for model in settings.models.values():
        check_names(model.architecture, model.encoder, model.options)


@contextmanager
def _only_run(folder: Path) -> Iterator[None]:
    """Hold the experiment against a second run; the system lets go of it however this one ends.

    Snakemake's own lock stays behind when it is killed, and then wants to be unlocked by hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".running").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{folder}: another run of this experiment is at work") from None
        yield


if __name__ == "__main__":
    run_command(run)
