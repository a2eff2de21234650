"""Folders in object stores and on web servers, by their URL: ``s3://bucket/folder``, ``gs://``, ``https://``, ..."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec

from pipeline.errors import DataError


def open_url(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URL, and the path on it.

    Raises:
        DataError: the protocol is unknown or needs a package that is not installed, or nobody answers.
    """
    try:
        system, path = fsspec.url_to_fs(url)
        system.isdir(path)
    except Exception as error:  # each protocol's package has its own
        raise DataError(f"{url}: {error}") from None
    return system, path


def is_folder(url: str) -> bool:
    """Whether there are files below a URL."""
    system, path = open_url(url)
    return system.isdir(path)


def files_below(url: str) -> dict[str, int | None]:
    """Bytes of each file below a URL by its path from there, which is empty for a file at the URL itself.

    Web servers may not tell them; where nothing is, there is no file.
    """
    system, path = open_url(url)
    system.invalidate_cache()
    found = system.find(path, detail=True)
    return {name.removeprefix(path).removeprefix("/"): entry.get("size") for name, entry in found.items()}


def files_to_fetch(url: str, places: Iterable[str], folder: Path) -> list[str]:
    """Paths below a URL of the files that a local copy lacks, or has in another size.

    Args:
        places: the files and folders below the URL that are wanted; those that are not there are left out.
    """
    names = {}
    for place in places:
        for name, size in files_below(f"{url}/{place}").items():
            path = folder / place / name
            if not path.is_file() or size not in (None, path.stat().st_size):
                names[path.relative_to(folder).as_posix()] = None
    return list(names)


def fetch(url: str, names: Iterable[str], folder: Path) -> Iterator[None]:
    """Copy files below a URL to a local folder, several at a time, each whole or not at all.

    Raises:
        DataError: a file does not come; those that have come stay.
    """
    system, root = open_url(url)

    def copy(name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        try:
            system.get_file(f"{root}/{name}", str(new))
        except Exception as error:  # each protocol's package has its own
            new.unlink(missing_ok=True)
            why = str(error) or type(error).__name__
            raise DataError(f"{url}/{name}: {why}; the next call goes on from here") from None
        os.replace(new, path)

    with ThreadPoolExecutor() as pool:
        yield from pool.map(copy, names)
