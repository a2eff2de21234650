"""Test images that are predicted in several parts, through the command line."""

import numpy as np
import pytest
import torch
import zarr

from pipeline.artifacts import Artifacts

PARTS = ("--set", "prediction.parts=4")


class Random(torch.nn.Module):
    """A convolution that has learnt nothing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 1, 5, padding=2)

    def forward(self, images):
        return 8 * self.convolution(images.float() / 255)


@pytest.fixture
def trained(tmp_path, competition, write_experiment, command_line, monkeypatch):
    """An experiment of two chunks of test images and some more, whose views are stored apart."""
    monkeypatch.setattr("pipeline.stages.predict.load_network", lambda _: Random())
    file = write_experiment(
        tmp_path,
        data={"source": "kaggle", "root": str(competition(test=40).root)},
        prediction={"batch_size": 8, "engine": "torch", "views": "separate"},
        ensemble={"weights": "equal", "space": "probability"},
        tuning={"search": "threshold", "components": False},
    )
    for stage in ("prepare", "split"):
        assert command_line(stage, "-e", file)[0] == 0
    return file


def test_parts_make_the_same_submission(tmp_path, trained, command_line):
    def call(*words):
        status, out, err = command_line(*words, "-e", trained)
        assert (status, err) == (0, "")
        return out

    def submission(*options):
        for stage in ("ensemble", "tune", "submit"):
            call(stage, *options)
        return artifacts.submission.read_bytes(), zarr.open_array(artifacts.ensemble_test)[:]

    artifacts = Artifacts(tmp_path, "tiny", parts=4)
    first = artifacts.fold("unet", 0)
    for part, images in ((4, 8), (3, 16), (2, 16)):
        out = call("predict", "-m", "unet", "-k", 0, "--part", f"{part}/4", *PARTS)
        assert f"unet fold 0, part {part}/4: 0 held-out and {images} test images" in out
    assert not first.oof.exists()
    call("predict", "-m", "unet", "-k", 0, "--part", "1/4", *PARTS)
    call("predict", "-m", "unet", "-k", 1, *PARTS)
    for member in ("unet", "unet@mirrored"):
        for fold in range(2):
            paths = artifacts.fold(member, fold).tests
            assert [zarr.open_array(path).shape[0] for path in paths] == [0, 16, 16, 8]
    assert not (first.folder / "test.zarr").exists()
    csv, maps = submission(*PARTS)
    for fold in range(2):
        call("predict", "-m", "unet", "-k", fold)
    whole_csv, whole_maps = submission()
    assert csv == whole_csv
    assert np.array_equal(maps, whole_maps)
    assert len(np.unique(maps)) > 10


@pytest.mark.parametrize(
    ("part", "status", "message"),
    [
        *((part, 2, f"{part!r} is none of 1/4, 2/4") for part in ("0/4", "5/4", "x", "2", "2/", "+1/4")),
        ("2/3", 1, "error: --part 2/3: the experiment has prediction.parts=4\n"),
    ],
)
def test_what_is_no_part_is_refused(tmp_path, write_experiment, command_line, part, status, message):
    words = ("predict", "-e", write_experiment(tmp_path), "-m", "unet", "-k", 0, *PARTS, "--part", part)
    found, _, err = command_line(*words)
    assert found == status
    assert message in err
