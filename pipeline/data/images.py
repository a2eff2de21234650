"""The one reader of image and mask files.

Whatever a file has that the result would lack is an error: further pages, a fourth channel, bits without a scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pipeline.data.image_files import Header, StoredImage, open_stored
from pipeline.errors import DataError, some
from pipeline.memory import DECODING
from pipeline.rle import to_edges

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
LARGE = 2**24
"""Pixels from which an image is shrunk while it is decoded, where it may be."""
SPARE = 2
"""Times the wanted size that an image shrunk while it is decoded still has, as JPEGs at least."""

MASK_BYTES = 4
"""Bytes for each pixel of an image that its masks take while they are read and shrunk, one after another."""

Exif = Literal["apply", "ignore"]


@dataclass(frozen=True)
class ValueRange:
    """The values that become 0 and 255 in all images of a data set with more than 8 bits a channel."""

    low: float
    high: float

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Values as float64 from 0 to 255; those outside of the range are clipped."""
        span = (self.high - self.low) or 1.0
        return np.clip((values.astype(np.float64) - self.low) * (255 / span), 0, 255)


@dataclass(frozen=True)
class Reading:
    """How the images of a data set are read."""

    exif: Exif = "apply"
    """Whether images are turned as their EXIF orientation says."""
    values: ValueRange | None = None
    """The scale of images of more than 8 bits a channel; None where all have 8."""


UPRIGHT = Reading()


@dataclass(frozen=True)
class Photograph:
    """A decoded image.

    ``pixels`` is uint8 (h, w, 3), RGB; ``height`` and ``width`` are the size of the full image, of which ``pixels``
    may be a reduced decoding.
    """

    pixels: np.ndarray
    height: int
    width: int


def read_image(path: Path, at_least: tuple[int, int] | None = None, reading: Reading = UPRIGHT) -> Photograph:
    """Decode an image.

    Args:
        path: a file of one of ``image_files.KINDS``.
        at_least: height and width below which a reduced decoding must not go; full size when None.
        reading: whether to turn it, and the scale of its values.

    Raises:
        DataError: the file is missing, is no image, ends early, has several pages or a fourth channel, needs more
            memory than there is, or has other values than ``reading`` is for.
    """
    with open_stored(path) as stored:
        _refuse_what_is_lost(stored)
        _check_values(stored, reading)
        header = stored.header
        height, width = header.size(reading.exif)
        turned = (height, width) != (header.height, header.width)
        if at_least is not None:
            # The draft is taken before turning. It filters as it shrinks: small copies made from it differ from
            # those of the full image by half a grey level on average.
            stored.draft(max(at_least))
        target = _target_size(stored.decoded_size, at_least and (at_least[::-1] if turned else at_least))
        with DECODING.taking(_memory(stored, target)), _memory_errors(path):
            pixels = _assemble(_colours(stored), stored.decoded_size, target, reading.values)
            if reading.exif == "apply":
                pixels = np.ascontiguousarray(_upright(pixels, header.orientation))
    return Photograph(pixels, height, width)


def read_header(path: Path) -> Header:
    """Read the header of an image file, without decoding it.

    Raises:
        DataError: the file is missing or no image.
    """
    with open_stored(path) as stored:
        return stored.header


def read_size(path: Path, exif: Exif = "apply") -> tuple[int, int]:
    """Height and width of the image, from the file's header alone."""
    return read_header(path).size(exif)


def value_extremes(path: Path) -> ValueRange:
    """The least and the greatest value of an image's colours.

    Raises:
        DataError: as ``read_image``.
    """
    low, high = math.inf, -math.inf
    with open_stored(path) as stored:
        _refuse_what_is_lost(stored)
        with DECODING.taking(_memory(stored, (0, 0))), _memory_errors(path):
            for band in _colours(stored):
                low, high = min(low, float(band.min())), max(high, float(band.max()))
    return ValueRange(low, high)


