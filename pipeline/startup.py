"""First steps of `python -m pipeline`, before its imports, which take a third of a second."""

from __future__ import annotations

import os
import sys

from pipeline.interrupts import end_at_once

_PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def begin() -> None:
    """Have Ctrl-C end the process in one line, and import nothing from the working directory, nor what it starts."""
    end_at_once()
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": _PROJECT}
    os.environ.setdefault("NUMBA_CACHE_DIR", "")  # else a ``.numba_config.yaml`` says where compiled code lies
    if not _is_here(_PROJECT):
        # Python looks there first, and in what an empty part of PYTHONPATH stands for; any file may be called like a
        # module.
        sys.path[:] = [place for place in sys.path if not _is_here(place)]


def _is_here(folder: str) -> bool:
    """Say whether a folder is the working directory."""
    try:
        return os.path.samefile(folder or ".", ".")
    except OSError:
        return False
