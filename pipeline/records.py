"""What made an artifact, kept beside it, and whether that still holds.

A record is the entry ``made_by`` of a small JSON file: the artifact itself, if that is JSON, else ``<artifact>.json``
(a submission's is ``<experiment>.json``). It has the values of the settings that the stage uses, as resolved; the code
that the stage imports, module by module; its inputs, each by the SHA-256 of its own record, so that a change anywhere
upstream shows; and checksums of what was written, the JSON file itself among it. It is written after its artifact and
goes before that changes, so an artifact with a record is whole. Stages refuse an artifact that is not what its record
says, or whose inputs are others by now (``check``); ``run`` has such artifacts made again (``outdated``).

No time of any file is looked at: a copy of an experiment is as good as the experiment.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Artifacts, fingerprint, read_json, stored_url, versions, whole_or_absent, write_json
from pipeline.blocks import is_as_written
from pipeline.errors import DataError, some
from pipeline.stage_code import code_of

if TYPE_CHECKING:
    from pipeline.config import Experiment

MADE_BY = "made_by"
SEAL = "sha256"
"""Key in ``made_by`` of the checksum of everything else in the file."""

RESOLVED = "resolved"
"""Key in a record's settings of what follows from a section's settings."""

SEARCHED = {"choose", "search", "min_areas", "components", "hole_areas", "component_areas", "component_counts"}
"""Settings of the search for the post-processing, of which only `tune` makes anything."""

SECTIONS: dict[str, dict[str, set[str]]] = {
    "prepare": {
        "data": {"submission_format", "submission_columns"},
        "image": {"tile", "overlap", "tiling"},
    },
    "split": {"folds": set()},
    "pseudo": {"pseudo": set()},
    "train": {"image": {"overlap", "tiling"}, "pseudo": {"share"}},  # and the model's own
    "predict": {"prediction": set(), "image": set()},
    "ensemble": {"ensemble": set(), "tuning": SEARCHED},
    "tune": {"tuning": set()},
    "submit": {"data": set()},
    "score": {"data": set(), "tuning": SEARCHED},
    "report": {"name": set()},
}
"""The sections that each stage uses by itself, and which of their settings it does not; what came before the stage is
among its inputs. A setting that is new in a section counts until it is named here."""

WITHOUT_EFFECT = {"tensorboard", "workers"}
"""Settings of a model's training that change nothing in its weights."""

ON_DISK = {"found_places", "knows_test_truth"}
"""Properties of settings that tell of files on disk, which are among a stage's inputs."""


@dataclass(frozen=True)
class Record:
    """What makes an artifact."""

    folder: Path
    """The experiment's, which all paths in a record are relative to."""
    stage: str
    model: str | None
    settings: dict[str, Any]
    code: dict[str, str]
    """Hash of each of the project's modules that the stage consists of, comments left out."""
    inputs: dict[str, str]
    """SHA-256 of each input's record by the input's path."""

    @classmethod
    def of(cls, experiment: Experiment, stage: str, inputs: list[Path], model: str | None = None) -> Record:
        """Of what ``stage`` is about to write."""
        folder = Artifacts.of(experiment).folder
        identities = {os.path.relpath(path, folder): identity(path) for path in inputs}
        return cls(folder, stage, model, settings_of(experiment, stage, model), code_of(stage), identities)

    def reading(self, artifact: Path) -> Record:
        """Return the record of what reads one more artifact."""
        return replace(self, inputs={**self.inputs, os.path.relpath(artifact, self.folder): identity(artifact)})

    def write(self, place: Path, *artifacts: Path, **about: Any) -> None:
        """Write a JSON file with this record.

        Args:
            place: the file.
            artifacts: what it stands for besides itself.
            about: what else is in it.
        """
        made_by = {
            "place": os.path.relpath(place, self.folder),
            **{each.name: getattr(self, each.name) for each in fields(self) if each.name != "folder"},
            "artifacts": {os.path.relpath(artifact, self.folder): checksum(artifact) for artifact in artifacts},
            "versions": versions(),
        }
        made_by[SEAL] = sealed({**about, MADE_BY: made_by})
        write_json(place, {**about, MADE_BY: made_by})


