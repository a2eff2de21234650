import json

import numpy as np
import pytest

from pipeline.rle import encode

SHAPE = (7, 5)
TRUE = np.zeros(SHAPE, np.uint8)
TRUE[1:5, 1:3] = 1
PREDICTED = np.zeros(SHAPE, np.uint8)
PREDICTED[2:6, 1:3] = 1
NONE = np.zeros(SHAPE, np.uint8)


@pytest.fixture
def files(tmp_path):
    """``files(fmt)``: a submission and a truth of three images, in different orders."""

    def write(fmt="kaggle", truth_fmt=None):
        submission, truth = tmp_path / "submission.csv", tmp_path / "truth.csv"
        rows = [f"{i},{encode(mask, fmt)}" for i, mask in (("c", PREDICTED), ("a", PREDICTED), ("b", NONE))]
        submission.write_text("\n".join(["image_id,rle", *rows]) + "\n")
        rows = [f"{i},{encode(mask, truth_fmt or fmt)},7,5" for i, mask in (("a", TRUE), ("b", NONE), ("c", NONE))]
        truth.write_text("\n".join(["image_id,rle,height,width", *rows]) + "\n")
        return submission, truth

    return write


# a: 6 common pixels of 8 and 8; b: both empty; c: a mask where there is none.
EXPECTED = {
    "dice": (12 / 16 + 1 + 0) / 3,
    "iou": (6 / 10 + 1 + 0) / 3,
    "global-dice": 12 / (16 + 8),
}


@pytest.mark.parametrize(
    ("fmt", "truth_fmt"), [("kaggle", None), ("carvana", None), ("sennet", "kaggle"), ("siim", "coco")]
)
def test_json_has_every_metric_joined_by_id(command_line, files, fmt, truth_fmt):
    more = ["--truth-format", truth_fmt] if truth_fmt else []
    status, out, err = command_line("score", *files(fmt, truth_fmt), "--format", fmt, *more, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert (result["metric"], result["n"]) == ("dice", 3)
    assert result["score"] == result["metrics"]["dice"]
    assert result["metrics"] == pytest.approx(EXPECTED)


def test_text_has_a_line_for_each_metric(command_line, files):
    status, out, err = command_line("score", *files())
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "submission.csv: 3 images",
        "  dice         0.583333",
        "  iou          0.533333",
        "  global-dice  0.500000",
    ]


def test_the_truth_itself_is_perfect(command_line, files):
    truth = files()[1]
    assert json.loads(command_line("score", truth, truth, "--json")[1])["metrics"] == dict.fromkeys(EXPECTED, 1.0)


def test_columns_of_any_name(command_line, files):
    submission, truth = files()
    submission.write_text(submission.read_text().replace("image_id,rle", "key,runs"))
    truth.write_text(truth.read_text().replace("image_id,rle", "name,answer"))
    words = ["--columns", "key,runs", "--truth-columns", "name,answer", "--json"]
    assert json.loads(command_line("score", submission, truth, *words)[1])["metrics"] == pytest.approx(EXPECTED)


@pytest.mark.parametrize("columns", ["key", "a,b,c", "a,"])
def test_columns_that_are_no_pair_are_wrong_usage(command_line, files, columns):
    status, out, err = command_line("score", *files(), "--columns", columns)
    assert (status, out) == (2, "")
    assert "--columns takes two column names, ID,RLE" in err


def replace_in(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("b,\n", "", "submission.csv: 1 of the 3 ids of truth.csv are missing: b"),
        ("b,\n", "b,\nd,\n", "submission.csv: 1 ids are not in truth.csv: d"),
        ("b,\n", "b,1 2 3\n", "submission.csv row 4 (id b): token 3 '3': a start without a length"),
        ("b,\n", "b,30 9\n", "submission.csv row 4 (id b): token 2 '9': run ends at pixel 38, the image 7x5 has 35"),
        ("b,\n", "b,5 x\n", "submission.csv row 4 (id b): token 2 'x': not a whole number"),
        ("image_id,rle", "rle", "submission.csv: the first line must name an id and an RLE column"),
    ],
)
def test_a_wrong_submission_is_one_clear_error(command_line, files, old, new, problem):
    submission, truth = files()
    replace_in(submission, old, new)
    status, out, err = command_line("score", submission, truth)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert problem in err
    assert err.count("\n") == 1


def test_many_ids_are_abbreviated(command_line, files):
    submission, truth = files()
    with submission.open("a") as file:
        file.writelines(f"x{number},\n" for number in range(1000))
    assert command_line("score", submission, truth)[2].endswith(
        "1000 ids are not in truth.csv: x0, x1, x2, x3, x4 and 995 more\n"
    )


def test_a_missing_file_and_a_truth_without_rows_are_named(command_line, files, tmp_path):
    submission, truth = files()
    assert command_line("score", tmp_path / "none.csv", truth)[::2] == (
        1,
        f"error: {tmp_path / 'none.csv'}: no such file\n",
    )
    for file in (submission, truth):
        file.write_text("image_id,rle\n")
    assert command_line("score", submission, truth)[::2] == (1, f"error: {truth}: has no rows\n")


def test_row_major_runs_without_sizes_are_refused(command_line, files):
    submission, truth = files("carvana")
    truth.write_text("\n".join(line.rsplit(",", 2)[0] for line in truth.read_text().splitlines()) + "\n")
    status, _, err = command_line("score", submission, truth, "--format", "carvana")
    assert status == 1
    assert err == "error: truth.csv row 2 (id a): format carvana needs the image's shape (height, width)\n"


def test_score_starts_without_torch_and_pandas(python, files):
    result = python("-X", "importtime", "-m", "pipeline", "score", *files(), "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["metrics"] == pytest.approx(EXPECTED)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert {"numpy", "numba", "pipeline"} <= imported
    assert not {"torch", "pandas", "cv2", "zarr", "sklearn"} & imported
