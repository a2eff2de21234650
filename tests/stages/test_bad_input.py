"""Wrong data through the command line: status 1, errors that name the culprit, and nothing half-written."""

import numpy as np
import pytest
from PIL import Image

SOURCE = {"source": "kaggle", "group_column": "person"}


@pytest.fixture
def data(competition):
    return competition()


@pytest.fixture
def experiment(tmp_path, write_experiment, data):
    return write_experiment(tmp_path, data={**SOURCE, "root": str(data.root)})


@pytest.fixture
def artifacts(tmp_path):
    """Everything in the experiment's folder but the settings, by name: the content of files, None for folders."""

    def found():
        folder = tmp_path / "kfold" / "tiny"
        return {
            path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
            for path in folder.rglob("*")
            if path.name != "experiment.yaml"
        }

    return found


@pytest.fixture
def refused(command_line, experiment, artifacts):
    """``refused(stage, overrides...) -> error lines`` of a command that must fail and change no artifact."""

    def call(stage, *overrides):
        before = artifacts()
        words = [word for override in overrides for word in ("--set", override)]
        status, out, err = command_line(stage, "-e", experiment, *words)
        assert status == 1
        assert not [line for line in out.splitlines() if not line.startswith("prepare: reading ")]
        assert artifacts() == before
        lines = err.splitlines()
        assert all(line.startswith("error: ") for line in lines)
        return [line.removeprefix("error: ") for line in lines]

    return call


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def test_what_is_right_is_accepted(command_line, experiment, artifacts):
    assert command_line("prepare", "-e", experiment)[::2] == (0, "")
    assert command_line("split", "-e", experiment)[::2] == (0, "")
    assert {"images.csv", "folds.csv", "cache/train_images.npy", "cache/train_masks.npy"} <= set(artifacts())
    assert not [name for name in artifacts() if name.startswith(".")]


def test_data_root_that_is_not_there(refused, tmp_path):
    assert refused("prepare", f"data.root={tmp_path / 'none'}") == [f"data.root: {tmp_path / 'none'} is not a folder"]
    assert refused("prepare", "data.root=null") == [
        "data.root is not set: give the folder of the data set with --set data.root=DIR"
    ]


def test_an_image_without_mask_row(refused, data):
    del data.masks["a3"]
    data.ids["train"].remove("a3")
    data.write_csv()
    advice = " (data.unlisted says what becomes of them)"
    for fmt in ("kaggle", "carvana"):
        message = f"{data.root / 'train.csv'}: 1 of the images have no row: a3{advice}"
        assert refused("prepare", f"data.format={fmt}") == [message]


def test_a_mask_row_without_image(refused, data):
    data.file("train", "a2").unlink()
    for fmt in ("kaggle", "carvana"):
        message = f"{data.root / 'train.csv'}: 1 of the rows have no image: a2"
        assert refused("prepare", f"data.format={fmt}") == [message]


def test_a_test_image_that_the_sample_submission_has_not_and_one_that_is_not_there(
    refused, command_line, experiment, data
):
    data.write("sample_submission.csv", "image_id,rle", "b0,", "b3,")
    assert refused("prepare") == [f"{data.root / 'sample_submission.csv'}: 1 of the rows have no image: b3"]
    data.write("sample_submission.csv", "image_id,rle", "b0,", "b1,")
    status, out, err = command_line("prepare", "-e", experiment)
    assert (status, err) == (0, "")
    assert f"sample_submission.csv lists 2 of the 3 images in {data.root / 'test'}: 1 are left out: b2.jpg" in out


def test_every_truncated_image_is_named(refused, data):
    files = [data.file("train", "a1"), data.file("test", "b2")]
    for file in files:
        cut(file)
    lines = refused("prepare")
    assert len(lines) == 2
    for line, file in zip(lines, files, strict=True):
        assert line.startswith(f"{file}: cannot be decoded: ")


def test_a_text_file_called_jpg(refused, data):
    data.file("train", "a4").write_text("no picture")
    assert refused("prepare") == [f"{data.file('train', 'a4')}: not an image of JPEG, PNG, TIFF, WEBP, GIF or BMP"]


