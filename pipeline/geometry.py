"""From an image of any size to the network's input size and back.

``shrink`` and ``restore`` are each other's inverse up to resampling, for both ways to fit: ``stretch`` fills
the input, ``letterbox`` keeps the aspect ratio and leaves a border. Nothing but the original height and width
is needed to go back, so a stored probability map stays small and exact. A ``Tiling`` cuts what is too large
for the network into overlapping parts.
"""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Fit = Literal["stretch", "letterbox"]


@dataclass(frozen=True)
class Box:
    """Where the picture lies inside the network's input, pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """The part of ``pixels`` (H, W, ...) inside the box, as a view."""
        return pixels[self.rows, self.columns]


def content_box(height: int, width: int, size: tuple[int, int], fit: Fit) -> Box:
    """The box that an image of ``height`` x ``width`` pixels takes inside an input of ``size`` (H, W)."""
    if fit == "stretch":
        return Box(0, 0, *size)
    scale = min(size[0] / height, size[1] / width)
    inner_height = min(size[0], max(1, round(height * scale)))
    inner_width = min(size[1], max(1, round(width * scale)))
    return Box((size[0] - inner_height) // 2, (size[1] - inner_width) // 2, inner_height, inner_width)


def shrink(pixels: np.ndarray, size: tuple[int, int], fit: Fit, *, height: int, width: int) -> np.ndarray:
    """Resample to the network's input.

    Args:
        pixels: uint8 (h, w) or (h, w, 3); may be a reduced-size decoding of the image.
        size: height and width of the result.
        fit: how to place the picture.
        height, width: the image's own size, which places it, whatever size ``pixels`` has.

    Returns:
        uint8 (*size) or (*size, 3); a letterbox's border is 0.
    """
    box = content_box(height, width, size, fit)
    inner = resample(pixels, box.height, box.width)
    if inner.shape[:2] == tuple(size):
        return inner
    framed = np.zeros((*size, *pixels.shape[2:]), np.uint8)
    box.cut(framed)[...] = inner
    return framed


def restore(prob_hw: np.ndarray, height: int, width: int, fit: Fit) -> np.ndarray:
    """Bring a probability map back to the image's own pixels.

    Args:
        prob_hw: uint8 (h, w) at network size, 255 = 1.0.
        height, width: the image's own size.
        fit: what ``shrink`` was given.

    Returns:
        uint8 (height, width), interpolated bilinearly.
    """
    box = content_box(height, width, prob_hw.shape, fit)
    return resample(np.ascontiguousarray(box.cut(prob_hw)), height, width)


def resample(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average over areas where both sides shrink, interpolate bilinearly elsewhere."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def scaled_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Height and width times ``scale``, in multiples of 32, which encoders halve five times; at least 32.

    A scale of 1 changes nothing.
    """
    return tuple(size) if scale == 1 else tuple(max(32, 32 * round(scale * side / 32)) for side in size)


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size that cover a picture."""

    size: tuple[int, int]
    """Height and width, pixels."""
    overlap: float
    """Least share of a tile's side that neighbours have in common, below 1."""

    def boxes(self, height: int, width: int) -> list[Box]:
        """The tiles of a picture at least as large as one: evenly spaced, the outer ones flush with its border."""
        tops, lefts = (self._starts(*sides) for sides in ((height, self.size[0]), (width, self.size[1])))
        return [Box(top, left, *self.size) for top in tops for left in lefts]

    def _starts(self, length: int, side: int) -> list[int]:
        step = max(1, math.floor(side * (1 - self.overlap)))
        steps = math.ceil((length - side) / step)
        return [round(i * (length - side) / max(1, steps)) for i in range(steps + 1)]

    def window(self) -> np.ndarray:
        """Weight of each pixel of a tile where several are averaged, float32 (*size).

        It falls to the borders, where a network sees least of a pixel's surroundings, linearly over the overlap.
        """
        return np.outer(*(self._ramp(side) for side in self.size)).astype(np.float32)

    def _ramp(self, side: int) -> np.ndarray:
        from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1
        return np.minimum(1, from_border / (max(1, round(self.overlap * side))))
