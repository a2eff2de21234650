"""The shell script's own behaviour; what it starts is tested where it lives."""

import os
import subprocess
import sys

import pytest

from pipeline import PROJECT


def run_sh(*words, cwd, **environment):
    return subprocess.run(
        ["bash", str(PROJECT / "run.sh"), *words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_the_ways_to_call_it(tmp_path):
    result = run_sh("--help", cwd=tmp_path)
    assert result.returncode == 0
    for word in ("setup", "test", "FILE.yaml", "--set"):
        assert word in result.stdout


def test_an_old_python_is_refused_with_what_to_do(tmp_path):
    """A copy of the script beside no .venv, and interpreters that all say that they are too old."""
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'Python 3.9.2'\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    script = tmp_path / "run.sh"
    script.write_text((PROJECT / "run.sh").read_text())
    result = subprocess.run(
        ["bash", str(script), "setup"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "needs Python 3.11 or newer; found Python 3.9.2" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_set_up_that_was_cut_off_is_begun_anew(tmp_path):
    """With a Python that has no pip yet, as where a system's package for it was lacking."""
    script = tmp_path / "run.sh"
    script.write_text((PROJECT / "run.sh").read_text())
    (tmp_path / "requirements.txt").touch()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    result = subprocess.run(
        ["bash", str(script), "setup"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / ".venv" / "requirements.installed").exists()
    subprocess.run([tmp_path / ".venv" / "bin" / "python", "-m", "pip", "--version"], check=True, capture_output=True)


def test_a_set_up_imports_nothing_from_where_it_is_called(tmp_path):
    project, here = tmp_path / "project", tmp_path / "here"
    for folder in (project, here):
        folder.mkdir()
    (project / "run.sh").write_text((PROJECT / "run.sh").read_text())
    (project / "requirements.txt").touch()
    for name in ("pip", "venv", "compileall", "random", "sys"):
        (here / f"{name}.py").write_text("open('sprung', 'w')\n")
    result = subprocess.run(
        ["bash", str(project / "run.sh"), "setup"],
        cwd=here,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert not (here / "sprung").exists()


def test_a_folder_that_python_imports_nothing_from_is_refused(tmp_path):
    (tmp_path / "a:b").mkdir()
    script = tmp_path / "a:b" / "run.sh"
    script.write_text((PROJECT / "run.sh").read_text())
    result = subprocess.run(["bash", str(script), "setup"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        f"run.sh: Python imports nothing from a folder with ':' in its path: rename {tmp_path / 'a:b'}\n"
    )


@pytest.mark.skipif(not (PROJECT / ".venv/requirements.installed").exists(), reason="not set up by run.sh")
def test_paths_are_relative_to_where_it_is_called(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "data: {source: kaggle}\nmodels: {m: {architecture: Unet, encoder: resnet18}}\n"
    )
    result = run_sh("mine.yaml", "--set", "data.rot=x", cwd=tmp_path)
    assert result.returncode == 1
    assert "mine.yaml: unknown setting 'data.rot'; the nearest valid name is 'data.root'" in result.stderr
