"""Run all stages of an experiment, skipping what is done.

Reads   an experiment file
Writes  kfold/<experiment>/experiment.yaml   the settings as resolved
        kfold/<experiment>/logs/             what each job has printed, and Snakemake
        everything that the stages write, in the order of pipeline/Snakefile

What other settings, code or inputs have made is made anew, and what depends on it. At the end it prints the table of
results, whether or not there was anything to do. SIGINT (Ctrl-C), SIGTERM and SIGHUP end its jobs with it, on a cluster
too; the status is then 128 and the signal's number.

    python -m pipeline run --experiment pipeline/experiments/demo.yaml --cores 2
    python -m pipeline run --experiment pipeline/experiments/demo.yaml --set training.epochs=9 --dry-run
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer
from joblib import cpu_count  # which knows a container's limit, too
from rich.console import Console

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, networks_are_new, save_settings, settings_text, whole_or_absent
from pipeline.command import (
    ExperimentOption,
    OverridesOption,
    QuietOption,
    die_with,
    make_console,
    run_command,
)  # fmt: skip
from pipeline.config import Experiment, data_root, load_experiment
from pipeline.errors import DataError, some
from pipeline.graph import Graph
from pipeline.locks import open_lock, try_lock, wait_for_lock
from pipeline.memory import available_memory
from pipeline.next_step import check_of_submission, say_next
from pipeline.processes import PYTHON, environment, stand_ins
from pipeline.progress import complain, follow, planned_jobs, times_of_logs
from pipeline.records import UPSTREAM, Examined, all_records, examine
from pipeline.results import results_table
from pipeline.stored import Results, open_json

OPTIONS_OF_SNAKEMAKE = ("SNAKEMAKE_PROFILE", "SNAKEMAKE_OUTPUT_CACHE", "SNAKEMAKE_CONDA_PREFIX")
"""Variables that Snakemake takes options from, which ``--profile`` is for."""


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
    if profile is not None and cores is not None:
        raise typer.BadParameter("goes without --profile, which says what each job gets", param_hint="--cores")
    settings = load_experiment(experiment, overrides)
    data_root(settings.data)
    if settings.pseudo.experiment is not None:
        from pipeline.data.pseudo import labelling_experiment  # with pandas, which other runs do without

        labelling_experiment(settings)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    command = _snakemake(cores, profile)
    if dry_run:
        if networks_are_new(settings):
            _check_networks(settings, fetch=False)
        _print_plan(settings, command, _examine(settings, keep_old, console), console)
        return
    os.environ |= stand_ins(artifacts.folder / ".snakemake" / "cache")
    if networks_are_new(settings):
        _check_networks(settings)
    with _only_run(artifacts.folder):
        _wait_for_earlier_jobs(artifacts.log("snakemake").parent, console)
        save_settings(settings)
        where = ["--directory", artifacts.folder, "--configfile", artifacts.settings]
        found = _examine(settings, keep_old, console)
        while found.first:  # which may come out as it was, and then what reads it holds
            batch = found.batches(settings)[0]
            _remove(batch)
            _run_graph([*command, *where, "--", *map(Graph(settings, cores=1).seen, batch)], settings, console)
            found = _examine(settings, keep_old, console, {**found.outdated, **found.first})
            if again := [str(place) for place in batch if place in found.first]:
                raise DataError(f"{some(again)}: made again, and still not whole: does anything else write there?")
        _remove([*found.outdated, *found.first])
        _run_graph([*command, *where], settings, console)
    console.print(results_table(open_json(Results, artifacts.results, "report")))
    console.print(f"submission: {artifacts.submission}")
    console.print(f"report: {artifacts.page}")
    say_next(console, *check_of_submission(settings))


def _examine(
    settings: Experiment, keep_old: bool, console: Console, said: Mapping[Path, str] = MappingProxyType({})
) -> Examined:
    """Records that no longer hold; says why, where that has not been said."""
    found = examine(settings, check_code=not keep_old)
    for record, reason in {**found.outdated, **found.first}.items():
        if reason not in (UPSTREAM, said.get(record)):
            console.print(f"run: {os.path.relpath(record, Artifacts.of(settings).folder)}: {reason}")
    return found


def _remove(records: Iterable[Path]) -> None:
    for record in records:
        record.unlink(missing_ok=True)


def _put_times_in_order(settings: Experiment) -> None:
    """Give all records one time if any is of the future, or older than one that it was made from.

    What is to be made again is known from their content. Snakemake would do it for their times as well, and refuses
    what a job has made if that is older than its inputs.
    """
    with tempfile.NamedTemporaryFile(prefix=".now.", dir=Artifacts.of(settings).folder) as file:
        now = os.stat(file.name).st_mtime_ns  # by the clock of this file system, which may be another machine's
    read = all_records(settings)
    times = {record: record.stat().st_mtime_ns for record in read}
    if any(time > now or any(times[each] > time for each in read[record]) for record, time in times.items()):
        for record in read:
            _set_time(record, now)
    labels = Graph(settings, cores=1).labels_elsewhere
    if labels is not None and labels.exists() and labels.stat().st_mtime_ns > now:
        _set_time(labels, now)


def _set_time(record: Path, now: int) -> None:
    try:
        os.utime(record, ns=(now, now))
    except PermissionError:  # another user's file, in a folder where it may be replaced
        content = record.read_bytes()
        with whole_or_absent(record) as new:
            new.write_bytes(content)
            os.utime(new, ns=(now, now))


def _snakemake(cores: int | None, profile: str | None) -> list[str]:
    """The command that makes whatever has no record, but for folder and settings."""
    command = [
        *PYTHON, "snakemake", "--snakefile", str(PROJECT / "pipeline" / "Snakefile"),
        # Without it, a folder ``profiles/default`` of the working directory is obeyed.
        "--workflow-profile", "none",
        # What has a record is whole, also if Snakemake has not lived to see it; what has none is to be made.
        "--nolock", "--ignore-incomplete", "--rerun-triggers", "mtime",
    ]  # fmt: skip
    if profile is not None:
        own = PROJECT / "pipeline" / "profiles" / profile
        return [*command, "--profile", str(own if own.is_dir() else Path(profile).resolve())]
    cores, gpus = cores or cpu_count(), _count_gpus()
    machine = ["--profile", "none", "--cores", str(cores), "--resources", f"gpu={gpus}", f"mem_mb={available_memory()}"]
    return [*command, *machine, "--config", f"cores={cores}", f"gpus={gpus}", "shared=true"]


def _count_gpus() -> int:
    if not any(Path("/dev").glob("nvidia[0-9]*")):  # torch takes seconds to import
        return 0
    import torch

    return torch.cuda.device_count()


def _run_graph(command: list[str | Path], settings: Experiment, console: Console) -> None:
    """Run Snakemake, showing what its jobs do.

    Raises:
        typer.Exit: a job has failed, or a signal has ended the run; stderr says why.
    """
    _put_times_in_order(settings)
    log = Artifacts.of(settings).log("snakemake")
    log.parent.mkdir(exist_ok=True)
    earlier = times_of_logs(log.parent)
    with (
        subprocess.Popen(
            command,
            env=_environment(PYTHONUNBUFFERED="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
            preexec_fn=partial(_prepare_snakemake, os.getpid()),
        ) as process,
        _ending_jobs_first(process.pid, console) as received,
    ):
        jobs = follow(process.stdout, log, console, earlier)
    if received:
        raise typer.Exit(128 + received[0])
    if process.returncode:
        complain(jobs, log)
        raise typer.Exit(1)


def _environment(**changes: str) -> dict[str, str]:
    """This process's, without what would give Snakemake further options; those of a profile's plugins stay."""
    return {name: value for name, value in environment(**changes).items() if name not in OPTIONS_OF_SNAKEMAKE}


def _prepare_snakemake(parent: int) -> None:
    """Let it end with this process, and be interrupted, which all that a script starts in the background ignores."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def _ending_jobs_first(group: int, console: Console) -> Iterator[list[signal.Signals]]:
    """On a signal to end, have Snakemake end first, with its jobs here and on a cluster; on a second one, end at once.

    Args:
        group: Snakemake's process group, which its jobs on this machine belong to. All are interrupted, as a terminal
            does it: Snakemake cancels its jobs on a cluster, but would wait for those here.
        console: unless a terminal, falls silent: what jobs say when they are interrupted is for their logs.

    Yields:
        The signal, once it has come.
    """
    received: list[signal.Signals] = []

    def end_jobs(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        restore()
        console.quiet |= not console.is_terminal
        os.killpg(group, signal.SIGINT)
        typer.echo(f"error: {received[0].name}: the run ends, and its jobs with it; call it again to go on", err=True)

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, end_jobs) for each in ends if signal.getsignal(each) != signal.SIG_IGN}
    try:
        yield received
    finally:
        restore()


