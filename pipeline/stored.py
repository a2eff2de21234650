"""Schemas of the JSON files that stages hand to each other, and the function that opens them.

A file with a record (``made_by``) must be what was written; one without, put there by hand, is taken as it is. Both
must have the right keys, types and ranges. What is read comes back as plain dictionaries and lists.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.artifacts import fingerprint, need, read_json
from pipeline.errors import DataError
from pipeline.metrics import metrics_by_name
from pipeline.postprocess import HALF
from pipeline.records import check

MANIFEST = "bundle.json"

Byte = Annotated[int, Field(ge=0, le=255)]
Count = Annotated[int, Field(ge=0)]
Metric = Literal[tuple(metrics_by_name())]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1)]
Span = tuple[float | None, float | None]
"""The ends of an interval; of too few images or groups there are none."""
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
Deviations = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class Schema(BaseModel):
    """Keys of a JSON object, no others, with values of these very types; no number may be infinite or NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Open(Schema):
    """Keys that are read; there may be others, which no stage depends on."""

    model_config = ConfigDict(extra="allow")


class StoredFile(Schema):
    """A JSON file that may have a record."""

    made_by: dict[str, Any] | None = None


class StoredPostprocess(Schema):
    """A ``Postprocess``; what is left out is that of no tuning at all."""

    threshold: Byte = HALF
    top_threshold: Byte | None = None
    min_area: Count = 0
    fill_holes: Count | None = 0
    min_component: Count = 0
    max_components: Annotated[int, Field(ge=1)] | None = None


class Worth(Open):
    """Scores of settings: of all classes together, or of one."""

    at_half: float | None = None
    at_half_by_fold: list[float | None] = []
    tuned: float | None = None
    cross_fitted: float | None = None
    cross_fitted_ci95: Span = (None, None)
    cross_fitted_by_fold: list[float | None] = []
    submitted: float | None = None
    submitted_ci95: Span = (None, None)
    submitted_by_fold: list[float | None] = []
    submits: str = ""
    verdict: str = ""
    optimism: str = ""
    tuned_classes: Count = 0


class Plateau(Open):
    """Settings that are as good."""

    size: Count
    threshold: tuple[Byte, Byte]


class OfClass(Worth):
    """Findings for one class."""

    postprocess: StoredPostprocess | None = None
    postprocess_by_fold: list[StoredPostprocess] = []
    found: StoredPostprocess | None = None
    plateau: Plateau | None = None
    curve: Annotated[list[float | None], Field(min_length=256, max_length=256)] | None = None


class OfMaps(Worth):
    """Findings for one set of maps."""

    classes: list[OfClass] = []


class TunedBy(Open):
    """Objective that the post-processing was chosen by."""

    metric: Metric
    beta: Annotated[float, Field(gt=0)]
    both_empty: float | str


class Tuning(StoredFile):
    """``tuning.json``, of which submissions need but the post-processing and the ensemble's scores."""

    metric: Metric
    settings: TunedBy | None = None
    classes: list[str | None] = []
    postprocess: Annotated[list[StoredPostprocess], Field(min_length=1)]
    against: dict[str, Any] | None = None
    sets: dict[str, OfMaps]

    @model_validator(mode="after")
    def _of_the_ensemble(self) -> Tuning:
        if "ensemble" not in self.sets:
            raise ValueError("'sets' has no 'ensemble'")
        return self


class WholeTuning(Tuning):
    """``tuning.json`` with all that a report shows."""

    @model_validator(mode="after")
    def _is_whole(self) -> WholeTuning:
        parts = [self, *self.sets.values(), *(each for of_maps in self.sets.values() for each in of_maps.classes)]
        for part in parts:
            missing = type(part).model_fields.keys() - part.model_fields_set - {"made_by", "against"}
            if missing:
                raise ValueError(f"has no {', '.join(map(repr, sorted(missing)))}")
        return self


