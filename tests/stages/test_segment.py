import shutil
import unicodedata

import imagecodecs
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.artifacts import read_json, write_json
from pipeline.config import load_experiment
from pipeline.data.image_range import reading_of
from pipeline.data.images import UPRIGHT
from pipeline.rle import decode
from pipeline.stages.segment import read_all


def test_test_images_get_the_masks_of_the_submission(finished, tmp_path, command_line):
    artifacts, experiment, photographs = finished
    words = ("segment", "--experiment", experiment, photographs, "-o", tmp_path, "--csv", tmp_path / "rows.csv")
    status, out, err = command_line(*words)
    assert status == 0, err
    rows, submission = (
        pd.read_csv(path, dtype=str, keep_default_na=False).set_index("image_id")["rle"]
        for path in (tmp_path / "rows.csv", artifacts.submission)
    )
    assert rows.sort_index().equals(submission.sort_index())
    for path in photographs.iterdir():
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{path.stem}.png"))
        assert np.array_equal(mask, 255 * decode(submission[path.stem], mask.shape))
        with Image.open(path) as image, Image.open(tmp_path / "overlays" / f"{path.stem}.jpg") as overlay:
            assert image.size == overlay.size == mask.shape[::-1]
    assert f"{len(rows)} photographs" in out


def test_a_broken_photograph_is_named_and_the_others_are_done(finished, tmp_path, command_line):
    _, experiment, photographs = finished
    good = sorted(photographs.iterdir())[0]
    (tmp_path / "broken.jpg").write_bytes(good.read_bytes()[:200])
    words = ("segment", "--experiment", experiment, good, tmp_path / "broken.jpg", "-o", tmp_path / "out")
    status, _, err = command_line(*words, "--no-overlays", "--folds", 1)
    assert status == 1
    assert "broken.jpg" in err
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == [f"{good.stem}.png"]


def test_a_sample_submission_gives_order_columns_and_empty_masks(finished, tmp_path, command_line):
    artifacts, experiment, photographs = finished
    submission = pd.read_csv(artifacts.submission, dtype=str, keep_default_na=False).set_index("image_id")["rle"]
    ids = [*sorted(submission.index)[2:0:-1], "broken"]
    (tmp_path / "sample.csv").write_text("file,mask\n" + "".join(f"{image_id}.jpg,-\n" for image_id in ids))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8")
    words = ("--csv", tmp_path / "rows.csv", "--sample", tmp_path / "sample.csv")
    places = (photographs, tmp_path / "broken.jpg")
    status, _, err = command_line("segment", "--experiment", experiment, *places, *words)
    assert status == 1
    assert "broken.jpg" in err
    rows = pd.read_csv(tmp_path / "rows.csv", dtype=str, keep_default_na=False)
    assert list(rows) == ["file", "mask"]
    assert rows["file"].tolist() == [f"{image_id}.jpg" for image_id in ids]
    assert rows["mask"].tolist() == [*(text or "-" for text in submission[ids[:2]]), "-"]
    status, _, err = command_line("segment", "--experiment", experiment, photographs, *words)
    assert "1 of the rows have no image: broken.jpg" in err


