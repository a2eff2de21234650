"""Image files as they are stored: opened safely, described by their header, and decoded in bands of rows.

Pillow decodes photographs, because it raises on a truncated file (OpenCV fills the rest with grey), tells an image's
size from its header, and decodes JPEGs at 1/2, 1/4 or 1/8 size straight from their DCT coefficients. Where it would
drop bits, in colour PNGs of 16 bits a channel, imagecodecs decodes; TIFFs are in ``tiff_files``.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.errors import DataError

KINDS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP")
"""Formats that are read, whatever a file's suffix says."""
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""Named to Pillow, which else tries all that it knows, and starts Ghostscript for PostScript."""
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

EXIF_ORIENTATION = 0x0112
MOST_PIXELS = 2**32 - 1  # that the edges of ``pipeline.rle`` can number
MOST_METADATA = 2**20  # bytes of EXIF or XMP that are looked at
PNG_START = b"\x89PNG\r\n\x1a\n"
BAND_PIXELS = 2**20  # of a band, about

# Pillow takes images of more than 179 megapixels for an attack; these are the user's own, and slides are larger.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Header:
    """Header of an image file.

    Attributes:
        kind: its format, such as "PNG".
        height, width: as stored, whatever the orientation.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        bits: of a channel.
        numbers: "unsigned", "signed" or "float".
        channels: those of a pixel, in words, such as "4 channels (RGBA)".
        pages: images in the file.
        refusal: why it is no image of one page and of one or three channels, if that shows before decoding.
    """

    kind: str
    height: int
    width: int
    orientation: int = 1
    bits: int = 8
    numbers: str = "unsigned"
    channels: str = "1 channel (grey)"
    pages: int = 1
    refusal: str | None = None

    @property
    def deep(self) -> bool:
        """Whether the values need a scale to become those of 8 bits."""
        return self.bits > 8 or self.numbers != "unsigned"

    @property
    def values(self) -> str:
        """Kind of the values in words: ``16-bit``, ``16-bit signed``, ``32-bit float``."""
        return f"{self.bits}-bit" if self.numbers == "unsigned" else f"{self.bits}-bit {self.numbers}"

    @property
    def sideways(self) -> bool:
        """Whether the upright image has height and width exchanged."""
        return self.orientation >= 5

    def size(self, exif: str) -> tuple[int, int]:
        """Height and width as read with ``data.exif``."""
        return (self.width, self.height) if exif == "apply" and self.sideways else (self.height, self.width)


class StoredImage(Protocol):
    """An open image file."""

    path: Path
    header: Header

    def draft(self, side: int) -> None:
        """Choose a reduced decoding, where the format has one, with no side below ``side``."""
        ...

    @property
    def decoded_size(self) -> tuple[int, int]:
        """Height and width that ``bands`` add up to."""
        ...

    @property
    def memory(self) -> int:
        """Bytes that decoding takes, without the result."""
        ...

    def bands(self) -> Iterator[np.ndarray]:
        """Rows from top to bottom, (h, W, C): colours of 8 bits as RGB or RGBA, others as they are."""
        ...

    def indices(self) -> tuple[np.ndarray, int]:
        """Values of a single channel as stored, (H, W), and the one that is white."""
        ...


@contextmanager
def open_stored(path: Path) -> Iterator[StoredImage]:
    """Open an image file.

    Raises:
        DataError: it is missing, no plain file, no image of ``KINDS``, damaged, or has too many pixels.
    """
    with decoding(path, "{path}: {reason}"):
        _check_plain(path)
        file = path.open("rb")
    with file:
        start = file.read(32)
        file.seek(0)
        with decoding(path, "{path}: {reason}"):
            image = _open_tiff(path, file) if start.startswith(TIFF_STARTS) else PillowImage(path, file, start)
        header = image.header
        if header.height * header.width > MOST_PIXELS:
            sides = f"{header.height} x {header.width}"
            raise DataError(f"{path}: has {sides} pixels (height x width), more than {MOST_PIXELS}")
        yield image


def _open_tiff(path: Path, file: BinaryIO) -> StoredImage:
    from pipeline.data.tiff_files import TiffImage  # its packages take a quarter of a second to import

    return TiffImage(path, file)


def _check_plain(path: Path) -> None:
    """Refuse what is no file: reading a FIFO would wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is {kinds.get(stat.S_IFMT(mode), 'a device')}, not an image file")


@contextmanager
def decoding(path: Path, message: str = "{path}: cannot be decoded: {reason}") -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged or hostile file into a ``DataError`` that names the file."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{path}: needs more memory to decode than there is") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image of {', '.join(KINDS[:-1])} or {KINDS[-1]}{_really(path)}") from None
    except OSError as error:
        raise DataError(message.format(path=path, reason=error.strerror or error)) from None
    except Exception as error:  # decoders raise anything: struct.error, IndexError, KeyError, ...
        raise DataError(message.format(path=path, reason=str(error) or type(error).__name__)) from None


def _really(path: Path) -> str:
    """Name the format of a file that is not read, as far as its first bytes tell."""
    with path.open("rb") as file:
        start = file.read(16)
    if not start:
        return "; it is empty"
    Image.init()
    for name, (_, accepts) in Image.OPEN.items():
        with suppress(Exception):  # some expect more bytes than a short file has
            if name not in KINDS and accepts and accepts(start) is True:
                return f"; it is {name}"
    return ""


