"""The surface portraits are painted on: anti-aliased shapes, textures, and the mask beside the picture.

A *coverage* is a uint8 (H, W) array, 255 where a shape covers the pixel entirely; painting blends by it.
A *texture* is a float32 (H, W) array of factors around 1 that a flat colour is multiplied by.
Points are float arrays (N, 2) of x, y in pixels.
"""

import math
from functools import lru_cache

import cv2
import numpy as np

SUBPIXEL_BITS = 3  # OpenCV draws polygons at fixed-point coordinates, here eighths of a pixel


class Canvas:
    """A picture in the making.

    image: float32 (3, H, W), RGB, 255 is white and highlights may exceed it until they are photographed;
    planes come first, since numpy then blends several times faster.
    face: uint8 (H, W), 255 where the face is in view.
    """

    def __init__(self, height: int, width: int):
        self.image = np.zeros((3, height, width), np.float32)
        self.face = np.zeros((height, width), np.uint8)

    @property
    def shape(self) -> tuple[int, int]:
        return self.face.shape

    def polygon(self, points: np.ndarray) -> np.ndarray:
        """Coverage of a filled polygon."""
        coverage = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(coverage, [_fixed_point(points)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        return coverage

    def stroke(self, points: np.ndarray, thickness: float, closed: bool = False) -> np.ndarray:
        """Coverage of a line through the points with round ends, at least one pixel thick."""
        coverage = np.zeros(self.shape, np.uint8)
        pixels = max(1, round(thickness))
        cv2.polylines(coverage, [_fixed_point(points)], closed, 255, pixels, cv2.LINE_AA, SUBPIXEL_BITS)
        return coverage

    def paint(self, coverage, colour, texture=None, opacity: float = 1.0) -> None:
        """Lay a colour (3,) over the picture; what is face stays face."""
        x, y, width, height = cv2.boundingRect(coverage)
        rows, columns = slice(y, y + height), slice(x, x + width)
        alpha = coverage[rows, columns] * np.float32(opacity / 255)
        pigment = planes(colour)
        if texture is not None:
            pigment = pigment * texture[rows, columns]
        below = self.image[:, rows, columns]
        below += alpha * (pigment - below)

    def fill(self, points, colour, texture=None, opacity: float = 1.0) -> None:
        """Paint a polygon."""
        self.paint(self.polygon(points), colour, texture, opacity)

    def line(self, points, thickness: float, colour, opacity: float = 1.0) -> None:
        """Paint a line."""
        self.paint(self.stroke(points, thickness), colour, opacity=opacity)

    def occlude(self, coverage, colour, texture=None) -> None:
        """Lay a colour over the picture and hide the face below it."""
        self.paint(coverage, colour, texture)
        self.face = cv2.subtract(self.face, coverage)

    def add_face(self, coverage) -> None:
        """Count what the shape covers as face."""
        self.face = cv2.max(self.face, coverage)


def _fixed_point(points: np.ndarray) -> np.ndarray:
    return np.round(np.asarray(points) * 2**SUBPIXEL_BITS).astype(np.int32)


def planes(colour) -> np.ndarray:
    """A colour (3,) as float32 (3, 1, 1), to be combined with planes (3, H, W)."""
    return np.asarray(colour, np.float32)[:, None, None]


def oval(centre, radii, roll=0.0, power=2.0, start=0.0, stop=2 * np.pi, count=48) -> np.ndarray:
    """Points (count, 2) on an ellipse from angle start to stop; power 2 is round, larger is boxier."""
    return (_unit_oval(power, start, stop, count) * radii) @ rotation(roll).T + centre


@lru_cache(maxsize=256)
def _unit_oval(power: float, start: float, stop: float, count: int) -> np.ndarray:
    angles = np.linspace(start, stop, count, endpoint=stop - start < 2 * np.pi)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.sign(points) * np.abs(points) ** (2 / power)
    points.flags.writeable = False
    return points


def rotation(angle: float) -> np.ndarray:
    """(2, 2) matrix that turns x towards y by the angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def smooth_noise(rng, shape, octaves: int = 5, stretch: float = 1.0, roughness: float = 0.65) -> np.ndarray:
    """Cloudy noise (H, W) float32 with its largest magnitude 1.

    stretch > 1 gives more detail across than down: hair strands, wood grain.
    """
    field = np.zeros((2, 2), np.float32)
    for octave in range(octaves):
        rows = 2 ** (octave + 1) + 1
        columns = max(2, round(rows * stretch))
        detail = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(roughness**octave)
        # Growing the sum from grid to grid costs far less than growing every octave to full size.
        field = cv2.resize(field, (columns, rows), interpolation=cv2.INTER_CUBIC) + detail
    # The one step at full size; from a fine grid the cheaper interpolation looks the same.
    interpolation = cv2.INTER_CUBIC if octaves < 4 else cv2.INTER_LINEAR
    field = cv2.resize(field / np.abs(field).max(), (shape[1], shape[0]), interpolation=interpolation)
    return np.clip(field, -1, 1)


def stripes(shape, period: float, angle: float) -> np.ndarray:
    """Parallel bands (H, W) float32 of +1 and -1, the period in pixels."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    across = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
    band_number = np.floor(across * np.float32(2 / period)).astype(np.int32)
    return 1 - 2 * (band_number & 1).astype(np.float32)
