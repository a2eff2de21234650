"""A bundle's notebook on some test images, run with nothing around it, against the experiment's submission."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from rich.console import Console

from pipeline.artifacts import Artifacts, copy_folder, fingerprint, need, settings_text, write_text
from pipeline.bundling import execute
from pipeline.bundling.contents import NOTEBOOK, write_settings
from pipeline.bundling.plans import first_photographs
from pipeline.config import Experiment
from pipeline.data.cache import image_sizes, read_images
from pipeline.errors import DataError
from pipeline.processes import PYTHON, environment
from pipeline.records import record_of
from pipeline.rle import dices, read_csv
from pipeline.safe_paths import join_inside
from pipeline.stored import MANIFEST, Manifest, Maps, open_json
from pipeline.submitted import format_of_submission

ALIKE = 0.999
"""Mean Dice from which masks count as the same where another engine or machine has computed them."""


def check_bundle(folder: Path, settings: Experiment, console: Console) -> None:
    """Run the notebook on a batch of test images and compare its rows.

    They must be those of the submission; with fewer folds or views, those of ``segment`` with as few.

    Raises:
        DataError: the bundle is damaged or of another experiment, its notebook fails, or its masks are others.
    """
    manifest = open_json(Manifest, folder / MANIFEST, "bundle")
    if manifest["experiment"] != settings.name:
        raise DataError(f"{folder} is of the experiment {manifest['experiment']!r}, not of {settings.name!r}")
    check_files(folder, manifest["files"])
    console.print(f"bundle: running the notebook of {folder} on some test images")
    with tempfile.TemporaryDirectory() as scratch:
        room = Room(Path(scratch), settings)
        room.furnish(folder)
        started = time.perf_counter()
        how = room.run_notebook()
        seconds = time.perf_counter() - started
        if manifest["options"]:
            room.expect_of(manifest["options"])
        verdict = room.verdict()
    console.print(f"bundle: {seconds:.0f} s {how}: {verdict}")


def check_files(folder: Path, prints: dict[str, str]) -> None:
    """Refuse a bundle whose files are not as they were written.

    Raises:
        DataError: one is missing or damaged, or its name leads out of the bundle.
    """
    for name, known in prints.items():
        path = join_inside(folder, name)
        if not path.is_file():
            raise DataError(f"{path} is missing: make the bundle again")
        if fingerprint(path) != known:
            raise DataError(f"{path} is damaged, or another one than was bundled: make the bundle again")


class Room:
    """A folder with a bundle, test images and nothing else."""

    def __init__(self, folder: Path, settings: Experiment) -> None:
        self.folder, self.artifacts = folder, Artifacts.of(settings)
        record = record_of(need(self.artifacts.fold(settings.members[0], 0).tests[0], "predict"))
        # The submission's engine, since for so few images another one may be chosen.
        engine = open_json(Maps, record, "predict").get("engine") or "auto"
        prediction = settings.prediction.model_copy(update={"engine": engine.split()[0]})
        self.settings = settings.model_copy(update={"prediction": prediction})
        self.images, self.sample = folder / "images", folder / "sample.csv"
        self.expected, self.found = folder / "expected.csv", folder / "submission.csv"

    def furnish(self, bundle: Path) -> None:
        """Copy the bundle and a batch of test images, and take their rows from the submission."""
        copy_folder(bundle, self.folder / "bundle")
        (self.folder / "home").mkdir()
        self.images.mkdir()
        photographs = first_photographs(self.settings)
        for path in photographs.values():
            shutil.copy(path, self.images)
        rows = read_rows(need(self.artifacts.submission, "submit"))
        rows = rows[rows.iloc[:, 0].isin(photographs)]
        rows.to_csv(self.expected, index=False)
        empty = format_of_submission(self.settings.data).empty
        rows.assign(**{rows.columns[-1]: empty}).to_csv(self.sample, index=False)
        write_settings(Artifacts(self.folder / "bundle", self.settings.name).settings, self.settings)

    def run_notebook(self) -> str:
        """Run it in a process with an environment of its own; how, in words.

        Raises:
            DataError: a cell has failed.
        """
        alone = without_network()
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "EXPERIMENT": str(Artifacts(self.folder / "bundle", self.settings.name).settings),
            "IMAGES": str(self.images),
            "SAMPLE": str(self.sample),
        }
        command = [*alone, sys.executable, "-I", execute.__file__, self.folder / "bundle" / NOTEBOOK]
        done = subprocess.run(
            command, env=variables, cwd=self.folder, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            raise DataError(f"the notebook fails:\n{done.stderr.strip()}")
        return "without a network" if alone else "(with the network, which this system takes from no process)"

    def expect_of(self, options: list[str]) -> None:
        """Expect the rows that the command ``segment`` makes of the experiment with these options."""
        experiment = self.folder / "experiment.yaml"
        write_text(experiment, settings_text(self.settings))
        command = [*PYTHON, "pipeline", "segment", "--experiment", experiment, self.images, *options]
        command += ["--csv", self.expected, "--sample", self.sample]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, errors="backslashreplace", check=False
        )
        if done.returncode:
            raise DataError(done.stderr.strip())

    def verdict(self) -> str:
        """How the rows that were found are to those expected, in words.

        Raises:
            DataError: their ids or masks are others.
        """
        found, expected = read_rows(self.found), read_rows(self.expected)
        if not found.iloc[:, :-1].equals(expected.iloc[:, :-1]):
            raise DataError(f"the notebook wrote other rows than {self.artifacts.submission} has")
        if found.equals(expected):
            return f"all {len(found)} masks are as expected, to the pixel"
        alike = self.mean_dice(list(found))
        if alike < ALIKE:
            raise DataError(f"the notebook's masks are not those expected: their mean Dice is {alike:.4f}")
        return f"{len(found)} masks are as expected with a mean Dice of {alike:.5f}, by another engine or machine"

    def mean_dice(self, columns: list[str]) -> float:
        """Of the masks that were found and those expected."""
        data = self.settings.data
        sizes = image_sizes(read_images(self.artifacts, "test"))
        tables = [
            read_csv(
                path,
                format_of_submission(data),
                columns=(columns[0], columns[-1]),
                class_column=data.class_column_of_csvs,
                sizes=sizes,
                own=True,
            )
            for path in (self.found, self.expected)
        ]
        return float(dices(*tables).mean())


def read_rows(path: Path) -> pd.DataFrame:
    """A submission as texts: id, class where there are several, RLE."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def without_network() -> list[str]:
    """What runs a command without a network; nothing where the system has or permits no such thing."""
    command = ["unshare", "--net", "--map-root-user"]
    if shutil.which(command[0]) is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        return []
    return command