CHANNELS = {
    "1": "1 channel (grey)",
    "L": "1 channel (grey)",
    "I;16": "1 channel (grey)",
    "P": "1 channel (palette)",
    "LA": "2 channels (grey and alpha)",
    "PA": "2 channels (palette and alpha)",
    "RGB": "3 channels (RGB)",
    "RGBA": "4 channels (RGBA)",
    "CMYK": "4 channels (CMYK)",
}
"""Channels of Pillow's modes, for messages."""


class PillowImage:
    """A photograph that Pillow decodes."""

    def __init__(self, path: Path, file: BinaryIO, start: bytes) -> None:
        self.path, self._file = path, file
        self.image = image = Image.open(file, formats=PILLOW_FORMATS)
        is_png = image.format == "PNG" and start[12:16] == b"IHDR"
        self._depth = start[24] if is_png else 8
        # Further pictures of an MPO are previews, depth or gain maps of the first, the photograph.
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if is_png and "exif" not in image.info:
            image.info.update(_late_exif(file))
        # Not the method of a PNG, which decodes the image first to find what follows it.
        orientation = Image.Image.getexif(image).get(EXIF_ORIENTATION, 1)
        channels = CHANNELS.get(image.mode, image.mode)
        self.header = Header(
            kind={"MPO": "JPEG"}.get(image.format, image.format),
            height=image.height,
            width=image.width,
            orientation=orientation if orientation in range(1, 9) else 1,
            bits=1 if image.mode == "1" else self._depth,
            channels=channels,
            pages=pages,
            refusal=refusal_of(pages, channels, "CMYK" if image.mode == "CMYK" else None),
        )

    def draft(self, side: int) -> None:
        with decoding(self.path):
            self.image.draft("RGB", (side, side))

    @property
    def decoded_size(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    @property
    def memory(self) -> int:
        height, width = self.decoded_size
        if self._is_deep_colour:
            return height * width * 8 + self.path.stat().st_size
        whole = self.header.height * self.header.width
        if self.header.kind == "WEBP":  # canvas, copy and image, 4 bytes each
            return 12 * whole
        bytes_of_pixel = {"1": 1, "L": 1, "P": 1, "I;16": 2}.get(self.image.mode, 4)
        # A progressive JPEG is kept whole, as coefficients of two bytes, whatever its decoded size.
        progressive = self.image.info.get("progressive") or self.image.info.get("progression")
        return height * width * bytes_of_pixel + (6 * whole if progressive else 0)

    @property
    def _is_deep_colour(self) -> bool:
        return self._depth == 16 and not self.image.mode.startswith("I;16")

    def bands(self) -> Iterator[np.ndarray]:
        if self._is_deep_colour:
            import imagecodecs

            with decoding(self.path):
                whole = imagecodecs.png_decode(self.path.read_bytes())
            yield from np.array_split(whole, max(1, whole.shape[0] * whole.shape[1] // BAND_PIXELS))
            return
        mode = self.image.mode if self.image.mode.startswith("I;16") else "RGBA" if self._has_alpha else "RGB"
        for rows in self._rows(mode):
            yield rows if rows.ndim == 3 else rows[..., None]

    def _rows(self, mode: str) -> Iterator[np.ndarray]:
        """Rows of the image in one of Pillow's modes; the whole of it would be copied several times."""
        image = self.image
        with decoding(self.path):
            image.load()
            step = max(1, BAND_PIXELS // image.width)
            for top in range(0, image.height, step):
                part = image.crop((0, top, image.width, min(top + step, image.height)))
                yield np.asarray(part if part.mode == mode else part.convert(mode))

    @property
    def _has_alpha(self) -> bool:
        return self.image.mode in ("RGBA", "LA", "PA") or "transparency" in self.image.info

    def indices(self) -> tuple[np.ndarray, int]:
        if self.image.mode not in ("1", "L", "P", "I;16"):
            raise DataError(f"{self.path}: a mask needs 1 channel, this file has {self.header.channels}")
        image, top = self.image, 0
        values = np.empty((image.height, image.width), np.uint16 if image.mode == "I;16" else np.uint8)
        for rows in self._rows(image.mode):
            values[top : top + len(rows)] = rows
            top += len(rows)
        if image.mode == "L" and self._depth < 8:
            white = 2**self._depth - 1
            values //= np.uint8(255 // white)  # Pillow multiplies them
            return values, white
        return values, {"1": 1, "I;16": 65535}.get(image.mode, 255)


def _late_exif(file: BinaryIO) -> dict[str, bytes]:
    """Read a PNG's orientation, which may stand behind the pixels, as Pillow's ``info`` has it."""
    place, found = file.tell(), {}
    file.seek(len(PNG_START))
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"eXIf":
            found["exif"] = b"Exif\0\0" + file.read(min(length, MOST_METADATA))
            break
        if kind == b"iTXt" and length <= MOST_METADATA:
            text = file.read(length)
            if text.startswith(b"XML:com.adobe.xmp\0\0"):  # the second zero: not compressed
                found["xmp"] = text
            length = 0
        file.seek(length + 4, SEEK_CUR)
    file.seek(place)
    return found


def refusal_of(pages: int, channels: str, colours: str | None) -> str | None:
    """Why a file is no image of one page in grey or RGB, if that shows before decoding.

    Args:
        colours: those that RGB cannot be made of without loss.
    """
    if pages > 1:
        return f"has {pages} pages or frames, and only one is read: save the one that is meant as a file of its own"
    if colours:
        return f"has {channels}, and images are read as RGB or grey: convert it"
    return None
