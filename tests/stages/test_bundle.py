import html
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from markdown_it import MarkdownIt

from pipeline.bundling.checking import Room
from pipeline.bundling.contents import code_span, names_of_data, needed_packages
from pipeline.bundling.execute import execute
from pipeline.bundling.notebook import make_notebook
from pipeline.bundling.plans import Estimate, Plan, Trial, best_within, masks_by, possible_plans
from pipeline.config import load_experiment
from pipeline.data.images import read_image
from pipeline.errors import DataError
from pipeline.learning.predictor import Predictor, to_network_size
from pipeline.rle import dice
from pipeline.stages.bundle import bundle


@pytest.fixture(scope="module")
def bundled(finished, tmp_path_factory):
    """The bundle of the finished run."""
    folder = tmp_path_factory.mktemp("bundle") / "upload"
    bundle(finished[1], folder, quiet=True)
    return folder


@pytest.fixture
def experiment(tmp_path, write_experiment):
    """``experiment(**sections)``: the settings of a tiny experiment."""
    return lambda **sections: load_experiment(write_experiment(tmp_path, **sections))


def test_the_notebook_writes_the_submission(finished, bundled, tmp_path, monkeypatch):
    artifacts, _, photographs = finished
    notebook = bundled / "notebook.ipynb"
    nbformat.validate(nbformat.read(notebook, as_version=4))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPERIMENT", str(bundled / "kfold" / "tiny" / "experiment.yaml"))
    monkeypatch.setenv("IMAGES", str(photographs))
    execute(notebook)
    assert (tmp_path / "submission.csv").read_bytes() == artifacts.submission.read_bytes()


def test_the_notebook_finds_things_by_name_and_installs_what_is_missing(tmp_path, monkeypatch):
    for name in ("tiny/kfold/tiny/experiment.yaml", "tiny/bundle.json", "competition/sample.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"needs": {"json": "json==1", "no_such_module": "nothing==2"}}')
    monkeypatch.chdir(tmp_path / "competition")
    places, packages = [
        cell.source.replace("/kaggle/input", str(tmp_path))
        for cell in make_notebook("kfold/tiny/experiment.yaml", "test", "sample.csv", [], "all").cells
        if cell.cell_type == "code"
    ][:2]
    with pytest.raises(FileNotFoundError, match="test is not among the inputs"):
        exec(places, {})
    (tmp_path / "competition" / "test").mkdir()
    found = {}
    exec(places, found)
    assert [found[name] for name in ("BUNDLE", "IMAGES", "SAMPLE")] == [
        tmp_path / name for name in ("tiny", "competition/test", "competition/sample.csv")
    ]
    commands = []
    monkeypatch.setattr("subprocess.run", commands.append)
    exec(packages, found)
    assert [command[3:] for command in commands] == [
        ["install", "--quiet", "--no-index", "--find-links", tmp_path / "tiny" / "wheels", "nothing==2"]
    ]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"source": "generated"}, ("test", None)),
        ({"source": "easyportrait"}, ("images/test", None)),
        ({"source": "easyportrait", "test_split": "val"}, ("images/val", None)),
        ({"source": "folder", "test_images": None}, ("test", None)),
        ({"source": "kaggle"}, ("test", "sample_submission.csv")),
        (
            {"source": "kaggle", "test_images": "stage2_test/images/", "sample_submission": "./csv/sample.csv"},
            ("stage2_test/images", "csv/sample.csv"),
        ),
        (
            {"source": "kaggle", "test_images": "/data/test_v2", "sample_submission": "../other/sample.csv"},
            ("test_v2", "sample.csv"),
        ),
    ],
)
def test_data_are_looked_for_by_their_path_below_the_datas_folder(experiment, data, names):
    assert names_of_data(experiment(data=data).data) == names


def test_a_folder_of_the_same_name_is_not_taken_for_the_test_images(tmp_path, monkeypatch):
    for name in ("annotations/test", "images/test"):
        (tmp_path / "portraits" / name).mkdir(parents=True)
    (tmp_path / "experiment.yaml").touch()
    notebook = make_notebook("experiment.yaml", "images/test", None, [], "all")
    places = notebook.cells[2].source.replace("/kaggle/input", str(tmp_path)).replace("parents[2]", "parent")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGES", raising=False)
    exec(places, found := {})
    assert found["IMAGES"] == tmp_path / "portraits" / "images" / "test"


