import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import PROJECT
from pipeline.artifacts import (
    Artifacts,
    copy_folder,
    fingerprint,
    need,
    networks_are_new,
    read_json,
    save_settings,
    versions,
    whole_or_absent,
    write_json,
)
from pipeline.config import load_experiment
from pipeline.errors import DataError


def write_file(path, text):
    path.write_text(text)


def write_folder(path, text):
    path.mkdir()
    (path / "part").write_text(text)


def content_of(path):
    return (path / "part" if path.is_dir() else path).read_text()


@pytest.fixture(params=[write_file, write_folder], ids=["file", "folder"])
def write(request):
    return request.param


def test_success_replaces_the_old_artifact(tmp_path, write):
    artifact = tmp_path / "new folder" / "old"
    for text in ("first", "second"):
        with whole_or_absent(artifact) as path:
            write(path, text)
        assert content_of(artifact) == text
    assert list(artifact.parent.iterdir()) == [artifact]


def test_nothing_is_visible_before_the_end(tmp_path, write):
    artifact = tmp_path / "artifact"
    with whole_or_absent(artifact) as path:
        write(path, "new")
        assert not artifact.exists()
    assert artifact.exists()


def write_and_fail(artifact, write, error):
    with whole_or_absent(artifact) as path:
        write(path, "half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_old_artifact_and_no_scratch(tmp_path, write, error):
    artifact = tmp_path / "artifact"
    write(artifact, "old")
    with pytest.raises(error):
        write_and_fail(artifact, write, error)
    assert content_of(artifact) == "old"
    assert list(tmp_path.iterdir()) == [artifact]


def test_failure_leaves_nothing_where_there_was_nothing(tmp_path, write):
    with pytest.raises(KeyError):
        write_and_fail(tmp_path / "artifact", write, KeyError)
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_writes_nothing_leaves_the_old_artifact(tmp_path, write):
    artifact = tmp_path / "artifact"
    write(artifact, "old")
    with pytest.raises(FileNotFoundError), whole_or_absent(artifact):
        pass
    assert content_of(artifact) == "old"
    assert list(tmp_path.iterdir()) == [artifact]


def test_a_rename_that_fails_leaves_the_old_artifact(tmp_path, write, monkeypatch):
    artifact = tmp_path / "artifact"
    write(artifact, "old")
    rename = os.replace

    def full_disk(source, target):
        if target == artifact and content_of(source) == "new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        rename(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"), whole_or_absent(artifact) as path:
        write(path, "new")
    assert content_of(artifact) == "old"
    assert list(tmp_path.iterdir()) == [artifact]


def test_a_write_that_fails_names_the_artifact(tmp_path, full_disk):
    artifact = tmp_path / "artifact"
    write_file(artifact, "old")
    with full_disk(1000), pytest.raises(OSError, match="File too large") as caught, whole_or_absent(artifact) as path:
        write_file(path, 2000 * "new")
    assert caught.value.filename == str(artifact)
    assert content_of(artifact) == "old"
    assert list(tmp_path.iterdir()) == [artifact]


def test_a_folder_is_copied_but_for_what_is_left_out_or_the_first_failure_is_told(tmp_path, full_disk):
    write_folder(tmp_path / "folder", 2000 * "x")
    write_file(tmp_path / "folder" / "small", "x")
    copy_folder(tmp_path / "folder", tmp_path / "copy", leave_out=("sm*",))
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["part"]
    assert content_of(tmp_path / "copy") == 2000 * "x"
    with full_disk(1000), pytest.raises(DataError, match=r"File too large.*part' -> .*second/part'$"):
        copy_folder(tmp_path / "folder", tmp_path / "second")