def _print_plan(settings: Experiment, command: list[str], found: Examined, console: Console) -> None:
    """Which jobs would run, and why; writes nothing to the workspace."""
    seen = Graph(settings, cores=1).seen
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, ".snakemake", "experiment.yaml")
        config.parent.mkdir()
        config.write_text(f"{settings_text(settings)}pretended: true\n", encoding="utf-8")
        where = ["--directory", scratch, "--configfile", config, "--dry-run"]
        variables = _environment(**stand_ins(Path(scratch, ".snakemake", "cache")))

        def planned(forced: Iterable[Path], *targets: str | Path) -> dict[str, str]:
            words = [*command, *where, *(["--forcerun", *map(seen, forced)] if forced else []), *targets]
            done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
            if done.returncode:
                raise DataError(f"Snakemake cannot plan the run: {done.stdout}{done.stderr}")
            return dict(planned_jobs(done.stdout.splitlines() + done.stderr.splitlines()))

        _pretend(settings, [*all_records(settings), *found.first], Path(scratch))
        jobs: dict[str, str] = {}
        for batch in found.batches(settings):
            jobs |= planned(batch, "--", *map(seen, batch))
        jobs |= planned(found.outdated)
    for name, why in jobs.items():
        console.print(f"would run: {name}: {why}")
    console.print(f"{len(jobs)} jobs would run" if jobs else "nothing would run: all is up to date")