@pytest.mark.parametrize(
    "name",
    [
        't");open("sprung", "w");("',
        "t'\"",
        "$images",
        "a\\nb\nc",
        "[ab]*",
        "{x}",
        "```",
        "t\u00e9st #1",
        '"""',
        "\\",
        "-x",
    ],
)
def test_data_of_any_name_are_found_and_run_no_code(tmp_path, monkeypatch, name):
    notebook = make_notebook("kfold/tiny/experiment.yaml", f"{name}/images", f"{name}/sample.csv", [name], "all")
    nbformat.validate(notebook)
    (tmp_path / "kfold" / "tiny").mkdir(parents=True)
    (tmp_path / "kfold" / "tiny" / "experiment.yaml").touch()
    (tmp_path / name / "images").mkdir(parents=True)
    (tmp_path / name / "sample.csv").touch()
    (tmp_path / "a" / "images").mkdir(parents=True)  # which the name as a pattern would find
    monkeypatch.chdir(tmp_path)
    for variable in ("EXPERIMENT", "IMAGES", "SAMPLE"):
        monkeypatch.delenv(variable, raising=False)
    places, _, prediction, _ = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    exec(places, found := {})
    assert (found["IMAGES"], found["SAMPLE"]) == (tmp_path / name / "images", tmp_path / name / "sample.csv")
    exec(prediction.splitlines()[0], found)
    assert found["OPTIONS"] == [name]
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("text", ["a", "`a`", "a``b`", "<b>&amp;", "*a*", "[x](y)", "$(id)", "  ", "a\nb", "``"])
def test_names_are_code_in_markdown(text):
    shown = MarkdownIt().render(f"for {code_span(text)}, and")
    assert re.fullmatch(r"<p>for <code>(.*)</code>, and</p>\n", shown)[1] == html.escape(
        text if "\n" not in text else repr(text), quote=False
    )


def test_nothing_in_it_names_where_it_was_made_or_start_weights(finished, bundled):
    artifacts = finished[0]
    for path in bundled.rglob("*"):
        assert path.is_dir() or str(artifacts.workspace).encode() not in path.read_bytes(), path
    settings = load_experiment(bundled / "kfold" / "tiny" / "experiment.yaml")
    assert {model.weights for model in settings.models.values()} == {None}


def test_packages_are_those_that_prediction_imports():
    needs = needed_packages()
    assert {"torch", "segmentation_models_pytorch", "zarr", "cv2", "yaml", "openvino"} <= set(needs)
    assert not {"lightning", "albumentations", "sklearn", "snakemake", "nbclient", "pytest"} & set(needs)


def test_check_names_what_is_missing_or_damaged(finished, bundled, tmp_path, command_line):
    copy = shutil.copytree(bundled, tmp_path / "copy")
    weights = copy / "kfold" / "tiny" / "unet" / "fold1" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    words = ("bundle", "--experiment", finished[1], "--check", "-o")
    status, _, err = command_line(*words, copy)
    assert status == 1
    assert f"{weights} is damaged" in err
    manifest = copy / "bundle.json"
    known = manifest.read_text()
    manifest.write_text(json.dumps({**json.loads(known), "files": {"../../secret": "0"}}))
    assert "'../../secret' cannot be a name below" in command_line(*words, copy)[2]
    manifest.write_text(known)
    weights.unlink()
    assert f"{weights} is missing" in command_line(*words, copy)[2]
    assert "run the stage 'bundle' first" in command_line(*words, tmp_path / "none")[2]


def test_a_time_limit_leaves_out_folds_and_views(finished, tmp_path, command_line, monkeypatch):
    _, experiment, _ = finished
    monkeypatch.setattr(Trial, "minutes", lambda _, plan, count: count * plan.folds * (1 + plan.flip))
    words = ("bundle", "--experiment", experiment, "-o", tmp_path / "upload")
    status, out, err = command_line(*words, "--time-limit", 10, "--images", 10)
    assert status == 0, err
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert [row[:3] for row in rows] == [
        ["2", "1 and mirrored", "40.0"],
        ["1", "1 and mirrored", "20.0"],
        ["2", "1", "20.0"],
        ["1", "1", "10.0"],
    ]
    assert [bool(row[3]) for row in rows] == [False, False, True, True]
    assert rows[0][-1] == "1.0000"
    options = json.loads((tmp_path / "upload" / "bundle.json").read_text())["options"]
    assert options == ["--folds", "1", "--set", "prediction.flip=false"]
    assert len(list((tmp_path / "upload").rglob("weights.safetensors"))) == 2  # a fold of two models
    status, out, err = command_line(*words, "--check")
    assert status == 0, err
    assert "all 4 masks are as expected, to the pixel" in out
    assert "not empty" in command_line(*words)[2]


