"""A metric that is added to ``metrics.py`` and nowhere else works in every command."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import PROJECT, metrics
from pipeline.rle import area, intersection, read_csv

NAME, TITLE = "fowlkes-mallows", "mean Fowlkes-Mallows index per image"

FORMULA = '''
FLOOR: float = 1e-9
POWER, HALVES = 0.5, 2


def _root(values: np.ndarray) -> np.ndarray:
    return np.maximum(values, FLOOR) ** (POWER * HALVES / 2)


def fowlkes_mallows(counts: Counts, both_empty: float = 1.0) -> np.ndarray:
    """The geometric mean of precision and recall."""
    product = np.asarray(counts.predicted, np.float64) * counts.true
    return np.where(counts.predicted + counts.true > 0, counts.intersection / _root(product), both_empty)


class Metric('''

COMMANDS = """
import importlib.util, json, sys

folder, *rest = sys.argv[1:]
spec = importlib.util.spec_from_file_location("pipeline.metrics", f"{folder}/metrics.py")
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])

from pipeline.__main__ import app
from pipeline.command import run_command

for words in json.loads(rest[0]):
    sys.argv = ["pipeline", *words]
    print("$", *words, flush=True)
    try:
        run_command(app)
    except SystemExit as stopped:
        if stopped.code:
            sys.exit(f"{words}: {stopped.code}")
"""


@pytest.fixture
def commands(tmp_path):
    """``commands(*lists of words) -> what each has printed``, in a process whose ``metrics.py`` has one metric more."""
    source = Path(metrics.__file__).read_text(encoding="utf-8")
    source = source.replace("\nclass Metric(", FORMULA, 1)
    line = re.search(r'\n( +)"tgs-map": Metric\(', source)
    entry = f'\n{line[1]}"{NAME}": Metric(fowlkes_mallows, "{TITLE}"),'
    (tmp_path / "metrics.py").write_text(source[: line.start()] + entry + source[line.start() :], encoding="utf-8")
    shutil.copy(PROJECT / "pipeline" / "host_metric.py", tmp_path)  # which `kaggle-metric` finds beside it
    (tmp_path / "commands.py").write_text(COMMANDS)

    def call(*lists):
        words = json.dumps([list(map(str, each)) for each in lists])
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        script = (sys.executable, tmp_path / "commands.py", tmp_path, words)
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [part.partition("\n")[2] for part in re.split(r"^\$ ", done.stdout, flags=re.MULTILINE)[1:]]

    return call


def index(path, truth):
    """The mean of the formula, from the two files."""
    predicted, true = read_csv(path), read_csv(truth)
    values = []
    for row, image_id in enumerate(true.ids):
        mine, own = predicted[predicted.ids.index(image_id)], true[row]
        product = area(mine) * area(own)
        values.append(intersection(mine, own) / np.sqrt(product) if product else float(area(mine) + area(own) == 0))
    return float(np.mean(values))


def test_a_metric_is_added_in_one_place(commands, finished, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(finished.folder / "kfold" / "tiny", work / "kfold" / "tiny")
    experiment = ("-e", finished.files["tiny"], "--set", f"workspace={work}", "--set", f"tuning.metric={NAME}")
    oof, truth = work / "submissions" / "tiny-oof.csv", finished.folder / "data" / "train.csv"
    of_files = (oof, truth, "--metric", NAME)
    tuned, _, reported, printed, scored, by_image, voted, linted, written = commands(
        ("tune", *experiment),
        ("submit", "--oof", *experiment),
        ("report", *experiment),
        ("score", *of_files),
        ("score", *of_files, "--json"),
        ("score", *of_files, "--per-image", tmp_path / "rows.csv", "--compare", oof),
        ("vote", oof, oof, "-o", tmp_path / "vote.csv", "--learn", f"{oof},{oof}", "--truth", truth, "--metric", NAME),
        ("lint", oof, "--truth", truth),
        ("kaggle-metric", "--metric", NAME),
    )
    expected = index(oof, truth)
    assert f"tune: ensemble: {NAME} " in tuned

    # The table, results.json and the page.
    results = json.loads((work / "kfold/tiny/results.json").read_text())
    (row,) = [row for row in results["rows"] if row["model"] == "ensemble"]
    assert (results["metric"], row["submitted_oof"]) == (NAME, pytest.approx(expected, abs=1e-12))
    assert f"tiny: {TITLE}\n" in reported
    page = (work / "kfold/tiny/report.html").read_text()
    assert TITLE in page
    assert f'<button type="button">{NAME}</button>' in page

    # The tools.
    assert json.loads(scored)["score"] == json.loads(scored)["metrics"][NAME] == pytest.approx(expected, abs=1e-12)
    lines = [line for line in printed.splitlines() if line.startswith("  ")]
    assert len({line[: len(NAME) + 3].rstrip() for line in lines}) == len(lines)
    assert any(line.startswith(f"  {NAME} {expected:.6f}   95% interval") for line in lines)
    assert NAME in (tmp_path / "rows.csv").read_text().splitlines()[0].split(",")
    assert "equal" in by_image
    assert f"vote: {NAME} " in voted
    assert "rows" in linted

    # The host's file, which imports nothing of the project.
    names = {"__name__": "metric"}
    exec(compile(written, "metric.py", "exec"), names)
    pandas = pytest.importorskip("pandas")
    solution, submission = (pandas.read_csv(path, dtype=str) for path in (truth, oof))
    solution = solution[["image_id", "rle"]]
    assert names["score"](solution, submission, "image_id") == pytest.approx(expected, abs=1e-12)
