"""Where every artifact lives, how it is written whole or not at all, and what is recorded beside it.

The layout is described for users in ``kfold/README.md`` and ``submissions/README.md``; no other module
spells a path of it.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.members import AS_IT_IS, member_name, split_member
from pipeline.scratch import PREFIX, scratch_beside

if TYPE_CHECKING:
    from pipeline.config import Experiment  # with pydantic and yaml, which commands on CSV files do without

LONGEST_URL = 4096
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://[^\x00-\x1f\x7f\N{REPLACEMENT CHARACTER}]+")

LIBRARIES = ("torch", "segmentation-models-pytorch", "timm", "lightning", "albumentations", "opencv-python-headless")


@dataclass(frozen=True)
class FoldArtifacts:
    """Paths of one trained fold."""

    folder: Path
    view: str = AS_IT_IS
    """Whose maps ``oof`` and ``test`` are."""
    parts: int = 1
    """Into how many parts the test images are divided."""

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def checkpoint(self) -> Path:
        """Present only while training: what an interrupted training resumes from."""
        return self.folder / "last.ckpt"

    @property
    def tensorboard(self) -> Path:
        """The history once more, in a folder that TensorBoard shows beside those of the other folds and models."""
        model = self.folder.parent
        return model.parent / "tensorboard" / f"{model.name}-{self.folder.name}"

    @property
    def oof(self) -> Path:
        return self.folder / f"{member_name('oof', self.view)}.zarr"

    def test(self, part: int | str) -> Path:
        """Maps of one part of the test images, which count from 1."""
        name = "test" if self.parts == 1 else f"test-{part}of{self.parts}"
        return self.folder / f"{member_name(name, self.view)}.zarr"

    @property
    def tests(self) -> list[Path]:
        """Those of all parts."""
        return [self.test(part) for part in range(1, self.parts + 1)]


@dataclass(frozen=True)
class Artifacts:
    """Paths of one experiment."""

    workspace: Path
    name: str
    parts: int = 1
    """Into how many parts the test images of a fold are divided."""
    probabilities: str | None = None
    """URL of the folder that probability maps are written to, if not here."""

    @classmethod
    def of(cls, experiment: Experiment) -> Artifacts:
        return cls(experiment.workspace, experiment.name, experiment.prediction.parts, experiment.probabilities)

    @property
    def folder(self) -> Path:
        return self.workspace / "kfold" / self.name

    @property
    def settings(self) -> Path:
        return self.folder / "experiment.yaml"

    @property
    def images(self) -> Path:
        return self.folder / "images.csv"

    @property
    def image_range(self) -> Path:
        """The scale of images of more than 8 bits a channel, if there are any."""
        return self.folder / "image_range.json"

    @property
    def truth(self) -> Path:
        """Masks of the test images, where the source knows them."""
        return self.folder / "truth.csv"

    @property
    def cache(self) -> Path:
        """Small copies at network size: ``train_images.npy``, ``train_masks.npy``, ``test_images.npy``."""
        return self.folder / "cache"

    @property
    def folds(self) -> Path:
        return self.folder / "folds.csv"

    def pseudo(self, fold: int | str) -> Path:
        """Masks of test images that join the training of that fold."""
        return self.folder / "pseudo" / f"fold{fold}.csv"

    def fold(self, member: str, fold: int | str) -> FoldArtifacts:
        """Those of a model, or of one of its views by the name that the ensemble knows it by."""
        model, view = split_member(member)
        return FoldArtifacts(self.folder / model / f"fold{fold}", view, self.parts)

    @property
    def ensemble_weights(self) -> Path:
        return self.folder / "ensemble" / "weights.json"

    @property
    def ensemble_oof(self) -> Path:
        return self.folder / "ensemble" / "oof.zarr"

    @property
    def ensemble_test(self) -> Path:
        return self.folder / "ensemble" / "test.zarr"

    @property
    def tuning(self) -> Path:
        return self.folder / "tuning.json"

    @property
    def score(self) -> Path:
        return self.folder / "score.json"

    @property
    def results(self) -> Path:
        return self.folder / "results.json"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.png"

    @property
    def page(self) -> Path:
        return self.folder / "report.html"

    @property
    def submission(self) -> Path:
        return self.workspace / "submissions" / f"{self.name}.csv"

    @property
    def submission_record(self) -> Path:
        """Provenance of the submission."""
        return self.submission.with_suffix(".json")

    @property
    def oof_masks(self) -> Path:
        """Like the submission, of the training images."""
        return self.workspace / "submissions" / f"{self.name}-oof.csv"

    def url_of(self, maps: Path) -> str | None:
        """Where maps are written to in place of their own path, if they are."""
        if self.probabilities is None:
            return None
        return f"{self.probabilities}/{maps.relative_to(self.folder.parent).as_posix()}"

    def log(self, job: str) -> Path:
        """What a stage has printed, where ``run`` started it."""
        return self.folder / "logs" / f"{job}.log"


def need(path: Path, stage: str) -> Path:
    """``path`` if it exists.

    Raises:
        DataError: it does not; the message names the stage that writes it.
    """
    if not path.exists():
        raise DataError(f"{path} is missing: run the stage {stage!r} first")
    return path


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """A temporary file or folder to write to, renamed to ``path`` if the block succeeds.

    A reader sees the old artifact or the new one, never a part; a failure leaves the old one in place. Of several
    processes that write an artifact at once, the last one's stays. A symbolic link is replaced, not followed.

    Raises:
        DataError: a file would replace a folder or a device.
        OSError: a full disk, say; it names the artifact where the system has named no file.
    """
    try:
        with scratch_beside(path) as scratch:
            new = scratch / path.name
            yield new
            _replace(new, path, aside=scratch.parent)
    except OSError as error:
        if error.filename is None or (error.filename2 is None and PREFIX in os.fsdecode(error.filename)):
            error.filename = str(path)
        raise


def _replace(new: Path, path: Path, aside: Path) -> None:
    """Rename ``new`` to ``path``; a folder takes no other's place, so what is there goes ``aside`` first."""
    if new.is_file() and path.exists() and not path.is_file():
        raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'no plain file'}; a file is to be written there")
    in_the_way = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) if new.is_dir() else ()
    old = None
    for number in itertools.count():  # more than once only where another writer is faster
        try:
            os.replace(new, path)
            return
        except OSError as error:
            if error.errno not in in_the_way:
                if old is not None and os.path.lexists(old):
                    os.replace(old, path)
                raise
        old = aside / f"old-{number}"
        with suppress(FileNotFoundError):
            os.replace(path, old)