def test_parts_of_a_trial_are_what_segment_would_predict(finished):
    settings = load_experiment(finished[1])
    trial = Trial.run(settings, 4)
    part = Plan(1, (1.0,), flip=False)
    photographs = [read_image(path, at_least=settings.image.size) for path in sorted(finished[2].iterdir())]
    copies = np.stack([to_network_size(each, settings) for each in photographs])
    changed = settings.model_copy(update={"prediction": settings.prediction.model_copy(update={"flip": False})})
    small = np.zeros((1, 64, 64, 3), np.uint8)
    for plan, predictor in (
        (Plan.whole(settings), Predictor.load(settings, small, 4)),
        (part, Predictor.load(changed, small, 4, folds=1)),
    ):
        expected = [edges for of_image in predictor.masks(copies, trial.sizes) for edges in of_image]
        found = masks_by(plan, trial.predictor, trial.maps, trial.sizes)
        # Single pixels differ, since views are rounded to bytes before their mean is.
        assert min(dice(*pair) for pair in zip(found, expected, strict=True)) > 0.95
    assert trial.likeness(part) < 0.9 < trial.likeness(Plan.whole(settings)) == 1


def test_minutes_are_of_the_folds_and_pixels_that_are_used(experiment):
    settings = experiment(prediction={"scales": [1.0, 2.0]})
    trial = Trial(SimpleNamespace(settings=settings), [], [], loading=60.0, network=0.5, rest=0.1)
    whole = Plan.whole(settings)
    assert trial.minutes(whole, 600) == pytest.approx(1 + 1 + 6)
    assert trial.minutes(replace(whole, folds=1, flip=False), 600) == pytest.approx(1 + 0.5 + 1 + 5 / 4)
    assert trial.minutes(replace(whole, scales=(1.0,)), 600) == pytest.approx(1 + 1 + 1 + 5 / 5)


def test_plans_leave_out_folds_mirrors_and_sizes(experiment):
    plans = possible_plans(experiment(prediction={"scales": [0.5, 1.0]}))
    assert len(plans) == len(set(plans)) == 8
    assert plans[0] == Plan(2, (0.5, 1.0), flip=True)
    assert plans[-1] == Plan(1, (1.0,), flip=False)
    assert {plan.flip for plan in possible_plans(experiment(prediction={"views": "separate"}))} == {True}


def test_of_what_fits_the_masks_that_are_most_alike_are_taken():
    plans = [Plan(folds, (1.0,), flip) for folds in (2, 1) for flip in (True, False)]
    numbers = zip(plans, (40, 20, 20, 10), (1.0, 0.97, 0.98, 0.96), strict=True)
    estimates = [Estimate(plan, minutes, likeness, None) for plan, minutes, likeness in numbers]
    assert [best_within(estimates, limit).plan for limit in (40, 39, 19)] == [plans[0], plans[2], plans[3]]
    with pytest.raises(DataError, match=r"1 fold, views 1, takes about 10\.0 minutes"):
        best_within(estimates, 9)


def test_other_masks_than_the_submissions_are_refused(finished, tmp_path):
    artifacts, experiment, _ = finished
    room = Room(tmp_path, load_experiment(experiment))
    text = artifacts.submission.read_text()
    room.expected.write_text(text)
    room.found.write_text(text)
    assert "to the pixel" in room.verdict()
    header, first, *rest = text.splitlines()
    room.found.write_text("\n".join([header, first.split(",")[0] + ",1 1", *rest]) + "\n")
    with pytest.raises(DataError, match=r"their mean Dice is 0\.\d"):
        room.verdict()
    room.found.write_text("\n".join([header, *rest]) + "\n")
    with pytest.raises(DataError, match="other rows"):
        room.verdict()


def test_an_unfinished_experiment_names_the_stage_to_run(tmp_path, write_experiment, command_line):
    words = ("bundle", "--experiment", write_experiment(tmp_path), "-o", tmp_path / "upload")
    status, _, err = command_line(*words)
    assert status == 1
    assert "run the stage 'tune' first" in err
    assert not (tmp_path / "upload").exists()
