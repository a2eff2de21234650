"""Files to read bytes from, gzipped or not."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import BinaryIO

from .formats import RleError

_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def open_unpacked(path: str | PathLike) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked if it is gzipped, whatever its name. Raises RleError for a damaged one."""
    with open(path, "rb") as file:
        packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        file.seek(0)
        if not packed:
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield unpacked
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise RleError(f"{path}: a damaged gzip file: {error}") from None
