"""`vote` through the command line."""

import numpy as np
import pandas as pd
import pytest

from pipeline.rle import decode, encode
from pipeline.stages.vote import read_parts

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


def test_rows_of_one_id_are_united_only_where_that_is_asked_for(command_line, tmp_path):
    rows, output = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("id,rle\na,1 3\na,3 4 10 2\nb,5 1\n")
    whole = tmp_path / "whole.csv"
    whole.write_text("id,rle\nb,5 1\na,2 9\n")
    learning = ("--learn", f"{whole},{whole}", "--truth")
    for words in ((rows, whole), (whole, rows), (whole, whole, *learning, rows)):
        status, out, err = command_line("vote", *words, "-o", output)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"error: {rows}: 1 id has several rows: a (rows 2, 3): give --unite if")
        assert not output.exists()
    assert command_line("vote", rows, whole, "-o", output, "--unite")[0] == 0
    assert output.read_text() == "id,rle\na,2 5 10 1\nb,5 1\n"


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


@pytest.fixture
def known(tmp_path):
    """Twelve images with known truth and two makers of masks, of whom the first is nearly always right: their files."""
    rng = np.random.default_rng(1)
    truth = {f"k{number}": (rng.random((9, 8)) < 0.5).astype(np.uint8) for number in range(12)}
    folder = tmp_path / "known"
    folder.mkdir()

    def write_file(name, masks):
        rows = [f"{image_id},{encode(mask)}" for image_id, mask in masks.items()]
        (folder / name).write_text("\n".join(["image_id,rle", *rows]) + "\n")
        return folder / name

    def predict(right):
        return {image_id: mask ^ (rng.random(mask.shape) > right) for image_id, mask in truth.items()}

    makers = [write_file(f"oof{number}.csv", predict(right)) for number, right in enumerate((0.98, 0.6))]
    return makers, write_file("truth.csv", dict(reversed(truth.items()))), write_file


def test_weights_are_learnt_from_masks_with_known_truth(command_line, masks, write, known, tmp_path):
    files = [write(number, each) for number, each in enumerate(masks[:2])]
    makers, truth, _ = known
    words = ("-o", tmp_path / "out.csv", "--learn", f"{makers[0]},{makers[1]}", "--truth", truth)
    status, out, err = command_line("vote", *files, *words)
    assert (status, err) == (0, "")
    assert "vote: weights learnt on 12 images (exact): 0.csv 1, 1.csv 0" in out
    assert "cross-fitted over 5 random parts" in out
    assert "vote: learning gains +" in out
    assert ": the weights are used" in out
    for name, mask in read(tmp_path / "out.csv").items():
        assert np.array_equal(mask, masks[0][name])


def test_weights_that_gain_nothing_are_not_used(command_line, masks, write, known, tmp_path):
    files = [write(number, each) for number, each in enumerate(masks[:2])]
    makers, truth, _ = known
    words = ("-o", tmp_path / "out.csv", "--learn", f"{makers[0]},{makers[0]}", "--truth", truth)
    out = command_line("vote", *files, *words)[1]
    verdict = "learning gains nothing beyond noise: +0.0000 (95% interval +0.0000 to +0.0000)"
    assert f"vote: {verdict}: all files weigh the same" in out
    for name, mask in read(tmp_path / "out.csv").items():
        assert np.array_equal(mask, masks[0][name] & masks[1][name])


def test_learning_takes_folds_and_checks_ids(command_line, masks, write, known, tmp_path):
    files = [write(number, each) for number, each in enumerate(masks[:2])]
    makers, truth, write_file = known
    folds = tmp_path / "folds.csv"
    learn = ("-o", tmp_path / "out.csv", "--learn", f"{makers[0]},{makers[1]}", "--truth", truth, "--folds", folds)
    folds.write_text("image_id,fold,group\n" + "".join(f"k{n},{n % 3},g{n // 4}\n" for n in range(12)))
    assert "cross-fitted over the folds of folds.csv" in command_line("vote", *files, *learn)[1]
    folds.write_text("image_id,fold,group\n" + "".join(f"k{n},{n % 3},\n" for n in range(12)))
    assert ": the weights are used" in command_line("vote", *files, *learn)[1]
    folds.write_text("image_id,fold\n" + "".join(f"k{n},{n % 3}\n" for n in range(11)))
    message = f"error: {folds}: needs the columns image_id and fold, with a row for k11\n"
    assert command_line("vote", *files, *learn)[::2] == (1, message)
    folds.write_text("image_id,fold\n" + "".join(f"k{n},0\n" for n in range(12)))
    assert "two folds or more" in command_line("vote", *files, *learn)[2]
    write_file("oof1.csv", {"k0": np.ones((9, 8), np.uint8)})
    assert "11 of the 12 ids of truth.csv are missing" in command_line("vote", *files, *learn)[2]


