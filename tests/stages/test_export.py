import json

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline.artifacts import Artifacts
from pipeline.config import load_experiment
from pipeline.learning.networks import SegmentationNetwork, load_network, save_network
from pipeline.records import Record


@pytest.fixture
def trained(tmp_path, write_experiment):
    """Two folds' networks, with random weights."""
    return with_weights(write_experiment(tmp_path, image={"size": [64, 96]}))


def with_weights(path):
    """An experiment's file, and the artifacts that have its networks."""
    experiment = load_experiment(path)
    for fold in range(2):
        torch.manual_seed(fold)
        network = SegmentationNetwork("Unet", "resnet18", {"decoder_channels": [32, 16, 16, 8, 8]})
        weights = Artifacts.of(experiment).fold("unet", fold).weights
        save_network(network.eval(), weights, Record.of(experiment, "train", [], "unet"))
    return path, Artifacts.of(experiment)


def test_every_fold_is_a_model_that_answers_as_the_network_does(trained, tmp_path, command_line):
    experiment, artifacts = trained
    status, out, err = command_line("export", "--experiment", experiment, "-o", tmp_path / "onnx")
    assert status == 0, err
    assert out.count("of PyTorch's") == 2
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 96), dtype=np.uint8)
    for fold in range(2):
        path = tmp_path / "onnx" / f"unet-fold{fold}.onnx"
        logits = onnxruntime.InferenceSession(str(path)).run(None, {"images": images})[0]
        with torch.inference_mode():
            exact = load_network(artifacts.fold("unet", fold).weights)(torch.from_numpy(images))
        assert np.abs(logits - exact.numpy()).max() < 1e-3
        about = json.loads(path.with_name(path.name + ".json").read_text())
        assert (about["height"], about["width"], about["classes"]) == (64, 96, [None])
        assert (about["image_height"], about["image_width"]) == (64, 96)
        assert about["largest_difference_of_a_probability"] < 1e-3


def test_of_tiles_the_whole_images_size_and_the_overlap_are_told(tmp_path, write_experiment, command_line):
    image = {"size": [128, 160], "tile": [64, 96], "overlap": 0.5, "fit": "letterbox"}
    experiment, _ = with_weights(write_experiment(tmp_path, image=image))
    assert command_line("export", "--experiment", experiment, "-o", tmp_path / "onnx")[0] == 0
    about = json.loads((tmp_path / "onnx" / "unet-fold0.onnx.json").read_text())
    names = ("height", "width", "image_height", "image_width", "overlap", "fit")
    assert [about[name] for name in names] == [64, 96, 128, 160, 0.5, "letterbox"]


def test_a_model_that_differs_is_not_written(trained, tmp_path, command_line, monkeypatch):
    monkeypatch.setattr("pipeline.stages.export.onnx_runtime", lambda *_: lambda images: torch.zeros(1) * images[:, :1])
    status, _, err = command_line("export", "--experiment", trained[0], "-o", tmp_path / "onnx")
    assert status == 1
    assert "differ from PyTorch's" in err
    assert not (tmp_path / "onnx").exists()


def test_without_weights_the_stage_to_run_is_named(tmp_path, write_experiment, command_line):
    status, _, err = command_line("export", "--experiment", write_experiment(tmp_path), "-o", tmp_path / "onnx")
    assert status == 1
    assert "run the stage 'train' first" in err
