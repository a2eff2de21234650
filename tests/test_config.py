import os
import subprocess
import sys

import pytest
import yaml

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, save_settings
from pipeline.config import load_experiment
from pipeline.errors import DataError

EXPERIMENTS = sorted((PROJECT / "pipeline/experiments").glob("*.yaml"))


@pytest.fixture
def tiny(tmp_path, write_experiment):
    return write_experiment(tmp_path)


def message_of(file, *overrides):
    with pytest.raises(DataError) as caught:
        load_experiment(file, list(overrides))
    return str(caught.value)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_the_projects_experiments_load(file):
    assert load_experiment(file).name == file.stem


def test_experiments_are_found_from_any_working_directory(tmp_path, monkeypatch):
    from_root = load_experiment(EXPERIMENTS[0])
    monkeypatch.chdir(tmp_path)
    assert load_experiment(EXPERIMENTS[0].relative_to(PROJECT)) == from_root


@pytest.mark.parametrize(
    ("override", "unknown", "nearest"),
    [
        ("seeed=3", "seeed", "seed"),
        ("trainig.epochs=3", "trainig", "training"),
        ("training.epohcs=3", "training.epohcs", "training.epochs"),
        ("training.augmentation.flpi=0.1", "training.augmentation.flpi", "training.augmentation.flip"),
        ("models.unet.encodr=resnet18", "models.unet.encodr", "models.unet.encoder"),
        ("models.unet.training.epoch=3", "models.unet.training.epoch", "models.unet.training.epochs"),
        (
            "models.unet.training.augmentation.rotat=3",
            "models.unet.training.augmentation.rotat",
            "models.unet.training.augmentation.rotate",
        ),
        ("data.peoples=3", "data.peoples", "data.people"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_valid_one(tiny, override, unknown, nearest):
    message = message_of(tiny, override)
    assert message == f"{tiny}: unknown setting {unknown!r}; the nearest valid name is {nearest!r}"


@pytest.mark.parametrize(
    ("source", "unknown", "nearest"),
    [
        ("kaggle", "train_cvs", "train_csv"),
        ("easyportrait", "train_split", "train_splits"),
        ("folder", "mask_sufix", "mask_suffix"),
        ("generated", "hight", "heights"),
    ],
)
def test_an_unknown_key_of_a_source_is_compared_with_that_sources_keys(
    tmp_path, write_experiment, source, unknown, nearest
):
    file = write_experiment(tmp_path, data={"source": source, unknown: "x"})
    assert message_of(file) == f"{file}: unknown setting 'data.{unknown}'; the nearest valid name is 'data.{nearest}'"


def test_every_problem_has_a_line_of_its_own(tiny):
    lines = message_of(tiny, "seed=-1", "image.fit=crop", "folds.cuont=3").splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{tiny}: ") for line in lines)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("training.epochs=many", "training.epochs", "'many'"),
        ("training=7", "training", "7"),
        ("image.size=64", "image.size", "64"),
        ("models=unet", "models", "'unet'"),
        ("models.unet=resnet18", "models.unet", "'resnet18'"),
        ("training.epochs=0", "training.epochs", "0"),
        ("training.augmentation.flip=1.5", "training.augmentation.flip", "1.5"),
        ("training.precision=fp8", "training.precision", "'fp8'"),
        ("folds.count=1", "folds.count", "1"),
        ("image.size=[64, 65]", "image.size", "[64, 65]"),
        ("data.heights=[90, 80]", "data.heights", "[90, 80]"),
        ("data.submission_format=kagle", "data.submission_format", "'kagle'"),
        ("models=null", "models", "None"),
        ("seed=null", "seed", "None"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(tiny, override, key, value):
    message = message_of(tiny, override)
    assert message.startswith(f"{tiny}: setting {key!r} is {value}: ")
    assert "\n" not in message


def test_an_unknown_source_is_refused(tiny):
    message = message_of(tiny, "data.source=kagle")
    assert message.startswith(f"{tiny}: ")
    assert "'kaggle', 'easyportrait', 'folder', 'generated'" in message


def test_a_model_may_not_take_the_name_of_an_artifact_folder(tiny):
    assert "a model cannot be called 'ensemble'" in message_of(
        tiny, "models={ensemble: {architecture: Unet, encoder: resnet18}}"
    )


@pytest.mark.parametrize("name", ["../other", "a/b", "/tmp/x", "a\\b", "..", ".hidden", "", "a b"])
def test_a_name_that_could_leave_the_workspace_is_refused(tiny, name):
    assert f"setting 'name' is {name!r}: " in message_of(tiny, f"name={yaml.safe_dump(name)}")


def test_a_model_name_with_a_path_separator_is_refused(tiny):
    assert message_of(tiny, "models={a/b: {architecture: Unet, encoder: resnet18}}").startswith(f"{tiny}: ")


@pytest.mark.parametrize(("section", "key"), [("data", "data"), ("models", "models")])
def test_a_missing_section_is_named(tiny, section, key):
    values = yaml.safe_load(tiny.read_text())
    del values[section]
    tiny.write_text(yaml.safe_dump(values))
    assert message_of(tiny) == f"{tiny}: setting {key!r} is missing"


def test_a_missing_key_is_named(tiny):
    assert (
        message_of(tiny, "models.second={architecture: FPN}") == f"{tiny}: setting 'models.second.encoder' is missing"
    )


@pytest.mark.parametrize("override", ["seed", "=3", ".seed=3", "training..epochs=3", ""])
def test_an_override_without_key_and_value_is_refused(tiny, override):
    assert message_of(tiny, override) == f"--set {override}: expected key.sub=value"


@pytest.mark.parametrize("override", ["image.size=[64", "name=2021-13-45"])
def test_an_override_that_is_not_yaml_is_refused(tiny, override):
    assert message_of(tiny, override) == f"--set {override}: the value is not YAML"


def test_overrides_are_read_as_yaml(tiny):
    experiment = load_experiment(tiny, ["image.size=[32, 96]", "seed=2", "seed=2", "data.root=a=b"])
    assert (experiment.image.size, experiment.seed, experiment.data.root.name) == ((32, 96), 2, "a=b")


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ("seed=1", "seed=2", "seed"),
        ("seed=1", "seed=true", "seed"),
        ("training.epochs=3", "training={batch_size: 4, epochs: 4}", "training.epochs"),
        ("models.unet=null", "models.unet.encoder=resnet34", "models.unet"),
        ("preset=fast", "preset=best", "preset"),
        ("image.size=[64, 64]", "image.size=[64, 96]", "image.size"),
    ],
)
def test_overrides_that_contradict_each_other_are_refused(tiny, first, second, key):
    message = message_of(tiny, "folds.count=2", first, second)
    assert message == f"--set {second}: --set {first} gives {key!r} another value already: keep one of them"


def test_overrides_of_one_section_go_together(tiny):
    experiment = load_experiment(tiny, ["training={epochs: 3, batch_size: 4}", "training.epochs=3", "training.soup=1"])
    assert (experiment.training.epochs, experiment.training.batch_size, experiment.training.soup) == (3, 4, 1)


def test_a_key_that_is_given_twice_ends_the_command_with_both_lines(tmp_path, write_experiment, command_line):
    file = write_experiment(tmp_path, training={"epochs": 1})
    lines = file.read_text().splitlines()
    first = lines.index("training:") + 1
    file.write_text("\n".join([*lines, "training: {epochs: 12}"]) + "\n")
    status, out, err = command_line("prepare", "-e", file)
    assert (status, out) == (1, "")
    assert err == f"error: {file}: the key 'training' is given twice, in lines {first} and {len(lines) + 1}: keep one\n"
    file.write_text("\n".join(lines) + "\n")
    status, out, err = command_line("prepare", "-e", file, "--set", "training={epochs: 1, epochs: 12}")
    assert (status, out) == (1, "")
    assert err == (
        "error: --set training={epochs: 1, epochs: 12}: the key 'epochs' is given twice, in line 1: keep one\n"
    )
    assert not (tmp_path / "kfold").exists()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("training.augmentation.flip=yes", "training.augmentation.flip"),
        ("training.epochs=on", "training.epochs"),
        ("training.workers=true", "training.workers"),
        ("image.size=[yes, 64]", "image.size"),
        ("ensemble.weights={unet: yes}", "ensemble.weights"),
        ("tuning.both_empty=true", "tuning.both_empty"),
        ("models.unet.training.soup=yes", "models.unet.training.soup"),
    ],
)
def test_a_truth_value_is_no_number(tiny, override, key):
    message = message_of(tiny, override)
    assert message.startswith(f"{tiny}: setting {key!r} is ")
    assert "'true'" in message