def decoding_memory(path: Path, at_least: tuple[int, int], exif: Exif) -> int:
    """Bytes that ``read_image`` and a mask of the image's size take together at most."""
    with open_stored(path) as stored:
        stored.draft(max(at_least))
        size = stored.header.height, stored.header.width
        turned = stored.header.size(exif) != size
        target = _target_size(stored.decoded_size, at_least[::-1] if turned else at_least)
        needed = _memory(stored, target) + MASK_BYTES * math.prod(size)
        DECODING.check(needed, path, size, "for the image and its mask")
        return needed


def _refuse_what_is_lost(stored: StoredImage) -> None:
    if stored.header.refusal:
        raise DataError(f"{stored.path}: {stored.header.refusal}")


def _check_values(stored: StoredImage, reading: Reading) -> None:
    header = stored.header
    if header.deep and reading.values is None:
        raise DataError(
            f"{stored.path}: has {header.values} values, the experiment's images have 8 bits a channel: there is no "
            "scale for it"
        )
    if not header.deep and reading.values is not None:
        raise DataError(
            f"{stored.path}: has 8 bits a channel, the experiment's images have values from {reading.values.low:.10g} "
            f"to {reading.values.high:.10g}: they are not on one scale"
        )


def _memory(stored: StoredImage, target: tuple[int, int]) -> int:
    """Bytes that decoding to a size takes.

    Raises:
        DataError: more than there are.
    """
    needed = stored.memory + 6 * math.prod(target)  # which are turned as a copy
    DECODING.check(needed, stored.path, (stored.header.height, stored.header.width), "to decode")
    return needed


@contextmanager
def _memory_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise DataError(f"{path}: needs more memory than there is") from None


def _colours(stored: StoredImage) -> Iterator[np.ndarray]:
    """Bands of an image, (h, W, 1) or (h, W, 3); a further channel that is the same everywhere is left out.

    Raises:
        DataError: it is not, or there are values that are no numbers.
    """
    constant = None
    for band in stored.bands():
        if band.shape[2] in (2, 4):
            further = band[..., -1]
            constant = further[0, 0] if constant is None else constant
            if (further != constant).any():
                channels = stored.header.channels
                raise DataError(
                    f"{stored.path}: has {channels}, the last one not constant, and images are read as RGB or grey: "
                    "save the colours without it"
                )
            band = band[..., :-1]
        if band.dtype.kind == "f" and not np.isfinite(band).all():
            raise DataError(f"{stored.path}: has values that are no finite numbers (NaN or infinity)")
        yield band


