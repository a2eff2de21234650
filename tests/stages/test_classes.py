"""Files with a column of classes through the command line: `score`, `vote`, `convert` and `lint`."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.rle import decode, encode, from_edges, read_csv

SHAPES = {"u1": (7, 5), "u2": (6, 9), "u3": (5, 5)}
CLASSES = ("large", "small")
HEADER = "id,class,segmentation"


@pytest.fixture
def masks():
    """Three files' masks by (image, class): uint8 (H, W); one is empty in all."""
    rng = np.random.default_rng(0)
    files = [
        {(i, c): (rng.random(shape) < 0.5).astype(np.uint8) for i, shape in SHAPES.items() for c in CLASSES}
        for _ in range(3)
    ]
    for file in files:
        file["u3", "small"][:] = 0
    return files


@pytest.fixture
def write(tmp_path):
    def write(name, masks, header=HEADER, sized=False):
        path = tmp_path / f"{name}.csv"
        lines = [header + ",height,width" * sized]
        for (image, class_name), mask in masks.items():
            lines.append(f"{image},{class_name},{encode(mask)}" + f",{mask.shape[0]},{mask.shape[1]}" * sized)
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def dice(a, b):
    return 2 * int((a & b).sum()) / int(a.sum() + b.sum()) if (a | b).any() else 1.0