def test_truth_values_are_taken_where_they_are_asked_for(tiny):
    experiment = load_experiment(tiny, ["prediction.flip=no", "training.compile=on", "models.unet.options={aux: yes}"])
    model = experiment.models["unet"]
    assert (experiment.prediction.flip, model.training.compile, model.options["aux"]) == (False, True, True)


def test_numbers_are_what_they_look_like(tiny):
    assert load_experiment(tiny, ["training.learning_rate=1e-3"]).training.learning_rate == 0.001
    assert load_experiment(tiny, ["models.unet.options={dropout: 1e-1}"]).models["unet"].options == {
        "decoder_channels": [32, 16, 16, 8, 8],
        "dropout": 0.1,
    }
    assert message_of(tiny, "training.epochs=012") == (
        "--set training.epochs=012: line 1: YAML reads 012 as the number 10: write 10, or '012' in quotes for a text"
    )


def test_a_model_inherits_the_shared_training_and_changes_it(tiny):
    experiment = load_experiment(
        tiny,
        [
            "training.epochs=7",
            "training.augmentation.flip=0",
            "models.fpn={architecture: FPN, encoder: resnet18}",
            "models.fpn.training={batch_size: 4, augmentation: {rotate: 3}}",
        ],
    )
    shared, own = experiment.models["unet"].training, experiment.models["fpn"].training
    assert shared == experiment.training
    assert (own.epochs, own.batch_size, own.augmentation.flip, own.augmentation.rotate) == (7, 4, 0, 3)


