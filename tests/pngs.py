"""PNG files as they are wanted, which Pillow would write otherwise or not at all."""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path, height, width, bits, colour, body):
    """A PNG with this header and these bytes for its rows, which need not fit each other."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(body)), png_chunk(b"IEND", b"")]
    path.write_bytes(SIGNATURE + b"".join(chunks))


def write_grey_png(path, values, bits):
    """A grey PNG of 1, 2, 4, 8 or 16 bits with these values as stored."""
    height, width = values.shape
    digits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(height, width, 2), axis=2)[..., 16 - bits :]
    rows = np.packbits(digits.reshape(height, -1), axis=1)
    write_png(path, height, width, bits, 0, b"".join(b"\0" + row.tobytes() for row in rows))
