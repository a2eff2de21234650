"""Out-of-fold CSVs of two experiments, and what a vote learns from them, through the command line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.artifacts import Artifacts
from pipeline.data.cache import open_small, read_folds, read_images
from pipeline.data.probabilities import write_probabilities
from pipeline.metrics import METRICS, Counts
from pipeline.rle import area, intersection, read_csv

NOISE = {"sure": 20, "unsure": 200}
FOLDS = 3


@pytest.fixture
def makers(tmp_path, competition, write_experiment, command_line):
    """Two experiments of one competition, from made-up probabilities to their CSVs."""
    data = competition(train=15)
    source = {"source": "kaggle", "root": str(data.root), "group_column": "person"}
    found = []
    for name, noise in NOISE.items():
        folds = {"count": FOLDS, "near_duplicate_bits": 0}
        file = write_experiment(tmp_path, name=name, data=source, folds=folds)
        for stage in ("prepare", "split"):
            assert command_line(stage, "-e", file)[0] == 0
        artifacts = Artifacts(tmp_path, name)
        plant(artifacts, noise)
        for words in (["ensemble"], ["tune"], ["submit"], ["submit", "--oof"]):
            status, _, err = command_line(*words, "-e", file)
            assert (status, err) == (0, "")
        found.append(artifacts)
    return SimpleNamespace(artifacts=found, truth=data.root / "train.csv", data=data)


def plant(artifacts, noise):
    """The true masks and errors of so many grey levels; for test images, too, the first training images' masks."""
    rng = np.random.default_rng(noise)
    masks = np.array(open_small(artifacts.cache / "train_masks.npy")[..., 0], np.float64)
    maps = (40 + masks * 170 / 255 + rng.normal(0, noise, masks.shape)).clip(0, 255).astype(np.uint8)
    folds, tests = read_folds(artifacts), read_images(artifacts, "test")["image_id"].tolist()
    for fold in range(FOLDS):
        mine = (folds["fold"] == fold).to_numpy()
        paths = artifacts.fold("unet", fold)
        write_probabilities(paths.oof, folds["image_id"][mine].tolist(), maps.shape[1:], [maps[mine]])
        write_probabilities(paths.tests[0], tests, maps.shape[1:], [maps[: len(tests)]])


def test_the_masks_have_the_score_of_what_is_submitted(makers, command_line):
    for artifacts in makers.artifacts:
        tuned = json.loads(artifacts.tuning.read_text())["sets"]["ensemble"]
        status, out, err = command_line("score", artifacts.oof_masks, makers.truth, "--json")
        assert (status, err) == (0, "")
        assert json.loads(out)["score"] == pytest.approx(tuned["submitted"], abs=1e-12)
        predicted, true = read_csv(artifacts.oof_masks), read_csv(makers.truth)
        assert predicted.ids == sorted(true.ids)
        rows = [(predicted[row], true[true.ids.index(each)]) for row, each in enumerate(predicted.ids)]
        counts = Counts(*np.array([(intersection(p, t), area(p), area(t)) for p, t in rows]).T)
        assert float(METRICS["dice"](counts)) == pytest.approx(tuned["submitted"], abs=1e-12)


def test_a_vote_learns_whom_to_follow(makers, command_line, tmp_path):
    sure, unsure = makers.artifacts
    words = ["--learn", f"{sure.oof_masks},{unsure.oof_masks}", "--truth", makers.truth, "--folds", sure.folds]
    output = tmp_path / "blend.csv"
    status, out, err = command_line("vote", sure.submission, unsure.submission, "-o", output, *words)
    assert (status, err) == (0, "")
    assert "vote: weights learnt on 15 images (exact): sure.csv 1, unsure.csv 0" in out
    assert "cross-fitted over the folds of folds.csv" in out
    assert ": the weights are used" in out
    submitted = json.loads(sure.tuning.read_text())["sets"]["ensemble"]["submitted"]
    assert f"vote: dice {submitted:.4f} cross-fitted" in out
    assert output.read_bytes() == sure.submission.read_bytes()