def test_score_is_the_mean_over_images_and_classes(command_line, masks, write):
    truth = write("truth", masks[0], sized=True)
    submission = write("submission", dict(reversed(masks[1].items())), "ImageId,ClassId,EncodedPixels")
    status, out, err = command_line("score", submission, truth, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    values = {key: dice(mask, masks[1][key]) for key, mask in masks[0].items()}
    assert (result["n"], result["images"]) == (6, 3)
    assert result["score"] == pytest.approx(np.mean(list(values.values())))
    assert list(result["classes"]) == list(CLASSES)
    for name, metrics in result["classes"].items():
        assert list(metrics) == list(result["metrics"])
        assert metrics["dice"] == pytest.approx(np.mean([values[i, name] for i in SHAPES]))


def test_the_text_has_a_table_of_classes(command_line, masks, write):
    truth = write("truth", masks[0])
    out = command_line("score", write("submission", masks[0]), truth, "--compare", write("other", masks[1]))[1]
    lines = out.splitlines()
    assert lines[0] == "submission.csv: 6 rows of 3 images and 2 classes"
    table = lines.index(next(line for line in lines if line.startswith("class ")))
    assert lines[table].split()[1:4] == ["dice", "iou", "global-dice"]
    assert [line.split() for line in lines[table + 1 : table + 3]] == [[name, *["1.000000"] * 7] for name in CLASSES]
    assert lines[-1] == "  rows         83.3% better, 0.0% worse, 16.7% equal"


def test_the_interval_draws_images_not_rows(command_line, tmp_path):
    """Ten classes that are right or wrong together, by image: the rows alone would look ten times as many."""
    lines = [f"{image},{name},{{}}" for image in range(20) for name in range(10)]
    truth, submission = tmp_path / "truth.csv", tmp_path / "submission.csv"
    truth.write_text("\n".join(["id,class,rle", *(line.format("1 2") for line in lines)]) + "\n")
    texts = ["1 2" if row // 10 % 2 else "5 2" for row in range(200)]
    rows = [line.format(text) for line, text in zip(lines, texts, strict=True)]
    submission.write_text("\n".join(["id,class,rle", *rows]) + "\n")
    low, high = json.loads(command_line("score", submission, truth, "--json")[1])["ci95"]
    assert (low, high) == pytest.approx((0.3, 0.7), abs=0.051)  # of 20 images; of 200 rows: 0.43 to 0.57


def test_rows_of_images_and_classes_are_listed_worst_first(command_line, masks, write, tmp_path):
    listed = tmp_path / "rows.csv"
    command_line("score", write("a", masks[0]), write("b", masks[1]), "--per-image", listed)
    lines = [line.split(",") for line in listed.read_text().splitlines()]
    assert lines[0] == ["id", "class", "dice", "iou", "intersection", "predicted", "true"]
    assert lines[-1] == ["u3", "small", "1.0", "1.0", "0", "0", "0"]
    for image, name, value, *_ in lines[1:]:
        assert float(value) == pytest.approx(dice(masks[0][image, name], masks[1][image, name]))
    assert sorted(lines[1:], key=lambda fields: float(fields[2])) == lines[1:]


def test_sizes_of_the_truth_are_those_of_its_images(command_line, masks, write):
    truth, submission = write("truth", masks[0], sized=True), write("submission", masks[0])
    submission.write_text(submission.read_text().replace("u2,small,", "u2,small,1 1 54 2 ", 1))
    status, _, err = command_line("score", submission, truth)
    assert status == 1
    assert "submission.csv row 5 (id u2/small): token 4 '2': run ends at pixel 55, the image 6x9 has 54 pixels" in err


def test_classes_in_one_file_only_are_refused_or_ignored(command_line, masks, write, tmp_path):
    truth = write("truth", masks[0])
    plain = tmp_path / "plain.csv"
    united = {i: masks[0][i, "large"] | masks[0][i, "small"] for i in SHAPES}
    plain.write_text("\n".join(["id,rle", *(f"{i},{encode(mask)}" for i, mask in united.items())]) + "\n")
    for files, lacking, having in (((plain, truth), plain, "truth.csv"), ((truth, plain), plain, "truth.csv")):
        status, _, err = command_line("score", *files)
        assert (status, err) == (
            1,
            f"error: {lacking}: has no column of classes, {having} has 'class': "
            "write a row for each image and class, or give --class-column none\n",
        )
    status, _, err = command_line("score", plain, truth, "--class-column", "none", "--json")
    assert status == 1
    assert f"{truth}: 3 ids have several rows: u1 (rows 2, 3), " in err
    assert "; no two rows have the same id and 'class': give --unite if" in err
    out = command_line("score", plain, truth, "--class-column", "none", "--unite", "--json")[1]
    assert (json.loads(out)["score"], json.loads(out)["n"]) == (1.0, 3)


def test_a_column_of_classes_of_any_name(command_line, masks, write):
    truth, submission = write("truth", masks[0]), write("submission", masks[1], "id,organ,rle")
    assert command_line("score", submission, truth)[0] == 1
    out = command_line("score", submission, truth, "--class-column", "organ", "--json")[1]
    assert json.loads(out)["n"] == 6
    status, _, err = command_line("score", submission, truth, "--class-column", "tissue")
    assert (status, err) == (1, f"error: --class-column tissue: no such column in {truth}, {submission}\n")


def test_masks_in_a_column_with_a_name_of_classes(command_line, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,note,label\na,x,1 3\nb,y,\n")
    out = command_line("score", path, path, "--columns", "id,label", "--truth-columns", "id,label", "--json")[1]
    assert json.loads(out)["n"] == 2
    assert "classes" not in json.loads(out)
    for words in (["vote", path, path], ["convert", path]):
        assert command_line(*words, "-o", tmp_path / "out.csv", "--columns", "id,label")[0] == 0
        assert (tmp_path / "out.csv").read_text() == "id,label\na,1 3\nb,\n"


def test_a_missing_class_of_an_image_is_an_error(command_line, masks, write):
    truth = write("truth", masks[0])
    del masks[1]["u2", "large"]
    status, _, err = command_line("score", write("submission", masks[1]), truth)
    assert status == 1
    assert err.endswith("submission.csv: 1 of the 6 ids of truth.csv are missing: u2/large\n")


def test_vote_blends_each_class(command_line, masks, write, tmp_path):
    files = [write(number, dict(sorted(file.items(), reverse=number == 1))) for number, file in enumerate(masks)]
    output = tmp_path / "blend.csv"
    status, _, err = command_line("vote", *files, "-o", output)
    assert (status, err) == (0, "")
    lines = [line.split(",") for line in output.read_text().splitlines()]
    assert lines[0] == HEADER.split(",")
    assert [(image, name) for image, name, _ in lines[1:]] == list(masks[0])
    for image, name, text in lines[1:]:
        majority = sum(file[image, name] for file in masks) >= 2
        assert np.array_equal(decode(text, SHAPES[image]), majority)


@pytest.mark.parametrize("weights", [(), ("--weights", "0.5,0.3,0.2")])
def test_vote_of_classes_that_exclude_each_other_keeps_them_apart(command_line, write, tmp_path, weights):
    rng = np.random.default_rng(1)
    labels = [{image: rng.choice(3, shape, p=[0.2, 0.4, 0.4]) for image, shape in SHAPES.items()} for _ in range(3)]
    files = [
        write(k, {(i, c): (label == n).astype(np.uint8) for i, label in file.items() for n, c in enumerate(CLASSES, 1)})
        for k, file in enumerate(labels)
    ]
    assert command_line("vote", *files, "-o", tmp_path / "blend.csv", *weights)[0] == 0
    blend = read_csv(tmp_path / "blend.csv", class_column="class")
    large, small = ({i: from_edges(blend[blend.ids.index(f"{i}/{c}")], SHAPES[i]) for i in SHAPES} for c in CLASSES)
    assert all(large[image].any() and small[image].any() for image in SHAPES)
    assert not any((large[image] & small[image]).any() for image in SHAPES)


def test_vote_learns_from_the_masks_of_all_classes(command_line, masks, write, tmp_path):
    files = [write(number, file) for number, file in enumerate(masks)]
    learn = ("--learn", f"{files[0]},{files[1]}", "--truth", files[2])
    out = command_line("vote", files[0], files[1], "-o", tmp_path / "blend.csv", *learn)[1]
    assert "vote: weights learnt on 6 masks (" in out


def test_convert_goes_to_other_formats_and_to_a_folder_for_each_class_and_back(command_line, masks, write, tmp_path):
    source, other = write("source", masks[0], sized=True), tmp_path / "other.csv"
    assert command_line("convert", source, "-o", other, "--to", "carvana")[0] == 0
    assert other.read_text().splitlines()[:2] == [HEADER, f"u1,large,{encode(masks[0]['u1', 'large'], 'carvana')}"]
    assert command_line("convert", source, "-o", tmp_path / "pngs")[0] == 0
    assert sorted(path.name for path in (tmp_path / "pngs").iterdir()) == list(CLASSES)
    for (image, name), mask in masks[0].items():
        assert np.array_equal(np.asarray(Image.open(tmp_path / "pngs" / name / f"{image}.png")), 255 * mask)
    again = tmp_path / "again.csv"
    assert command_line("convert", tmp_path / "pngs", "-o", again)[:2] == (
        0,
        f"convert: 6 masks (1 empty) in {again}\n",
    )
    tables = read_csv(again, class_column="class"), read_csv(source, class_column="class")
    assert tables[0].ids == tables[1].ids
    assert np.array_equal(tables[0].edges, tables[1].edges)
    assert command_line("convert", source, "-o", tmp_path / "united.csv", "--class-column", "none", "--unite")[0] == 0
    assert len((tmp_path / "united.csv").read_text().splitlines()) == 1 + len(SHAPES)


@pytest.mark.parametrize("name", ["..", "a\\b"])
def test_classes_that_are_no_folder_names_are_refused(command_line, tmp_path, name):
    source = tmp_path / "in.csv"
    source.write_text(f"id,class,rle\na,{name},1 3\n")
    status, _, err = command_line("convert", source, "-o", tmp_path / "pngs", "--shape", 4, 4)
    assert status == 1
    assert "cannot be file names" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv"]


def test_lint_checks_and_fixes_each_class(command_line, masks, write, tmp_path):
    sample = write("sample", {key: np.zeros(1, np.uint8)[:, None] for key in masks[0]}, "id,class,predicted")
    submission = write("submission", dict(reversed(masks[0].items())))
    assert command_line("lint", submission, "--json")[0] == 0
    broken = submission.read_text().replace(f"u2,small,{encode(masks[0]['u2', 'small'])}\n", "")
    submission.write_text(broken + "u9,small,\n")
    status, out, _ = command_line("lint", submission, "--sample", sample, "--json")
    assert status == 1
    assert [(finding["what"], finding["evidence"]) for finding in json.loads(out)["findings"]] == [
        ("the columns are id, class, segmentation", "the sample has id, class, predicted"),
        ("1 of the sample's 6 ids are missing", "u2/small"),
        ("1 ids are not in the sample", "u9/small"),
    ]
    fixed = tmp_path / "fixed.csv"
    status, _, err = command_line("lint", submission, "--sample", sample, "--fix", fixed)
    assert (status, "u9/small" in err, fixed.exists()) == (1, True, False)  # its row would be lost
    submission.write_text(broken)
    assert command_line("lint", submission, "--sample", sample, "--fix", fixed)[0] == 0
    masks[0]["u2", "small"][:] = 0
    assert fixed.read_text() == write("expected", masks[0], "id,class,predicted").read_text()


def test_lint_finds_the_sizes_of_images_in_a_folder(command_line, masks, write, tmp_path):
    submission = write("submission", masks[0])
    submission.write_text(submission.read_text().replace("u1,large,", "u1,large,35 2 ", 1))
    folder = tmp_path / "images"
    folder.mkdir()
    for image, shape in SHAPES.items():
        Image.new("L", shape[::-1]).save(folder / f"{image}.png")
    out = command_line("lint", submission, "--images", folder)[1]
    assert (
        "error: run ends at pixel 36, the image 7x5 has 35 pixels\n  evidence: row 2 (id u1/large): token 2 '2'\n"
        in out
    )
