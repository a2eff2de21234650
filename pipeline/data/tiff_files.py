"""TIFF files, decoded strip by strip or tile by tile with tifffile."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import imagecodecs  # noqa: F401, which tifffile decompresses with: a bundle lists what is imported here
import numpy as np
import tifffile

from pipeline.data.image_files import BAND_PIXELS, EXIF_ORIENTATION, Header, decoding, refusal_of
from pipeline.errors import DataError

NUMBERS = {"b": "unsigned", "u": "unsigned", "i": "signed", "f": "float"}
GREY, WHITE_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 1, 0, 2, 3, 5, 6
NAMES = {GREY: "grey", WHITE_IS_ZERO: "grey", RGB: "RGB", PALETTE: "palette", CMYK: "CMYK", YCBCR: "YCbCr"}
JPEG_COMPRESSIONS = (6, 7, 34892, 33007)


class _Strict(logging.Handler):
    """Raises what tifffile would log as an error and pass over, such as pages that cannot be found."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            raise tifffile.TiffFileError(record.getMessage().rpartition("> ")[2])


logging.getLogger("tifffile").addHandler(_Strict())


class TiffImage:
    """The one page of a TIFF file that is no thumbnail or smaller copy of another one."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.tiff = tifffile.TiffFile(file, name=path.name)
        full = [page for page in self._pages() if not (page.is_reduced or page.subfiletype & 4)]
        if not full:
            raise DataError(f"{path}: cannot be decoded: it has no page, or thumbnails only")
        self.page = page = full[0].aspage()
        if page.dtype is None or page.dtype.kind not in NUMBERS or not isinstance(page.bitspersample, int):
            raise DataError(f"{path}: has {page.bitspersample}-bit values of a kind that is not read")
        parts = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip,)
        sides = (page.imagelength, page.imagewidth, page.imagedepth, page.samplesperpixel, *parts)
        if not all(isinstance(side, int) and side > 0 for side in sides):
            raise DataError(f"{path}: cannot be decoded: its header is damaged")
        pages = max(len(full) * page.imagedepth, self._stacked())
        tag = page.tags.get(EXIF_ORIENTATION)
        self.header = Header(
            kind="TIFF",
            height=page.imagelength,
            width=page.imagewidth,
            orientation=tag.value if tag is not None and tag.value in range(1, 9) else 1,
            bits=page.bitspersample,
            numbers=NUMBERS[page.dtype.kind],
            channels=f"{page.samplesperpixel} channel{'s' * (page.samplesperpixel > 1)} ({self._colours()})",
            pages=pages,
        )
        self.header = self._with_refusal()
        self._check_segments()

    def _pages(self) -> Iterator[tifffile.TiffPage | tifffile.TiffFrame]:
        """The file's pages, which may name each other in a circle where the file is damaged."""
        places = set()
        for page in self.tiff.pages:
            if page.offset in places:
                raise DataError(f"{self.path}: cannot be decoded: its pages go round in a circle")
            places.add(page.offset)
            yield page

    def _with_refusal(self) -> Header:
        page, header = self.page, self.header
        strange = None
        if page.samplesperpixel > 4 or (page.photometric == PALETTE and page.samplesperpixel > 1):
            strange = "more"
        elif page.photometric == YCBCR and page.compression not in JPEG_COMPRESSIONS:
            strange = "YCbCr"
        elif page.photometric not in (GREY, WHITE_IS_ZERO, RGB, PALETTE, YCBCR):
            strange = NAMES.get(page.photometric, str(page.photometric))
        refusal = refusal_of(header.pages, header.channels, strange)
        return replace(header, refusal=refusal)

    def _colours(self) -> str:
        photometric = self.page.photometric
        name = NAMES.get(photometric) or getattr(photometric, "name", str(photometric))
        extra = len(self.page.extrasamples)
        return name + (f" and {extra} more" if extra else "")

    def _stacked(self) -> int:
        """Images that one page stands for, as ImageJ, MetaMorph and tifffile write stacks."""
        if not (self.tiff.is_imagej or self.tiff.is_shaped or self.tiff.is_stk):
            return 1
        return max((len(series) for series in self.tiff.series), default=1)

    def _check_segments(self) -> None:
        """Refuse a file that ends early, or has holes, before anything is allocated for it."""
        page, size = self.page, self.tiff.filehandle.size
        places = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        if len(places) < math.prod(self._segments) or any(not offset or not count for offset, count in places):
            raise DataError(f"{self.path}: cannot be decoded: strips or tiles are missing")
        if any(offset + count > size for offset, count in places):
            raise DataError(f"{self.path}: cannot be decoded: the file is truncated")

    def draft(self, side: int) -> None:
        """Nothing: a TIFF has no reduced decoding."""

    @property
    def decoded_size(self) -> tuple[int, int]:
        return self.header.height, self.header.width

    @property
    def memory(self) -> int:
        page = self.page
        rows = min(self._rows, self.header.height)
        encoded = max(page.databytecounts, default=0)
        return 2 * rows * self._padded_width * page.samplesperpixel * page.dtype.itemsize + encoded

    @property
    def _rows(self) -> int:
        """Rows that are decoded together."""
        page = self.page
        if self._is_plain:
            return max(1, BAND_PIXELS // page.imagewidth)
        return page.tilelength if page.is_tiled else page.rowsperstrip

    @property
    def _is_plain(self) -> bool:
        """Whether rows lie in the file one after another, uncompressed: any number of them can be read at once."""
        page = self.page
        return page.is_contiguous and page.is_memmappable and page.planarconfig == 1

    @property
    def _padded_width(self) -> int:
        page = self.page
        return self._segments[2] * page.tilewidth if page.is_tiled else page.imagewidth

    @property
    def _segments(self) -> tuple[int, int, int]:
        """Strips or tiles: in how many planes, one below the other, and side by side."""
        page = self.page
        planes = page.samplesperpixel if page.planarconfig == 2 else 1
        if page.is_tiled:
            return planes, math.ceil(page.imagelength / page.tilelength), math.ceil(page.imagewidth / page.tilewidth)
        return planes, math.ceil(page.imagelength / page.rowsperstrip), 1

    def _stored(self) -> Iterator[np.ndarray]:
        """Rows as they are stored, (h, W, C), native byte order."""
        with decoding(self.path):
            yield from self._plain_rows() if self._is_plain else self._segment_rows()

    def _plain_rows(self) -> Iterator[np.ndarray]:
        page, file = self.page, self.tiff.filehandle
        dtype = page.dtype.newbyteorder(self.tiff.byteorder)
        width, channels = page.imagewidth, page.samplesperpixel
        for top in range(0, page.imagelength, self._rows):
            rows = min(self._rows, page.imagelength - top)
            file.seek(page.dataoffsets[0] + top * width * channels * dtype.itemsize)
            data = file.read(rows * width * channels * dtype.itemsize)
            if len(data) < rows * width * channels * dtype.itemsize:
                raise DataError(f"{self.path}: cannot be decoded: the file is truncated")
            yield np.frombuffer(data, dtype).reshape(rows, width, channels).astype(page.dtype, copy=False)

    def _segment_rows(self) -> Iterator[np.ndarray]:
        page = self.page
        planes, down, across = self._segments
        for row in range(down):
            height = min(self._rows, page.imagelength - row * self._rows)
            planes_of_row = []
            for plane in range(planes):
                numbers = range((plane * down + row) * across, (plane * down + row + 1) * across)
                planes_of_row.append(np.concatenate([self._segment(number, height) for number in numbers], axis=1))
            yield np.concatenate(planes_of_row, axis=2)[:, : page.imagewidth]

    def _segment(self, number: int, height: int) -> np.ndarray:
        """A strip or tile, (height, w, C), the rows below the image cut off."""
        page, file = self.page, self.tiff.filehandle
        file.seek(page.dataoffsets[number])
        data = file.read(page.databytecounts[number])
        options = {"_fullsize": page.is_tiled}
        if page.compression in JPEG_COMPRESSIONS:
            options |= {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        values, _, shape = page.decode(data, number, **options)
        if values is None or values.shape != shape:
            raise DataError(f"{self.path}: cannot be decoded: strip or tile {number} is too short")
        return values[0, :height]

    def bands(self) -> Iterator[np.ndarray]:
        with decoding(self.path):
            page = self.page
            colours = None
            if page.photometric == PALETTE:
                colours = np.ascontiguousarray((page.colormap >> 8).astype(np.uint8).T)
        for rows in self._stored():
            if colours is not None:
                yield colours[rows[..., 0]]
            elif self.header.deep:
                yield self._white_is_white(rows)
            else:
                grey = self._white_is_white(rows)
                if self.white != 255:
                    grey = (grey.astype(np.uint16) * 255 // self.white).astype(np.uint8)
                yield grey

    @property
    def white(self) -> int:
        """Greatest value of unsigned numbers of so many bits."""
        return 2**self.page.bitspersample - 1

    def _white_is_white(self, rows: np.ndarray) -> np.ndarray:
        if rows.dtype == bool:
            rows = rows.astype(np.uint8)
        if self.page.photometric != WHITE_IS_ZERO:
            return rows
        if self.header.numbers != "unsigned":
            raise DataError(f"{self.path}: has {self.header.values} values of which the least is white: invert it")
        return rows.dtype.type(self.white) - rows

    def indices(self) -> tuple[np.ndarray, int]:
        header = self.header
        if self.page.samplesperpixel != 1 or header.numbers != "unsigned":
            found = f"{header.channels} of {header.values} values"
            raise DataError(f"{self.path}: a mask needs 1 channel of whole numbers, this file has {found}")
        values = np.empty((header.height, header.width), np.uint8 if header.bits <= 8 else self.page.dtype)
        top = 0
        for rows in self._stored():
            values[top : top + len(rows)] = self._white_is_white(rows)[..., 0]
            top += len(rows)
        return values, 255 if self.page.photometric == PALETTE else self.white
