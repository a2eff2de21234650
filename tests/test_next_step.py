import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import PROJECT
from pipeline.artifacts import Artifacts
from pipeline.command import PARENT
from pipeline.config import load_experiment
from pipeline.next_step import check_of_submission, next_stage, shell_line

NETWORK = {"architecture": "Unet", "encoder": "resnet18", "options": {"decoder_channels": [32, 16, 16, 8, 8]}}


def pasted(out):
    """The words of the last line, as a shell has them."""
    words = shlex.split(out.splitlines()[-1])
    assert words[0] == "next:"
    assert words[2:4] == ["-m", "pipeline"]
    return words[4:]


def test_pasting_each_last_line_leads_from_the_images_to_the_report(tmp_path, write_experiment, command_line):
    fast = {"prediction": {"engine": "torch"}, "tuning": {"search": "threshold"}}
    file = write_experiment(tmp_path, models={"unet": NETWORK}, **fast)
    options = ["--experiment", str(file), "--set", "image.size=[32, 64]", "--set", "training.epochs=1"]
    words, walked = ["prepare", *options], []
    while words[0] != "report":
        walked.append(words[0])
        status, out, err = command_line(*words)
        assert (status, err) == (0, "")
        words = pasted(out)
        assert words[1:7] == options
    folds = ["train", "predict"] * 2
    assert walked == ["prepare", "split", *folds, "ensemble", "tune", "submit"]
    status, out, _ = command_line(*words)
    assert status == 0
    assert "next: " not in out


def test_what_is_there_is_not_to_be_done_again(tmp_path, write_experiment):
    file = write_experiment(tmp_path, models={"a": NETWORK, "b": NETWORK}, prediction={"views": "separate"})
    settings = load_experiment(file)
    artifacts = Artifacts.of(settings)

    def write(member, fold, *names):
        for name in names:
            paths = artifacts.fold(member, fold)
            path = paths.test(1) if name == "test" else getattr(paths, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    for fold in range(2):
        write("a", fold, "weights")
    assert next_stage("train", settings, "a", 1) == ["predict", "--model", "a", "--fold", "1"]
    for fold in range(2):
        write("a", fold, "oof", "test")
    write("a@mirrored", 0, "oof", "test")
    write("a@mirrored", 1, "oof")
    assert next_stage("predict", settings) == ["predict", "--model", "a", "--fold", "1"]
    write("a@mirrored", 1, "test")
    assert next_stage("predict", settings) == ["train", "--model", "b", "--fold", "0"]


@pytest.mark.parametrize(("given", "follows"), [("null", "train"), ("other", "pseudo")])
def test_pseudo_labels_come_before_the_training_where_there_are_any(tmp_path, write_experiment, given, follows):
    settings = load_experiment(write_experiment(tmp_path), [f"pseudo.experiment={given}"])
    assert next_stage("split", settings)[0] == follows
    assert next_stage("pseudo", settings) == ["train", "--model", "unet", "--fold", "0"]


HOSTILE = (
    *(
        "a b",
        "it's",
        'a"b',
        "$HOME",
        "`id`",
        "$(id)",
        "a;b",
        "a&b",
        "*",
        "[x]",
        "{a,b}",
        "~",
        "#",
        "!x",
        "\\",
        "%s",
        "",
    ),
    *("a\nb", "\x1b[2J", "\t", "\udcff\xe9", "\u2028", ":dog:", "'\\\n"),
)


def test_a_printed_command_has_the_words_that_it_was_made_of():
    line = shell_line(["printf", r"%s\0", *HOSTILE])
    assert line.isprintable()
    shown = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert shown == b"".join(os.fsencode(word) + b"\0" for word in HOSTILE)


@pytest.mark.parametrize("name", ["-b.csv", ":dog:.csv", "it's; $(touch x).csv", "a\n\udcff.csv"])
def test_a_file_of_any_name_can_be_pasted(tmp_path, command_line, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable])
    Path("a.csv").write_text("id,mask\n1,1 3\n")
    status, out, err = command_line("vote", "a.csv", "a.csv", "-o", tmp_path / name)
    assert (status, err) == (0, "")
    line = out.splitlines()[-1]
    assert line.startswith("next: ")
    pasted = subprocess.run(["bash", "-c", line.removeprefix("next: ")], capture_output=True, text=True, check=False)
    assert (pasted.returncode, pasted.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", name}


@pytest.mark.parametrize("column", ["part", "class", None])
def test_the_submission_is_looked_through_by_its_own_columns(
    tmp_path, write_experiment, competition, command_line, column
):
    """An image has a row for each class: with the classes taken for texts, or ignored, it would be rejected."""
    data = competition()
    classes = {} if column is None else {"classes": ["left", "right"], "class_column": column}
    settings = load_experiment(write_experiment(tmp_path, data={"source": "kaggle", "root": str(data.root), **classes}))
    fields = ["b0", "b1", "b2"] if column is None else [f"b{n},{c}" for n in range(3) for c in ("left", "right")]
    header = "image_id,rle" if column is None else f"image_id,{column},rle"
    data.write("sample_submission.csv", header, *(f"{field}," for field in fields))
    submission = Artifacts.of(settings).submission
    submission.parent.mkdir()
    rows = [f"{field},{row + 1} 2" for row, field in enumerate(fields)]
    submission.write_text("\n".join([header, *rows]) + "\n")
    words = check_of_submission(settings)
    assert ("--class-column" in words) == (column is not None)
    assert command_line(*words) == (0, f"tiny.csv: {len(rows)} rows, 0 errors, 0 warnings\n", "")


def test_images_are_looked_at_as_the_experiment_reads_them(tmp_path, write_experiment):
    for exif, words in (("apply", []), ("ignore", ["--exif", "ignore"])):
        data = {"source": "kaggle", "root": str(tmp_path), "exif": exif}
        found = check_of_submission(load_experiment(write_experiment(tmp_path, data=data)))
        assert found[found.index("--exif") :][:2] == words if words else "--exif" not in found


def test_a_blend_is_to_be_looked_through_and_a_job_of_a_run_says_nothing(tmp_path, command_line, monkeypatch):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("id,mask\n1,1 3\n")
    blend = tmp_path / "c d.csv"
    words = ["vote", tmp_path / "a.csv", tmp_path / "b.csv", "-o", blend]
    out = command_line(*words, "--columns", "id,mask", "--format", "carvana")[1]
    assert pasted(out) == ["lint", str(blend), "--format", "carvana", "--columns", "id,mask"]
    assert command_line(*words, "--quiet")[1] == ""
    monkeypatch.chdir(tmp_path)
    line = shlex.split(command_line(*words)[1].splitlines()[-1])
    assert line[:3] == ["next:", "env", f"PYTHONPATH={PROJECT}"]
    assert line[4:] == ["-P", "-m", "pipeline", "lint", "c d.csv", "--format", "kaggle"]
    monkeypatch.setattr("pipeline.command.join_run", lambda _: None)
    monkeypatch.setenv(PARENT, "1")
    assert "next: " not in command_line(*words)[1]
