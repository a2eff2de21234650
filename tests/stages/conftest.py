"""A finished run, which several stages start from."""

import pytest

from pipeline.artifacts import Artifacts

RECIPE = {"epochs": 1, "batch_size": 4}
MODELS = {
    name: {"architecture": "Unet", "encoder": encoder, "options": {"decoder_channels": [32, 16, 16, 8, 8]}}
    for name, encoder in (("one", "resnet18"), ("two", "mobilenet_v2"))
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory, write_experiment, python):
    """A finished run: its artifacts, its experiment file and the folder of its test images."""
    folder = tmp_path_factory.mktemp("finished")
    experiment = write_experiment(folder, models=MODELS, training=RECIPE, prediction={"engine": "torch"})
    result = python("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 0, result.stderr
    return Artifacts(folder, "tiny"), experiment, folder / "data" / "tiny" / "test"
