"""A search that loses: forty images, two folds, and a threshold for each that ruins the other; the command line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.artifacts import Artifacts
from pipeline.data.cache import open_small, read_folds, read_images
from pipeline.data.probabilities import read_probabilities, write_probabilities
from pipeline.postprocess import UNTUNED, final_edges
from pipeline.rle import decode, from_edges


@pytest.fixture
def losing(tmp_path, competition, write_experiment, command_line):
    """All stages from made-up probabilities on: the artifacts, the data and what was printed."""
    data = competition(train=40)
    source = {"source": "kaggle", "root": str(data.root)}
    folds = {"count": 2, "near_duplicate_bits": 0}
    tuning = {"search": "threshold", "components": False}
    file = write_experiment(tmp_path, data=source, folds=folds, tuning=tuning)
    artifacts = Artifacts(tmp_path, "tiny")
    for stage in ("prepare", "split"):
        assert command_line(stage, "-e", file)[0] == 0
    plant(artifacts)
    printed = {}
    for words in (["ensemble"], ["tune"], ["submit"], ["submit", "--oof"], ["report"]):
        status, printed[words[-1]], err = command_line(*words, "-e", file)
        assert (status, err) == (0, "")
    return SimpleNamespace(artifacts=artifacts, data=data, printed=printed, file=file)


def plant(artifacts):
    """Half of one fold's masks is faint; the other's images have as much again, less bright, where nothing is."""
    masks = np.array(open_small(artifacts.cache / "train_masks.npy")[..., 0]) > 127
    fold = read_folds(artifacts)["fold"].to_numpy()
    blocks = np.kron(np.indices((8, 8)).sum(axis=0) % 2, np.ones((8, 8), int))
    faint = np.where(masks, np.where(blocks, 90, 190), 20)
    bright = np.where(masks, 255, np.where(masks[:, ::-1, ::-1], 200, 60))
    maps = np.where(fold[:, None, None] == 0, faint, bright).astype(np.uint8)
    ids, tests = read_images(artifacts, "train")["image_id"].to_numpy(), read_images(artifacts, "test")["image_id"]
    for number in range(2):
        mine, paths = fold == number, artifacts.fold("unet", number)
        write_probabilities(paths.oof, ids[mine].tolist(), maps.shape[1:], [maps[mine]])
        write_probabilities(paths.tests[0], tests.tolist(), maps.shape[1:], [faint[: len(tests)].astype(np.uint8)])


def test_a_threshold_that_loses_is_not_submitted_and_nothing_calls_it_the_score(losing, command_line):
    artifacts, data = losing.artifacts, losing.data
    tuning = json.loads(artifacts.tuning.read_text())
    scores = tuning["sets"]["ensemble"]
    (of_class,) = scores["classes"]
    assert scores["tuned"] > scores["at_half"] > scores["cross_fitted"] + 0.3
    assert scores["gain"]["ci95"][1] < 0

    # The submission's masks are those at one half.
    rows = dict(line.split(",") for line in artifacts.submission.read_text().splitlines()[1:])
    maps = read_probabilities(artifacts.ensemble_test, "ensemble").maps[:]
    for row, image_id in enumerate(data.ids["test"]):
        shape = data.masks[image_id].shape
        expected = from_edges(final_edges(maps[row], *shape, "stretch", UNTUNED), shape)
        assert np.array_equal(decode(rows[image_id], shape), expected)

    assert of_class["found"]["threshold"] not in (128, of_class["postprocess"]["threshold"])
    assert [each["threshold"] for each in tuning["postprocess"]] == [128]

    # The out-of-fold masks have the score that is said to be the submission's.
    status, out, _ = command_line("score", artifacts.oof_masks, data.root / "train.csv", "--json")
    assert status == 0
    assert json.loads(out)["score"] == pytest.approx(scores["submitted"], abs=1e-12)
    assert scores["submitted"] == scores["at_half"]
    provenance = json.loads(artifacts.submission_record.read_text())
    assert provenance["oof_score"]["submitted"] == scores["at_half"]
    assert provenance["oof_score"]["verdict"].endswith("; the submission stays at 1/2")
    assert provenance["oof_score"]["optimism"] == "chosen on the same images, which is optimistic"

    # The table, results.json and the page lead with it.
    results = json.loads(artifacts.results.read_text())
    (row,) = [row for row in results["rows"] if row["model"] == "ensemble"]
    assert (row["submitted_oof"], row["submitted"]) == (scores["at_half"], "at 1/2")
    assert results["postprocess"] == {"all images": "threshold 128/255"}
    line = next(line for line in losing.printed["report"].splitlines() if "ensemble" in line)
    assert f"{scores['at_half']:.4f}" in line.split("│")[-2]
    page = artifacts.page.read_text()
    assert f"<dt>as submitted: at 1/2</dt><dd>{scores['at_half']:.4f}</dd>" in page
    assert f"<dd>{scores['cross_fitted']:.4f}</dd><dd>not submitted</dd>" in page
    assert f"<dd>{scores['tuned']:.4f}</dd><dd>{scores['optimism']}; not submitted</dd>" in page
    assert scores["optimism"] == "chosen on the same images, which is optimistic"
