"""What the Snakefile has to know about an experiment: its jobs' commands, and each one's share of the machine."""

from __future__ import annotations

import math
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import Artifacts, FoldArtifacts
from pipeline.command import PARENT
from pipeline.config import Experiment
from pipeline.members import member_name
from pipeline.records import record_of


@dataclass(frozen=True)
class Graph:
    """The jobs of an experiment.

    Args:
        settings: as resolved.
        cores: of the machine, or of one machine of a cluster.
        gpus: likewise.
        shared: whether all jobs run on this one machine, at once where they fit.
    """

    settings: Experiment
    cores: int
    gpus: int = 0
    shared: bool = False

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts.of(self.settings)

    @property
    def models(self) -> list[str]:
        return list(self.settings.models)

    @property
    def folds(self) -> range:
        return range(self.settings.folds.count)

    @property
    def parts(self) -> range:
        """Of the test images, each predicted by a job of its own."""
        return range(1, self.settings.prediction.parts + 1)

    @property
    def held_out_maps(self) -> list[Path]:
        """Records of a fold's maps of the images that it holds out."""
        return [record_of(of_view.oof) for of_view in self._of_views()]

    def test_maps(self, *parts: int | str) -> list[Path]:
        """Records of a fold's maps of some parts of the test images."""
        return [record_of(of_view.test(part)) for of_view in self._of_views() for part in parts]

    def _of_views(self) -> list[FoldArtifacts]:
        """A fold's artifacts for each view that is stored; Snakemake fills in the braces."""
        members = [member_name("{model}", view) for view in self.settings.prediction.stored_views]
        return [self.artifacts.fold(member, "{fold}") for member in members]

    @property
    def labels(self) -> Path:
        """Record of the maps that pseudo-labels are made from."""
        return record_of(Artifacts(self.settings.workspace, self.settings.pseudo.experiment).ensemble_test)

    @property
    def pseudo(self) -> list[Path]:
        """Records of the pseudo-labels, where there are any."""
        return [record_of(self.artifacts.pseudo(fold)) for fold in self.folds if self.settings.pseudo.experiment]

    @property
    def truth(self) -> list[Path]:
        """The test images' true masks, where they are known."""
        return [self.artifacts.truth] if self.settings.data.knows_test_truth else []

    def command(self, stage: str, *arguments: str) -> str:
        """A stage's command for the shell, its output in the job's log; Snakemake fills in the braces.

        The stage takes the shell's place, so that it has this process, Snakemake, for a parent, and ends with it.
        """
        command = [sys.executable, "-P", "-m", "pipeline", stage, "--experiment", str(self.artifacts.settings)]
        environment = f"exec env OMP_NUM_THREADS={{threads}} {PARENT}={os.getpid()}"
        return " ".join([environment, shlex.join(command), *arguments, "> {log:q} 2>&1"])

    def score_options(self) -> str:
        """How the submission is scored."""
        settings = self.settings
        options = [
            *("--metric", settings.tuning.metric, "--beta", str(settings.tuning.beta)),
            *("--both-empty", str(settings.tuning.both_empty)),
            *("--format", settings.data.submission_format, "--truth-format", "kaggle"),
            *("--class-column", settings.data.class_column_of_csvs or "none"),
        ]
        return shlex.join(options)

    def score_command(self) -> str:
        """Scores the submission against the truth."""
        command = [sys.executable, "-P", "-m", "pipeline", "score", "--json"]
        files = [str(self.artifacts.submission), str(self.artifacts.truth)]
        return f"{shlex.join(command + files)} {{params.options}} > {{output:q}} 2> {{log:q}}"

    def cores_of(self, model: str, fold: int | str, part: int | str | None = None) -> int:
        """Processor cores for a fold's training, or for a part of its prediction.

        Beside a GPU its share of the machine; all of it where no other job is on it. Else one, since two trainings on a
        core each take four fifths of the time that they take after each other on both; those for which not enough
        cores are left share what would be idle.
        """
        if self.gpus:
            return max(1, self.cores // self.gpus)
        if not self.shared:
            return self.cores
        part, parts = (1, 1) if part is None else (int(part), len(self.parts))
        number = (self.models.index(model) * len(self.folds) + int(fold)) * parts + part - 1
        jobs = len(self.models) * len(self.folds) * parts
        rest = jobs % self.cores
        return 1 if number < jobs - rest else self.cores // rest

    def memory_of_training(self, model: str) -> int:
        """MiB that a training takes at most, a bit more than was measured: 1.2 KB a pixel of a batch on a CPU."""
        settings = self.settings.models[model].training
        if self.gpus:
            return 1500 * (1 + settings.devices)
        return 1500 + round(1.5e-3 * math.prod(self.settings.image.tiling.size) * settings.batch_size)

    @property
    def memory_of_prediction(self) -> int:
        """MiB likewise: 0.4 KB a pixel of a batch."""
        options = self.settings.prediction
        pixels = math.prod(self.settings.image.tiling.size) * options.batch_size * max(options.scales) ** 2
        return 1500 + round(0.5e-3 * pixels)

    def gpus_of(self, model: str) -> int:
        """GPUs for a training of that model."""
        return min(self.gpus, self.settings.models[model].training.devices)