def test_a_model_is_left_out_by_null(tmp_path, write_experiment):
    network = {"architecture": "Unet", "encoder": "resnet18"}
    path = write_experiment(
        tmp_path, models={"a": network, "b": network}, presets={"quick": {"models": {"b": None, "c": network}}}
    )
    assert list(load_experiment(path).models) == ["a", "b"]
    assert list(load_experiment(path, ["models.a=null"]).models) == ["b"]
    assert list(load_experiment(path, ["preset=quick"]).models) == ["a", "c"]
    with pytest.raises(DataError, match="models"):
        load_experiment(path, ["models.a=null", "models.b=null"])


def test_a_preset_lies_over_the_file_and_under_the_overrides(tmp_path, write_experiment):
    presets = {"fast": {"seed": 5, "training": {"epochs": 2, "batch_size": 4}}, "best": {"seed": 6}}
    file = write_experiment(tmp_path, training={"epochs": 9}, presets=presets)
    assert load_experiment(file).training.epochs == 9
    fast = load_experiment(file, ["training.epochs=3", "preset=fast"])
    assert (fast.name, fast.seed, fast.training.epochs, fast.training.batch_size) == ("tiny-fast", 5, 3, 4)
    assert load_experiment(file, ["preset=best", "name=mine"]).name == "mine"
    assert message_of(file, "preset=fats") == f"{file}: no preset 'fats'; the file has best, fast"


@pytest.mark.parametrize(
    ("presets", "preset", "problem"),
    [
        ({"fast": None}, "[a]", "no preset ['a']; the file has fast"),
        (3, "fast", "presets are a mapping of names to settings, this is int"),
        (["fast"], "fast", "presets are a mapping of names to settings, this is list"),
    ],
)
def test_presets_that_are_none_are_refused(tmp_path, write_experiment, presets, preset, problem):
    file = write_experiment(tmp_path, presets=presets)
    assert message_of(file, f"preset={preset}") == f"{file}: {problem}"


def test_a_preset_without_settings_changes_the_name_alone(tmp_path, write_experiment):
    file = write_experiment(tmp_path, presets={"fast": None})
    named = load_experiment(file).model_copy(update={"name": "tiny-fast"})
    assert load_experiment(file, ["preset=fast"]).model_dump(exclude={"data"}) == named.model_dump(exclude={"data"})


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_saved_settings_are_the_same_settings(tmp_path, file):
    experiment = load_experiment(file, [f"workspace={tmp_path}", "data.root=elsewhere"])
    assert save_settings(experiment)
    assert not save_settings(experiment)
    assert load_experiment(Artifacts.of(experiment).settings) == experiment


def test_relative_folders_become_absolute(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment(tiny, ["workspace=.", "data.root=pictures"])
    assert (experiment.workspace, experiment.data.root) == (tmp_path, tmp_path / "pictures")


@pytest.mark.parametrize("key", ["workspace", "data.root", "weights_dir", "models.unet.weights"])
def test_a_home_folder_that_is_not_there_is_refused(tiny, key):
    message = message_of(tiny, f"{key}=~nosuchuser/x")
    assert message == f"setting {key!r} is '~nosuchuser/x': ~nosuchuser has no home folder; give the whole path"


def test_settings_are_frozen(tiny):
    experiment = load_experiment(tiny)
    with pytest.raises(ValueError, match="frozen"):
        experiment.seed = 1


def test_a_missing_file_is_named(tmp_path):
    assert message_of(tmp_path / "none.yaml").startswith(f"{tmp_path / 'none.yaml'}: no such experiment file")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"- a\n- b\n", "a mapping of settings, this is list"),
        (b"", "this is NoneType"),
        (b"data: [1,\n", "not a YAML file"),
        (b"name: \xff\xfe\n", "not a YAML file"),
        (b"name: \x00\n", "not a YAML file"),
        (b"name: 2021-13-45\n", "not a YAML file"),
    ],
    ids=["list", "empty", "syntax", "encoding", "control character", "date"],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, problem):
    file = tmp_path / "odd.yaml"
    file.write_bytes(content)
    message = message_of(file)
    assert message.startswith(f"{file}: ")
    assert problem in message
    assert "\n" not in message


