import json
import shutil

import pytest

from pipeline.artifacts import Artifacts, write_json
from pipeline.config import load_experiment
from pipeline.data.cache import record_cache
from pipeline.records import (
    MADE_BY,
    SECTIONS,
    UPSTREAM,
    Record,
    examine,
    identity,
    record_of,
    recorded,
    sealed,
    settings_of,
)


@pytest.fixture
def experiment(tmp_path, write_experiment):
    return load_experiment(write_experiment(tmp_path))


@pytest.fixture
def artifacts(experiment):
    """images.csv and folds.csv, each with its record, and a tuning.json that has its own."""
    artifacts = Artifacts.of(experiment)
    with recorded(artifacts.images, Record.of(experiment, "prepare", [])) as path:
        path.write_text("image_id\na\n")
    with recorded(artifacts.folds, Record.of(experiment, "split", [artifacts.images]), pairs=3) as path:
        path.write_text("image_id,fold\na,0\n")
    Record.of(experiment, "tune", [artifacts.folds]).write(artifacts.tuning, metric="dice")
    return artifacts


def outdated(experiment, **options):
    """Return what is outdated, where nothing is damaged."""
    found = examine(experiment, **options)
    assert found.damaged == {}
    return found.outdated


def change_record(path, change):
    """Change the entry ``made_by`` as another version of the code, or other settings, would have written it."""
    content = json.loads(path.read_text())
    change(content[MADE_BY])
    content[MADE_BY]["sha256"] = sealed(content)
    write_json(path, content)


def changed(experiment, **sections):
    return experiment.model_copy(update=sections)


def names(found):
    return sorted(path.name for path in found)


def test_what_holds_is_not_outdated(experiment, artifacts):
    assert outdated(experiment) == {}
    assert json.loads(record_of(artifacts.folds).read_text())["pairs"] == 3


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_text("image_id,fold\n"), "folds.csv is damaged"),
        (lambda path: path.unlink(), "folds.csv is missing"),
        (lambda path: record_of(path).write_text("{"), "is damaged"),
    ],
)
def test_a_damaged_artifact_is_named(experiment, artifacts, damage, reason):
    damage(artifacts.folds)
    found = examine(experiment)
    assert found.damaged.keys() == {record_of(artifacts.folds)}
    assert reason in found.damaged[record_of(artifacts.folds)]
    assert found.outdated == {}  # made again, it may be what it was


def test_a_truncated_folder_is_noticed(experiment, artifacts):
    oof = artifacts.fold("unet", 0).oof
    with recorded(oof, Record.of(experiment, "predict", [artifacts.folds], "unet")) as new:
        (new / "c").mkdir(parents=True)
        for chunk in "01":
            (new / "c" / chunk).write_bytes(b"12345678")
    assert outdated(experiment) == {}
    (oof / "c" / "1").write_bytes(b"1234")
    assert "oof.zarr is damaged" in examine(experiment).damaged[record_of(oof)]
    shutil.rmtree(oof)
    assert "oof.zarr is missing" in examine(experiment).damaged[record_of(oof)]


def test_changed_settings_concern_the_stages_that_depend_on_them(experiment, artifacts):
    more = changed(experiment, folds=experiment.folds.model_copy(update={"count": 3}))
    reason = "settings have changed: folds.count 2 -> 3"
    assert outdated(more) == {record_of(artifacts.folds): reason, artifacts.tuning: UPSTREAM}
    metric = changed(experiment, tuning=experiment.tuning.model_copy(update={"metric": "iou"}))
    assert outdated(metric) == {artifacts.tuning: "settings have changed: tuning.metric dice -> iou"}
    folds = changed(experiment, folds=experiment.folds.model_copy(update={"seed": 1}))
    assert names(outdated(folds)) == ["folds.csv.json", "tuning.json"]
    data = changed(experiment, data=experiment.data.model_copy(update={"seed": 1}))
    assert names(outdated(data)) == ["folds.csv.json", "images.csv.json", "tuning.json"]


def test_another_seed_concerns_the_networks_alone(experiment, artifacts):
    other = changed(experiment, seed=1)
    assert outdated(other) == {}
    assert [
        stage for stage in SECTIONS if settings_of(other, stage, "unet") != settings_of(experiment, stage, "unet")
    ] == ["train"]
    own = {"unet": experiment.models["unet"].model_copy(update={"seed": experiment.seed_of("unet")})}
    assert settings_of(changed(experiment, models=own), "train", "unet") == settings_of(experiment, "train", "unet")


def test_networks_that_had_pseudo_labels_are_not_those_without_them(experiment):
    labelled = changed(experiment, pseudo=experiment.pseudo.model_copy(update={"experiment": "other"}))
    stages = [
        stage for stage in SECTIONS if settings_of(labelled, stage, "unet") != settings_of(experiment, stage, "unet")
    ]
    assert stages == ["pseudo", "train"]


