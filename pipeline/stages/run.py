"""Run all stages of an experiment, skipping what is done.

Reads   an experiment file
Writes  kfold/<experiment>/experiment.yaml   the settings as resolved
        kfold/<experiment>/logs/             what each job has printed, and Snakemake
        everything that the stages write, in the order of pipeline/Snakefile

What other settings, code or inputs have made is made anew, and what depends on it. At the end it prints the table of
results, whether or not there was anything to do.

    python -m pipeline run --experiment pipeline/experiments/demo.yaml --cores 2
    python -m pipeline run --experiment pipeline/experiments/demo.yaml --set training.epochs=9 --dry-run
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, read_json, save_settings, settings_are_new, settings_text
from pipeline.command import (
    ExperimentOption,
    OverridesOption,
    QuietOption,
    die_with,
    make_console,
    run_command,
)  # fmt: skip
from pipeline.config import Experiment, data_root, load_experiment
from pipeline.errors import DataError
from pipeline.next_step import check_of_submission, say_next
from pipeline.progress import complain, follow, planned_jobs
from pipeline.records import UPSTREAM, outdated
from pipeline.results import results_table
from pipeline.rle.threads import available_cores


def run(
    experiment: ExperimentOption,
    overrides: OverridesOption = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Processor cores to use; all when not given.")] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|DIR", help="Snakemake profile, such as slurm, to run jobs elsewhere.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would run and why, and stop.")] = False,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep what older versions of the code have made.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Run all stages of an experiment, skipping what is done.

    \b
    Examples:
      python -m pipeline run --experiment pipeline/experiments/demo.yaml
      python -m pipeline run --experiment pipeline/experiments/demo.yaml --set training.epochs=9 --dry-run
    """
    settings = load_experiment(experiment, overrides)
    data_root(settings.data)
    if settings.pseudo.experiment is not None:
        from pipeline.data.pseudo import labelling_experiment  # with pandas, which other runs do without

        labelling_experiment(settings)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    if settings_are_new(settings):
        _check_networks(settings)
    command = _snakemake(cores, profile)
    if dry_run:
        _print_plan(settings, command, _outdated(settings, keep_old, console), console)
        return
    with _only_run(artifacts.folder):
        for record in _outdated(settings, keep_old, console):
            record.unlink()
        save_settings(settings)
        _run_graph([*command, "--directory", artifacts.folder, "--configfile", artifacts.settings], artifacts, console)
    console.print(results_table(read_json(artifacts.results)))
    console.print(f"submission: {artifacts.submission}")
    console.print(f"report: {artifacts.page}")
    say_next(console, *check_of_submission(settings))


def _outdated(settings: Experiment, keep_old: bool, console: Console) -> list[Path]:
    """Records that no longer hold; says why."""
    reasons = outdated(settings, check_code=not keep_old)
    for record, reason in reasons.items():
        if reason != UPSTREAM:
            console.print(f"run: {os.path.relpath(record, Artifacts.of(settings).folder)}: {reason}")
    return list(reasons)


def _snakemake(cores: int | None, profile: str | None) -> list[str]:
    """The command that makes whatever has no record, but for folder and settings."""
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "pipeline" / "Snakefile"),
        "--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime", "params",
    ]  # fmt: skip
    if profile is not None:
        own = PROJECT / "pipeline" / "profiles" / profile
        return [*command, "--profile", str(own if own.is_dir() else Path(profile).resolve())]
    cores, gpus = cores or available_cores(), _count_gpus()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    machine = ["--cores", str(cores), "--resources", f"gpu={gpus}", f"mem_mb={memory}"]
    return [*command, *machine, "--config", f"cores={cores}", f"gpus={gpus}"]


def _count_gpus() -> int:
    if not any(Path("/dev").glob("nvidia[0-9]*")):  # torch takes seconds to import
        return 0
    import torch

    return torch.cuda.device_count()


def _run_graph(command: list[str | Path], artifacts: Artifacts, console: Console) -> None:
    """Run Snakemake, showing what its jobs do.

    Raises:
        typer.Exit: a job has failed; stderr says why.
    """
    log = artifacts.log("snakemake")
    log.parent.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=partial(die_with, os.getpid()),
    ) as process:
        jobs = follow(process.stdout, log, console)
    if process.returncode:
        complain(jobs, log)
        raise typer.Exit(1)


def _print_plan(settings: Experiment, command: list[str], changed: list[Path], console: Console) -> None:
    """Which jobs would run, and why."""
    folder = Artifacts.of(settings).folder
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "experiment.yaml")
        config.write_text(settings_text(settings), encoding="utf-8")
        where = ["--directory", folder if folder.is_dir() else scratch, "--configfile", config, "--dry-run"]
        forced = ["--forcerun", *changed] if changed else []
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        done = subprocess.run([*command, *where, *forced], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"Snakemake cannot plan the run: {done.stdout}{done.stderr}")
    jobs = planned_jobs(done.stdout.splitlines() + done.stderr.splitlines())
    for name, why in jobs:
        console.print(f"would run: {name}: {why}")
    console.print(f"{len(jobs)} jobs would run" if jobs else "nothing would run: all is up to date")


def _check_networks(settings: Experiment) -> None:
    """Refuse a misspelt network, or weights that are missing, unreachable or do not fit, before images are read.

    What a hub has is fetched here, and trainings find it in its cache.
    """
    from pipeline.learning.networks import build_network  # torch takes seconds to import: for new settings only

    for model in settings.models.values():
        build_network(model, seed=0)


@contextmanager
def _only_run(folder: Path) -> Iterator[None]:
    """Hold the experiment against a second run; the system lets go of it however this one ends, its jobs with it.

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
