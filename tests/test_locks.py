import os
import subprocess
import sys
import threading
import time

import pytest

from pipeline import PROJECT
from pipeline.locks import one_at_a_time, open_emptied, open_lock, try_lock


def plant(path, kind, target):
    """Put something at ``path`` through which ``target`` could be written."""
    target.write_text("precious")
    if kind == "link":
        path.symlink_to(target)
    elif kind == "dangling":
        target.unlink()
        path.symlink_to(target)
    elif kind == "second name":
        path.hardlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)


@pytest.mark.parametrize("kind", ["link", "dangling", "second name", "pipe"])
def test_what_leads_elsewhere_is_replaced_before_it_is_written(tmp_path, kind):
    path, target = tmp_path / "log", tmp_path / "target"
    plant(path, kind, target)
    with open(open_emptied(path), "w") as file:
        file.write("new")
    assert (path.read_text(), path.is_symlink()) == ("new", False)
    assert target.exists() == (kind != "dangling")
    assert kind == "dangling" or target.read_text() == "precious"


def test_a_file_that_is_there_is_emptied_and_stays_the_same_file(tmp_path):
    path = tmp_path / "log"
    path.write_text("a long text")
    before = path.stat().st_ino
    with open(open_emptied(path), "w") as file:
        file.write("short")
    assert (path.read_text(), path.stat().st_ino) == ("short", before)


@pytest.mark.parametrize("kind", ["link", "dangling"])
def test_a_lock_is_never_opened_through_a_link(tmp_path, kind):
    path, target = tmp_path / "lock", tmp_path / "target"
    plant(path, kind, target)
    with open_lock(path) as file:
        assert try_lock(file)
    assert not path.is_symlink()
    assert target.exists() == (kind == "link")
    assert kind == "dangling" or target.read_text() == "precious"


def test_the_content_of_a_locks_file_stays(tmp_path):
    path = tmp_path / "lock"
    path.write_text("what a job has printed")
    with open_lock(path) as first, open_lock(path) as second:
        assert try_lock(first)
        assert not try_lock(second)
    assert path.read_text() == "what a job has printed"
    with pytest.raises(FileNotFoundError):
        open_lock(tmp_path / "none", create=False)


def test_one_process_at_a_time_is_let_in_and_the_lock_goes_with_the_last(tmp_path):
    inside, most, waited = [], [], []

    def enter():
        for _ in range(20):
            with one_at_a_time(tmp_path / "folder" / "lock", lambda: waited.append(1)):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(most) == 160
    assert waited
    assert list((tmp_path / "folder").iterdir()) == []


def redirected(*words):
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-P", "-m", "pipeline.redirect", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_commands_output_goes_to_the_log_and_its_status_comes_back(tmp_path):
    plant(tmp_path / "log", "link", tmp_path / "target")
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    done = redirected(tmp_path / "log", sys.executable, "-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
    assert (tmp_path / "log").read_text() == "out\nerr\n"
    assert (tmp_path / "target").read_text() == "precious"


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    done = redirected(tmp_path, "true")
    assert (done.returncode, done.stderr) == (1, f"error: Is a directory: {tmp_path}\n")
