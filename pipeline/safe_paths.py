"""Paths of files whose names come from outside (a listing, a URL, a manifest), which never lead out of a folder."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

from pipeline.errors import DataError

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def join_inside(folder: Path, name: str) -> Path:
    """Return the path of a name from outside below a folder.

    Args:
        folder: need not exist.
        name: with ``/`` between its parts, as object stores, web servers and archives write it.

    Raises:
        DataError: the name is empty, absolute, starts with ``~`` or a drive letter, contains ``..`` or a control
            character, or a link on its way leads elsewhere.
    """
    if reason := _why_unsafe(name):
        raise DataError(f"{name!r} cannot be a name below {folder}: {reason}")
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # links in a circle; RuntimeError before Python 3.13
        raise DataError(f"{name!r} cannot be a name below {folder}: {error}") from None
    if not inside:
        raise DataError(f"{name!r} cannot be a name below {folder}: a link leads to {path.resolve()}")
    return path


def _why_unsafe(name: str) -> str | None:
    """Say what is wrong with a name by itself, if anything is; a backslash counts as ``/``, as Windows has it."""
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if not parts:
        return "it is empty"
    if _CONTROL.search(name):
        return "it has a control character"
    if name.startswith(("/", "\\")):
        return "it is absolute"
    if PureWindowsPath(name).drive:
        return "it starts with a drive letter"
    if name.startswith("~"):
        return "it starts with ~, a home folder"
    if ".." in parts:
        return "it contains '..'"
    return None
