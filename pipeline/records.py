"""What made an artifact, kept beside it, and whether that still holds.

A record is the entry ``made_by`` of a small JSON file: the artifact itself, if that is JSON, else ``<artifact>.json``
(a submission's is ``<experiment>.json``). It is written after its artifact and goes before that changes, so an
artifact with a record is whole. It has the stage, the settings and the code that the stage depends on, its inputs
(each by the SHA-256 of its own record, so that a change anywhere upstream shows), what the artifact was when it was
written, and the versions of the libraries. ``run`` removes the records that no longer hold; Snakemake makes anew what
has none.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, fingerprint, read_json, versions, whole_or_absent, write_json
from pipeline.errors import DataError, some

if TYPE_CHECKING:
    from pipeline.config import Experiment

MADE_BY = "made_by"

SECTIONS: dict[str, dict[str, Any]] = {
    "prepare": {"data": True, "image": {"size", "fit"}},
    "split": {"folds": True},
    "pseudo": {"pseudo": True},
    "train": {"image": {"size", "fit", "tile"}},  # and the model's own
    "predict": {"prediction": True, "image": {"overlap"}},
    "ensemble": {"ensemble": True, "tuning": {"metric", "beta", "both_empty"}},
    "tune": {"tuning": True},
    "submit": {"data": True},
    "report": {"name": True},
}
"""The settings that each stage depends on by itself; what came before it is among its inputs."""

ONLY_SUBMITTED = {"data": {"submission_format", "submission_columns"}}
"""Settings of a data set that `prepare` has no use for."""

WITHOUT_EFFECT = {"training": {"tensorboard", "workers"}, "seed": True}
"""A model's settings that change nothing in its weights; its seed counts as what it is resolved to."""

NEUTRAL = (
    *("artifacts", "command", "config", "errors", "locks"),
    *("members", "next_step", "object_store", "records", "results"),
    "report.preview",
)
"""Modules of the project whose code changes no artifact: what they settle shows in settings, paths,
printing, and a picture that no stage reads."""


@dataclass(frozen=True)
class Record:
    """What makes an artifact."""

    stage: str
    model: str | None
    settings: dict[str, Any]
    code: str
    """Hash of the stage's source and of all that it imports from the project, comments left out."""
    inputs: dict[str, str]
    """SHA-256 of each input's record by its path, which is relative to the experiment's folder."""
    versions: dict[str, str] = field(default_factory=versions)

    @classmethod
    def of(cls, experiment: Experiment, stage: str, inputs: list[Path], model: str | None = None) -> Record:
        """Of what ``stage`` is about to write."""
        folder = Artifacts.of(experiment).folder
        identities = {os.path.relpath(path, folder): identity(path) for path in inputs}
        return cls(stage, model, settings_of(experiment, stage, model), code_of(stage), identities)

    def stored(self, *artifacts: Path) -> dict[str, Any]:
        """The entry ``made_by``, with what the file that it will be in stands for, if not for itself alone."""
        return {**asdict(self), "artifacts": {artifact.name: fingerprint(artifact) for artifact in artifacts}}


def record_of(artifact: Path) -> Path:
    """The file with an artifact's record."""
    return artifact if artifact.suffix == ".json" else artifact.with_name(f"{artifact.name}.json")


def identity(artifact: Path) -> str:
    """SHA-256 that changes with an artifact and with whatever made it; of the artifact alone if it has no record."""
    record = record_of(artifact)
    return fingerprint(record if record.exists() else artifact)


@contextmanager
def recorded(artifact: Path, record: Record, *, place: Path | None = None, **about: Any) -> Iterator[Path]:
    """``whole_or_absent``, and then the record, with whatever else is to be known ``about`` the artifact.

    Args:
        place: the record's file, if not that of ``record_of``.
    """
    place = place or record_of(artifact)
    with whole_or_absent(artifact) as new:
        yield new
        place.unlink(missing_ok=True)
    write_json(place, {**about, MADE_BY: record.stored(artifact)})


def settings_of(experiment: Experiment, stage: str, model: str | None = None) -> dict[str, Any]:
    """The settings that a stage depends on."""
    left_out = ONLY_SUBMITTED if stage == "prepare" else None
    settings = experiment.model_dump(mode="json", include=SECTIONS[stage], exclude=left_out)
    if stage == "train":
        settings |= {
            "model": experiment.models[model].model_dump(mode="json", exclude=WITHOUT_EFFECT),
            "seed": experiment.seed_of(model),
            "classes": list(experiment.data.class_names),
        }
    return settings


# ------------------------------------------------------------------------------------------------ whether they hold


UPSTREAM = "reads what is to be made anew"
"""The reason of what is outdated only because something before it is."""