class Weights(StoredFile):
    """``ensemble/weights.json``."""

    weights: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)]
    space: Literal["probability", "logit", "rank"]
    kept: Literal["plain", "searched"] | None = None
    choice: dict[str, Any] | None = None
    leave_one_out: list[dict[str, Any]] | None = None
    pairs: list[dict[str, Any]] | None = None
    histograms: dict[str, Annotated[list[Count], Field(min_length=256, max_length=256)]] | None = None

    @model_validator(mode="after")
    def _is_a_blend(self) -> Weights:
        if not abs(sum(self.weights.values()) - 1) < 0.001:
            raise ValueError(f"'weights' sum to {sum(self.weights.values()):g}, not to 1")
        if self.space == "rank" and (self.histograms or {}).keys() != self.weights.keys():
            raise ValueError("'histograms' are not those of the members of 'weights', whose ranks they tell")
        return self


class Network(Schema):
    """Network that a file of weights is of."""

    architecture: Name
    encoder: Name
    options: dict[str, Any]
    classes: Annotated[int, Field(ge=1)]
    normalisation: tuple[Channels, Deviations]


class WeightsOfNetwork(StoredFile):
    """``weights.safetensors.json``."""

    network: Network
    sha256: Digest | None = None
    """SHA-256 of the weights; where there is a record, that has it."""


class Maps(StoredFile):
    """Beside an array of maps, ``oof.zarr.json``."""

    engine: str | None = None
    difference: float | None = None
    files: dict[str, Digest] | None = None
    """SHA-256 of each of the array's files; None: from an earlier version of the project."""


class Score(StoredFile, Open):
    """``score.json``."""

    metric: Metric
    score: float | None


class Row(Open):
    """Row of the table of results."""

    model: Name
    folds: list[float | None]
    mean_oof: float | None
    tuned_oof: float | None
    test: float | None


class Results(StoredFile, Open):
    """``results.json``."""

    experiment: Name
    metric: Metric
    postprocess: dict[str, str]
    verdict: str
    rows: Annotated[list[Row], Field(min_length=1)]


class Metrics(StoredFile, Open):
    """``metrics.json`` of a training."""

    epoch: Annotated[int, Field(ge=1)]
    val_dice: float
    images_per_second: float
    waiting: float
    parameters: Count
    total_seconds: float


class Folds(StoredFile):
    """``folds.csv.json``."""

    duplicates: list[tuple[str, str]] | None = None


class Manifest(Schema):
    """``bundle.json``."""

    experiment: Name
    options: list[str]
    needs: dict[str, str]
    files: dict[str, str]


def open_json(kind: type[BaseModel], path: Path, stage: str, folder: Path | None = None) -> dict[str, Any]:
    """Open a JSON file.

    Args:
        kind: its schema.
        path: of the file.
        stage: what writes it.
        folder: the experiment's, if it must belong to the experiment's other artifacts, and be what was written.

    Returns:
        Its content.

    Raises:
        DataError: it is missing, damaged, changed by hand, or not of the schema; the message names file and key.
    """
    need(path, stage)
    content = read_json(path)
    again = f"run the stage {stage!r} again"
    validated(kind, json.dumps(content), path, again)
    if folder is not None:
        check(path, folder, stage)
    return content


def validated(kind: type[BaseModel], text: str | bytes, path: Path | str, again: str) -> BaseModel:
    """Parse JSON.

    Args:
        kind: its schema.
        text: the JSON.
        path: for the message.
        again: what to do if it is not right.

    Raises:
        DataError: it does not fit the schema; the message names the first key that is wrong.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        key = ".".join(map(str, first["loc"]))
        found = "" if first["type"] in ("missing", "value_error", "json_invalid") else f", not {_shown(first['input'])}"
        what = first["msg"].removeprefix("Value error, ").replace("\n", " ")
        more = f" (and {len(others)} more)" if others else ""
        raise DataError(f"{path}: {key and f'{key}: '}{what}{found}{more}: {again}") from None


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def check_bundled(folder: Path, *paths: Path) -> None:
    """Refuse files of a bundle that are not as they were bundled; of a folder that is no bundle nothing is known.

    Raises:
        DataError: one has changed.
    """
    place = folder / MANIFEST
    known = open_json(Manifest, place, "bundle")["files"] if place.is_file() else {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if name in known and (not path.is_file() or fingerprint(path) != known[name]):
            raise DataError(f"{path} is damaged, or another one than was bundled: make the bundle again")
