import json
import shutil

import pytest

from pipeline.artifacts import Artifacts, write_json
from pipeline.config import load_experiment
from pipeline.records import (
    MADE_BY,
    SECTIONS,
    UPSTREAM,
    Record,
    _module,
    code_of,
    identity,
    outdated,
    record_of,
    recorded,
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
    write_json(artifacts.tuning, {MADE_BY: Record.of(experiment, "tune", [artifacts.folds]).stored()})
    return artifacts


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
    found = outdated(experiment)
    assert reason in found[record_of(artifacts.folds)]
    assert found[artifacts.tuning] == UPSTREAM
    assert record_of(artifacts.images) not in found


def test_a_truncated_folder_is_noticed(experiment, artifacts):
    oof = artifacts.fold("unet", 0).oof
    with recorded(oof, Record.of(experiment, "predict", [artifacts.folds], "unet")) as new:
        (new / "c").mkdir(parents=True)
        for chunk in "01":
            (new / "c" / chunk).write_bytes(b"12345678")
    assert outdated(experiment) == {}
    (oof / "c" / "1").write_bytes(b"1234")
    assert "oof.zarr is damaged" in outdated(experiment)[record_of(oof)]
    shutil.rmtree(oof)
    assert "oof.zarr is missing" in outdated(experiment)[record_of(oof)]


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
    assert record_of(paths.tests[0]) in outdated(experiment)


def test_files_that_no_stage_has_written_are_left_alone(experiment, artifacts):
    for name in ("notes.json", "unet/fold7/weights.safetensors.json", "other/fold0/oof.zarr.json"):
        path = artifacts.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('["mine"]')
    assert outdated(experiment) == {}
    record_of(artifacts.fold("unet", 0).oof).parent.mkdir(parents=True, exist_ok=True)
    for path in (artifacts.score, record_of(artifacts.fold("unet", 0).oof)):
        path.write_text('["mine"]')
    assert names(outdated(experiment)) == ["oof.zarr.json", "score.json"]


def test_a_setting_that_is_new_and_not_set_changes_nothing(experiment, artifacts):
    path = record_of(artifacts.images)
    content = json.loads(path.read_text())
    del content[MADE_BY]["settings"]["data"]["url"]
    path.write_text(json.dumps(content))
    assert path not in outdated(experiment)


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
    path = record_of(artifacts.images)
    content = json.loads(path.read_text())
    content[MADE_BY]["code"] = "0" * 16
    path.write_text(json.dumps(content))
    assert "the code of 'prepare' has changed" in outdated(experiment)[path]
    assert path not in outdated(experiment, check_code=False)


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


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of three modules, of which the stage imports one."""
    monkeypatch.setattr("pipeline.records.PROJECT", tmp_path)
    (tmp_path / "pipeline" / "stages").mkdir(parents=True)
    (tmp_path / "pipeline" / "stages" / "draw.py").write_text('"""Draw."""\nfrom pipeline.lines import line\nline(1)\n')
    (tmp_path / "pipeline" / "lines.py").write_text("def line(x):\n    return x\n")
    (tmp_path / "pipeline" / "other.py").write_text("y = 1\n")

    def code():
        _module.cache_clear()
        return code_of("draw")

    yield tmp_path / "pipeline", code
    _module.cache_clear()


def test_code_is_what_a_stage_imports_without_its_comments(project):
    folder, code = project
    before = code()
    (folder / "other.py").write_text("y = 2\n")
    (folder / "lines.py").write_text('def line(x):\n    """A line."""\n    return x  # as it is\n')
    assert code() == before
    (folder / "lines.py").write_text("def line(x):\n    return -x\n")
    assert code() != before


@pytest.mark.parametrize("file", ["__init__.py", "round.py", "square.py", "deep/__init__.py", "deep/edges.py"])
def test_what_a_package_imports_of_itself_is_code_of_it(project, file):
    folder, code = project
    (folder / "lines.py").write_text("from pipeline.shapes import circle\n")
    texts = {
        "__init__.py": "from . import square\nfrom .round import circle\n",
        "round.py": "circle = 1\n",
        "square.py": "from .deep import edges\n",
        "deep/__init__.py": "",
        "deep/edges.py": "from .. import square\nfrom ..round import circle\n",
        "unused.py": "",
    }
    (folder / "shapes" / "deep").mkdir(parents=True)
    for name, text in texts.items():
        (folder / "shapes" / name).write_text(text)
    before = code()
    (folder / "shapes" / "unused.py").write_text("x = 1\n")
    assert code() == before
    (folder / "shapes" / file).write_text(f"{texts[file]}x = 1\n")
    assert code() != before


def test_every_stage_depends_on_how_masks_are_read():
    """The project's one package that imports itself by relative names."""
    assert "pipeline.rle.formats" in _module("pipeline.rle")[1]
    assert "pipeline.rle.kernels" in _module("pipeline.rle.algebra")[1]


def test_a_template_beside_a_module_is_code_of_it(project):
    folder, code = project
    (folder / "lines.html").write_text("<p>")
    before = code()
    (folder / "other.html").write_text("<p>")
    assert code() == before
    (folder / "lines.html").write_text("<b>")
    assert code() != before


def test_training_does_not_depend_on_what_comes_after_it():
    assert len({code_of(stage) for stage in ("prepare", "split", "train", "predict", "tune", "submit")}) == 6
