"""Execute a notebook in a process of its own.

Reads   a notebook
Writes  what its cells write, in the working directory

Its kernel is spoken to through files, so that it also works where there is no network, not even a machine's own.
Nothing of the project is imported.

    python pipeline/bundling/execute.py notebook.ipynb
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def execute(notebook: Path) -> None:
    """Run all cells.

    Raises:
        CellExecutionError: a cell has failed.
    """
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc")
    NotebookClient(nbformat.read(notebook, as_version=4), km=kernel, timeout=None).execute()


if __name__ == "__main__":
    try:
        execute(Path(sys.argv[1]))
    except CellExecutionError as failure:
        sys.exit(f"{failure.ename}: {failure.evalue}")