def copy_folder(folder: Path, copy: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Copy all of it but what has a name of these patterns.

    Raises:
        DataError: files could not be copied; the message is the first one's.
    """
    try:
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(*leave_out))
    except shutil.Error as error:
        [(_, _, why), *_] = error.args[0]
        raise DataError(why) from None


def write_text(path: Path, text: str) -> None:
    """Write a small text artifact, whole or not at all."""
    with whole_or_absent(path) as new:
        new.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON artifact, whole or not at all; NaN is refused, since it is no JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def nan_as_none(value: Any) -> Any:
    """What JSON and CSV files write for NaN is nothing, at any depth."""
    if isinstance(value, dict):
        return {key: nan_as_none(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [nan_as_none(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_json(path: Path) -> Any:
    """Read a JSON artifact.

    Raises:
        DataError: the file is not JSON, or an object in it has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_no_number, object_pairs_hook=_with_keys_once)
    except RecursionError:
        raise DataError(f"{path} is nested too deeply: delete it and run its stage again") from None
    except ValueError as error:  # syntax, encoding, or a number of too many digits
        raise DataError(f"{path} is not JSON ({error}): delete it and run its stage again") from None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _with_keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return found


def settings_text(experiment: Experiment) -> str:
    """The settings as resolved, as an experiment file."""
    from pipeline.yaml_files import dump_yaml

    return dump_yaml(experiment.model_dump(mode="json"))


def networks_are_new(experiment: Experiment) -> bool:
    """Whether the networks' settings are others than those stored beside the artifacts, or none can be read there."""
    from pipeline.yaml_files import YamlError, load_yaml

    path = Artifacts.of(experiment).settings
    try:
        stored = load_yaml(path.read_bytes()) if path.exists() else None
    except YamlError:
        stored = None
    return not isinstance(stored, dict) or stored.get("models") != experiment.model_dump(mode="json")["models"]


def save_settings(experiment: Experiment) -> bool:
    """Store the settings as resolved beside the artifacts that they make; True if they have changed."""
    path = Artifacts.of(experiment).settings
    text = settings_text(experiment)
    changed = not path.exists() or path.read_bytes() != text.encode()
    if changed:
        write_text(path, text)
    return changed


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of the names and sizes of a folder's files, wherever the folder is."""
    if (url := stored_url(path)) is not None:
        from pipeline.object_store import files_below  # with fsspec, which commands on CSV files do without

        sizes = files_below(url)
    elif path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    else:
        sizes = {file.relative_to(path): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    listing = sorted(f"{name} {size}" for name, size in sizes.items())
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


def stored_url(path: Path) -> str | None:
    """Where an array is, if at its own path there is but a file that says so.

    Raises:
        DataError: there is another file.
    """
    if path.suffix != ".zarr" or not path.is_file():
        return None
    with path.open("rb") as file:
        url = file.read(LONGEST_URL).decode(errors="replace")
    if not URL.fullmatch(url):
        raise DataError(f"{path}: is a file, and has no URL of an array in it: delete it, and run its stage again")
    return url


def versions() -> dict[str, str]:
    """Versions of the libraries that shape the numbers."""
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