def _target_size(size: tuple[int, int], at_least: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width to assemble an image at: its own unless it is large and may be smaller."""
    if at_least is None or math.prod(size) <= LARGE:
        return size
    factor = min(side // (SPARE * least) for side, least in zip(size, at_least, strict=True))
    return size if factor < 2 else (round(size[0] / factor), round(size[1] / factor))


def _assemble(
    bands: Iterator[np.ndarray], size: tuple[int, int], target: tuple[int, int], values: ValueRange | None
) -> np.ndarray:
    """Bands as one image, uint8 (*target, 3), averaged over areas where that is smaller than ``size``."""
    if size != target:
        scaled = (band.astype(np.float64) if values is None else values.scaled(band) for band in bands)
        return np.rint(_area_means(scaled, size, target)).astype(np.uint8)
    pixels = np.empty((*size, 3), np.uint8)
    top = 0
    for band in bands:
        pixels[top : top + len(band)] = band if values is None else np.rint(values.scaled(band)).astype(np.uint8)
        top += len(band)
    return pixels


def _area_means(bands: Iterator[np.ndarray], size: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Means over the areas of an image that make a pixel of a smaller one, float64 (*target, 3)."""
    scale = size[0] / target[0]
    sums = np.zeros((*target, 3))
    top = 0
    for band in bands:
        # Along rows OpenCV averages, along columns each row is shared out among the one or two rows that it falls into.
        narrow = cv2.resize(band, (target[1], len(band)), interpolation=cv2.INTER_AREA).reshape(
            len(band), target[1], -1
        )
        rows = np.arange(top, top + len(band))
        first, last = int(top / scale), min(target[0], math.ceil((top + len(band)) / scale))
        starts = np.arange(first, last)[:, None] * scale
        shares = np.minimum(rows + 1, starts + scale) - np.maximum(rows, starts)
        sums[first:last] += np.tensordot(np.maximum(shares, 0), narrow, 1)
        top += len(band)
    return sums / scale


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels turned as EXIF says, (h, w, ...); a view."""
    return {
        1: lambda: pixels,
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: lambda: pixels.swapaxes(0, 1),
        6: lambda: np.rot90(pixels, -1),
        7: lambda: pixels[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(pixels, 1),
    }[orientation]()


@dataclass(frozen=True)
class ClassMap:
    """A mask file of one channel."""

    values: np.ndarray
    """Class indices or grey values as stored, uint8 or uint16 (H, W); of a palette the indices."""
    white: int
    """The greatest value that a channel of the file can have: 1, 3, 15, 255 or 65535."""


def read_class_map(path: Path, exif: Exif = "apply") -> ClassMap:
    """Decode a mask file of one channel.

    Raises:
        DataError: the file is missing, broken, or has several channels or pages.
    """
    with open_stored(path) as stored:
        header = stored.header
        if header.pages > 1:
            _refuse_what_is_lost(stored)
        with DECODING.taking(_memory(stored, (header.height, header.width))), _memory_errors(path):
            values, white = stored.indices()
            if exif == "apply":
                values = np.ascontiguousarray(_upright(values, header.orientation))
    return ClassMap(values, white)


def distinct_values(values: np.ndarray) -> list[int]:
    """The values that occur in a map of class indices, uint8 or uint16, rising."""
    count = np.iinfo(values.dtype).max + 1
    bands = np.array_split(np.ascontiguousarray(values), 1 + values.size // 2**30)  # OpenCV numbers pixels with 31 bits
    return np.flatnonzero(sum(cv2.calcHist([band], [0], None, [count], [0, count]) for band in bands)).tolist()


def mask_edges(mask: ClassMap, rule: str | int, path: Path, option: str) -> np.ndarray:
    """The mask that a file's values stand for.

    Args:
        mask: of ``read_class_map``.
        rule: ``0/1`` or ``0/255``, the two values that there may be, or the least value that is foreground. 255 is
            white, whatever the file's number of bits.
        path: the file, and ``option`` what gave the rule, for the message.

    Returns:
        Column-major edges, uint32.

    Raises:
        DataError: there is a third value.
    """
    values, white = mask.values, mask.white
    if isinstance(rule, int):
        if white > 255 and 0 < values.max(initial=0) <= 255:
            raise DataError(
                f"{path}: has 16 bits and no value above {values.max()}, of 65535: nothing would be foreground from "
                f"{option} {rule} of 255; save it with 8 bits"
            )
        return to_edges(values >= math.ceil(rule * white / 255)) if white != 255 else to_edges(values, threshold=rule)
    present = set(distinct_values(values)) - {0}
    if white > 255 and max(present, default=0) <= 255:
        white = 255
    foreground = 1 if rule == "0/1" else white
    if strange := sorted(present - {foreground}):
        fits = "0/1" if rule == "0/255" and strange == [1] and foreground not in present else None
        advice = f"{fits} fits it" if fits else "for soft masks give the least foreground value instead, such as 128"
        found = f"the value{'s' * (len(strange) > 1)} {some(list(map(str, strange)))}"
        raise DataError(f"{path}: has {found}, {option} allows {rule}; {advice}")
    return to_edges(values == foreground)


def perceptual_hash(pixels: np.ndarray) -> int:
    """64-bit hash that survives re-encoding and resizing: signs of the lowest 8 x 8 DCT terms.

    The "pHash" of Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010): grey
    32 x 32, DCT, the terms of lowest frequency compared with their median.

    Args:
        pixels: uint8 (H, W, 3), RGB.
    """
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")