def test_what_only_a_submission_or_a_prediction_reads_trains_nothing_anew(experiment, artifacts):
    for name, value in (("submission_format", "coco"), ("submission_columns", ("id", "runs"))):
        other = changed(experiment, data=experiment.data.model_copy(update={name: value}))
        assert outdated(other) == {}
        assert settings_of(other, "submit") != settings_of(experiment, "submit")
    other = changed(experiment, image=experiment.image.model_copy(update={"overlap": 0.5}))
    concerned = {
        stage for stage in SECTIONS if settings_of(other, stage, "unet") != settings_of(experiment, stage, "unet")
    }
    assert concerned == {"predict"}


def test_maps_of_other_parts_are_no_part_of_the_experiment(experiment, artifacts):
    paths = artifacts.fold("unet", 0)
    with recorded(paths.tests[0], Record.of(experiment, "predict", [artifacts.folds], "unet")) as new:
        new.mkdir()
    in_parts = changed(experiment, prediction=experiment.prediction.model_copy(update={"parts": 2}))
    assert record_of(paths.tests[0]) not in outdated(in_parts)
    shutil.rmtree(paths.tests[0])
    assert record_of(paths.tests[0]) in examine(experiment).damaged


def test_files_that_no_stage_has_written_are_left_alone(experiment, artifacts):
    for name in ("notes.json", "unet/fold7/weights.safetensors.json", "other/fold0/oof.zarr.json"):
        path = artifacts.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('["mine"]')
    assert outdated(experiment) == {}
    record_of(artifacts.fold("unet", 0).oof).parent.mkdir(parents=True, exist_ok=True)
    for path in (artifacts.score, record_of(artifacts.fold("unet", 0).oof)):
        path.write_text('["mine"]')
    assert names(examine(experiment).damaged) == ["oof.zarr.json", "score.json"]


def test_a_setting_that_is_new_and_not_set_changes_nothing(experiment, artifacts):
    path = record_of(artifacts.images)
    known = identity(artifacts.images)
    change_record(path, lambda made_by: made_by["settings"]["data"].pop("url"))
    assert path not in outdated(experiment)
    assert identity(artifacts.images) != known


def test_an_input_from_elsewhere_is_noticed(experiment, artifacts):
    with recorded(artifacts.images, Record.of(experiment, "prepare", [])) as path:
        path.write_text("image_id\nb\n")
    reason = "images.csv is another one than it was made from"
    assert outdated(experiment) == {record_of(artifacts.folds): reason, artifacts.tuning: UPSTREAM}


def test_an_identity_changes_with_whatever_is_upstream(experiment, artifacts):
    before = identity(artifacts.folds)
    with recorded(artifacts.images, Record.of(experiment, "prepare", [])) as path:
        path.write_text("image_id\nb\n")
    with recorded(artifacts.folds, Record.of(experiment, "split", [artifacts.images])) as path:
        path.write_text("image_id,fold\na,0\n")
    assert identity(artifacts.folds) != before


def test_other_code_outdates_and_can_be_tolerated(experiment, artifacts):
    path = artifacts.tuning
    change_record(path, lambda made_by: made_by["code"].update({"metrics": "0" * 16}))
    assert outdated(experiment) == {path: "the code of 'tune' has changed: metrics"}
    assert outdated(experiment, check_code=False) == {}


def test_a_failed_artifact_keeps_the_old_one_and_its_record(experiment, artifacts):
    def fails():
        with recorded(artifacts.folds, Record.of(experiment, "split", [])) as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert outdated(experiment) == {}


