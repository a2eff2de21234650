"""The command that comes after each one, as the last line of what it prints when it is called by hand."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pipeline import PROJECT
from pipeline.artifacts import Artifacts
from pipeline.command import PARENT
from pipeline.members import split_member

if TYPE_CHECKING:
    from pipeline.config import Experiment  # which commands on CSV files do without

AFTER = {"prepare": "split", "split": "pseudo", "ensemble": "tune", "tune": "submit", "submit": "report"}


def next_stage(done: str, settings: Experiment, model: str = "", fold: int = 0) -> list[str]:
    """The stage that comes after one, and the options that say what it is to work on.

    Args:
        done: the stage.
        model, fold: what has been trained, if it is that stage.
    """
    if done == "train":
        return _of_fold("predict", model, fold)
    if done == "predict":
        return _first_missing(settings)
    if done == "pseudo" or (done == "split" and settings.pseudo.experiment is None):
        return _of_fold("train", next(iter(settings.models)), 0)
    return [AFTER[done]]


def _first_missing(settings: Experiment) -> list[str]:
    """The training or prediction that is still to be done, or what comes after all of them."""
    artifacts = Artifacts.of(settings)
    for member in settings.members:
        model, _ = split_member(member)
        for fold in range(settings.folds.count):
            paths = artifacts.fold(member, fold)
            if not paths.weights.exists():
                return _of_fold("train", model, fold)
            there = [path.exists() for path in paths.tests]
            there[0] &= paths.oof.exists()
            if not all(there):
                part = ["--part", f"{there.index(False) + 1}/{len(there)}"] if any(there) else []
                return [*_of_fold("predict", model, fold), *part]
    return ["ensemble"]


def _of_fold(stage: str, model: str, fold: int) -> list[str]:
    return [stage, "--model", model, "--fold", str(fold)]


def check_of_submission(settings: Experiment) -> list[str | Path]:
    """What looks through an experiment's submission before it is uploaded, with all that the data set knows of it."""
    data = settings.data
    words = ["lint", Artifacts.of(settings).submission, "--format", data.submission_format]
    if data.class_column_of_csvs is not None:
        words += ["--class-column", data.class_column_of_csvs]
    words += ["--exif", data.exif] if data.exif != "apply" else []
    for option, place in (("--sample", "sample_submission"), ("--images", "test_images")):
        if name := getattr(data, place, None):
            words += [option, data.root / name]
    return words


def say_next_stage(console: Console, stage: Sequence[str], file: Path, overrides: Sequence[str] | None) -> None:
    """Print the command of a stage, for the experiment that was given with the same overrides."""
    name, *options = stage
    given = [word for override in overrides or [] for word in ("--set", override)]
    say_next(console, name, "--experiment", file, *given, *options)


def say_next(console: Console, *words: str | Path) -> None:
    """Print a command as it can be pasted; nothing in a job of a run, which knows itself what comes next."""
    if PARENT in os.environ:
        return
    interpreter = Path(sys.orig_argv[0])  # as it was called, such as .venv/bin/python
    shown = [_from_here(word) if isinstance(word, Path) else word for word in words]
    # Elsewhere -m does not find the project, and would find what lies there.
    found, safe = ([], []) if Path.cwd() == PROJECT else (["env", f"PYTHONPATH={PROJECT}"], ["-P"])
    console.print(f"next: {shell_line([*found, _from_here(interpreter), *safe, '-m', 'pipeline', *shown])}")


def shell_line(words: Iterable[str]) -> str:
    """Return a command as a line that a shell takes apart into these words, whatever is in them."""
    return " ".join(shlex.quote(word) if word.isprintable() else _as_bytes(word) for word in words)


def _as_bytes(word: str) -> str:
    """``$'...'``, as bash and zsh have it, for what cannot be printed: line ends, escapes, bytes that are no UTF-8."""
    return "$'" + "".join(_escape(letter) for letter in word) + "'"


def _escape(letter: str) -> str:
    if letter in "'\\":
        return f"\\{letter}"
    return letter if letter.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))


def _from_here(path: Path) -> str:
    """A path, without the working directory if it lies there; never like an option."""
    here = Path.cwd()
    shown = str(path.relative_to(here) if path.is_relative_to(here) else path)
    return f"./{shown}" if shown.startswith("-") else shown