def test_masks_of_another_size(command_line, tmp_path, write_experiment, data):
    for image_id in data.ids["train"]:
        mask = data.masks[image_id] if image_id != "a5" else np.zeros((30, 40), np.uint8)
        Image.fromarray(mask * np.uint8(255)).save(data.root / "train" / f"{image_id}_mask.png")
    experiment = write_experiment(tmp_path, data={"source": "folder", "root": str(data.root)})
    status, out, err = command_line("prepare", "-e", experiment, "--quiet")
    height, width = data.masks["a5"].shape
    assert (status, out) == (1, "")
    assert err == (
        f"error: {data.root / 'train/a5_mask.png'}: the mask is 30 x 40 (height x width), "
        f"the image a5.jpg is {height} x {width}\n"
    )
    assert not (tmp_path / "kfold/tiny/images.csv").exists()


def test_runs_past_the_images_end(refused, data):
    size = data.masks["a0"].size
    data.write_csv(a0=f"{size - 3} 5", a4="999999 1")
    first, second = refused("prepare")
    assert first.startswith(f"{data.root / 'train.csv'}: id a0: a run ends at pixel {size + 1}, past the end of a0.jpg")
    assert second.startswith(f"{data.root / 'train.csv'}: id a4: a run ends at pixel 999999, past the end of a4.jpg")


def test_a_malformed_text_names_its_row(refused, data):
    data.write_csv(a2="1 2 3")
    assert refused("prepare") == [
        f"{data.root / 'train.csv'} row 4 (id a2): token 3 '3': a start without a length (odd number of tokens)"
    ]


@pytest.mark.parametrize("image_id", ["../a0", "sub/a0", "sub\\a0", "..", "a0/../../b"])
def test_ids_that_could_name_another_folder(refused, data, image_id):
    data.write_csv(**{image_id: "1 2"})
    assert refused("prepare") == [f"{data.root / 'train.csv'}: 1 of the rows have no image: {image_id}"]


def test_a_file_name_with_dots_is_no_id(refused, data):
    data.file("train", "a0").rename(data.root / "train" / "a0..b.jpg")
    data.masks["a0..b"] = data.masks.pop("a0")
    data.ids["train"][0] = "a0..b"
    data.write_csv()
    assert refused("prepare") == [f"{data.root}: ids with path separators, '..' or control characters: 'a0..b'"]


def test_an_empty_training_set(refused, data):
    for image_id in data.ids["train"]:
        data.file("train", image_id).unlink()
    data.ids["train"] = []
    data.write_csv()
    assert refused("prepare") == [f"{data.root}: the training set is empty"]


def test_a_missing_training_csv(refused, data):
    (data.root / "train.csv").unlink()
    assert refused("prepare") == [
        f"{data.root / 'train.csv'}: no such file; data.train_csv names the CSV of training masks"
    ]


def test_an_earlier_table_and_its_small_copies_are_kept(refused, command_line, experiment, data, artifacts):
    assert command_line("prepare", "-e", experiment)[0] == 0
    assert "images.csv" in artifacts()
    cut(data.file("train", "a1"))
    assert len(refused("prepare")) == 1


def test_split_before_prepare(refused, tmp_path):
    assert refused("split") == [f"{tmp_path / 'kfold/tiny/images.csv'} is missing: run the stage 'prepare' first"]


def test_fewer_groups_than_folds(refused, command_line, experiment):
    assert command_line("prepare", "-e", experiment)[0] == 0
    assert refused("split", "folds.count=4") == [
        "3 groups of images cannot fill 4 folds: set folds.count to 3 or less, or give more groups"
    ]


def test_folds_without_any_mask(refused, command_line, experiment, data):
    data.write_csv(**(dict.fromkeys(data.ids["train"], "") | {"a0": "1 9", "a1": "1 9"}))
    assert command_line("prepare", "-e", experiment)[0] == 0
    (line,) = refused("split")  # a0 and a1 show one person
    assert line.endswith("has no image with a mask: set folds.count lower, or give more labelled groups")
    (line,) = refused("split", "folds.count=3")
    assert line.startswith("2 images with a mask cannot fill 3 folds")


def test_every_mask_empty(refused, command_line, experiment, data):
    data.write_csv(**dict.fromkeys(data.ids["train"], ""))
    assert "(6 with an empty mask)" in command_line("prepare", "-e", experiment)[1]
    assert refused("split")[0].startswith("0 images with a mask cannot fill 2 folds")


def test_an_unknown_command_and_a_missing_option_are_wrong_usage(command_line):
    for words in (["prepaer"], ["prepare"], ["prepare", "--experiment"], ["split", "--fold", "1"]):
        status, out, err = command_line(*words)
        assert (status, out) == (2, "")
        assert "Error" in err or "Usage" in err
