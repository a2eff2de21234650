"""Views of an image that are stored apart, from the network to the submission."""

import json

import numpy as np
import pytest
import torch
import zarr

from pipeline.artifacts import Artifacts
from pipeline.data.cache import read_folds

VIEWS = ("unet", "unet@mirrored", "unet@0.5", "unet@0.5-mirrored")
SEPARATE = ("--set", "prediction.views=separate")


class Sees(torch.nn.Module):
    """Foreground is what is bright, more so on the left and in small copies: no two views are alike."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        columns = torch.linspace(2, -2, images.shape[-1])
        return columns + images.float().mean(1, keepdim=True) / 32 - 4 - images.shape[-1] / 64


@pytest.fixture
def network(monkeypatch):
    """What `predict` takes for a trained network."""
    network = Sees()
    monkeypatch.setattr("pipeline.stages.predict.load_network", lambda _: network)
    return network


@pytest.fixture
def predicted(tmp_path, write_experiment, command_line, network):
    """``predicted(*options)`` predicts both folds and returns the network's calls; and the experiment's file."""
    prediction = {"scales": [1.0, 0.5], "engine": "torch"}
    file = write_experiment(tmp_path, prediction=prediction, ensemble={"space": "probability"})
    for stage in ("prepare", "split"):
        assert command_line(stage, "-e", file)[0] == 0

    def predict(*options):
        before = network.calls
        for fold in range(2):
            status, out, err = command_line("predict", "-e", file, "-m", "unet", "-k", fold, *options)
            assert (status, err) == (0, "")
            assert ("4 views apart" in out) == (SEPARATE[1] in options)
        return network.calls - before

    return predict, file


def maps(tmp_path, member, fold, kind="oof"):
    paths = Artifacts(tmp_path, "tiny").fold(member, fold)
    return zarr.open_array(paths.oof if kind == "oof" else paths.tests[0])


def test_views_apart_are_what_is_averaged_and_cost_no_more_calls(tmp_path, predicted):
    predict, _ = predicted
    calls = predict()
    averaged = [maps(tmp_path, "unet", fold, kind)[:] for fold in range(2) for kind in ("oof", "test")]
    assert predict(*SEPARATE) == calls > 0
    apart = [[maps(tmp_path, member, fold, kind) for member in VIEWS] for fold in range(2) for kind in ("oof", "test")]
    for mean, views in zip(averaged, apart, strict=True):
        assert all(view.attrs["image_ids"] == views[0].attrs["image_ids"] for view in views)
        each = np.stack([view[:] for view in views]).astype(float)
        assert np.abs(each.mean(axis=0) - mean).max() <= 1
        assert all((one != other).any() for number, one in enumerate(each) for other in each[:number])
    folder = Artifacts(tmp_path, "tiny").fold("unet", 0).folder
    names = [f"{kind}{view}.zarr" for kind in ("oof", "test") for view in ("", "@0.5", "@0.5-mirrored", "@mirrored")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, *(f"{name}.json" for name in names)])


def test_the_mirrored_view_is_mirrored_back(tmp_path, predicted):
    predict, _ = predicted
    predict(*SEPARATE, "--preview", tmp_path / "new" / "preview.png")
    assert (tmp_path / "new" / "preview.png").read_bytes().startswith(b"\x89PNG")
    plain, mirrored = (maps(tmp_path, member, 0)[:].astype(float).mean(axis=(0, 1)) for member in VIEWS[:2])
    assert plain[:16].mean() > mirrored[:16].mean()  # the network sees more on the left, which was the right
    assert plain[-16:].mean() < mirrored[-16:].mean()


def test_each_view_is_blended_and_tuned_like_a_model(tmp_path, predicted, command_line):
    predict, file = predicted
    predict(*SEPARATE)
    artifacts = Artifacts(tmp_path, "tiny")
    status, out, err = command_line("ensemble", "-e", file, *SEPARATE)
    assert (status, err) == (0, "")
    about = json.loads(artifacts.ensemble_weights.read_text())
    assert tuple(about["weights"]) == VIEWS
    assert [row["model"] for row in about["leave_one_out"]] == list(VIEWS)
    assert len(about["pairs"]) == 6
    assert "unet@0.5, unet@0.5-mirrored" in out
    folds = read_folds(artifacts)["fold"].to_numpy()
    weights = about["choice"][about["kept"]]["by_fold"]
    blended = zarr.open_array(artifacts.ensemble_oof)[:]
    for fold in range(2):
        expected = sum(share * maps(tmp_path, name, fold)[:] for name, share in weights[fold]["weights"].items())
        assert np.abs(blended[folds == fold] - expected).max() <= 0.51
    assert command_line("tune", "-e", file, *SEPARATE)[0] == 0
    assert tuple(json.loads(artifacts.tuning.read_text())["sets"]) == (*VIEWS, "ensemble")
    assert command_line("submit", "-e", file, *SEPARATE)[0] == 0


def test_weights_may_be_given_for_every_view(tmp_path, predicted, command_line):
    predict, file = predicted
    predict(*SEPARATE)
    shares = dict(zip(VIEWS, (3, 0, 1, 0), strict=True))
    options = (*SEPARATE, "--set", f"ensemble.weights={json.dumps(shares)}")
    assert command_line("ensemble", "-e", file, *options)[0] == 0
    expected = sum(
        share / 4 * np.mean([maps(tmp_path, name, fold, "test")[:] for fold in range(2)], axis=0)
        for name, share in shares.items()
    )
    assert np.abs(zarr.open_array(Artifacts(tmp_path, "tiny").ensemble_test)[:] - expected).max() <= 0.51
    status, _, err = command_line("ensemble", "-e", file, *SEPARATE, "--set", "ensemble.weights={unet: 1}")
    assert status == 1
    assert f"weights need a number for each of {', '.join(VIEWS)}, not all 0" in err


def test_views_that_are_missing_name_the_command(predicted, command_line):
    predict, file = predicted
    predict()
    status, _, err = command_line("ensemble", "-e", file, *SEPARATE)
    assert status == 1
    assert err.endswith("oof@mirrored.zarr is missing: run the stage 'predict --model unet --fold 0' first\n")
