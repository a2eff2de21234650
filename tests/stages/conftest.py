"""A finished run, which several stages start from."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.artifacts import read_json, write_json
from pipeline.data.probabilities import read_probabilities
from pipeline.stages.submit import submit


@pytest.fixture(scope="session")
def finished(two_networks, tmp_path_factory):
    """A finished run: its artifacts, its experiment file and the folder of its test images."""
    run = two_networks.copy(tmp_path_factory.mktemp("half") / "run")
    # At the threshold that suits so short a training all masks are full; at this one any difference shows.
    tuning = read_json(run.artifacts.tuning)
    middle = int(np.median(read_probabilities(run.artifacts.ensemble_test, "ensemble").maps))
    tuning["postprocess"][0]["threshold"] = middle
    del tuning["made_by"]  # it is another one than was written
    write_json(run.artifacts.tuning, tuning)
    submit(run.experiment, quiet=True)
    return run.artifacts, run.experiment, Path(run.settings["data"]["root"]) / "test"