def test_photographs_that_are_not_read_or_not_asked_for_are_counted(finished, tmp_path, command_line):
    artifacts, experiment, photographs = finished
    submission = pd.read_csv(artifacts.submission, dtype=str, keep_default_na=False).set_index("image_id")["rle"]
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    taken = sorted(photographs.iterdir())[:3]
    names = [f"{unicodedata.normalize('NFD', 'é')}.JPG", taken[1].name, taken[2].name]
    for path, name in zip(taken, names, strict=True):
        shutil.copy(path, folder / name)
    for name in ("._a.jpg", "IMG_1.heic"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07")
    ids = [taken[2].stem, unicodedata.normalize("NFC", "é")]
    (tmp_path / "sample.csv").write_text("image_id,rle\n" + "".join(f"{image_id},\n" for image_id in ids))
    words = ("--csv", tmp_path / "rows.csv", "--sample", tmp_path / "sample.csv")
    status, out, err = command_line("segment", "--experiment", experiment, folder, *words)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    left = "1 left by the operating system or a program (._a.jpg)"
    assert lines[0] == f"segment: not read: 1 .heic (IMG_1.heic), 1 folder (more), {left}"
    assert lines[1] == f"segment: 1 of 3 photographs are not in {tmp_path / 'sample.csv'}, and are left out"
    rows = pd.read_csv(tmp_path / "rows.csv", dtype=str, keep_default_na=False)
    assert rows["image_id"].tolist() == ids
    assert rows["rle"].tolist() == [submission[taken[2].stem], submission[taken[0].stem]]


def test_photographs_that_cannot_be_read_may_come_first_or_be_all(finished, tmp_path, command_line):
    artifacts, experiment, photographs = finished
    submission = pd.read_csv(artifacts.submission, dtype=str, keep_default_na=False).set_index("image_id")["rle"]
    junk, rows, sample = tmp_path / "junk", tmp_path / "rows.csv", tmp_path / "sample.csv"
    junk.mkdir()
    for number in range(8):
        (junk / f"0{number}.jpg").write_text("no picture")
    for folders in ([junk, photographs], [junk]):
        ids = [path.stem for folder in folders for path in sorted(folder.iterdir())]
        sample.write_text("image_id,rle\n" + "".join(f"{image_id},\n" for image_id in ids))
        words = ("segment", "--experiment", experiment, *folders, "--csv", rows, "--sample", sample)
        status, _, err = command_line(*words)
        assert status == 1
        assert err.count("not an image") == 8
        found = pd.read_csv(rows, dtype=str, keep_default_na=False).set_index("image_id")["rle"]
        assert found.to_dict() == {image_id: submission.get(image_id, "") for image_id in ids}
    sample.write_text("image_id,rle\n")
    assert "sample.csv: has no rows" in command_line(*words)[2]


def test_pixels_are_kept_at_the_networks_size_only(tmp_path, write_experiment):
    settings = load_experiment(write_experiment(tmp_path))
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path in paths[::2]:
        Image.fromarray(np.full((300, 200, 3), 7, np.uint8)).save(path)
    paths[1].touch()
    named, broken = read_all(paths, settings, UPRIGHT)
    assert [(each.name, each.size, each.small.nbytes) for each in named] == [
        (name, (300, 200), 64 * 64 * 3) for name in "ac"
    ]
    assert all(each.small.base is None for each in named)
    assert len(broken) == 1
    assert str(paths[1]) in broken[0]


def test_misuse_is_refused(finished, tmp_path, command_line):
    _, experiment, photographs = finished
    assert command_line("segment", "--experiment", experiment, photographs)[0] == 2  # nowhere to write to
    for words, message in (
        ([tmp_path / "nothing.jpg"], "no such file or folder"),
        ([tmp_path], "no images in"),
        ([photographs, sorted(photographs.iterdir())[0]], "have the same name"),
        ([photographs, "--folds", 3], "has 2 folds"),
    ):
        status, _, err = command_line("segment", "--experiment", experiment, *words, "-o", tmp_path / "out")
        assert status == 1
        assert message in err


def test_an_unfinished_experiment_names_the_stage_to_run(tmp_path, write_experiment, command_line):
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    experiment = write_experiment(tmp_path)
    status, _, err = command_line("segment", "--experiment", experiment, tmp_path / "a.png", "-o", tmp_path / "out")
    assert status == 1
    assert "run the stage 'prepare' first" in err


def test_several_classes_are_numbered(tmp_path):
    from pipeline.rle import to_edges
    from pipeline.stages.segment import Named, write_pictures

    first, second = np.zeros((2, 6, 8), np.uint8)
    first[:3], second[2:5] = 1, 1
    named = Named(tmp_path / "a.png", np.zeros((32, 32, 3), np.uint8), height=6, width=8)
    write_pictures(tmp_path, named, [to_edges(first), to_edges(second)], overlays=False)
    expected = np.where(second, 2, first)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "masks" / "a.png")), expected)


