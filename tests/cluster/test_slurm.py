"""A run whose jobs go to the nodes of a Slurm; skipped where none can be started."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import PROJECT
from pipeline.artifacts import Artifacts

sys.path.insert(0, str(Path(__file__).parent))
from slurm import NODES, cluster, why_not

reason = why_not()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"no Slurm: {reason}")


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """The project's profile, cut to the small nodes."""
    settings = yaml.safe_load((PROJECT / "pipeline" / "profiles" / "slurm" / "config.yaml").read_text())
    settings |= {"config": ["cores=1", "gpus=0"], "latency-wait": 5, "jobs": len(NODES)}
    settings["default-resources"] = ["mem_mb=500", "runtime=10"]
    settings["set-resources"] = ["train:mem_mb=2000", "predict:mem_mb=2000"]
    folder = tmp_path_factory.mktemp("profile")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


def test_a_run_over_two_nodes_ends_like_a_run_here(tmp_path, write_experiment, python, profile):
    recipe = {"epochs": 1, "batch_size": 4}
    submissions = []
    for place, options in (("here", ["--cores", "1"]), ("cluster", ["--profile", profile])):
        (tmp_path / place).mkdir()
        experiment = write_experiment(tmp_path / place, training=recipe)
        with cluster():
            result = python("-m", "pipeline", "run", "--experiment", experiment, *options)
            states = subprocess.run(["scontrol", "show", "jobs"], capture_output=True, text=True, check=False).stdout
        assert result.returncode == 0, result.stderr
        submissions.append(Artifacts(tmp_path / place, "tiny").submission.read_bytes())
    assert {name for name in NODES if f"NodeList={name}" in states} == set(NODES)
    assert submissions[0] == submissions[1]