@dataclass(frozen=True)
class Stored:
    """The entry ``made_by`` as it is read."""

    __pydantic_config__ = {"extra": "forbid", "strict": True}  # noqa: RUF012 - pydantic's own place for it

    place: str
    """The record's own path: that of one fold is none of another."""
    stage: str
    model: str | None
    settings: dict[str, Any]
    code: dict[str, str]
    inputs: dict[str, str]
    artifacts: dict[str, str]
    """Checksum of each artifact that it stands for besides itself."""
    versions: dict[str, str]
    sha256: str

    @classmethod
    def read(cls, place: Path, folder: Path) -> Stored | None:
        """Read the entry of a JSON file, if it has one.

        Args:
            folder: the experiment's.

        Raises:
            DataError: the file is no JSON, or is not what was written there.
        """
        try:
            content = read_json(place)
        except DataError:
            raise DataError(f"{place} is damaged: it is no JSON") from None
        if not isinstance(content, dict):
            raise DataError(f"{place} is damaged: it is no JSON object")
        made_by = content.get(MADE_BY)
        if made_by is None:
            return None
        from pydantic import TypeAdapter, ValidationError  # which commands on CSV files do without

        try:
            stored = TypeAdapter(cls).validate_json(json.dumps(made_by))
        except ValidationError:
            raise DataError(f"{place} is damaged, or of another version") from None
        if stored.sha256 != sealed(content):
            raise DataError(f"{place} is damaged, or was changed by hand")
        if stored.place != os.path.relpath(place, folder):
            raise DataError(f"{place} is damaged: it was written as {stored.place}")
        return stored


def sealed(content: dict[str, Any]) -> str:
    """SHA-256 of a JSON file's content but for the seal itself, however the file is laid out."""
    made_by = {key: value for key, value in content[MADE_BY].items() if key != SEAL}
    plain = json.loads(json.dumps({**content, MADE_BY: made_by}))  # tuples as lists, and keys as texts
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def record_of(artifact: Path) -> Path:
    """The file with an artifact's record."""
    return artifact if artifact.suffix == ".json" else artifact.with_name(f"{artifact.name}.json")


def identity(artifact: Path) -> str:
    """SHA-256 that changes with an artifact and with whatever made it; of the artifact alone if it has no record."""
    record = record_of(artifact)
    return fingerprint(record if record.exists() else artifact)


