"""A run whose jobs go to the nodes of a Slurm; skipped where none can be started."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from pipeline import PROJECT
from pipeline.artifacts import Artifacts

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
from kills import Trial
from slurm import NODES, cluster, why_not

reason = why_not()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"no Slurm: {reason}")


@pytest.fixture
def profile(tmp_path):
    """The project's profile, cut to the small nodes."""
    settings = yaml.safe_load((PROJECT / "pipeline" / "profiles" / "slurm" / "config.yaml").read_text())
    settings |= {"config": ["cores=1", "gpus=0"], "latency-wait": 5, "jobs": len(NODES)}
    settings["slurm-init-seconds-before-status-checks"] = 1
    settings["default-resources"] = ["mem_mb=500", "runtime=10"]
    settings["set-resources"] = ["train:mem_mb=2000", "predict:mem_mb=2000"]
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "profile"


@contextmanager
def started(trial, profile):
    """A run over the nodes; what is left of it at the end of the block is killed by signal 9."""
    process = trial.start("--profile", str(profile))
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition, trial, process):
    """Wait for what must come before the run ends."""
    while not condition():
        assert process.poll() is None, (trial.workspace / "output.log").read_text()
        time.sleep(0.05)


def stages(trial):
    """What is at work but for Snakemake, whose process around a job may hang when Slurm ends the job."""
    return set(trial.processes().values()) - {"snakemake"}


def numbers(trial, stage):
    return [number for number, name in trial.processes().items() if name == stage]


def test_a_run_over_two_nodes_that_is_ended_and_killed_and_loses_a_job_ends_like_a_run_here(
    tmp_path, one_network, profile
):
    trial = Trial(tmp_path / "there", one_network.settings)
    log = Artifacts(trial.workspace, "tiny").log("snakemake")
    with cluster():
        # What ends the run cancels its jobs.
        with started(trial, profile) as process:
            wait_for(lambda: numbers(trial, "train"), trial, process)
            process.terminate()
            assert process.wait() == 128 + signal.SIGTERM
        end = time.monotonic() + 120
        while stages(trial):
            assert time.monotonic() < end, "jobs have outlived their run"
            time.sleep(0.05)
        # What cannot be caught leaves them.
        with started(trial, profile) as process:
            wait_for(lambda: len(numbers(trial, "train")) == len(NODES), trial, process)
            nodes = subprocess.run(["squeue", "-h", "-o", "%N"], capture_output=True, text=True, check=True).stdout
        # The next run waits for them, and does not do their work again. A job whose node fails is tried again.
        with started(trial, profile) as process:
            wait_for(lambda: numbers(trial, "predict"), trial, process)
            os.kill(numbers(trial, "predict")[0], signal.SIGKILL)
            assert process.wait() == 0, (trial.workspace / "output.log").read_text()
    assert set(nodes.split()) == set(NODES)
    assert "waiting for a job of an earlier run" in (trial.workspace / "output.log").read_text()
    assert "rule train:" not in log.read_text()
    assert "Trying to restart job" in log.read_text()
    assert trial.submission.read_bytes() == one_network.artifacts.submission.read_bytes()
