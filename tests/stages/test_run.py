"""Surroundings of a run: names of folders, other people's files, homes and read-only places."""

import os
import shlex
import subprocess
import sys

import pytest
import yaml

from pipeline import PROJECT
from pipeline.artifacts import Artifacts
from pipeline.config import load_experiment
from pipeline.errors import DataError
from pipeline.graph import Graph
from pipeline.processes import environment, stand_ins

ODD = "w{a}{0}{{b}}{ '\"$HOME%s*[x]\u00e9;#&\n-n"
"""A folder's name with whatever Snakemake, shells, YAML and patterns make something of."""
NOBODY = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def needs(*command):
    """Skip a test where the system does not permit such a command."""
    done = subprocess.run([*command, "true"], capture_output=True, check=False)
    return pytest.mark.skipif(done.returncode != 0, reason=f"not permitted here: {' '.join(command)}")


@pytest.fixture
def traps(tmp_path):
    """A working directory with modules and a profile that nobody must obey, and the file that they would write."""
    folder, sprung = tmp_path / "traps", tmp_path / "sprung"
    folder.mkdir()
    for name in ("snakemake", "random", "yaml", "fcntl", "numpy", "pulp", "site", "re"):
        (folder / f"{name}.py").write_text(f"open({str(sprung)!r}, 'a').write({name!r})\nraise SystemExit(77)\n")
    for profile in ("profiles/default", "profile"):
        (folder / profile).mkdir(parents=True)
        (folder / profile / "config.yaml").write_text("executor: no-such-executor\n")
    return folder, sprung


@pytest.fixture
def run(tmp_path):
    """``run(*words, command="run", before=(), cwd=tmp_path, **variables)``: the finished process of a command."""

    def call(*words, command="run", before=(), cwd=tmp_path, **variables):
        command = [*before, sys.executable, "-P", "-m", "pipeline", command, *map(str, words)]
        return subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(PROJECT), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def listing(folder):
    """Each file and folder with its size and the times at which it was changed."""
    stats = {path.relative_to(folder).as_posix(): path.lstat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats.items()}


def test_a_run_works_in_a_folder_of_any_name_and_without_a_home_and_imports_nothing_from_there(
    tmp_path, one_network, run, traps
):
    settings = one_network.settings
    del settings["data"]["root"]
    folder, sprung = traps
    workspace = folder.rename(tmp_path / ODD)
    (workspace / "-{x}.yaml").write_text(yaml.safe_dump({**settings, "name": "tiny"}))
    home = {"HOME": str(tmp_path / "none"), "SNAKEMAKE_PROFILE": str(workspace / "profile")}
    result = run("--experiment", "-{x}.yaml", "--set", "workspace=.", cwd=workspace, **home)
    assert result.returncode == 0, result.stderr
    artifacts = Artifacts(workspace, "tiny")
    assert artifacts.submission.read_bytes() == one_network.artifacts.submission.read_bytes()
    assert f"submission: {artifacts.submission}\n" in result.stdout
    assert artifacts.log("train-unet-fold0").exists()
    assert not sprung.exists()
    assert not (tmp_path / "none").exists()
    planned = run("--experiment", "-{x}.yaml", "--set", "workspace=.", "-n", cwd=workspace, **home)
    assert planned.stdout == "nothing would run: all is up to date\n", planned.stderr


def test_nothing_of_the_working_directory_is_imported_or_obeyed(tmp_path, write_experiment, run, traps):
    folder, sprung = traps
    profile = {"SNAKEMAKE_PROFILE": str(folder / "profile")}
    result = run("--experiment", write_experiment(tmp_path), "-n", cwd=folder, **profile)
    assert not sprung.exists()
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("11 jobs would run\n")


def test_a_column_of_any_name_is_an_option_and_no_wildcard(tmp_path, write_experiment, competition, run):
    data = {"source": "kaggle", "root": str(competition().root), "test_truth": "truth.csv", "classes": ["a", "b"]}
    experiment = write_experiment(tmp_path, data={**data, "class_column": ODD})
    command = Graph(load_experiment(experiment), cores=1).score_command()
    words = shlex.split(command.replace("{log:q}", "log").format(threads=1))  # as Snakemake and the shell take it apart
    assert words[words.index("--class-column") + 1] == ODD
    result = run("--experiment", experiment, "-n")
    assert (result.returncode, result.stderr) == (0, "")
    assert "would run: score: not done yet\n" in result.stdout