def _pretend(settings: Experiment, records: Iterable[Path], folder: Path) -> None:
    """Put files in a folder that look to Snakemake like these records, and like the maps of pseudo-labels."""
    graph = Graph(settings, cores=1)
    labels = graph.labels_elsewhere
    for path in [*map(graph.seen, records), *([graph.labels] if labels and labels.exists() else [])]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
        os.utime(folder / path, (0, 0))


def _check_networks(settings: Experiment, fetch: bool = True) -> None:
    """Refuse a misspelt network, or weights that are missing, unreachable or do not fit, before images are read.

    Args:
        fetch: whether to fetch what a hub has, which trainings then find in its cache.
    """
    from pipeline.learning.networks import build_network  # torch takes seconds to import: for new networks only

    for model in settings.models.values():
        if model.weights == "imagenet" and not fetch:
            model = model.model_copy(update={"weights": None})
        build_network(model, 0, len(settings.data.class_names), settings.image.tiling.size)


@contextmanager
def _only_run(folder: Path) -> Iterator[None]:
    """Hold the experiment against a second run; the system lets go of it however this one ends, its jobs with it.

    Snakemake's own lock stays behind when it is killed, and then wants to be unlocked by hand.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open_lock(folder / ".running") as lock:
        if not try_lock(lock):
            raise DataError(f"{folder}: another run of this experiment is at work")
        yield


def _wait_for_earlier_jobs(logs: Path, console: Console) -> None:
    """Wait for jobs that have outlived their run: a cluster goes on with them when it is killed by signal 9.

    A job holds the lock of its log as long as it is at work.
    """
    for log in sorted(logs.glob("*.log")):
        if log.is_symlink() or not log.is_file():  # no job's: a job that begins puts a file of its own there
            continue
        with open_lock(log) as file:
            if not try_lock(file):
                console.print(f"run: waiting for a job of an earlier run, see {log}")
                wait_for_lock(file)


if __name__ == "__main__":
    run_command(run)
