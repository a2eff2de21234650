"""Ctrl-C sent to real processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import PROJECT
from pipeline.__main__ import COMMANDS

INTERRUPTED = (130, "error: interrupted\n")


@contextmanager
def started(*words, blocked=False, **variables):
    """A command that can be interrupted, also where this process was started to ignore that, in the background."""

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    command = [sys.executable, "-P", "-m", "pipeline", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, preexec_fn=prepare, **pipes) as process:
        yield process
        process.kill()


def interrupt(process, after=0.0):
    """Status and stderr after an interrupt."""
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def wait_for(text, process):
    """Wait until a process has a file in its memory."""
    end = time.monotonic() + 60
    while text not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_interrupt_during_the_imports_is_one_line(command, tmp_path):
    """All commands import NumPy; in its place they get a module that interrupts them."""
    (tmp_path / "numpy.py").write_text("import signal\n\nsignal.raise_signal(signal.SIGINT)\n")
    with started(command, "--help", PYTHONPATH=f"{tmp_path}{os.pathsep}{PROJECT}") as process:
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == INTERRUPTED


def test_an_interrupt_while_numpy_is_imported_is_one_line():
    with started("train", "--help") as process:
        wait_for("multiarray", process)
        assert interrupt(process) == INTERRUPTED


@pytest.mark.parametrize("after", [0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
def test_an_interrupt_that_waits_for_pythons_start_is_one_line(after):
    with started("train", "--experiment", "none.yaml", "-m", "a", "-k", "0", blocked=True) as process:
        assert interrupt(process, after) == INTERRUPTED


def test_a_command_at_work_leaves_no_scratch_and_says_one_line(tmp_path, write_experiment, command_line):
    experiment = write_experiment(tmp_path, training={"epochs": 1000, "batch_size": 4})
    for stage in ("prepare", "split"):
        assert command_line(stage, "--experiment", experiment)[0] == 0
    with started("train", "--experiment", experiment, "-m", "unet", "-k", "0", PYTHONUNBUFFERED="1") as process:
        next(line for line in process.stdout if "epoch " in line)
        assert interrupt(process) == INTERRUPTED
    left = {path.name for path in (tmp_path / "kfold" / "tiny" / "unet" / "fold0").iterdir()}
    assert left <= {"history.csv", "last.ckpt"}


def test_what_a_script_starts_in_the_background_is_not_interrupted(tmp_path):
    (tmp_path / "a.csv").write_text("id,rle\na,1 3\n")
    words = [sys.executable, "-P", "-m", "pipeline", "score", "a.csv", "a.csv"]
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, **ignoring) as process:
        wait_for("multiarray", process)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
