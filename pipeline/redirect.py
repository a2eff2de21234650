"""Run a command with its output in a file, as the shell's ``>`` does it, but never through a link.

The command takes this process's place, so that it has the same parent.

    python -P -m pipeline.redirect LOG COMMAND...
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline.locks import open_emptied


def redirect(log: str, *command: str) -> None:
    """Replace this process by a command, which writes stdout and stderr to the log."""
    descriptor = open_emptied(Path(log))
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        redirect(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"error: {error.strerror}: {error.filename}")