def test_a_submission_has_the_format_of_the_training_masks_unless_it_is_told_another(tmp_path, write_experiment):
    path = write_experiment(tmp_path, data={"source": "kaggle", "format": "carvana"})
    assert load_experiment(path).data.submission_format == "carvana"
    for fmt in ("kaggle", "coco"):
        assert load_experiment(path, [f"data.submission_format={fmt}"]).data.submission_format == fmt
    assert message_of(path, "data.format=carvanna").startswith(f"{path}: setting 'data.format' is 'carvanna': ")


def test_classes_may_be_numbers(tmp_path, write_experiment):
    path = write_experiment(tmp_path, data={"source": "kaggle"})
    assert load_experiment(path, ["data.classes=[4, 1, x]"]).data.class_names == ("4", "1", "x")
    message = message_of(path, "data.classes=[no, x]")
    assert message == f"{path}: setting 'data.classes' is False: input should be a valid string"


def test_members_are_the_models_or_each_of_their_views(tiny):
    views = ["prediction.views=separate", "prediction.scales=[0.875, 1.0]"]
    second = "models.fpn={architecture: FPN, encoder: resnet18}"
    assert load_experiment(tiny, [second]).members == ("unet", "fpn")
    sizes = ("@0.875", "@0.875-mirrored", "", "@mirrored")
    large = ["image.size=[256, 256]", *views]
    assert load_experiment(tiny, [second, *large]).members == tuple(f"{m}{v}" for m in ("unet", "fpn") for v in sizes)
    assert load_experiment(tiny, [*large, "prediction.flip=false"]).members == ("unet@0.875", "unet")


def test_views_of_one_size_are_no_members_of_their_own(tiny):
    options = ("image.size=[64, 64]", "prediction.scales=[1.0, 1.1]")
    assert load_experiment(tiny, list(options)).members == ("unet",)
    message = message_of(tiny, *options, "prediction.views=separate")
    assert "of prediction.scales [1.0, 1.1] two are the same size" in message
    assert "64 x 64, 64 x 64" in message


def test_weights_are_of_the_members(tiny):
    views = ("image.size=[256, 256]", "prediction.views=separate")
    weights = load_experiment(tiny, [*views, "ensemble.weights={unet: 2, unet@mirrored: 1}"]).ensemble.weights
    assert weights == {"unet": 2, "unet@mirrored": 1}
    message = message_of(tiny, *views, "ensemble.weights={unet: 1}")
    assert "weights need a number for each of unet, unet@mirrored, not all 0" in message
    message = message_of(tiny, "ensemble.weights={unet: 2, unet@mirrored: 1}")
    assert "weights need a number for each of unet, not all 0" in message


@pytest.mark.parametrize("key", ["workspace", "data.root", "weights_dir"])
def test_a_folder_that_no_text_file_can_name_is_one_line(tmp_path, write_experiment, command_line, monkeypatch, key):
    (tmp_path / "\udcff").mkdir()
    experiment = write_experiment(tmp_path)
    monkeypatch.chdir(tmp_path / "\udcff")
    status, out, err = command_line("prepare", "-e", experiment, "--set", f"{key}=.")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"setting {key!r} is '{tmp_path}/\\udcff': its name is no UTF-8 text" in err
    status, out, err = command_line("prepare", "-e", experiment, "--set", f'{key}="a\\0b"')
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"setting {key!r} is 'a\\x00b': embedded null byte" in err


def test_names_that_cannot_be_printed_end_no_command_and_rule_no_terminal(tmp_path):
    (tmp_path / "a\udcff.csv").write_text("id,rle\na,1 3\n")
    (tmp_path / "\x1b[2J.csv").write_text("id,rle\na,3 1 1 1\n")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": "utf-8:strict"}
    words = [sys.executable, "-P", "-m", "pipeline", "lint"]
    done = [
        subprocess.run([*words, name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        for name in ("a\udcff.csv", "\x1b[2J.none")
    ]
    assert (done[0].returncode, done[0].stderr) == (0, "")
    assert "a\\udcff.csv: 1 rows, 0 errors" in done[0].stdout
    assert done[1].returncode != 0
    assert "\x1b" not in done[1].stderr
