"""Locks of files, which the system releases however a process ends, and files that are never opened through a link."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""Errors of file systems without locks, as some clusters mount theirs."""


def take_lock(file: IO | int) -> bool | None:
    """Lock a file for this process as long as it is open.

    Returns:
        True: it is locked; False: another process has the lock; None: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def try_lock(file: IO | int) -> bool:
    """``take_lock``; on a file system without locks any file counts as locked by whoever asks."""
    return take_lock(file) is not False


def wait_for_lock(file: IO | int) -> None:
    """``try_lock`` until no other process has it."""
    if not try_lock(file):
        fcntl.flock(file, fcntl.LOCK_EX)


def open_lock(path: Path, create: bool = True) -> IO[bytes]:
    """Open a file to be locked, with its content as it is; a new one takes the place of a symbolic link.

    Raises:
        FileNotFoundError: it is missing, and is not to be created.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if create else 0)
    try:
        return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        with suppress(FileNotFoundError):
            path.unlink()
        return open_lock(path, create)


def open_emptied(path: Path) -> int:
    """Open a file for writing from its start, and return its descriptor.

    The file that is there is emptied, so that whoever holds its lock still does. Where there is a link, a pipe or a
    file that has a second name, a new file takes its place: what they lead to is not this program's to empty.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        about = os.fstat(descriptor)
        if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
            os.ftruncate(descriptor, 0)
            return descriptor
        os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # ENXIO: a pipe that nobody reads
            raise
    with suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)


def is_at(file: IO | int, path: Path) -> bool:
    """Whether a path still leads to an open file: its file may have been removed, and made anew."""
    try:
        return os.path.samestat(os.fstat(file if isinstance(file, int) else file.fileno()), os.lstat(path))
    except FileNotFoundError:
        return False


@contextmanager
def one_at_a_time(lock: Path, waits: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let one process at a time into the block, of all that name the same ``lock``.

    Args:
        lock: a file that is there as long as a process is in the block; its folder is made.
        waits: called before waiting for another process.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open_lock(lock) as file:
            if not try_lock(file):
                waits()
                wait_for_lock(file)
            if not is_at(file, lock):  # its last holder has removed it
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return
