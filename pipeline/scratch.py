"""Scratch folders beside what is to be written: each has one writer, and is removed by others only when that has died.

``FOLDER/.pipeline-scratch-DIGEST-N/`` has the digest of the name to be written in its own, so that any valid name fits.
Its writer holds the lock of the file ``owner`` in it, which the system releases if the writer is killed; the next
writer of the same name then removes the folder. A folder whose ``owner`` does not have our mark is left alone. So is
every scratch folder on a file system without locks, where nobody can tell whether its writer lives.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.locks import is_at, take_lock

PREFIX = ".pipeline-scratch-"
OWNER = "owner"
MARK = b"scratch folder of the segmentation pipeline\n"


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """An empty folder on the same file system as ``path``, for this writer alone, removed at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    for number in itertools.count():
        scratch = path.parent / f"{PREFIX}{digest}-{number}"
        if _made(scratch) or (_removed_if_abandoned(scratch) and _made(scratch)):
            break
    owner = _mark(scratch)
    try:
        inner = scratch / "content"
        inner.mkdir()
        yield inner
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        owner.close()


def _made(scratch: Path) -> bool:
    try:
        scratch.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _mark(scratch: Path) -> IO[bytes]:
    """The file by whose lock others know that this writer lives; marked only when the lock is taken."""
    owner = (scratch / OWNER).open("xb", buffering=0)
    if take_lock(owner):
        owner.write(MARK)
    return owner


def _removed_if_abandoned(scratch: Path) -> bool:
    try:
        owner = os.fdopen(os.open(scratch / OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK), "r+b", buffering=0)
    except OSError:
        return False  # another user's, not marked yet, or gone
    with owner:
        abandoned = owner.read(len(MARK)) == MARK and take_lock(owner) and is_at(owner, scratch / OWNER)
        if abandoned:
            shutil.rmtree(scratch, ignore_errors=True)
        return bool(abandoned)
