"""Folders in object stores and on web servers, by their URL: ``s3://bucket/folder``, ``gs://``, ``https://``, ..."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import fsspec

from pipeline.errors import DataError, some
from pipeline.safe_paths import join_inside
from pipeline.scratch import scratch_beside


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

    Raises:
        DataError: the listing names a file that is not below the URL.
    """
    system, path = open_url(url)
    system.invalidate_cache()
    found = system.find(path, detail=True)
    root = path.rstrip("/")
    strange = [name for name in found if name != root and not name.startswith(f"{root}/")]
    if strange:
        raise DataError(f"{url}: lists what is not below it: {some(strange)}")
    names = {name.removeprefix(root).removeprefix("/"): entry.get("size") for name, entry in found.items()}
    if len(names) > 1:
        names.pop("", None)  # a page with a link to itself
    return {name: size for name, size in names.items() if not name.endswith("/")}  # a store's marker of a folder


def files_to_fetch(url: str, places: Iterable[str], folder: Path) -> list[str]:
    """Paths below a URL of the files that a local copy lacks.

    Args:
        places: the files and folders below the URL that are wanted; those that are not there are left out.

    Raises:
        DataError: a name leads out of the folder, or a file is here with another size: it is never replaced.
    """
    names, other = [], []
    for place in places:
        join_inside(folder, place)
        for name, size in files_below(f"{url}/{place}").items():
            name = f"{place.rstrip('/')}/{name}".rstrip("/")
            path = local_path(url, name, folder)
            if not path.exists():
                names.append(name)
            elif size is not None and (not path.is_file() or path.stat().st_size != size):
                other.append(f"{path} ({path.stat().st_size} bytes here, {size} there)")
    if other:
        raise DataError(
            f"{url}: {len(other)} files are here with another size and are not replaced: {some(other)}; delete or "
            "rename them to fetch them again, or set data.url to null to use them as they are"
        )
    return list(dict.fromkeys(names))


def local_path(url: str, name: str, folder: Path) -> Path:
    """Where a file below a URL is copied to; a web server's listing has names in URL encoding.

    Raises:
        DataError: outside of the folder.
    """
    return join_inside(folder, unquote(name) if url.startswith(("http://", "https://")) else name)


def fetch(url: str, names: Iterable[str], folder: Path) -> Iterator[None]:
    """Copy files below a URL to a local folder, several at a time, each whole or not at all.

    Raises:
        DataError: a file does not come, or another file has its place by now; those that have come stay.
    """
    system, root = open_url(url)

    def copy(name: str) -> None:
        path = local_path(url, name, folder)
        with scratch_beside(path) as scratch:
            new = scratch / path.name
            try:
                system.get_file(f"{root}/{name}", str(new))
            except Exception as error:  # each protocol's package has its own
                why = str(error) or type(error).__name__
                raise DataError(f"{url}/{name}: {why}; the next call goes on from here") from None
            _put(new, path)

    with ThreadPoolExecutor() as pool:
        yield from pool.map(copy, names)


def _put(new: Path, path: Path) -> None:
    """Give a file its name unless one has it by now, with the same content where another call has fetched it, too."""
    if not os.path.lexists(path):
        os.replace(new, path)
    elif not filecmp.cmp(new, path, shallow=False):
        raise DataError(f"{path}: another file has come here meanwhile and is not replaced")
