"""Ctrl-C: one line and status 130, whenever it comes. Imports nothing that takes time, so that it is there first."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 128 + signal.SIGINT
MESSAGE = "error: interrupted"

_received = False


def end_at_once() -> None:
    """From now on, end this process as soon as it is interrupted: there is nothing to be tidied up.

    An exception would be a traceback while modules are imported, and be lost where one of them catches all. What starts
    this process may block the signal until here, such as ``env --block-signal=INT``, so that Python's own start has no
    traceback either.
    """
    _set_handler(_end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def raise_once() -> None:
    """From now on, raise KeyboardInterrupt when this process is interrupted, and end it when it is once more."""
    _set_handler(_raise)


@contextmanager
def as_before() -> Iterator[None]:
    """At the end, deal with interrupts as before: a process ends at once again, a test's is pytest's to deal with."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None:  # not by Python
            signal.signal(signal.SIGINT, before)


def was_received() -> bool:
    """Say whether KeyboardInterrupt has been raised."""
    return _received


def _set_handler(handler: object) -> None:
    """Set it unless interrupts are ignored, as by what a script starts in the background, or others deal with them."""
    if signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _end, _raise):
        signal.signal(signal.SIGINT, handler)


def _end(*_: object) -> None:
    if os.getpid() == _process:  # the processes that load data for this one say nothing
        os.write(2, f"{MESSAGE}\n".encode())
    os._exit(STATUS)


def _raise(_: int, frame: FrameType | None) -> None:
    global _received
    _received = True
    signal.signal(signal.SIGINT, _end)
    raise KeyboardInterrupt


_process = os.getpid()