def test_a_profile_that_is_asked_for_is_obeyed(tmp_path, write_experiment, run, traps):
    folder, _ = traps
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.yaml").write_text("cores: 1\nconfig: [cores=1, gpus=0]\n")
    experiment = write_experiment(tmp_path)
    assert run("--experiment", experiment, "-n", "--profile", "../mine", cwd=folder).stdout.endswith(
        "11 jobs would run\n"
    )
    refused = run("--experiment", experiment, "-n", "--profile", "profile", cwd=folder)
    assert refused.returncode == 1
    assert "no-such-executor" in refused.stderr


@pytest.mark.parametrize("changed", [(), ("--set", "training.epochs=2")])
def test_a_dry_run_writes_nothing(tmp_path, one_network, run, changed):
    finished = one_network.copy(tmp_path / "run")
    before = listing(tmp_path)
    result = run("--experiment", finished.experiment, "--dry-run", *changed)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("9 jobs would run\n" if changed else "nothing would run: all is up to date\n")
    assert listing(tmp_path) == before


@needs("unshare", "--user", "--map-root-user", "--mount")
def test_a_dry_run_works_in_a_read_only_workspace(tmp_path, one_network, run):
    finished = one_network.copy(tmp_path / "run")
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, str(tmp_path / "run"))
    words = ("--experiment", finished.experiment, "--dry-run")
    result = run(*words, before=before, HOME=str(tmp_path / "run" / "home"))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "nothing would run: all is up to date\n"
    result = run(*words, "--set", "name=other", before=before)
    assert (result.returncode, result.stderr) == (0, "")


@needs(*NOBODY)
def test_a_user_without_a_name_or_a_home_can_run(tmp_path, write_experiment, run):
    variables = dict.fromkeys(("USER", "LOGNAME", "LNAME", "USERNAME"), "")
    result = run("--experiment", write_experiment(tmp_path), "-n", before=NOBODY, HOME="/nonexistent", **variables)
    assert (result.returncode, result.stderr) == (0, "")


@needs("unshare", "--user", "--map-root-user", "--mount")
@pytest.mark.parametrize(("options", "reason"), [("size=64k", "which has 0.1"), ("ro", "which cannot be written to")])
def test_loader_processes_that_cannot_hand_images_over_are_one_line(
    tmp_path, write_experiment, command_line, run, options, reason
):
    experiment = write_experiment(tmp_path, training={"workers": 2})
    for stage in ("prepare", "split"):
        assert command_line(stage, "--experiment", experiment)[0] == 0
    mount = f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$0" "$@"'
    before = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount)
    result = run("--experiment", experiment, "-m", "unet", "-k", "0", command="train", before=before)
    assert result.returncode == 1
    assert result.stderr.startswith("error: training.workers: 2 processes that load data need ")
    assert f"MB of /dev/shm, {reason}; set training.workers: 0" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("safe", [("-P",), ()])
def test_a_command_takes_no_module_or_cache_from_the_working_directory(tmp_path, traps, safe):
    """Also where it is called as the pages say, or an empty part of PYTHONPATH stands for that directory."""
    folder, sprung = traps
    for name in ("site", "re"):  # which Python itself imports before it comes to the project, without -P
        (folder / f"{name}.py").unlink()
    (folder / ".numba_config.yaml").write_text("cache_dir: cache\n")
    (folder / "a.csv").write_text("id,rle\na,1 3\n")
    command = [sys.executable, *safe, "-m", "pipeline", "score", "a.csv", "a.csv"]
    variables = {**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}"}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not sprung.exists()
    assert not (folder / "cache").exists()


def test_a_cache_is_made_below_the_experiment_only_where_the_users_cannot_be(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert stand_ins(tmp_path / "x") == {}
    (tmp_path / ".cache").touch()
    assert stand_ins(tmp_path / "x")["XDG_CACHE_HOME"] == str(tmp_path / "x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    assert stand_ins(tmp_path / "x") == {}
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setenv("MPLCONFIGDIR", "/mine")
    found = stand_ins(tmp_path / "x")
    assert (found["XDG_CACHE_HOME"], found["MPLCONFIGDIR"]) == (str(tmp_path / "x"), "/mine")
    assert not (tmp_path / "x").exists()


def test_a_project_that_python_cannot_find_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.processes.PROJECT", tmp_path / "a:b")
    with pytest.raises(DataError, match=r"a:b: Python imports nothing from a folder with ':' in its path"):
        environment()
