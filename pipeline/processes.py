"""Environment of the processes that the project starts: its own code, none from the working directory; a cache."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline import PROJECT
from pipeline.errors import DataError

PYTHON = (sys.executable, "-P", "-m")
"""Starts a module without the working directory among the places that modules are looked for."""


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment, in which Python imports the project and nothing from the working directory.

    Raises:
        DataError: the project's folder has a colon in its path, by which Python would take it for two.
    """
    if os.pathsep in str(PROJECT):
        raise DataError(f"{PROJECT}: Python imports nothing from a folder with {os.pathsep!r} in its path: rename it")
    return {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONSAFEPATH": "1", **changes}


def stand_ins(folder: Path) -> dict[str, str]:
    """Return variables that give programs a cache below a folder and a user's name, where the user has none.

    In containers that run as any user, the home folder is missing or belongs to another, and no name goes by the
    user's number.
    """
    found = {}
    if not any(_is_writable(each) for each in _user_caches()):
        found = {"XDG_CACHE_HOME": str(folder)}
        for name, below in (("MPLCONFIGDIR", "matplotlib"), ("TORCHINDUCTOR_CACHE_DIR", "torchinductor")):
            found[name] = os.environ.get(name) or str(folder / below)
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        found["LOGNAME"] = str(os.getuid())
    return found


def _user_caches() -> Iterator[Path]:
    """Yield the folder that programs take for their caches, if there is one."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        yield Path(given)
        return
    with suppress(RuntimeError):  # a user that the system does not know
        if (home := Path.home()).is_dir():
            yield home / ".cache"


def _is_writable(folder: Path) -> bool:
    """Say whether a folder can be written to, or be made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