def test_folds_may_have_a_column_of_any_length_and_are_refused_where_a_row_is_not_whole(
    command_line, masks, write, known, tmp_path
):
    files = [write(number, each) for number, each in enumerate(masks[:2])]
    makers, truth, _ = known
    folds = tmp_path / "folds.csv"
    learn = ("-o", tmp_path / "out.csv", "--learn", f"{makers[0]},{makers[1]}", "--truth", truth, "--folds", folds)
    rows = [f"k{number},{number % 3},{'1 1 ' * 50_000}" for number in range(12)]
    folds.write_text("\n".join(["image_id,fold,rle", *rows]) + "\n")
    assert "cross-fitted over the folds of folds.csv" in command_line("vote", *files, *learn)[1]
    for row, problem in (
        (b"k12", "the row in line 14 has other fields than the header"),
        (b"k12,0,,", "the row in line 14 has other fields than the header"),
        (b"k\xe9,0,", "cannot be read as text: 'utf-8' codec can't decode byte 0xe9"),
        (b'k12,0,"1', "the quotes up to line 14 are wrong: unexpected end of data"),
    ):
        folds.write_bytes("\n".join(["image_id,fold,rle", *rows]).encode() + b"\n" + row + b"\n")
        status, out, err = command_line("vote", *files, *learn)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"error: {folds}: {problem}")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (["b", "a", "b", "a", "a"], [0, 1, 0, 1, 1]),
        (["", "", "", "", ""], [0, 1, 2, 3, 3]),
        ([" ", "", "  ", "\t", ""], [0, 1, 2, 3, 3]),
        (["k1", "", "k1", "k3", "k3"], [0, 1, 0, 2, 2]),
    ],
)
def test_an_image_without_a_group_is_one_of_its_own(tmp_path, named, expected):
    """Also where a group has the image's id for a name; the last image has two masks."""
    folds = tmp_path / "folds.csv"
    ids = ["k0", "k1", "k2", "k3", "k3"]
    rows = dict(zip(ids, named, strict=True))
    folds.write_text("image_id,fold,group\n" + "".join(f"{row},{row[1]},{name}\n" for row, name in rows.items()))
    groups = read_parts(folds, ids)[1].tolist()
    assert [list(dict.fromkeys(groups)).index(group) for group in groups] == expected


def test_images_without_anything_weigh_as_they_are_told_to(command_line, masks, write, known, tmp_path):
    """One maker is right about where nothing is, the other about what there is."""
    files = [write(number, each) for number, each in enumerate(masks[:2])]
    write_file = known[2]
    whole, nothing = np.ones((9, 8), np.uint8), np.zeros((9, 8), np.uint8)
    half = np.repeat([[1, 0]], 4, axis=1).astype(np.uint8) * whole
    ids = [f"k{number}" for number in range(12)]
    truth = write_file("truth.csv", {each: nothing if n % 4 else whole for n, each in enumerate(ids)})
    careful = write_file("careful.csv", {each: nothing if n % 4 else half for n, each in enumerate(ids)})
    rash = write_file("rash.csv", dict.fromkeys(ids, whole))
    learn = ("-o", tmp_path / "out.csv", "--learn", f"{careful},{rash}", "--truth", truth)
    told = {rule: command_line("vote", *files, *learn, "--both-empty", rule)[1] for rule in ("1", "0", "nan")}
    assert "0.csv 1, 1.csv 1\nvote: dice 0.9167 cross-fitted" in told["1"]  # of two equal ones only what both say
    assert "0.csv 0, 1.csv 1\nvote: dice 0.2500 cross-fitted" in told["0"]
    assert "0.csv 1, 1.csv 1\nvote: dice 0.6667 cross-fitted" in told["nan"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--learn", "a.csv,b.csv"], "goes with --truth"),
        (["--truth", "t.csv"], "goes with --truth"),
        (["--learn", "a.csv,b.csv", "--truth", "t.csv", "--weights", "1,2"], "not with --weights"),
        (["--learn", "a.csv", "--truth", "t.csv"], "has 1 files for 2 files"),
    ],
)
def test_wrong_usage_of_learning_has_status_2(command_line, masks, write, tmp_path, words, problem):
    file = write(0, masks[0])
    status, out, err = command_line("vote", file, file, "-o", tmp_path / "out.csv", *words)
    assert (status, out) == (2, "")
    assert problem in " ".join(err.replace("│", " ").split())
