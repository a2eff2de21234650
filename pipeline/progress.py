"""What a person sees of a run: Snakemake's jobs and what they print, on one screen or as plain lines."""

from __future__ import annotations

import queue
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.locks import open_emptied

REFRESH = 0.25  # seconds
TAIL = 30  # lines of a log that has no message for the user
UNSAID = ("score", "report")
"""Stages whose output `run` leaves out: it ends with the same table itself."""

_RULE = re.compile(r"^(?:local)?rule \w+:$")
_ERROR = re.compile(r"^Error in rule \w+:$")
_FIELD = re.compile(r"^    (jobid|log): (.+?)(?: \(check log file.*)?$")
_REASON = re.compile(r"^    reason: (.+)$")
_FINISHED = re.compile(r"^Finished jobid: (\d+)")
_STEPS = re.compile(r"^(\d+) of (\d+) steps")


@dataclass
class Job:
    """A job that Snakemake has started."""

    log: Path
    earlier: int | None = None
    """When an earlier run's job has last written to the log: such a log stays until the job's shell opens it."""
    started: float = field(default_factory=time.monotonic)
    said: int = 0
    """Bytes of the log that have been read."""
    last: str = ""
    """Its latest line."""

    @property
    def name(self) -> str:
        """``train-unet-fold0.log`` -> ``train unet fold0``."""
        return self.log.stem.replace("-", " ")

    @property
    def has_log(self) -> bool:
        """Whether the log is there, and this job's."""
        return self.log.exists() and self.log.stat().st_mtime_ns != self.earlier

    def new_lines(self) -> list[str]:
        """Complete lines that the log has got since the last call."""
        if not self.has_log:
            return []
        with self.log.open("rb") as file:
            file.seek(self.said)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.said += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        self.last = next((line.strip() for line in reversed(lines) if line.strip()), self.last)
        return lines

    def complaint(self) -> list[str]:
        """What to tell the user after it has failed: its errors, or for a bug the end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.has_log else []
        return [line for line in lines if line.startswith("error: ")] or [*lines[-TAIL:], f"error: see {self.log}"]


@dataclass
class Jobs:
    """The jobs of a run, told from Snakemake's own lines."""

    folder: Path
    """Snakemake's, from which it names logs."""
    earlier: Mapping[Path, int]
    """Logs that the run has found, of ``times_of_logs``."""
    running: dict[str, Job] = field(default_factory=dict)
    finished: list[Job] = field(default_factory=list)
    failed: list[Job] = field(default_factory=list)
    done: int = 0
    total: int = 0
    _in_rule: bool = False
    _fields: dict[str, str] = field(default_factory=dict)

    def read(self, line: str) -> None:
        """Take one line of Snakemake's output into account."""
        if _RULE.match(line) or _ERROR.match(line):
            self._in_rule, self._fields = bool(_RULE.match(line)), {}
        elif found := _FIELD.match(line):
            self._fields[found[1]] = found[2]
            self._notice_job(found[1])
        elif found := _FINISHED.match(line):
            if job := self.running.pop(found[1], None):
                self.finished.append(job)
                self.failed = [each for each in self.failed if each.log != job.log]  # it was tried again
        elif found := _STEPS.match(line):
            self.done, self.total = int(found[1]), int(found[2])

    def _notice_job(self, last_field: str) -> None:
        number = self._fields.get("jobid")
        if self._in_rule and number and "log" in self._fields:
            log = self.folder / self._fields["log"]
            self.running.setdefault(number, Job(log, self.earlier.get(log)))
        elif not self._in_rule and last_field == "jobid" and number in self.running:
            self.failed.append(self.running.pop(number))


def planned_jobs(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Jobs that Snakemake's dry run lists, each with the reason in words."""
    words = {"Forced execution": "out of date", "Missing output files": "not done yet"}
    found, log = [], None
    for line in lines:
        if _RULE.match(line):
            log = None
        elif (field_ := _FIELD.match(line)) and field_[1] == "log":
            log = Path(field_[2])
        elif log and (reason := _REASON.match(line)):
            why = next((text for start, text in words.items() if reason[1].startswith(start)), None)
            found.append((Job(log).name, why or "reads what another job makes anew"))
            log = None
    return found


def times_of_logs(folder: Path) -> dict[Path, int]:
    """When each log in a folder was last written to, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*.log")}


def follow(output: IO[str], copy: Path, console: Console, earlier: Mapping[Path, int]) -> Jobs:
    """Show a run until Snakemake ends.

    Args:
        output: Snakemake's.
        copy: file for all of it, in the folder ``logs`` of the one that Snakemake works in.
        console: a terminal gets a table of the running jobs that changes, and below it what jobs that are done have
            said, without its indented lines; anything else gets all lines as they come. A quiet one gets nothing.
        earlier: ``times_of_logs`` before Snakemake was started.

    Returns:
        The jobs as they were at the end.
    """
    jobs = Jobs(copy.parent.parent, earlier)
    live = console.is_terminal and not console.quiet
    with (
        open(open_emptied(copy), "w", encoding="utf-8") as log,
        Live(console=console, auto_refresh=False, transient=True) as screen,
    ):
        for lines in _as_they_come(output):
            for line in lines:
                log.write(line)
                jobs.read(line.rstrip("\n"))
            log.flush()
            _say(jobs, console, only_when_done=live)
            if live:
                screen.update(_table(jobs, console.width), refresh=True)
        screen.update("", refresh=live)
    return jobs


def _as_they_come(output: IO[str]) -> Iterator[list[str]]:
    """Lines of a pipe, all that have come, at least four times a second."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in output], daemon=True)
    reader.start()
    alive = True
    while alive:
        reader.join(REFRESH)
        alive = reader.is_alive()
        yield [lines.get() for _ in range(lines.qsize())]


def _say(jobs: Jobs, console: Console, only_when_done: bool) -> None:
    """Print what jobs have said; what one has said when it failed goes elsewhere."""
    for job in jobs.running.values():
        lines = job.new_lines()
        if not only_when_done:
            _print(job, lines, console)
    while jobs.finished:
        job = jobs.finished.pop(0)
        if only_when_done:
            job.said = 0
        lines = job.new_lines()
        _print(job, [line for line in lines if not (only_when_done and line.startswith("  "))], console)


def _print(job: Job, lines: list[str], console: Console) -> None:
    if lines and job.name not in UNSAID:
        console.print("\n".join(line for line in lines if not line.startswith("error: ")))


def _table(jobs: Jobs, width: int) -> Table:
    """The running jobs, a line each."""
    table = Table(box=None, padding=(0, 2, 0, 0), width=width, title_justify="left")
    table.title = f"{jobs.done} of {jobs.total} jobs done" if jobs.total else "starting"
    table.add_column("running", no_wrap=True, style="bold")
    table.add_column("for", no_wrap=True, justify="right")
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for job in jobs.running.values():
        seconds = int(time.monotonic() - job.started)
        table.add_row(job.name, f"{seconds // 60}:{seconds % 60:02d}", job.last)
    return table


def complain(jobs: Jobs, log: Path) -> None:
    """Say on stderr why a run has failed."""
    lines = [line for job in jobs.failed for line in job.complaint()]
    if not lines:
        lines = [*log.read_text(encoding="utf-8").splitlines()[-TAIL:], f"error: Snakemake failed: see {log}"]
    print("\n".join(lines), file=sys.stderr)
