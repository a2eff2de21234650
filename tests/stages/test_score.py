import json

import numpy as np
import pytest
from PIL import Image

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
    "fbeta": (1.25 * 6 / (0.25 * 8 + 8) + 1 + 0) / 3,
    "precision": (6 / 8 + 1 + 0) / 3,
    "recall": (6 / 8 + 1 + 0) / 3,
    "tgs-map": (2 / 10 + 1 + 0) / 3,  # an IoU of 0.6 exceeds 0.50 and 0.55
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


def test_objects_in_rows_of_their_own_are_united_only_where_that_is_asked_for(command_line, tmp_path):
    """A competition that matches objects says 0 here: of two ships that touch, one is submitted."""
    truth, whole, parts = (tmp_path / name for name in ("truth.csv", "whole.csv", "parts.csv"))
    truth.write_text("ImageId,EncodedPixels\na,1 10\na,11 10\nb,\n")
    whole.write_text("ImageId,EncodedPixels\na,1 20\nb,\n")
    parts.write_text("ImageId,EncodedPixels\nb,\na,1 5\na,6 15\n")
    for submission, wrong, option in ((whole, truth, "--truth-columns"), (parts, truth, "--truth-columns")):
        status, out, err = command_line("score", submission, truth)
        assert (status, out) == (1, "")
        assert err == (
            f"error: {wrong}: 1 id has several rows: a (rows 2, 3): give --unite if an id's rows are parts of one "
            f"mask, {option} if the ids are in another column, --class-column if rows are of several classes\n"
        )
    for words in ((parts, whole), (whole, whole, "--compare", parts)):
        status, _, err = command_line("score", *words)
        assert status == 1
        assert err.startswith(f"error: {parts}: 1 id has several rows: a (rows 3, 4): give --unite if")
        assert "--columns if" in err
    result = json.loads(command_line("score", parts, truth, "--compare", whole, "--unite", "--json")[1])
    assert (result["score"], result["n"], result["compare"]["difference"]) == (1.0, 2, 0.0)


@pytest.mark.parametrize("size", ["", ",1,4294967295"])
def test_counts_that_no_image_has_are_one_line(command_line, tmp_path, size):
    path = tmp_path / "counts.csv"
    path.write_text("id,rle" + ",height,width" * bool(size) + f"\na,0 5 {4294967295 if not size else 1}{size}\n")
    status, out, err = command_line("score", path, path, "--format", "coco-counts")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"{path} row 2 (id a): counts add up to " in err


def test_text_has_a_line_for_each_metric(command_line, files):
    status, out, err = command_line("score", *files())
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "submission.csv: 3 images",
        "  dice         0.583333   95% interval 0.000000 to 1.000000",
        "  iou          0.533333",
        "  global-dice  0.500000",
        "  fbeta        0.583333",
        "  precision    0.583333",
        "  recall       0.583333",
        "  tgs-map      0.400000",
        "worst: c 0.0000, a 0.7500, b 1.0000",
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