@pytest.fixture
def deep(two_networks, finished, tmp_path):
    """A finished run as if its images had 16 bits: its experiment file, and two folders of photographs alike.

    None of those of 16 bits has the whole range of the experiment's images.
    """
    run = two_networks.copy(tmp_path / "deep")
    shutil.copy(finished[0].tuning, run.artifacts.tuning)
    write_json(run.artifacts.image_range, {"low": 0, "high": 255 * 100})
    folders = tmp_path / "8", tmp_path / "16"
    for folder in folders:
        folder.mkdir()
    for path in sorted(finished[2].iterdir())[:2]:
        pixels = np.minimum(np.asarray(Image.open(path)), 200)
        pixels[:9, :9] = 200
        Image.fromarray(pixels).save(folders[0] / f"{path.stem}.png")
        (folders[1] / f"{path.stem}.png").write_bytes(imagecodecs.png_encode(pixels.astype(np.uint16) * 100))
    return run, *folders


def rows_of(command_line, experiment, folder, csv):
    status, _, err = command_line("segment", "--experiment", experiment, folder, "--csv", csv, "--folds", 1)
    return status, err, pd.read_csv(csv, dtype=str, keep_default_na=False)


def test_deep_photographs_are_read_on_the_experiments_scale(finished, deep, tmp_path, command_line):
    run, shallow, deep_ones = deep
    status, err, expected = rows_of(command_line, finished[1], shallow, tmp_path / "8.csv")
    assert (status, err) == (0, "")
    status, err, found = rows_of(command_line, run.experiment, deep_ones, tmp_path / "16.csv")
    assert (status, err) == (0, "")
    assert found.equals(expected)
    settings = load_experiment(run.experiment)
    small, _ = read_all(sorted(deep_ones.iterdir()), settings, reading_of(settings))
    assert [each.small.max() for each in small] == [200, 200]


def test_photographs_of_another_depth_are_named(finished, deep, tmp_path, command_line):
    run, shallow, deep_ones = deep
    status, err, rows = rows_of(command_line, run.experiment, shallow, tmp_path / "8.csv")
    assert (status, len(rows)) == (1, 0)
    assert err.count("has 8 bits a channel, the experiment's images have values from 0 to 25500") == 2
    status, err, rows = rows_of(command_line, finished[1], deep_ones, tmp_path / "16.csv")
    assert (status, len(rows)) == (1, 0)
    assert err.count("has 16-bit values, the experiment's images have 8 bits a channel") == 2


def test_a_bundle_reads_photographs_as_its_experiment(deep, tmp_path, command_line):
    run = deep[0]
    words = ("bundle", "--experiment", run.experiment, "-o", tmp_path / "upload", "--set", "data.exif=ignore")
    assert command_line(*words)[0] == 0
    bundled = tmp_path / "upload" / "kfold" / "tiny"
    assert load_experiment(bundled / "experiment.yaml").data.exif == "ignore"
    assert read_json(bundled / "image_range.json") == {"low": 0, "high": 255 * 100}
    needed = read_json(tmp_path / "upload" / "bundle.json")["needs"]
    assert {"tifffile", "imagecodecs"} <= needed.keys()


def test_a_scale_that_is_damaged_or_missing_is_named(deep, command_line, tmp_path):
    run, _, deep_ones = deep
    place = run.artifacts.image_range
    for content in ('{"low": 5, "high": 1}', '{"low": 0}', '{"low": "0", "high": 9}', "[]", '{"low": 0, "high": NaN}'):
        place.write_text(content)
        status, _, err = command_line("segment", "--experiment", run.experiment, deep_ones, "--csv", tmp_path / "a.csv")
        assert (status, err.count("\n")) == (1, 1)
        assert f"{place} is damaged" in err
    place.unlink()
    status, _, err = command_line("segment", "--experiment", run.experiment, deep_ones, "--csv", tmp_path / "a.csv")
    assert (status, err.count("\n")) == (1, 1)
    assert "image_range.json is missing: run the stage 'prepare' first" in err