def outdated(experiment: Experiment, check_code: bool = True) -> dict[Path, str]:
    """Records of an experiment's artifacts that no longer hold, with the reason in words.

    Args:
        check_code: whether an artifact that other code has made is outdated.
    """
    folder = Artifacts.of(experiment).folder
    found: dict[Path, str] = {}
    inputs: dict[Path, dict[Path, str]] = {}
    for path, made_by in _stored_records(experiment):
        reason = "is damaged" if made_by is None else _why_outdated(path, made_by, experiment, check_code)
        if reason:
            found[path] = reason
        else:
            inputs[path] = {folder / name: known for name, known in made_by["inputs"].items()}
    _add_what_reads(found, inputs)
    for path, read in inputs.items():
        if path not in found and (other := [each for each, known in read.items() if _is_another(each, known)]):
            found[path] = f"{os.path.relpath(other[0], folder)} is another one than it was made from"
    _add_what_reads(found, inputs)
    return found


def _is_another(artifact: Path, known: str) -> bool:
    """Whether an input has changed. One that is gone has not: a data set may be put away when it has been read."""
    return (artifact.exists() or record_of(artifact).exists()) and identity(artifact) != known


def _add_what_reads(found: dict[Path, str], inputs: dict[Path, dict[Path, str]]) -> None:
    """Add to what is outdated all that reads it, directly or not."""
    reads = {path: {record_of(each) for each in read} for path, read in inputs.items()}
    while further := [path for path, records in reads.items() if path not in found and records & found.keys()]:
        found.update(dict.fromkeys(further, UPSTREAM))


def made_from_small_copies(experiment: Experiment) -> list[Path]:
    """Weights and maps of all folds."""
    artifacts, folds = Artifacts.of(experiment), range(experiment.folds.count)
    weights = [artifacts.fold(model, fold).weights for model in experiment.models for fold in folds]
    of_members = [artifacts.fold(member, fold) for member in experiment.members for fold in folds]
    return [*weights, *(maps for each in of_members for maps in (each.oof, *each.tests))]


def _stored_records(experiment: Experiment) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Files with a record, and the record; None for a file that cannot be read.

    Files of models, folds, views and parts that other settings had are left out: nothing of the experiment reads them.
    """
    artifacts, folds = Artifacts.of(experiment), range(experiment.folds.count)
    own = [
        *(artifacts.images, artifacts.folds),
        *(artifacts.pseudo(fold) for fold in folds if experiment.pseudo.experiment),
        *made_from_small_copies(experiment),
        *(artifacts.ensemble_oof, artifacts.ensemble_test, artifacts.ensemble_weights),
        *(artifacts.tuning, artifacts.score, artifacts.results, artifacts.submission_record),
    ]
    for path in filter(Path.is_file, map(record_of, own)):
        try:
            made_by = read_json(path).get(MADE_BY)
        except (DataError, AttributeError):
            yield path, None
            continue
        if made_by:
            yield path, made_by


def _why_outdated(path: Path, made_by: dict[str, Any], experiment: Experiment, check_code: bool) -> str | None:
    for name, content in made_by.get("artifacts", {}).items():
        artifact = path.with_name(name)
        if not artifact.exists():
            return f"{name} is missing"
        if fingerprint(artifact) != content:
            return f"{name} is damaged, or another one than was written"
    wanted = settings_of(experiment, made_by["stage"], made_by["model"])
    if changes := _differences(made_by["settings"], wanted):
        return "settings have changed: " + some(changes, most=3)
    if check_code and made_by["code"] != code_of(made_by["stage"]):
        return f"the code of {made_by['stage']!r} has changed"
    return None


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    """``{"training": {"epochs": 3}}`` against 4 -> ``["training.epochs 3 -> 4"]``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        parts = [_differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key)) for key in keys]
        return [difference for part in parts for difference in part]
    return [] if old == new else [f"{name} {old} -> {new}"]


# ------------------------------------------------------------------------------------------------------------- code


def code_of(stage: str) -> str:
    """Hash of a stage's source and of the project's modules that it imports, directly or not; no comments in it."""
    waiting, known = [f"pipeline.stages.{stage}"], set()
    while waiting:
        name = waiting.pop()
        if name not in known:
            known.add(name)
            waiting += _module(name)[1]
    text = "\n".join(f"{name} {_module(name)[0]}" for name in sorted(known))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """Hash of a module and of the files of its name beside it, a page's template; what it imports from the project."""
    source = _source(name)
    tree = ast.parse(source.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    package = name if source.name == "__init__.py" else name.rpartition(".")[0]
    imported = {each for node in ast.walk(tree) for each in _imports(node, package)}
    beside = [file.read_bytes() for file in sorted(source.parent.glob(f"{source.stem}.*")) if file != source]
    return hashlib.sha256(b"".join([ast.dump(tree).encode(), *beside])).hexdigest(), tuple(sorted(imported))


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is nothing but a text, such as a docstring."""
    value = getattr(statement, "value", None)
    return isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str)


def _imports(node: ast.AST, package: str) -> list[str]:
    """The project's modules that a statement of one of the package's modules imports."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: 1 - node.level or None] if node.level else []  # a dot is the package itself
        module = ".".join(filter(None, [*above, node.module]))
        names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
    else:
        return []
    return [name for name in names if name.startswith("pipeline.") and _source(name) and not _is_neutral(name)]


def _is_neutral(name: str) -> bool:
    return name.removeprefix("pipeline.") in NEUTRAL


def _source(name: str) -> Path | None:
    """The file of a module of the project, if there is such a module."""
    place = PROJECT.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
