"""Files to read bytes from, packed or not."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from .formats import RleError, shown

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8

_KINDS = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\0", "zip": b"PK", "Zstandard": b"\x28\xb5\x2f\xfd"}
_SUFFIXES = {".gz": "gzip", ".tgz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zip": "zip", ".zst": "Zstandard"}
_SUFFIXES |= {".tar": "tar"}
_TAR_AT, _TAR = 257, b"ustar"  # where its first header says what it is
_MOST_LAYERS = 3  # of packing: .tar.gz has two

SMALL = 2**26  # bytes that a file may unpack to, however small it is ...
MOST_TIMES = 100  # ... or how many times its size: tables of masks reach 20


@contextmanager
def open_unpacked(path: str | PathLike) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked if it is packed (gzip, bzip2, xz; zip or tar with one file in it).

    Raises RleError for a damaged or encrypted one, for one that is not what its suffix says, and for one that unpacks
    to far more than a table has.
    """
    if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
        raise RleError(f"{path}: is {'a folder' if Path(path).is_dir() else 'no plain file'}")
    with open(path, "rb") as file:
        kind = _kind(file.peek())
        promised = _SUFFIXES.get(Path(path).suffix.lower())
        if promised is not None and kind != promised:
            found = "plain text, or something else that is not packed" if kind is None else f"a {kind} file"
            raise RleError(f"{path}: File is not a {promised} file, but {found}: give it the name of what it is")
        layers = 0
        unpacked: BinaryIO = file
        limit = max(SMALL, MOST_TIMES * Path(path).stat().st_size)
        while kind is not None:
            layers += 1
            if layers > _MOST_LAYERS:
                raise RleError(f"{path}: is packed more than {_MOST_LAYERS} times: unpack it first")
            unpacked = _unpacked(unpacked, kind, str(path), limit)
            kind = _kind(unpacked.peek(_TAR_AT + len(_TAR)))
        yield unpacked


def is_packed(file: BinaryIO) -> bool:
    """Whether a file of `open_unpacked` is not as it lies on the disk."""
    return isinstance(file.raw, _Layer)


def _kind(head: bytes) -> str | None:
    """Name the format of a packed file by its first bytes."""
    if head[_TAR_AT:].startswith(_TAR):
        return "tar"
    return next((kind for kind, magic in _KINDS.items() if head.startswith(magic)), None)


def _unpacked(packed: BinaryIO, kind: str, path: str, limit: int) -> BinaryIO:
    """The bytes in a file of this kind."""
    if kind == "Zstandard":
        raise RleError(f"{path}: Zstandard files are not read: unpack it first, with `zstd -d`")
    openers: dict[str, Callable[[BinaryIO], BinaryIO]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    try:
        if kind in openers:
            inside = openers[kind](packed)
        else:
            if not packed.seekable():
                packed = io.BytesIO(packed.read())
            inside = _only_file_of_zip(packed, path) if kind == "zip" else _only_file_of_tar(packed, path)
    except RleError:
        raise
    except Exception as error:  # unpackers raise whatever a damaged file happens to lead to
        raise _damaged(path, kind, error) from None
    return io.BufferedReader(_Layer(inside, kind, path, limit), 2**20)


def _only_file_of_zip(packed: BinaryIO, path: str) -> BinaryIO:
    archive = zipfile.ZipFile(packed)
    names = [info.filename for info in archive.infolist()]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise RleError(f"{path}: is a document of an office program, no table as text: save it as CSV")
    infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    info = infos[_only(list(infos), path)]
    if info.flag_bits & 1:
        raise RleError(f"{path}: is encrypted: unpack it with its password first")
    return archive.open(info)


def _only_file_of_tar(packed: BinaryIO, path: str) -> BinaryIO:
    archive = tarfile.open(fileobj=packed, mode="r:")  # noqa: SIM115 - it is what is read from
    members = {member.name: member for member in archive if member.isfile()}
    return archive.extractfile(members[_only(list(members), path)])


def _only(names: list[str], path: str) -> str:
    """The one file of an archive, apart from what macOS puts beside each."""
    names = [name for name in names if not ("__MACOSX" in name or Path(name).name.startswith("."))]
    if len(names) != 1:
        excerpt = ", ".join(map(shown, names[:3])) + ", ..." * (len(names) > 3)
        found = f"{len(names)} files: {excerpt}" if names else "no file"
        raise RleError(f"{path}: an archive is read if it has one file in it, this has {found}: unpack it first")
    return names[0]


def _damaged(path: str, kind: str, error: Exception) -> RleError:
    return RleError(f"{path}: a damaged {kind} file: {str(error) or type(error).__name__}")


class _Layer(io.RawIOBase):
    """Reader of packed data, with its many ways to fail made one, and an end to what it may yield."""

    def __init__(self, inside: BinaryIO, kind: str, path: str, limit: int):
        self.inside, self.kind, self.path, self.limit = inside, kind, path, limit
        self.total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            content = self.inside.read(len(buffer))
        except RleError:
            raise
        except Exception as error:
            raise _damaged(self.path, self.kind, error) from None
        self.total += len(content)
        if self.total > self.limit:
            raise RleError(
                f"{self.path}: unpacks to more than {self.limit >> 20} MiB, which no table does that is so small when "
                "packed: unpack it yourself if it is one"
            )
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(2**20), b""))