@pytest.mark.parametrize("columns", ["key", "a,b,c", "a,", "rle,rle"])
def test_columns_that_are_no_pair_are_wrong_usage(command_line, files, columns):
    status, out, err = command_line("score", *files(), "--columns", columns)
    assert (status, out) == (2, "")
    assert "--columns takes two column names with a comma between them" in err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("--class-column", "image_id"),
            "ids, classes and RLE texts cannot be in the same column: image_id, image_id, rle",
        ),
        (("--class-column", "rle"), "ids, classes and RLE texts cannot be in the same column: image_id, rle, rle"),
    ],
)
def test_one_column_is_one_thing(command_line, files, words, problem):
    status, out, err = command_line("score", *files(), *words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert problem in err


def replace_in(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("b,\n", "", "submission.csv: 1 of the 3 ids of truth.csv are missing: b"),
        ("b,\n", "b,\nd,\n", "submission.csv: 1 ids are not in truth.csv: d"),
        ("b,\n", "d,\n", "submission.csv: 1 of the 3 ids of truth.csv are missing: b; 1 ids are not in truth.csv: d"),
        ("b,\n", "b ,\n", "are missing: b; 1 ids are not in truth.csv: 'b '"),
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
    assert err == (
        f"error: {truth} row 2 (id a): format carvana needs the image's shape (height, width): "
        "give --shape, --size-columns or --images\n"
    )


def test_score_starts_without_torch_and_pandas(python, files):
    result = python("-X", "importtime", "-m", "pipeline", "score", *files(), "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["metrics"] == pytest.approx(EXPECTED)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert {"numpy", "numba", "pipeline"} <= imported
    assert not {"torch", "pandas", "cv2", "zarr", "sklearn"} & imported


def test_the_headline_and_its_rule_for_empty_images_are_a_choice(command_line, files):
    words = ["--metric", "iou", "--both-empty", "nan", "--json"]
    result = json.loads(command_line("score", *files(), *words)[1])
    assert (result["metric"], result["n"]) == ("iou", 3)
    assert result["score"] == result["metrics"]["iou"] == pytest.approx((6 / 10 + 0) / 2)
    low, high = result["ci95"]
    assert low == 0 <= result["score"] <= high == pytest.approx(6 / 10)


def test_beta_weighs_recall(command_line, files):
    submission, truth = files()
    replace_in(submission, f"a,{encode(PREDICTED)}", f"a,{encode(PREDICTED & TRUE)}")  # 6 pixels, all of them right
    metrics = json.loads(command_line("score", submission, truth, "--beta", 2, "--json")[1])["metrics"]
    assert metrics["precision"] == pytest.approx((1 + 1 + 0) / 3)
    assert metrics["fbeta"] == pytest.approx((5 * 6 / (4 * 8 + 6) + 1 + 0) / 3)


def test_json_has_null_where_no_image_counts(command_line, files):
    submission, truth = files()
    for file in (submission, truth):
        file.write_text("image_id,rle\na,\nb,\n")
    status, out, _ = command_line("score", submission, truth, "--both-empty", "nan", "--json")
    assert status == 0
    result = json.loads(out, parse_constant=pytest.fail)
    assert (result["score"], result["ci95"]) == (None, [None, None])


def test_the_seed_decides_the_interval(command_line, tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.random((2, 30, 9, 9)) < 0.5
    for name, rows in zip(("submission", "truth"), masks, strict=True):
        lines = [f"{number},{encode(mask)}" for number, mask in enumerate(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,rle", *lines]) + "\n")

    def ci95(*words):
        paths = [tmp_path / "submission.csv", tmp_path / "truth.csv"]
        return json.loads(command_line("score", *paths, "--json", *words)[1])["ci95"]

    assert ci95() == ci95("--seed", 0) != ci95("--seed", 1)


def test_images_are_listed_worst_first(command_line, files, tmp_path):
    listed = tmp_path / "images.csv"
    assert command_line("score", *files(), "--metric", "tgs-map", "--per-image", listed)[0] == 0
    assert listed.read_text().splitlines() == [
        "id,dice,iou,tgs-map,intersection,predicted,true",
        "c,0.0,0.0,0.0,0,8,0",
        "a,0.75,0.6,0.2,6,8,8",
        "b,1.0,1.0,1.0,0,0,0",
    ]
    assert command_line("score", *files(), "--both-empty", "nan", "--per-image", listed)[0] == 0
    assert listed.read_text().splitlines()[0] == "id,dice,iou,intersection,predicted,true"
    assert listed.read_text().splitlines()[-1] == "b,,,0,0,0"


def test_two_submissions_are_compared_image_by_image(command_line, files, tmp_path):
    submission, truth = files()
    other = tmp_path / "other.csv"
    other.write_text(f"image_id,rle\na,{encode(PREDICTED)}\nb,1 2\nc,1 3\n")
    result = json.loads(command_line("score", submission, truth, "--compare", other, "--json")[1])
    comparison = result["compare"]
    assert comparison["score"] == pytest.approx(0.75 / 3)
    assert comparison["difference"] == pytest.approx(result["score"] - 0.75 / 3)
    assert [comparison[share] for share in ("better", "worse", "equal")] == pytest.approx([1 / 3, 0, 2 / 3])
    assert comparison["ci95"] == pytest.approx([0, 1])
    out = command_line("score", submission, truth, "--compare", other)[1]
    assert "against other.csv (0.250000):\n  difference   +0.333333   95% interval" in out
    assert out.endswith("  images       33.3% better, 0.0% worse, 66.7% equal\n")


def test_sizes_come_from_the_columns_or_the_shape_that_are_named(command_line, files):
    submission, truth = files("carvana")
    replace_in(truth, "height,width", "down,across")
    for words in (["--size-columns", "down,across"], ["--shape", 7, 5]):
        out = command_line("score", submission, truth, "--format", "carvana", *words, "--json")[1]
        assert json.loads(out)["metrics"] == pytest.approx(EXPECTED)
    status, _, err = command_line("score", submission, truth, "--shape", 7, 5, "--size-columns", "down,across")
    assert (status, err) == (1, "error: sizes can come from one place only, not from --shape and --size-columns\n")


def test_sizes_come_from_the_images(command_line, files, tmp_path):
    submission, truth = files("carvana")
    replace_in(truth, "height,width", "h_,w_")
    folder = tmp_path / "images"
    folder.mkdir()
    for image_id in "ab":
        Image.new("L", (5, 7)).save(folder / f"{image_id}.png")
    status, _, err = command_line("score", truth, truth, "--images", folder)
    assert (status, err) == (1, f"error: {truth}: 1 ids have no image in {folder}: c\n")
    words = ["--format", "carvana", "--images", folder, "--json"]
    Image.new("L", (5, 7)).save(folder / "c.png")
    out = command_line("score", submission, truth, *words)[1]
    assert json.loads(out)["metrics"] == pytest.approx(EXPECTED)


@pytest.mark.parametrize(
    "words", [["--metric", "auc"], ["--both-empty", "2"], ["--beta", "-1"], ["--beta", "inf"], ["--seed", "-1"]]
)
def test_settings_out_of_range_are_wrong_usage(command_line, files, words):
    status, out, err = command_line("score", *files(), *words)
    assert (status, out) == (2, "")
    assert words[0] in err
