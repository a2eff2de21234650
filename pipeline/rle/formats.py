"""The RLE conventions of the competitions, by name.

Every preset is what the competition's evaluation page (or, where they differ, its data) says:

| name | numbering | text | empty | source |
| --- | --- | --- | --- | --- |
| kaggle, airbus, tgs, severstal, hubmap, uw-madison | down the columns, from 1 | start length | nothing | kaggle.com/c/airbus-ship-detection, tgs-salt-identification-challenge, severstal-steel-defect-detection, hubmap-kidney-segmentation: "numbered from top to bottom, then left to right: 1 is pixel (1,1), 2 is pixel (2,1)" |
| | | | | of uw-madison-gi-tract-image-segmentation, public notebooks read train.csv along the rows (not checked here): where `lint` says that masks are turned, take `carvana` |
| contrails | down the columns, from 1 | start length | - | google-research-identify-contrails-reduce-global-warming: "Empty predictions must be marked with '-'" |
| carvana, vesuvius | along the rows, from 1 | start length | nothing | carvana-image-masking-challenge, vesuvius-challenge-ink-detection: "numbered from left to right, then top to bottom: 1 is pixel (1,1), 2 is pixel (1,2)" |
| sennet | along the rows, from 1 | start length | 1 0 | blood-vessel-segmentation (SenNet + HOA): the pairs of an empty mask are '1 0' |
| siim | down the columns, from 0 | gap length | -1 | siim-acr-pneumothorax-segmentation: "pixel locations are measured from the end of the previous run"; "-1" without pneumothorax; its `mask_functions.py` |
| coco-counts | down the columns | lengths of background and foreground runs in turn, background first | its one count | cocodataset/cocoapi `common/maskApi.h`: the uncompressed `counts` |
| coco | down the columns | the same counts, compressed to printable characters | its one count | cocodataset/cocoapi `common/maskApi.c`: `rleToString` |
"""  # noqa: E501 - a table row is one line

import difflib
import re
from dataclasses import dataclass, replace
from typing import Literal

_LONGEST_SHOWN = 200  # characters of a text from a file


class RleError(ValueError):
    """A mask, a text or a file that is not what its format says; the message is one line for the user."""


class SizeNeededError(RleError):
    """The image's size isn't known, and without it the text says nothing."""


class RepeatedIdsError(RleError):
    """Ids of a file have several rows, and nothing says that these are parts of one mask."""


def shown(text: str) -> str:
    """A text from a file as a message has it: on one line, of some 200 characters at most, all of them visible."""
    if not text or not text.isprintable() or text != text.strip():
        text = repr(text)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:120]}... ({len(text)} characters) ...{text[-40:]}"


@dataclass(frozen=True)
class RleFormat:
    """How a mask is written as text.

    order: how pixels are numbered, "F" down the columns or "C" along the rows.
    base: the first pixel's number, 0 or 1 (of the positions in "pairs"; the other styles have no positions).
    style: "pairs" start length ...; "gaps" the same, with the start counted from the end of the run before;
        "counts" the lengths of background and foreground runs in turn; "coco" the counts, compressed.
    empty: how a mask without foreground is written ("counts" and "coco" have a text of their own for it).
        Reading accepts an empty text as well.
    """

    name: str
    order: Literal["F", "C"] = "F"
    base: Literal[0, 1] = 1
    style: Literal["pairs", "gaps", "counts", "coco"] = "pairs"
    empty: str = ""

    def __post_init__(self):
        if self.order not in ("F", "C") or self.base not in (0, 1):
            raise RleError(f"RLE format {self.name}: order must be 'F' or 'C', base 0 or 1: {self}")
        if self.style not in ("pairs", "gaps", "counts", "coco"):
            raise RleError(f"RLE format {self.name}: style must be pairs, gaps, counts or coco, not {self.style!r}")


_KAGGLE = RleFormat("kaggle")
_PRESETS = (
    _KAGGLE,
    RleFormat("contrails", empty="-"),
    RleFormat("carvana", order="C"),
    RleFormat("vesuvius", order="C"),
    RleFormat("sennet", order="C", empty="1 0"),
    RleFormat("siim", base=0, style="gaps", empty="-1"),
    RleFormat("coco-counts", base=0, style="counts"),
    RleFormat("coco", base=0, style="coco"),
)
_RUNS = re.compile(r"[0-9]+ +0*[1-9][0-9]*( +[0-9]+ +0*[1-9][0-9]*)*")
_ALIASES_OF_KAGGLE = ("airbus", "tgs", "severstal", "hubmap", "uw-madison")

FORMATS: dict[str, RleFormat] = {preset.name: preset for preset in _PRESETS} | dict.fromkeys(
    _ALIASES_OF_KAGGLE, _KAGGLE
)


def get_format(name: str | RleFormat) -> RleFormat:
    """The preset of that name (a key of `FORMATS`), or the format itself if it is one already.

    "NAME:TEXT" is the preset with another text for an empty mask: "kaggle:-1".
    Raises RleError for an unknown name, naming the nearest known one, and for a text that may be a mask.
    """
    if isinstance(name, RleFormat):
        return name
    if name in FORMATS:
        return FORMATS[name]
    preset, colon, empty = str(name).partition(":")
    if colon and preset in FORMATS:
        return _with_empty(FORMATS[preset], empty)
    nearest = difflib.get_close_matches(str(name).lower(), FORMATS, n=1, cutoff=0.0)[0]
    raise RleError(f"unknown RLE format {name!r}; did you mean {nearest!r}? Known: {', '.join(FORMATS)}")


def _with_empty(fmt: RleFormat, empty: str) -> RleFormat:
    """The format with another text for an empty mask."""
    if fmt.style not in ("pairs", "gaps"):
        raise RleError(f"RLE format {fmt.name}: its counts have a text of their own for an empty mask, not {empty!r}")
    if _RUNS.fullmatch(empty) or empty != empty.strip():
        raise RleError(f"RLE format {fmt.name}: {empty!r} cannot stand for an empty mask, it has runs or outer spaces")
    return replace(fmt, name=f"{fmt.name}:{empty}", empty=empty)
