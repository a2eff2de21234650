"""A run whose jobs go to the nodes of a Slurm; skipped where none can be started."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline import PROJECT

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
from kills import EXPERIMENT, Trial
from slurm import NODES, cluster, why_not

reason = why_not()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"no Slurm: {reason}")


@pytest.fixture
def profile(tmp_path):
    """The project's profile, cut to the small nodes."""
    settings = yaml.safe_load((PROJECT / "pipeline" / "profiles" / "slurm" / "config.yaml").read_text())
    settings |= {"config": ["cores=1", "gpus=0"], "latency-wait": 5, "jobs": len(NODES)}
    settings["default-resources"] = ["mem_mb=500", "runtime=10"]
    settings["set-resources"] = ["train:mem_mb=2000", "predict:mem_mb=2000"]
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "profile"


def lose_a_training(trial, process):
    """Kill the first training that is seen, as if its node had failed."""
    while process.poll() is None:
        trainings = [number for number, name in trial.processes().items() if name == "train"]
        if trainings:
            os.kill(trainings[0], signal.SIGKILL)
            return
        time.sleep(0.05)


def test_a_run_over_two_nodes_of_which_one_fails_ends_like_a_run_here(tmp_path, monkeypatch, profile):
    monkeypatch.setitem(EXPERIMENT, "models", {"unet": EXPERIMENT["models"]["unet"]})
    here, there = Trial(tmp_path / "here"), Trial(tmp_path / "there")
    here.run(0, random.Random(0))
    with cluster():
        process = there.start("--profile", str(profile))
        lose_a_training(there, process)
        status = process.wait()
        states = subprocess.run(["scontrol", "show", "jobs"], capture_output=True, text=True, check=False).stdout
    assert status == 0, (there.workspace / "output.log").read_text()
    assert {name for name in NODES if f"NodeList={name}" in states} == set(NODES)
    assert there.submission.read_bytes() == here.submission.read_bytes()
