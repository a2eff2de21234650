"""`report` through the command line."""

import json

import numpy as np
import pytest

from pipeline.artifacts import Artifacts


def test_the_page_the_picture_and_the_table(finished, command_line):
    artifacts = finished.artifacts["tiny"]
    status, out, err = command_line("report", "-e", finished.files["tiny"])
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"report: open {artifacts.page} in a browser"
    page, results = artifacts.page.read_text(encoding="utf-8"), json.loads(artifacts.results.read_text())
    (row,) = [row for row in results["rows"] if row["model"] == "ensemble"]
    assert f"<dd>{row['submitted_oof']:.4f}</dd>" in page
    assert f"<title>tiny: {row['submitted_oof']:.4f}</title>" in page
    assert results["verdict"][1:] in page
    assert 'id="against"' not in page
    assert artifacts.predictions.read_bytes().startswith(b"\x89PNG")
    again = artifacts.page.read_bytes()
    assert command_line("report", "-e", finished.files["tiny"], "--quiet")[1:] == ("", "")
    assert artifacts.page.read_bytes() == again


def test_against_another_run(finished, command_line):
    status, _, err = command_line("report", "-e", finished.files["tiny"], "--against", "other")
    assert (status, err) == (0, "")
    page = finished.artifacts["tiny"].page.read_text(encoding="utf-8")
    tuned = [json.loads(each.tuning.read_text())["sets"]["ensemble"] for each in finished.artifacts.values()]
    difference = tuned[0]["submitted"] - tuned[1]["submitted"]
    assert "<h2>Against other</h2>" in page
    assert f"<dd>{difference:+.4f}</dd>" in page
    assert "This run is better, beyond noise." in page


@pytest.mark.parametrize(("name", "message"), [("tiny", "is this experiment itself"), ("gone", "others there: other")])
def test_a_wrong_name_is_refused_and_nothing_is_written(finished, command_line, name, message):
    page = finished.artifacts["tiny"].page
    page.write_text("before", encoding="utf-8")
    status, out, err = command_line("report", "-e", finished.files["tiny"], "--against", name)
    assert (status, out) == (1, "")
    assert err.startswith(f"error: --against {name}: ")
    assert message in err
    assert page.read_text(encoding="utf-8") == "before"


def test_a_run_that_is_not_finished_names_the_stage(tmp_path, write_experiment, command_line):
    status, _, err = command_line("report", "-e", write_experiment(tmp_path))
    assert (status, err) == (1, f"error: {Artifacts(tmp_path, 'tiny').tuning} is missing: run the stage 'tune' first\n")


def test_split_names_the_duplicates(finished):
    artifacts = finished.artifacts["tiny"]
    pairs = json.loads((artifacts.folder / "folds.csv.json").read_text())["duplicates"]
    assert pairs
    folds = dict(np.loadtxt(artifacts.folds, str, delimiter=",", skiprows=1, usecols=(0, 1)))
    assert all(folds[first] == folds[second] and first < second for first, second in pairs)