def test_a_kill_between_artifact_and_record_leaves_no_record(experiment, artifacts, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.records.write_json", killed)

    def is_killed():
        with recorded(artifacts.folds, Record.of(experiment, "split", [])) as path:
            path.write_text("new")

    with pytest.raises(KeyboardInterrupt):
        is_killed()
    assert artifacts.folds.read_text() == "new"
    assert not record_of(artifacts.folds).exists()


def test_a_models_own_recipe_concerns_its_training_alone(experiment):
    assert settings_of(experiment, "train", "unet")["model"]["architecture"] == "Unet"
    assert set(settings_of(experiment, "tune")) == {"tuning"}


@pytest.mark.parametrize("setting", ["tensorboard=true", "workers=3"])
def test_what_has_no_effect_on_weights_outdates_none(tmp_path, write_experiment, experiment, setting):
    other = load_experiment(write_experiment(tmp_path), [f"training.{setting}"])
    assert other.models != experiment.models
    assert settings_of(other, "train", "unet") == settings_of(experiment, "train", "unet")


def prepare(experiment, artifacts, table):
    """Write what the stage of that name writes, with small copies that differ as the tables do."""
    with recorded(artifacts.images, Record.of(experiment, "prepare", [])) as path:
        path.write_text(table)
    artifacts.cache.mkdir(exist_ok=True)
    (artifacts.cache / "train_images.npy").write_text(table)
    record_cache(artifacts.cache, Record.of(experiment, "prepare", [artifacts.images]))


def test_small_copies_of_another_table_are_made_again_and_then_nothing_else_is(experiment, artifacts):
    prepare(experiment, artifacts, "image_id\na\n")
    inputs = [artifacts.images, artifacts.cache]
    with recorded(artifacts.folds, Record.of(experiment, "split", inputs)) as path:
        path.write_text("image_id,fold\na,0\n")
    Record.of(experiment, "tune", [artifacts.folds]).write(artifacts.tuning)
    assert outdated(experiment) == {}
    table, record = artifacts.images.read_bytes(), record_of(artifacts.images).read_bytes()
    prepare(experiment, artifacts, "image_id\nb\n")
    artifacts.images.write_bytes(table)
    record_of(artifacts.images).write_bytes(record)
    found = examine(experiment)
    reason = "images.csv is another one than it was made from"
    assert (found.outdated, found.damaged) == ({}, {record_of(artifacts.cache): reason})
    prepare(experiment, artifacts, table.decode())
    assert outdated(experiment) == {}


def test_small_copies_are_looked_at_byte_by_byte_when_they_are_needed(experiment, artifacts):
    prepare(experiment, artifacts, "image_id\na\n")
    with recorded(artifacts.folds, Record.of(experiment, "split", [artifacts.images, artifacts.cache])) as path:
        path.write_text("image_id,fold\na,0\n")
    Record.of(experiment, "tune", [artifacts.folds]).write(artifacts.tuning)
    copies = artifacts.cache / "train_images.npy"
    copies.write_text("image_id\nc\n")
    # The networks are still to be trained.
    assert examine(experiment).damaged == {record_of(artifacts.cache): "train_images.npy is damaged"}
    shutil.rmtree(artifacts.cache)
    assert "cache is missing" in examine(experiment).damaged[record_of(artifacts.cache)]


def test_a_record_in_the_place_of_another_is_noticed(experiment, artifacts):
    """One fold's network has seen the images that another fold holds out."""
    for fold in range(2):
        weights = artifacts.fold("unet", fold).weights
        with recorded(weights, Record.of(experiment, "train", [artifacts.folds], "unet")) as path:
            path.write_bytes(b"%d" % fold)
    assert outdated(experiment) == {}
    first, second = (artifacts.fold("unet", fold).weights for fold in range(2))
    shutil.copy(second, first)
    shutil.copy(record_of(second), record_of(first))
    reason = "is damaged: it was written as unet/fold1/weights.safetensors.json"
    assert examine(experiment).damaged == {record_of(first): reason}


@pytest.mark.parametrize(
    "change",
    [
        lambda made_by: made_by.update(more=1),
        lambda made_by: made_by.update(stage=None),
        lambda made_by: made_by.pop("inputs"),
        lambda made_by: made_by.update(inputs={"images.csv": 3}),
        lambda made_by: made_by.update(code="0" * 16),
        lambda made_by: made_by.update(settings=[]),
    ],
)
def test_a_record_that_none_of_the_stages_writes_is_damaged(experiment, artifacts, change):
    change_record(artifacts.tuning, change)
    assert examine(experiment).damaged == {artifacts.tuning: "is damaged, or of another version"}


@pytest.mark.parametrize("stage", ["dream", "train"])
def test_a_record_of_a_stage_or_model_that_there_is_not_is_outdated(experiment, artifacts, stage):
    change_record(artifacts.tuning, lambda made_by: made_by.update(stage=stage, model="other"))
    assert outdated(experiment) == {artifacts.tuning: f"was made by the stage {stage!r}"}


def test_every_bit_of_a_record_counts(experiment, artifacts):
    """Flips bits that leave it JSON: the others are no JSON."""
    text = artifacts.tuning.read_bytes()
    for place in range(0, len(text), 61):
        changed_text = bytearray(text)
        changed_text[place] ^= 1
        artifacts.tuning.write_bytes(changed_text)
        found = examine(experiment)
        unchanged = json_of(bytes(changed_text)) == json.loads(text)  # white space
        no_record = "made_by" not in (json_of(bytes(changed_text)) or {"made_by": None})
        assert unchanged or no_record or artifacts.tuning in found.damaged, place


def json_of(text):
    try:
        return json.loads(text)
    except ValueError:
        return None
