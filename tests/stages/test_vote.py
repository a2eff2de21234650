"""`vote` through the command line."""

import numpy as np
import pandas as pd
import pytest

from pipeline.rle import decode, encode

SHAPES = {"a": (7, 5), "b": (6, 9), "c": (4, 4)}


@pytest.fixture
def masks():
    """Three submissions' masks by id: uint8 (H, W)."""
    rng = np.random.default_rng(0)
    return [{name: (rng.random(shape) < 0.5).astype(np.uint8) for name, shape in SHAPES.items()} for _ in range(3)]


@pytest.fixture
def write(tmp_path):
    def write(number, masks, fmt="kaggle", header="image_id,rle"):
        path = tmp_path / f"{number}.csv"
        rows = [f"{name},{encode(mask, fmt)}" for name, mask in masks.items()]
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def read(path, fmt="kaggle"):
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return {name: decode(text, SHAPES[name], fmt) for name, text in table.to_numpy()}


@pytest.mark.parametrize("fmt", ["kaggle", "carvana", "siim", "contrails"])
def test_the_majority_of_each_pixel_wins_in_every_format(command_line, masks, write, tmp_path, fmt):
    files = [write(number, each, fmt) for number, each in enumerate(masks)]
    status, out, err = command_line("vote", *files, "-o", tmp_path / "out.csv", "--format", fmt)
    assert (status, err) == (0, "")
    assert out.startswith("vote: 3 rows of 3 files in ")
    for name, mask in read(tmp_path / "out.csv", fmt).items():
        assert np.array_equal(mask, sum(each[name] for each in masks) >= 2)


def test_weights_may_outvote_the_others_and_a_tie_is_background(command_line, masks, write, tmp_path):
    files = [write(number, each) for number, each in enumerate(masks)]
    command_line("vote", *files, "-o", tmp_path / "first.csv", "--weights", "0.6,0.2,0.2")
    command_line("vote", *files, "-o", tmp_path / "tie.csv", "--weights", "0.5,0.25,0.25")
    for name, mask in read(tmp_path / "first.csv").items():
        assert np.array_equal(mask, masks[0][name])
    for name, mask in read(tmp_path / "tie.csv").items():
        assert np.array_equal(mask, masks[0][name] & (masks[1][name] | masks[2][name]))


def test_rows_and_columns_are_as_in_the_first_file(command_line, masks, write, tmp_path):
    first = write(0, masks[0], header="img,EncodedPixels")
    other = write(1, dict(reversed(masks[1].items())))
    assert command_line("vote", first, other, "-o", tmp_path / "out.csv")[0] == 0
    table = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert table.columns.tolist() == ["img", "EncodedPixels"]
    assert table["img"].tolist() == list(SHAPES)


def test_small_masks_become_empty(command_line, masks, write, tmp_path):
    masks[0]["c"][:] = 0
    masks[0]["c"][1, 1:3] = 1
    file = write(0, masks[0])
    for least, left in ((2, 2), (3, 0)):
        command_line("vote", file, file, "-o", tmp_path / "out.csv", "--min-area", least)
        assert read(tmp_path / "out.csv")["c"].sum() == left


def test_files_with_other_ids_are_refused_and_nothing_is_written(command_line, masks, write, tmp_path):
    first = write(0, masks[0])
    missing = write(1, {name: masks[1][name] for name in "ab"})
    status, out, err = command_line("vote", first, missing, "-o", tmp_path / "out.csv")
    assert (status, out, err) == (1, "", f"error: {missing}: 1 of the 3 ids of 0.csv are missing: c\n")
    status, _, err = command_line("vote", missing, first, "-o", tmp_path / "out.csv")
    assert (status, err) == (1, f"error: {first}: 1 ids are not in 1.csv: c\n")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--weights", "1"], "has 1 weights for 2 files"),
        (["--weights", "1,x"], "takes numbers"),
        (["--min-area", "-1"], "'--min-area'"),
    ],
)
def test_wrong_usage_has_status_2(command_line, masks, write, tmp_path, words, problem):
    file = write(0, masks[0])
    status, out, err = command_line("vote", file, file, "-o", tmp_path / "out.csv", *words)
    assert (status, out) == (2, "")
    assert problem in err


def test_weights_that_are_all_zero_and_counts_are_wrong_data(command_line, masks, write, tmp_path):
    file = write(0, masks[0])
    status, _, err = command_line("vote", file, file, "-o", tmp_path / "out.csv", "--weights", "0,0")
    assert (status, err.count("\n")) == (1, 1)
    assert "weights must not be negative, nor all 0" in err
    assert "starts and lengths" in command_line("vote", file, file, "-o", "x.csv", "--format", "coco")[2]


def test_vote_starts_without_torch_and_pandas(python, masks, write, tmp_path):
    file = write(0, masks[0])
    result = python("-X", "importtime", "-m", "pipeline", "vote", file, file, "-o", tmp_path / "out.csv")
    assert result.returncode == 0
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert not {"torch", "pandas", "cv2", "zarr", "sklearn"} & imported
