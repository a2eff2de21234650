"""A finished run, which several stages start from."""

import numpy as np
import pytest

from pipeline.artifacts import Artifacts, read_json, write_json
from pipeline.data.probabilities import read_probabilities
from pipeline.stages.submit import submit

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
    artifacts = Artifacts(folder, "tiny")
    # At the threshold that suits so short a training all masks are full; at this one any difference shows.
    tuning = read_json(artifacts.tuning)
    tuning["postprocess"][0]["threshold"] = int(np.median(read_probabilities(artifacts.ensemble_test, "ensemble").maps))
    write_json(artifacts.tuning, tuning)
    submit(experiment, quiet=True)
    return artifacts, experiment, folder / "data" / "tiny" / "test"
