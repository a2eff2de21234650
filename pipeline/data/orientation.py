"""EXIF orientations of a data set's images, and what tells whether its masks were drawn before or after turning.

Where masks have a size, the size tells. Runs have none: there the mask of an image on its side breaks into far more
runs across its lines if they are taken to be of the wrong side's length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data.direction import runs_across
from pipeline.data.image_files import Header
from pipeline.data.images import Exif
from pipeline.data.sources import Sample, Source
from pipeline.errors import DataError, some
from pipeline.findings import FEWEST, STRIPES
from pipeline.rle import transpose

OTHER: dict[Exif, Exif] = {"apply": "ignore", "ignore": "apply"}
DRAWN = {"apply": "turned as EXIF says", "ignore": "as stored"}
"""Which pixels masks were drawn on that need the setting."""

Fit = Literal["said", "other"]


class FitsOtherwise(DataError):
    """The mask of one image has the size that the image has with the other ``data.exif``."""


def true_edges(source: Source, sample: Sample, header: Header, exif: Exif) -> list[np.ndarray] | None:
    """A sample's masks, as ``Source.true_edges`` has them.

    Raises:
        FitsOtherwise: they would fit with the other ``data.exif``.
        DataError: they fit neither way.
    """
    height, width = header.size(exif)
    try:
        return source.true_edges(sample, height, width)
    except DataError:
        if header.sideways and height != width and _fits(source, sample, width, height):
            raise FitsOtherwise(sample.path.name) from None
        raise


def _fits(source: Source, sample: Sample, height: int, width: int) -> bool:
    try:
        source.true_edges(sample, height, width)
    except DataError:
        return False
    return True


def fit_of_runs(masks: Iterable[np.ndarray], size: tuple[int, int], order: Literal["F", "C"]) -> Fit | None:
    """Whether masks read better with lines as long as they were read with, or as the image's other side.

    Args:
        masks: column-major edges as read, of an image of that (height, width).
        order: of the texts that they were read from.
    """
    line, lines = size if order == "F" else size[::-1]
    said = other = 0
    for edges in masks:
        if edges.size >= 4 and size[0] != size[1]:  # one run alone has no direction
            runs = edges if order == "F" else transpose(edges, size)
            said += runs_across(runs, line, lines)
            other += runs_across(runs, lines, line)
    if said >= STRIPES * other:
        return "other" if other else None
    return "said" if other >= STRIPES * said else None


def describe_orientations(samples: Sequence[Sample], headers: Mapping[Path, Header], exif: Exif) -> str | None:
    """How many images carry an orientation, and which; None where none does."""
    turned = [sample for sample in samples if sample.path in headers and headers[sample.path].orientation != 1]
    if not turned:
        return None
    parts = []
    for subset, what in (("train", "training"), ("test", "test")):
        mine = [sample for sample in turned if sample.subset == subset]
        kinds = (
            ("on their side", [s.path.name for s in mine if headers[s.path].sideways]),
            ("upside down or mirrored", [s.path.name for s in mine if not headers[s.path].sideways]),
        )
        parts += [f"{len(names)} {what} images {how} ({some(names)})" for how, names in kinds if names]
    read = "they are turned as it says" if exif == "apply" else "they are read as stored"
    text = (
        f"{len(turned)} of {len(samples)} images carry an EXIF orientation, {' and '.join(parts)}: {read} (data.exif)"
    )
    if any(sample.subset == "train" and not headers[sample.path].sideways for sample in turned):
        text += "; whether masks fit those upside down or mirrored shows in no size: look at some"
    return text


@dataclass(frozen=True)
class Fits:
    """Names of images, by whether their masks fit with ``data.exif`` as it is."""

    exif: Exif
    checked: bool = False
    """Whether the user says that the masks are right, however they look."""
    otherwise: list[str] = field(default_factory=list)
    """Images on their side whose masks have the size of the other setting."""
    sized: list[str] = field(default_factory=list)
    """Images on their side that have masks and are not in ``otherwise``."""
    runs: dict[bool, dict[Fit, list[str]]] = field(
        default_factory=lambda: {sideways: {"said": [], "other": []} for sideways in (False, True)}
    )
    """Whether an image lies on its side, and how its runs read: names."""

    def add(self, name: str, sideways: bool, sized: bool, fit: Fit | None) -> None:
        """Enter an image whose masks have been read.

        Args:
            sideways: whether EXIF lays it on its side; ``sized``, whether it then has sides of two lengths and a mask.
            fit: how the mask's runs read.
        """
        if sized:
            self.sized.append(name)
        if fit is not None:
            self.runs[sideways][fit].append(name)

    def problem(self) -> str | None:
        """Say what is wrong with the setting, if that is beyond doubt."""
        if self.otherwise:
            return self._message(self.otherwise, self.sized, "have the size of")
        looks = self.runs[True]
        if self.checked:
            return None
        if len(looks["other"]) >= FEWEST and len(looks["other"]) > len(looks["said"]) and self._others_read_well:
            return self._message(looks["other"], looks["said"], "look drawn on")
        return None

    def doubt(self) -> str | None:
        """Say what may be wrong with the setting."""
        names = self.runs[True]["other"]
        if not names or self.problem() or not self._others_read_well:
            return None
        return f"the masks of {len(names)} images look drawn on the pixels {DRAWN[OTHER[self.exif]]}: {some(names)}"

    @property
    def _others_read_well(self) -> bool:
        """Whether it is the orientation, and not the format, that the masks of images on their side disagree with."""
        upright = self.runs[False]
        return len(upright["said"]) > len(upright["other"]) or not self._upright_tell

    @property
    def _upright_tell(self) -> bool:
        return any(self.runs[False].values())

    def _message(self, wrong: Sequence[str], right: Sequence[str], how: str) -> str:
        other = OTHER[self.exif]
        text = (
            f"data.exif: {self.exif}: the masks of {len(wrong)} images that EXIF turns {how} the pixels "
            f"{DRAWN[other]}, not {DRAWN[self.exif]}: {some(list(wrong))}; set data.exif: {other}"
        )
        if not self.otherwise and not self._upright_tell:
            text += ", or another data.format if they are written along the other direction"
        if not self.otherwise:
            text += ", or data.format_checked: true if the masks are right"
        if right:
            text += (
                f". But those of {len(right)} others fit {DRAWN[self.exif]} ({some(list(right))}): no setting is right "
                "for all; turn the pixels of the images themselves"
            )
        return text
