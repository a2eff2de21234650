"""Ids from file names and CSVs to the submission: what training and test images may be called."""

import json
import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.artifacts import Artifacts
from pipeline.config import UNNAMED, load_experiment
from pipeline.data.cache import CachePaths, open_small, read_folds, read_images, read_true_masks
from pipeline.data.probabilities import write_probabilities
from pipeline.rle import encode, from_edges

SIZE = (64, 64)


def draw(path, number, size):
    """A photograph of noise with a bright rectangle, and the rectangle's mask."""
    rng = np.random.default_rng(number)
    mask = np.zeros(size, np.uint8)
    mask[8 : 30 + number, 10 : 40 - number] = 1
    pixels = rng.integers(0, 100, (*size, 3)).astype(np.uint8) + mask[..., None] * np.uint8(150)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return mask


@pytest.fixture(scope="module")
def alike(tmp_path_factory, write_experiment, python):
    """A finished run where test images are called like training images, in CSVs by their whole file names."""
    folder = tmp_path_factory.mktemp("alike")
    train = {f"{n}.png": draw(folder / "data/train" / f"{n}.png", n, (66, 70)) for n in range(8)}
    test = {f"{n}.png": draw(folder / "data/test" / f"{n}.png", 10 + n, (72, 68)) for n in range(3)}
    for name, masks in (("train.csv", train), ("truth.csv", test)):
        rows = [f"{image_id},{encode(mask)}" for image_id, mask in masks.items()]
        (folder / "data" / name).write_text("\n".join(["image_id,rle", *rows]) + "\n")
    data = {"source": "kaggle", "root": str(folder / "data"), "sample_submission": None, "test_truth": "truth.csv"}
    experiment = write_experiment(folder, data=data, training={"epochs": 1, "batch_size": 4})
    result = python("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 0, result.stderr
    return experiment, Artifacts(folder, "tiny"), train, test


def rows_of(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False).set_index("image_id")["rle"]


def test_masks_of_images_that_are_called_alike_stay_apart(alike):
    _, artifacts, train, test = alike
    masks = read_true_masks(artifacts, list(train), [UNNAMED])
    assert masks.ids == list(train)
    for row, mask in enumerate(train.values()):
        assert np.array_equal(from_edges(masks[row], mask.shape), mask)
    assert rows_of(artifacts.truth).to_dict() == {image_id: encode(mask) for image_id, mask in test.items()}
    small = open_small(CachePaths(artifacts.cache).masks)
    shares = [mask.mean() for mask in train.values()]
    assert (small.mean(axis=(1, 2, 3)) / 255).tolist() == pytest.approx(shares, abs=0.01)


def test_the_submission_and_its_score_are_those_of_the_test_images(alike, command_line):
    _, artifacts, _, test = alike
    submission = rows_of(artifacts.submission)
    assert submission.index.tolist() == list(test)
    status, out, err = command_line("score", artifacts.submission, artifacts.truth, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["n"] == 3
    results = json.loads(artifacts.results.read_text())
    assert results["rows"][-1]["test"] == pytest.approx(json.loads(out)["score"])


def test_ids_without_a_sample_submission_have_the_training_csvs_suffixes_everywhere(alike, command_line, tmp_path):
    experiment, artifacts, _, test = alike
    photographs = artifacts.folder.parents[1] / "data/test"
    for options, ids in (([], list(test)), (["--no-suffix"], ["0", "1", "2"])):
        words = ("segment", "--experiment", experiment, photographs, "--csv", tmp_path / "rows.csv", *options)
        status, _, err = command_line(*words)
        assert (status, err) == (0, "")
        assert rows_of(tmp_path / "rows.csv").index.tolist() == ids
        assert rows_of(tmp_path / "rows.csv").tolist() == rows_of(artifacts.submission).tolist()
    assert command_line("bundle", "--experiment", experiment, "-o", tmp_path / "bundle")[0] == 0
    assert "OPTIONS = ['--suffix']" in (tmp_path / "bundle/notebook.ipynb").read_text()


def test_pseudo_labels_are_those_of_the_test_images(alike, command_line):
    experiment, _, _, test = alike
    second = ["--set", "name=second", "--set", "pseudo.experiment=tiny", "--set", "pseudo.share=1"]
    for words in (["prepare"], ["split"], ["pseudo"], ["train", "--model", "unet", "--fold", "0"]):
        status, _, err = command_line(words[0], "--experiment", experiment, *second, *words[1:])
        assert (status, err) == (0, ""), words
    artifacts = Artifacts(experiment.parent, "second")
    labels = pd.read_csv(artifacts.pseudo(0), dtype=str, keep_default_na=False)
    assert sorted(labels["image_id"]) == list(test)
    assert set(labels["height"]) == {"72"}


# ------------------------------------------------------------------------------------- without a network


def write_maps(artifacts, model, fold):
    """Made-up probabilities of the held-out and the test images."""
    folds = read_folds(artifacts)
    held_out = folds["image_id"][folds["fold"] == fold].tolist()
    test = read_images(artifacts, "test")["image_id"].tolist()
    rng = np.random.default_rng(fold)
    for path, ids in ((artifacts.fold(model, fold).oof, held_out), (artifacts.fold(model, fold).tests[0], test)):
        write_probabilities(path, ids, SIZE, [rng.integers(0, 256, (len(ids), *SIZE), np.uint8)])


@pytest.fixture
def submit_all(tmp_path, write_experiment, command_line):
    """``submit_all(**data)``: every stage but the trainings; what `prepare` has printed, and the submission's path."""

    def call(**data):
        experiment = write_experiment(tmp_path, data={"source": "kaggle", **data})
        status, printed, err = command_line("prepare", "--experiment", experiment)
        assert (status, err) == (0, "")
        assert command_line("split", "--experiment", experiment)[::2] == (0, "")
        artifacts = Artifacts.of(load_experiment(experiment))
        for fold in range(2):
            write_maps(artifacts, "unet", fold)
        for stage in ("ensemble", "tune", "submit"):
            status, _, err = command_line(stage, "--experiment", experiment)
            assert (status, err) == (0, ""), stage
        return printed, artifacts.submission

    return call


@pytest.mark.parametrize("of_truth", [False, True], ids=["no truth", "truth of all"])
def test_a_sample_submission_may_list_fewer_images_than_there_are(competition, submit_all, of_truth):
    data = competition(test=5)
    data.write("sample_submission.csv", "image_id,rle", "b3.jpg,", "b1.jpg,")
    data.write("truth.csv", "image_id,rle", *(f"{i},{encode(data.masks[i])}" for i in data.ids["test"]))
    printed, submission = submit_all(root=str(data.root), test_truth="truth.csv" if of_truth else None)
    assert "prepare: sample_submission.csv lists 2 of the 5 images in " in printed
    assert ": 3 are left out: b0.jpg, b2.jpg, b4.jpg\n" in printed
    assert "6 training images (0 with an empty mask), 2 test images" in printed
    assert rows_of(submission).index.tolist() == ["b3.jpg", "b1.jpg"]
    truth = submission.parents[1] / "kfold/tiny/truth.csv"
    assert truth.exists() == of_truth
    if of_truth:
        expected = {f"{i}.jpg": encode(data.masks[i]) for i in ("b1", "b3")}
        assert rows_of(truth).to_dict() == expected


@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_without_a_sample_submission_test_ids_are_spelt_as_training_ids(competition, submit_all, suffix):
    data = competition(suffix=suffix)
    data.write("truth.csv", "image_id,rle", *(f"b{n},{encode(data.masks[f'b{n}{suffix}'])}" for n in range(3)))
    for truth in (None, "truth.csv"):
        _, submission = submit_all(root=str(data.root), sample_submission=None, test_truth=truth)
        assert rows_of(submission).index.tolist() == [f"b{n}{suffix}" for n in range(3)]


def test_names_in_another_unicode_form_or_with_a_suffix_in_capitals_are_found(competition, submit_all):
    """An archive made on macOS has decomposed names, CSVs have composed ones."""
    data = competition(train=6, test=2)
    composed, decomposed = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    for old, new in (("train/a0.jpg", f"train/{decomposed}.jpg"), ("test/b0.jpg", f"test/{decomposed}.JPG")):
        (data.root / old).rename(data.root / new)
    text = (data.root / "train.csv").read_text().replace("a0,", f"{composed},")
    (data.root / "train.csv").write_text(text)
    data.write("sample_submission.csv", "image_id,rle", "b1.jpg,", f"{composed}.jpg,")
    _, submission = submit_all(root=str(data.root))
    assert rows_of(submission).index.tolist() == ["b1.jpg", f"{composed}.jpg"]
    images = pd.read_csv(submission.parents[1] / "kfold/tiny/images.csv", dtype=str)
    assert sorted(images["image_id"]) == sorted(["Zoë", "Zoë.jpg", "b1.jpg", *(f"a{n}" for n in range(1, 6))])


def test_what_is_not_read_is_counted_and_named(competition, command_line, tmp_path, write_experiment):
    data = competition()
    for name in ("IMG_1.heic", "IMG_2.HEIC", ".DS_Store", "Thumbs.db", "b9.jpg ", "notes"):
        (data.root / "test" / name).write_bytes(b"x")
    (data.root / "train/._a0.jpg").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    (data.root / "train/more").mkdir()
    Image.new("RGB", (9, 9)).save(data.root / "train/more/x.png")
    experiment = write_experiment(tmp_path, data={"source": "kaggle", "root": str(data.root)})
    status, out, err = command_line("prepare", "--experiment", experiment)
    assert (status, err) == (0, "")
    train, test = (line for line in out.splitlines() if "not read" in line)
    assert train.endswith(
        "/train: not read: 1 folder (more with 1 image), 1 left by the operating system or a program (._a0.jpg)"
    )
    assert "/test: not read: 2 .heic (IMG_1.heic, IMG_2.HEIC), " in test
    assert "2 left by the operating system or a program (.DS_Store, Thumbs.db)" in test
    assert "1 with a name that ends in a space or a dot ('b9.jpg ')" in test
    assert "1 without a suffix (notes)" in test
