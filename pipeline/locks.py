"""Locks of files, which the system lets go of however a process ends."""

from __future__ import annotations

import errno
import fcntl
from typing import IO


def try_lock(file: IO[str]) -> bool:
    """Lock a file for this process as long as it is open, if no other process has it.

    On a file system without locks, as some clusters mount theirs, any file counts as locked by whoever asks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            raise
    return True


def wait_for_lock(file: IO[str]) -> None:
    """``try_lock`` until no other process has it."""
    if not try_lock(file):
        fcntl.flock(file, fcntl.LOCK_EX)
