"""The package as a whole: its example, what importing it loads, and where its kernels are cached."""

import doctest
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline import rle

ROOT = Path(__file__).parents[2]


def run_python(code: str, folder: Path, **environment: str) -> str:
    """What the code prints, in a new interpreter."""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_example_in_the_docstring():
    failed, tried = doctest.testmod(rle)
    assert tried > 5
    assert failed == 0


def test_import_loads_neither_pandas_nor_torch():
    code = "import sys, pipeline.rle; print([m for m in ('pandas', 'torch') if m in sys.modules])"
    assert run_python(code, ROOT) == "[]"


def test_a_place_for_the_kernels_where_nothing_is_writable(tmp_path):
    """A read-only installation and no home: here plain files stand where numba would make its folders."""
    package = tmp_path / "pipeline" / "rle"
    shutil.copytree(ROOT / "pipeline" / "rle", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__pycache__").touch()
    (tmp_path / "pipeline" / "__init__.py").touch()
    (tmp_path / "home").touch()
    code = (
        "import os, numpy as np; from pipeline import rle; print(rle.area(np.array([2, 5], np.uint32)));"
        "print(os.path.isdir(os.environ['NUMBA_CACHE_DIR']), os.environ['NUMBA_CACHE_DIR'])"
    )
    home = str(tmp_path / "home")
    output = run_python(code, tmp_path, HOME=home, XDG_CACHE_HOME=home, TMPDIR=str(tmp_path))
    area, existed, folder = output.split()
    assert (area, existed) == ("3", "True")
    assert not Path(folder).exists()  # removed at the end of the process that made it
