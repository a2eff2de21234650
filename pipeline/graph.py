"""What the Snakefile has to know about an experiment: its jobs' commands, and each one's share of the machine."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import Artifacts, FoldArtifacts
from pipeline.command import PARENT
from pipeline.config import Experiment
from pipeline.members import member_name
from pipeline.records import record_of
from pipeline.rle import get_format
from pipeline.safe_paths import join_inside

LINKS = Path(".snakemake", "links")
"""Folder, in the one that Snakemake works in, of links to what lies elsewhere."""


REDIRECTED = (sys.executable, "-P", "-m", "pipeline.redirect")
"""Runs a command with its output in a log: the shell's ``>`` would follow a symbolic link."""


class SeenArtifacts(Artifacts):
    """An experiment's paths from its own folder, without the folders above it, whose names may be anything."""

    @property
    def folder(self) -> Path:
        return Path()

    @property
    def submission(self) -> Path:
        return LINKS / "submissions" / f"{self.name}.csv"


def _for_shell(command: Sequence[str | Path]) -> str:
    """A command for Snakemake, which hands it to a shell when it has filled in what stands in braces."""
    return shlex.join(map(str, command)).replace("{", "{{").replace("}", "}}")


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
        """Paths as Snakemake has them, which works in the experiment's folder.

        It takes braces in a path for wildcards, and has no way to write a brace that is none. These have none.
        """
        return SeenArtifacts(self.settings.workspace, self.settings.name, self.settings.prediction.parts)

    def link(self) -> None:
        """Link, in the working directory, which is Snakemake's, to what lies outside of the experiment's folder.

        Raises:
            DataError: the links' own folder leads elsewhere.
        """
        settings = self.settings
        links = {"submissions": Artifacts.of(settings).submission.parent}
        if settings.pseudo.experiment:
            links["labels"] = Artifacts(settings.workspace, settings.pseudo.experiment).folder
        join_inside(Path.cwd(), str(LINKS))
        LINKS.mkdir(parents=True, exist_ok=True)
        for name, target in links.items():
            link = LINKS / name
            if link.is_symlink() and link.readlink() == target:  # as where many jobs of a cluster begin at once
                continue
            if link.is_dir() and not link.is_symlink():  # in a copy that has followed links
                shutil.rmtree(link)
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    def seen(self, path: Path) -> Path:
        """A path of ``Artifacts.of``, as Snakemake has it."""
        artifacts = Artifacts.of(self.settings)
        inside = path.is_relative_to(artifacts.folder)
        return path.relative_to(artifacts.folder) if inside else self.artifacts.submission.with_name(path.name)

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
        return LINKS / "labels" / record_of(self.artifacts.ensemble_test)

    @property
    def labels_elsewhere(self) -> Path | None:
        """Real path of that record; None: there are no pseudo-labels."""
        name = self.settings.pseudo.experiment
        return record_of(Artifacts(self.settings.workspace, name).ensemble_test) if name else None

    @property
    def pseudo(self) -> list[Path]:
        """Records of the pseudo-labels, where there are any."""
        return [record_of(self.artifacts.pseudo(fold)) for fold in self.folds if self.settings.pseudo.experiment]

    @property
    def truth(self) -> list[Path]:
        """Record of the test images' true masks, where they are known."""
        return [record_of(self.artifacts.truth)] if self.settings.data.knows_test_truth else []

    def command(self, stage: str, *arguments: str) -> str:
        """A stage's command for the shell, its output in the job's log; Snakemake fills in the braces.

        The stage takes the shell's place, so that it has this process, Snakemake, for a parent, and ends with it.
        """
        command = [sys.executable, "-P", "-m", "pipeline", stage, "--experiment", Artifacts.of(self.settings).settings]
        environment = f"exec env OMP_NUM_THREADS={{threads}} {PARENT}={os.getpid()}"
        return " ".join([environment, _for_shell(REDIRECTED), "{log:q}", _for_shell(command), *arguments])

    def score_options(self) -> list[str]:
        """How the submission is scored."""
        from pipeline.submitted import format_of_submission  # imports pandas

        settings = self.settings
        fmt = format_of_submission(settings.data)
        as_set = fmt == get_format(settings.data.submission_format)
        return [
            *("--metric", settings.tuning.metric, "--beta", str(settings.tuning.beta)),
            *("--both-empty", str(settings.tuning.both_empty)),
            *("--format", settings.data.submission_format if as_set else fmt.name, "--truth-format", "kaggle"),
            *("--class-column", settings.data.class_column_of_csvs or "none"),
        ]

    def score_command(self) -> str:
        """Scores the submission against the truth."""
        artifacts = Artifacts.of(self.settings)
        words = [artifacts.submission, artifacts.truth, *self.score_options()]
        return self.command("score", _for_shell(words))

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