def checksum(artifact: Path) -> str:
    """SHA-256 of a file, or of all files in a folder; of a folder elsewhere, of its files' names and sizes."""
    if artifact.is_file() or stored_url(artifact) is not None:
        return fingerprint(artifact)
    files = sorted(path for path in artifact.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        lines = [
            f"{path.relative_to(artifact).as_posix()} {content}"
            for path, content in zip(files, pool.map(fingerprint, files), strict=True)
        ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


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
    record.write(place, artifact, **about)


# --------------------------------------------------------------------------------------------------------- settings


def settings_of(experiment: Experiment, stage: str, model: str | None = None) -> dict[str, Any]:
    """The values of the settings that a stage uses: as given, and what ``config`` resolves them to."""
    settings = {name: _plain(getattr(experiment, name), left_out) for name, left_out in SECTIONS[stage].items()}
    if stage == "train":
        own = _plain(experiment.models[model], {"seed"})  # which counts as what it is resolved to
        own["training"] = {name: value for name, value in own["training"].items() if name not in WITHOUT_EFFECT}
        settings |= {"model": own, "seed": experiment.seed_of(model), "classes": list(experiment.data.class_names)}
        settings["input_size"] = _plain(experiment.image.tiling.size)
    return settings


def _plain(value: Any, left_out: set[str] | frozenset[str] = frozenset()) -> Any:
    """A setting as JSON has it; a section with its fields, and all its properties as what they are resolved to."""
    kind = type(value)
    if hasattr(kind, "model_fields"):
        properties = [name for each in kind.__mro__ for name, what in vars(each).items() if _is_own(each, what)]
        given, follows = (
            {name: _plain(getattr(value, name)) for name in names if name not in left_out | ON_DISK}
            for names in (kind.model_fields, sorted(set(properties)))
        )
        return {**given, RESOLVED: follows} if follows else given
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Path):
        return str(value)
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def _is_own(kind: type, what: Any) -> bool:
    """Whether an attribute is a property that one of the project's classes defines."""
    return isinstance(what, property) and kind.__module__.startswith("pipeline.")


# ------------------------------------------------------------------------------------------------------ for readers


def check(artifact: Path, folder: Path, stage: str, place: Path | None = None) -> None:
    """Refuse an artifact that is damaged, or that does not belong to the others that are here.

    Args:
        artifact: a file, or a folder, whose content is looked at by what reads it.
        folder: the experiment's.
        stage: what makes it anew.
        place: its record's file, if not that of ``record_of``.

    Raises:
        DataError: it is not what its record says, or an artifact that it was made from has changed since. Of an
            artifact without a record nothing is known, and data sets are looked at by `run` alone.
    """
    place = place or record_of(artifact)
    again = f"run the stage {stage!r} again"
    try:
        stored = Stored.read(place, folder) if place.exists() else None
    except DataError as error:
        raise DataError(f"{error}: {again}") from None
    if stored is None:
        return
    for name, known in stored.artifacts.items():
        path = folder / name
        if path.is_file() and checksum(path) != known:
            raise DataError(f"{path} is damaged, or another one than was written: {again}")
    for name, known in stored.inputs.items():
        if record_of(folder / name).exists() and _is_another(folder / name, known):
            raise DataError(f"{artifact} was made from another {Path(name).name} than is there now: {again}")


# ------------------------------------------------------------------------------------------------ whether they hold


UPSTREAM = "reads what is to be made anew"
"""The reason of what is outdated only because something before it is."""


@dataclass(frozen=True)
class Examined:
    """Records of an experiment that no longer hold, each with the reason in words."""

    outdated: dict[Path, str]
    """Records of what was made by other settings or code or from other inputs, and of all that reads it."""
    damaged: dict[Path, str]
    """Records of what is damaged, and may be the same again when it is made again."""
    gone: dict[Path, str]
    """Places of missing records whose artifacts something that is here was made from."""

    @property
    def first(self) -> dict[Path, str]:
        """Records to be made again before it is known whether what reads them still holds."""
        return {**self.gone, **self.damaged}

    def batches(self, experiment: Experiment) -> list[list[Path]]:
        """Group ``first`` by stages, in the order in which they are to be made: none reads another of its batch."""
        of_stages = ([record_of(path) for path in paths] for paths in _own(experiment).values())
        batches = [[place for place in places if place in self.first] for places in of_stages]
        return [batch for batch in batches if batch]


def examine(experiment: Experiment, check_code: bool = True) -> Examined:
    """Find what of an experiment is to be made again.

    Args:
        check_code: whether an artifact that other code has made is outdated.
    """
    folder = Artifacts.of(experiment).folder
    damaged: dict[Path, str] = {}
    outdated: dict[Path, str] = {}
    stored_records: dict[Path, Stored] = {}
    for place in _places(experiment):
        try:
            stored = Stored.read(place, folder)
        except DataError as error:
            damaged[place] = str(error).removeprefix(f"{place} ")
            continue
        if stored is None:
            continue
        stored_records[place] = stored
    inputs = {place: {folder / name: i for name, i in each.inputs.items()} for place, each in stored_records.items()}
    table = record_of(Artifacts.of(experiment).images)
    for place, stored in stored_records.items():
        known = {path: i for path, i in inputs[place].items() if record_of(path) not in damaged}
        if reason := _why_outdated(stored, known, experiment, check_code):
            of_another_table = stored.stage == "prepare" and table in stored_records and table not in outdated
            (damaged if of_another_table and place != table else outdated)[place] = reason
    damaged |= {
        place: reason
        for place, stored in stored_records.items()
        if place not in {*outdated, *damaged} and (reason := _why_damaged(stored, folder))
    }
    missing = {record for read in inputs.values() for record in map(record_of, read) if not record.exists()}
    gone = dict.fromkeys(sorted(missing & set(_places(experiment, also_missing=True))), "is missing")
    if outdated:  # which what cannot be read may have been made from
        outdated |= {place: reason for place, reason in {**damaged, **gone}.items() if place not in inputs}
    _add_what_reads(outdated, inputs)
    outdated |= {place: why for place, why in damaged.items() if outdated.get(place) == UPSTREAM}
    cache = record_of(Artifacts.of(experiment).cache)
    if cache in stored_records and cache not in {*outdated, *damaged}:
        lost = {*outdated, *damaged}  # what is gone does not exist
        needed = any(not place.exists() or place in lost for place in _made_from_cache(experiment))
        if reason := _why_cache_is_damaged(cache, needed):
            damaged[cache] = reason
    rest = ({place: why for place, why in each.items() if place not in outdated} for each in (damaged, gone))
    return Examined(outdated, *rest)


def outdated(experiment: Experiment, check_code: bool = True) -> dict[Path, str]:
    """Return what ``examine`` finds wrong with records that are here."""
    found = examine(experiment, check_code)
    return {**found.outdated, **found.damaged}


def _is_another(artifact: Path, known: str) -> bool:
    """Whether an input has changed. One that is gone has not: a data set may be put away when it has been read."""
    return (artifact.exists() or record_of(artifact).exists()) and identity(artifact) != known


def _add_what_reads(found: dict[Path, str], inputs: dict[Path, dict[Path, str]]) -> None:
    """Add to what is outdated all that reads it, directly or not."""
    reads = {path: {record_of(each) for each in read} for path, read in inputs.items()}
    while further := [path for path, records in reads.items() if path not in found and records & found.keys()]:
        found.update(dict.fromkeys(further, UPSTREAM))


def _own(experiment: Experiment) -> dict[str, list[Path]]:
    """The artifacts that each stage makes, in the order of the stages.

    Those of models, folds, views and parts that other settings had are left out: nothing of the experiment reads them.
    """
    artifacts, folds = Artifacts.of(experiment), range(experiment.folds.count)
    of_models = [artifacts.fold(model, fold) for model in experiment.models for fold in folds]
    of_members = [artifacts.fold(member, fold) for member in experiment.members for fold in folds]
    truth = [artifacts.truth] if experiment.data.knows_test_truth else []
    return {
        "prepare": [artifacts.images, *truth, artifacts.cache, artifacts.image_range],
        "split": [artifacts.folds],
        "pseudo": [artifacts.pseudo(fold) for fold in folds if experiment.pseudo.experiment],
        "train": [path for each in of_models for path in (each.weights, each.metrics)],
        "predict": [maps for each in of_members for maps in (each.oof, *each.tests)],
        "ensemble": [artifacts.ensemble_oof, artifacts.ensemble_test, artifacts.ensemble_weights],
        "tune": [artifacts.tuning],
        "submit": [artifacts.submission_record],
        "score": [artifacts.score],
        "report": [artifacts.results],
    }


def _places(experiment: Experiment, also_missing: bool = False) -> list[Path]:
    """Files of records."""
    own = [record_of(path) for paths in _own(experiment).values() for path in paths]
    return [place for place in own if also_missing or place.is_file()]


def all_records(experiment: Experiment) -> dict[Path, list[Path]]:
    """Records that are here of an experiment's artifacts, each with those that it was made from by other stages."""
    folder = Artifacts.of(experiment).folder
    stored = {}
    for place in _places(experiment):
        with suppress(DataError):
            stored[place] = Stored.read(place, folder)
    stage_of = {place: each.stage for place, each in stored.items() if each}
    found: dict[Path, list[Path]] = {place: [] for place in _places(experiment)}
    for place in stage_of:
        inputs = [record_of(folder / name) for name in stored[place].inputs]
        found[place] = [each for each in inputs if each in stage_of and stage_of[each] != stage_of[place]]
    return found


def _made_from_cache(experiment: Experiment) -> list[Path]:
    """Records of all that small copies are read for."""
    own = _own(experiment)
    return [record_of(path) for stage in ("split", "train", "predict") for path in own[stage]]


def _why_cache_is_damaged(place: Path, needed: bool) -> str | None:
    """Say what is wrong with the small copies.

    Args:
        place: their record.
        needed: whether they are about to be read: then every byte is looked at, else the sizes of files that are there.
    """
    folder = place.with_suffix("")
    if not folder.exists():  # put away, to save space
        return f"{folder.name} is missing, and something is to be made from it" if needed else None
    for name, known in read_json(place).get("files", {}).items():
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if not is_as_written(path, known, None if needed else ()):
            return f"{name} is damaged"
    return None


def _why_damaged(stored: Stored, folder: Path) -> str | None:
    for name, known in stored.artifacts.items():
        path = folder / name
        if not path.exists():
            return f"{path.name} is missing"
        if checksum(path) != known:
            return f"{path.name} is damaged, or another one than was written"
    return None


def _why_outdated(stored: Stored, inputs: dict[Path, str], experiment: Experiment, check_code: bool) -> str | None:
    if stored.stage not in SECTIONS or (stored.stage == "train" and stored.model not in experiment.models):
        return f"was made by the stage {stored.stage!r}"
    wanted = settings_of(experiment, stored.stage, stored.model)
    if changes := _differences(stored.settings, wanted):
        changes = [each for each in changes if f".{RESOLVED}." not in each] or changes
        return "settings have changed: " + some(changes, most=3)
    if check_code and (modules := _differences(stored.code, code_of(stored.stage))):
        names = sorted(each.split()[0] for each in modules)
        return f"the code of {stored.stage!r} has changed: {some(names, most=3)}"
    other = next((each for each, known in inputs.items() if _is_another(each, known)), None)
    folder = Artifacts.of(experiment).folder
    return other and f"{os.path.relpath(other, folder)} is another one than it was made from"


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    """``{"training": {"epochs": 3}}`` against 4 -> ``["training.epochs 3 -> 4"]``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        parts = [_differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key)) for key in keys]
        return [difference for part in parts for difference in part]
    return [] if old == new else [f"{name} {old} -> {new}"]
