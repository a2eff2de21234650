"""The scale of images of more than 8 bits a channel: one for the whole data set, stored with the experiment.

Images of 8 bits are read as they are, byte for byte. Of others the least value in the data set becomes 0 and the
greatest 255, the same in every image, so that equal values stay equal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pipeline.artifacts import Artifacts, need, read_json, write_json
from pipeline.config import Experiment
from pipeline.data.image_files import Header
from pipeline.data.images import Reading, ValueRange
from pipeline.errors import DataError, some
from pipeline.records import MADE_BY, Record, check


class StoredRange(BaseModel):
    """``image_range.json``: the values that become 0 and 255; null where all images have 8 bits a channel."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _ordered(self) -> StoredRange:
        if (self.low is None) != (self.high is None) or (self.low is not None and self.low > self.high):
            raise ValueError("low and high are two numbers, the smaller first, or both null")
        return self


def write_range(path: Path, values: ValueRange | None, record: Record | None = None) -> None:
    """Store the scale, or that none is needed.

    Args:
        record: what makes it; None in a bundle, which has no records.
    """
    stored = {"low": values and values.low, "high": values and values.high}
    if record is None:
        write_json(path, stored)
    else:
        record.write(path, **stored)


def read_range(path: Path) -> ValueRange | None:
    """The stored scale.

    Raises:
        DataError: it is missing or damaged, or belongs to other images than are there.
    """
    check(need(path, "prepare"), path.parent, "prepare")
    content = read_json(path)
    if isinstance(content, dict):
        content.pop(MADE_BY, None)
    try:
        stored = StoredRange.model_validate(content)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise DataError(f"{path} is damaged ({reason}): run the stage 'prepare' again") from None
    return None if stored.low is None else ValueRange(stored.low, stored.high)


def reading_of(settings: Experiment) -> Reading:
    """How an experiment's images are read, once it is prepared."""
    return Reading(settings.data.exif, read_range(Artifacts.of(settings).image_range))


def deep_images(headers: Mapping[Path, Header]) -> list[Path]:
    """The images that need a scale: all or none.

    Raises:
        DataError: some do, which no scale can bring together with the others.
    """
    deep = [path for path, header in headers.items() if header.deep]
    shallow = [path for path, header in headers.items() if not header.deep]
    if deep and shallow:
        raise DataError(
            f"{len(shallow)} images have 8 bits a channel ({some([path.name for path in shallow])}) and {len(deep)} "
            f"have {kinds_of(headers[path] for path in deep)} values ({some([path.name for path in deep])}): they "
            "cannot be brought to one scale; save all of them with the same number of bits"
        )
    return deep


def kinds_of(headers: Iterable[Header]) -> str:
    """Kinds of values in words, the commonest first."""
    return " and ".join(kind for kind, _ in Counter(header.values for header in headers).most_common())
