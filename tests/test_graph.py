import shutil
from dataclasses import replace

import pytest

from pipeline.config import load_experiment
from pipeline.errors import DataError
from pipeline.graph import LINKS, Graph

MODELS = {name: {"architecture": "Unet", "encoder": "resnet18"} for name in ("first", "second")}


def graph(tmp_path, write_experiment, folds, cores, gpus=0, **training):
    path = write_experiment(tmp_path, models=MODELS, folds={"count": folds}, training=training)
    return Graph(load_experiment(path), cores, gpus, shared=True)


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("cores", [1, 2, 3, 4, 7, 16])
def test_trainings_fill_the_cores_and_none_waits_for_more_than_there_are(tmp_path, write_experiment, folds, cores):
    jobs = graph(tmp_path, write_experiment, folds, cores)
    shares = [jobs.cores_of(model, fold) for model in MODELS for fold in range(folds)]
    full = len(shares) // cores * cores
    assert shares[:full] == [1] * full
    rest = shares[full:]
    assert not rest or cores - len(rest) < sum(rest) <= cores


def test_parts_of_predictions_fill_the_cores_as_well(tmp_path, write_experiment):
    path = write_experiment(tmp_path, models=MODELS, prediction={"parts": 3})
    jobs = Graph(load_experiment(path), cores=8, shared=True)
    shares = [jobs.cores_of(model, fold, part) for model in MODELS for fold in range(2) for part in jobs.parts]
    assert shares == [1] * 8 + [2] * 4


def test_a_training_on_a_machine_of_its_own_has_all_its_cores(tmp_path, write_experiment):
    jobs = Graph(load_experiment(write_experiment(tmp_path, models=MODELS)), cores=4)
    assert {jobs.cores_of(model, fold) for model in MODELS for fold in range(2)} == {4}
    assert jobs.cores_of("first", 0, 1) == 4


def test_jobs_claim_memory_for_their_batches(tmp_path, write_experiment):
    """What they took where it was measured (MB at 384 x 384, batches of 12 and 32), and not more than twice as much."""
    jobs = graph(tmp_path, write_experiment, 2, cores=2, batch_size=12)
    image = jobs.settings.image.model_copy(update={"size": (384, 384)})
    jobs = replace(jobs, settings=jobs.settings.model_copy(update={"image": image}))
    assert 2877 < jobs.memory_of_training("first") < 2 * 2877
    assert 2610 < jobs.memory_of_prediction < 2 * 2610
    assert replace(jobs, gpus=1).memory_of_training("first") == 3000


def test_a_gpu_takes_its_part_of_the_cores(tmp_path, write_experiment):
    jobs = graph(tmp_path, write_experiment, 5, cores=16, gpus=4, devices=2)
    assert jobs.cores_of("first", 3) == 4
    assert jobs.gpus_of("first") == 2
    assert graph(tmp_path, write_experiment, 5, cores=16, devices=2).gpus_of("first") == 0


def test_every_stored_view_has_a_record_of_its_own(tmp_path, write_experiment):
    def names(**prediction):
        path = write_experiment(tmp_path, models=MODELS, prediction=prediction)
        jobs = Graph(load_experiment(path), cores=2)
        folder = jobs.artifacts.folder / "{model}" / "fold{fold}"
        records = (jobs.held_out_maps, jobs.test_maps(*jobs.parts), jobs.test_maps("{part}"))
        return [[record.relative_to(folder).as_posix() for record in each] for each in records]

    def records(*names):
        return [f"{name}.zarr.json" for name in names]

    assert names(scales=[1.0, 0.5]) == [records("oof"), records("test"), records("test")]
    views = ("", "@mirrored", "@0.5", "@0.5-mirrored")
    assert names(scales=[1.0, 0.5], views="separate")[0] == records(*(f"oof{view}" for view in views))
    assert names(flip=False, parts=2) == [
        records("oof"),
        records("test-1of2", "test-2of2"),
        records("test-{part}of2"),
    ]
    assert names(views="separate", parts=2)[2] == records("test-{part}of2", "test-{part}of2@mirrored")


def test_what_lies_elsewhere_is_linked_and_nothing_there_is_removed(tmp_path, write_experiment, monkeypatch):
    jobs = Graph(load_experiment(write_experiment(tmp_path), ["pseudo.experiment=other"]), cores=1)
    links = {"submissions": tmp_path / "submissions", "labels": tmp_path / "kfold" / "other"}
    work = tmp_path / "work"
    (work / LINKS / "submissions").mkdir(parents=True)  # in a copy that has followed links
    monkeypatch.chdir(work)
    for _ in range(2):
        jobs.link()
        assert {path.name: path.readlink() for path in (work / LINKS).iterdir()} == links
    mine = tmp_path / "mine" / "links" / "submissions" / "thesis.csv"
    mine.parent.mkdir(parents=True)
    mine.touch()
    shutil.rmtree(work / ".snakemake")
    (work / ".snakemake").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match=f"a link leads to {tmp_path}/mine/links"):
        jobs.link()
    assert mine.exists()
