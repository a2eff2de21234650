"""The one reader of image and mask files.

Pillow decodes because it raises on a truncated file (OpenCV fills the rest with grey), tells an image's size
from its header, and decodes JPEGs at 1/2, 1/4 or 1/8 size straight from their DCT coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import DataError
from pipeline.rle import to_edges

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
EXIF_ORIENTATION = 0x0112
ORIENTATIONS_ON_THE_SIDE = (5, 6, 7, 8)
MOST_PIXELS = 2**32 - 1  # that the edges of ``pipeline.rle`` can number

# Pillow takes images of more than 179 megapixels for an attack; these are the user's own, and slides are larger.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Photograph:
    """A decoded image.

    ``pixels`` is uint8 (h, w, 3), RGB, upright; ``height`` and ``width`` are the size of the full image, of
    which ``pixels`` may be a reduced decoding.
    """

    pixels: np.ndarray
    height: int
    width: int


def read_image(path: Path, at_least: tuple[int, int] | None = None) -> Photograph:
    """Decode an image, turned as its EXIF orientation says.

    Args:
        path: any file that Pillow reads.
        at_least: height and width below which a reduced-size JPEG decoding must not go; full size when None.

    Raises:
        DataError: the file is missing, is no image, ends early, or has values of unknown range.
    """
    with _open(path) as image:
        height, width = _upright_size(image)
        if at_least is not None:
            # The draft is taken before turning. It filters as it shrinks: small copies made from it differ from
            # those of the full image by half a grey level on average.
            side = max(at_least)
            image.draft("RGB", (side, side))
        pixels = np.asarray(_as_bytes(ImageOps.exif_transpose(image), path).convert("RGB"))
    return Photograph(pixels, height, width)


def _as_bytes(image: Image.Image, path: Path) -> Image.Image:
    """An image of 8 bits a channel: of 16 bits the upper 8, where Pillow itself would turn all above 255 white."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(f"{path}: an image needs 8 or 16 bits a channel, this file has mode {image.mode}")
    return image


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright image, from the file's header alone."""
    with _open(path) as image:
        return _upright_size(image)


def read_class_map(path: Path) -> np.ndarray:
    """Decode a single-channel mask file: class indices or grey values, uint8 (H, W); a palette is ignored.

    Raises:
        DataError: the file is missing, broken, or has several channels.
    """
    with _open(path) as image:
        if image.mode not in ("1", "L", "P"):
            raise DataError(f"{path}: a mask needs one 8-bit channel, this file has mode {image.mode}")
        if image.mode == "1":
            image = image.convert("L")
        return np.asarray(ImageOps.exif_transpose(image))


def mask_edges(values: np.ndarray, rule: str | int, path: Path, option: str) -> np.ndarray:
    """The mask that a file's values stand for.

    Args:
        values: uint8 (H, W), of ``read_class_map``.
        rule: ``0/1`` or ``0/255``, the two values that there may be, or the least value that is foreground.
        path: the file, and ``option`` what gave the rule, for the message.

    Returns:
        Column-major edges, uint32.

    Raises:
        DataError: there is a third value.
    """
    if isinstance(rule, int):
        return to_edges(values, threshold=rule)
    foreground = values == (255 if rule == "0/255" else 1)
    strange = values[~foreground & (values != 0)]
    if strange.size:
        raise DataError(
            f"{path}: has the value {strange[0]}, {option} allows {rule}; "
            "for soft masks give the least foreground value instead, such as 128"
        )
    return to_edges(foreground)


class _open:
    """``Image.open`` with errors that name the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Image.Image:
        try:
            self.image = Image.open(self.path)
        except FileNotFoundError:
            raise DataError(f"{self.path}: no such file") from None
        except UnidentifiedImageError:
            raise DataError(f"{self.path}: not an image, or of an unknown kind") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: {error}") from None
        width, height = self.image.size
        if height * width > MOST_PIXELS:
            self.image.close()
            raise DataError(f"{self.path}: has {height} x {width} pixels (height x width), more than {MOST_PIXELS}")
        return self.image

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.image.close()
        if isinstance(error, (OSError, SyntaxError, ValueError)) and not isinstance(error, DataError):
            raise DataError(f"{self.path}: cannot be decoded: {error}") from None


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    # Of a TIFF, Pillow gives the upright size.
    turned = image.format != "TIFF" and image.getexif().get(EXIF_ORIENTATION) in ORIENTATIONS_ON_THE_SIDE
    return (width, height) if turned else (height, width)


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
