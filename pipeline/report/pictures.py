"""Photographs with masks on them, small, encoded as data URIs of bounded length."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import cv2
import matplotlib as mpl
import numpy as np
from PIL import Image

from pipeline.config import Experiment, data_root
from pipeline.data.held_out import HeldOutMasks
from pipeline.data.image_range import reading_of
from pipeline.data.images import read_image
from pipeline.geometry import content_box, resample, restore
from pipeline.postprocess import LEVELS, Postprocess, counts_by_threshold, joint_histogram
from pipeline.report.finished import FinishedRun
from pipeline.rle import from_edges

SIDE = 240
"""Longest side of a picture, pixels."""
PANEL_SIDE = 160
"""Longest side of a probability map that is embedded, pixels."""
PICTURE_BYTES = 20_000
"""Most bytes of an encoded picture."""

TRUE, PREDICTED, BOTH = (53, 224, 255), (255, 61, 127), (255, 255, 255)
"""Colours of what is true only, predicted only, and both."""
COLOURS = mpl.colormaps["inferno"](np.arange(LEVELS), bytes=True)[:, :3]
"""uint8 (256, 3), of a probability map's bytes."""

_QUALITIES = (82, 60, 35, 10, 0)


@dataclass(frozen=True)
class Pictures:
    """One mask, as data URIs."""

    truth: str
    prediction: str
    difference: str
    heat: str


def draw_mask(run: FinishedRun, row: int) -> Pictures:
    """A mask as the submission would have it, beside the true one."""
    sight = Sight.of(run.held_out, run.settings, row, SIDE)
    predicted = sight.shrunk(run.predicted(row, run.chosen(row)))
    return Pictures(
        truth=encode(tinted(sight.photograph, sight.truth, TRUE)),
        prediction=encode(tinted(sight.photograph, predicted, PREDICTED)),
        difference=encode(difference(sight.photograph, sight.truth, predicted)),
        heat=encode(COLOURS[small_map(run, row, *sight.truth.shape)]),
    )


def draw_difference(run: FinishedRun, row: int, postprocess: Postprocess) -> str:
    """Where a mask with these settings and the true one differ, as a data URI."""
    sight = Sight.of(run.held_out, run.settings, row, SIDE)
    return encode(difference(sight.photograph, sight.truth, sight.shrunk(run.predicted(row, postprocess))))


def panel_item(run: FinishedRun, row: int) -> dict[str, object]:
    """What the browser needs to move a mask's threshold: small pictures, and exact counts at every threshold.

    Bytes are base64: ``probability`` (h * w), 255 = 1.0, and ``truth``, one bit a pixel. ``intersection`` and
    ``predicted`` are pixels at the image's own size, for the thresholds 0 to 255.
    """
    sight = Sight.of(run.held_out, run.settings, row, PANEL_SIDE)
    height, width = sight.truth.shape
    restored = restore(run.map(row), *run.sizes[row], run.settings.image.fit)
    histogram = joint_histogram(restored.ravel(), from_edges(run.truth[row], restored.shape).ravel())
    inside, predicted = counts_by_threshold(histogram)
    return {
        "height": height,
        "width": width,
        "photo": encode(sight.photograph),
        "probability": _base64(small_map(run, row, height, width).tobytes()),
        "truth": _base64(np.packbits(sight.truth).tobytes()),
        "true": int(histogram[1].sum()),
        "intersection": inside.tolist(),
        "predicted": predicted.tolist(),
    }


@dataclass(frozen=True)
class Sight:
    """A photograph and its true mask at a small size."""

    photograph: np.ndarray
    """uint8 (h, w, 3)."""
    truth: np.ndarray
    """bool (h, w)."""
    full: tuple[int, int]
    """The photograph's own height and width."""

    @classmethod
    def of(cls, masks: HeldOutMasks, settings: Experiment, row: int, side: int) -> Sight:
        """A mask's, with sides of at most ``side`` pixels.

        Raises:
            DataError: ``data.root``, below which its photograph lies, was not given.
        """
        full = masks.sizes[row]
        size = shown_size(*full, side)
        path = data_root(settings.data) / masks.table["path"].iat[row]
        pixels = resample(read_image(path, size, reading_of(settings)).pixels, *size)
        return cls(pixels, shrink_mask(masks.truth[row], full, size), full)

    def shrunk(self, edges: np.ndarray) -> np.ndarray:
        """A mask of the photograph's own size at this one, bool (h, w)."""
        return shrink_mask(edges, self.full, self.truth.shape)


def shown_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width with sides of at most ``side`` pixels, the proportions kept."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink_mask(edges: np.ndarray, full: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Pixels that a mask covers by half or more, bool (*size)."""
    return resample(from_edges(edges, full) * np.uint8(255), *size) >= LEVELS // 2


def small_map(run: FinishedRun, row: int, height: int, width: int) -> np.ndarray:
    """A probability map at a size of the photograph's proportions, uint8 (height, width)."""
    prob_hw = run.map(row)
    box = content_box(*run.sizes[row], prob_hw.shape, run.settings.image.fit)
    return resample(np.ascontiguousarray(box.cut(prob_hw)), height, width)


def tinted(photograph: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The photograph, uint8 (h, w, 3), with a mask, bool (h, w), tinted and outlined."""
    picture = photograph.copy()
    _tint(picture, mask, colour, 0.3)
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
    picture[mask & ~inner] = colour
    return picture


def difference(photograph: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """What is missed, what is extra, and what is right, on the photograph in dark grey: uint8 (h, w, 3)."""
    grey = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY) // 2
    picture = np.repeat(grey[..., None], 3, axis=2)
    _tint(picture, truth & predicted, BOTH, 0.45)
    _tint(picture, truth & ~predicted, TRUE, 0.9)
    _tint(picture, predicted & ~truth, PREDICTED, 0.9)
    return picture


def _tint(picture: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], share: float) -> None:
    picture[mask] = ((1 - share) * picture[mask] + share * np.array(colour)).astype(np.uint8)


def encode(pixels: np.ndarray, at_most: int = PICTURE_BYTES) -> str:
    """A picture, uint8 (h, w, 3), as the data URI of a WebP file; worse rather than longer than ``at_most`` bytes."""
    for quality in _QUALITIES:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "WEBP", quality=quality, method=4)
        if file.tell() <= at_most:
            break
    return "data:image/webp;base64," + _base64(file.getvalue())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