KILLED = """
import sys
from pathlib import Path
from pipeline.artifacts import whole_or_absent

with whole_or_absent(Path(sys.argv[1])) as path:
    if sys.argv[2] == "folder":
        path.mkdir()
        path = path / "part"
    path.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_kill_leaves_the_old_artifact(tmp_path, write):
    artifact = tmp_path / "artifact"
    write(artifact, "old")
    kind = "folder" if artifact.is_dir() else "file"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", KILLED, str(artifact), kind]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "writing\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert content_of(artifact) == "old"


@pytest.fixture
def writer():
    """``writer(artifact, kind)``: a process that has begun to write an artifact; a line to it lets it end."""
    started = []

    def start(artifact, kind="file"):
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-c", KILLED, str(artifact), kind]
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_scratch_of_a_writer_that_lives_is_left_alone(tmp_path, write, writer):
    artifact = tmp_path / "artifact"
    kind = "folder" if write is write_folder else "file"
    first, second = writer(artifact, kind), writer(artifact, kind)
    for number in range(3):
        with whole_or_absent(artifact) as path:
            write(path, str(number))
    for process in (first, second):
        assert content_of(artifact) == "2"
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        assert content_of(artifact) == "half"
        with whole_or_absent(artifact) as path:
            write(path, "2")
    assert list(tmp_path.iterdir()) == [artifact]


def test_what_a_killed_writer_has_left_is_removed_by_the_next_one(tmp_path, write, writer):
    artifact = tmp_path / "artifact"
    process = writer(artifact, "folder" if write is write_folder else "file")
    process.kill()
    process.wait()
    assert len(list(tmp_path.iterdir())) == 1
    with whole_or_absent(artifact) as path:
        write(path, "new")
    assert list(tmp_path.iterdir()) == [artifact]


def test_siblings_that_are_not_ours_are_left_alone(tmp_path):
    """Each is a folder that looks like scratch, of one name or another."""
    strangers = (".o.csv.original", ".x.jpg.original", ".a.abcdefgh", ".[o].csv.12345678", ".o.csv.12345678")
    for name in strangers:
        write_folder(tmp_path / name, "precious")
    for name in ("o.csv", "*.jpg", "?", "[o].csv"):
        with whole_or_absent(tmp_path / name) as path:
            write_file(path, "new")
        taken = next_scratch(tmp_path / name)
        write_folder(taken, "precious")  # as ours is called, without our mark
        with whole_or_absent(tmp_path / name) as path:
            write_file(path, "newer")
        assert content_of(taken) == "precious"
        assert content_of(tmp_path / name) == "newer"
    assert {content_of(tmp_path / name) for name in strangers} == {"precious"}


def next_scratch(artifact):
    """The scratch folder that the next writer takes."""
    with whole_or_absent(artifact) as path:
        path.write_text("")
    return path.parents[1]


@pytest.mark.parametrize("name", [250 * "n" + ".jpeg", 85 * "\u20ac", "-", "\n", os.fsdecode(b"\xff.csv")])
def test_any_valid_name_can_be_written(tmp_path, write, name):
    for text in ("first", "second"):
        with whole_or_absent(tmp_path / name) as path:
            write(path, text)
        assert content_of(tmp_path / name) == text
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_writers_at_once_leave_one_whole_artifact(tmp_path, write):
    artifact = tmp_path / "artifact"
    texts = [100 * letter for letter in "abcdefgh"]

    def write_again_and_again(text):
        for _ in range(25):
            with whole_or_absent(artifact) as path:
                write(path, text)

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(write_again_and_again, texts))
    assert content_of(artifact) in texts
    assert list(tmp_path.iterdir()) == [artifact]


@pytest.mark.parametrize("leads_to", ["file", "folder", "nothing"])
def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, write, leads_to):
    target, artifact = tmp_path / "target", tmp_path / "artifact"
    artifact.symlink_to(target)
    if leads_to == "file":
        write_file(target, "precious")
    elif leads_to == "folder":
        write_folder(target, "precious")
    if leads_to == "folder" and write is write_file:
        with pytest.raises(DataError, match="is a folder"), whole_or_absent(artifact) as path:
            write(path, "new")
    else:
        with whole_or_absent(artifact) as path:
            write(path, "new")
        assert content_of(artifact) == "new"
        assert not artifact.is_symlink()
    assert leads_to == "nothing" or content_of(target) == "precious"


def test_an_output_beside_a_folder_of_nearly_its_name_takes_nothing_from_it(tmp_path, command_line):
    write_folder(tmp_path / ".o.csv.original", "precious")
    (tmp_path / "in.csv").write_text("image_id,rle\na,1 1\n")
    name = 251 * "o" + ".csv"
    for output in ("o.csv", name):
        words = ("convert", tmp_path / "in.csv", "-o", tmp_path / output, "--to", "carvana", "--shape", 2, 2)
        status, _, errors = command_line(*words)
        assert (status, errors) == (0, "")
        assert (tmp_path / output).read_text() == "image_id,rle\na,1 1\n"
    assert content_of(tmp_path / ".o.csv.original") == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {".o.csv.original", "in.csv", "o.csv", name}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_what_is_no_json(tmp_path, number):
    file = tmp_path / "a.json"
    write_json(file, {"score": 0.5})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(file, {"score": number})
    assert read_json(file) == {"score": 0.5}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe\x00"], ids=["empty", "cut", "binary"])
def test_broken_json_is_named(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json is not JSON .* delete it and run its stage again"):
        read_json(file)


@pytest.mark.parametrize(
    "content", [b"", b"- a\n", b"models: [1,\n", b"name: \xe9\n", b"name: 2021-13-45\n"],
    ids=["empty", "list", "syntax", "latin-1", "date"],
)  # fmt: skip
def test_networks_are_new_where_the_settings_cannot_be_read(tmp_path, write_experiment, content):
    experiment = load_experiment(write_experiment(tmp_path))
    assert networks_are_new(experiment)
    save_settings(experiment)
    assert not networks_are_new(experiment)
    Artifacts.of(experiment).settings.write_bytes(content)
    assert networks_are_new(experiment)
    assert save_settings(experiment)
    assert not networks_are_new(experiment)


def test_need_names_the_stage_that_writes_it(tmp_path):
    with pytest.raises(DataError, match=r"folds\.csv is missing: run the stage 'split' first"):
        need(tmp_path / "folds.csv", "split")
    assert need(tmp_path, "split") == tmp_path


def test_a_fingerprint_tells_contents_apart(tmp_path):
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text * 2)
    assert fingerprint(tmp_path / "a" / "file") == fingerprint(tmp_path / "b" / "file")
    assert fingerprint(tmp_path / "a" / "file") != fingerprint(tmp_path / "c" / "file")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tmp_path / "b" / "more").touch()
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


def test_versions_are_of_the_libraries_that_are_there():
    assert versions()["torch"]


LIMITED = """
import resource
import sys
from pipeline.__main__ import app
from pipeline.command import run_command

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
run_command(app)
"""


def test_a_file_that_cannot_grow_is_one_clear_error(tmp_path, write_experiment, python, generated):
    experiment = write_experiment(tmp_path)
    words = ["prepare", "-e", experiment, "--set", f"data.root={generated}", "--quiet"]
    result = python("-c", LIMITED, 20_000, *words)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: File too large: {tmp_path / 'kfold' / 'tiny' / 'cache'}\n"
    assert [path.name for path in (tmp_path / "kfold" / "tiny").iterdir()] == ["experiment.yaml"]


def test_a_file_never_replaces_a_folder_or_a_device(tmp_path):
    folder = tmp_path / "results"
    write_folder(folder, "precious")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, kind in ((folder, "a folder"), (pipe, "no plain file")):
        with (
            pytest.raises(DataError, match=f"{path}: is {kind}; a file is to be written"),
            whole_or_absent(path) as new,
        ):
            write_file(new, "scores")
    assert content_of(folder) == "precious"
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [pipe, folder]
