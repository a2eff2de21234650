"""`convert` through the command line."""

import numpy as np
import pytest
from PIL import Image

from pipeline.rle import decode, encode, read_csv

SHAPES = {"a": (7, 5), "b": (6, 9), "c": (4, 4)}


@pytest.fixture
def masks():
    """uint8 (H, W) of 0 and 1 by id; the last one empty."""
    rng = np.random.default_rng(0)
    drawn = {name: (rng.random(shape) < 0.5).astype(np.uint8) for name, shape in SHAPES.items()}
    drawn["c"][:] = 0
    return drawn


@pytest.fixture
def write(tmp_path):
    def write(masks, fmt="kaggle", sized=True):
        path = tmp_path / f"{fmt}.csv"
        lines = ["img,EncodedPixels" + ",h,w" * sized]
        for name, mask in masks.items():
            text = encode(mask, fmt)
            size = f",{mask.shape[0]},{mask.shape[1]}" * sized
            lines.append(f'{name},"{text}"{size}')
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def assert_has(path, masks, fmt="kaggle"):
    table = read_csv(path, fmt, sizes={name: mask.shape for name, mask in masks.items()})
    assert table.ids == list(masks)
    lines = path.read_text().splitlines()
    assert lines[0] == "img,EncodedPixels"
    for line, (name, mask) in zip(lines[1:], masks.items(), strict=True):
        image_id, _, text = line.partition(",")
        assert image_id == name
        assert np.array_equal(decode(text.strip('"').replace('""', '"'), mask.shape, fmt), mask)


@pytest.mark.parametrize("to", ["kaggle", "carvana", "siim", "coco-counts", "coco"])
@pytest.mark.parametrize("fmt", ["kaggle", "carvana", "siim", "coco-counts", "coco"])
def test_any_format_into_any(command_line, masks, write, tmp_path, fmt, to):
    output = tmp_path / "out.csv"
    status, out, err = command_line("convert", write(masks, fmt), "-o", output, "--format", fmt, "--to", to)
    assert (status, out, err) == (0, f"convert: 3 masks (1 empty) in {output}\n", "")
    assert_has(output, masks, to)


@pytest.mark.parametrize(("fmt", "to"), [("kaggle", "siim"), ("contrails", "kaggle"), ("carvana", "sennet")])
def test_texts_that_count_pixels_alike_need_no_sizes(command_line, masks, write, tmp_path, fmt, to):
    source, output = write(masks, fmt, sized=False), tmp_path / "out.csv"
    assert command_line("convert", source, "-o", output, "--format", fmt, "--to", to)[0] == 0
    assert_has(output, masks, to)


@pytest.mark.parametrize("words", [["--to", "carvana"], ["--to", "coco"], ["--with-sizes"]])
def test_sizes_are_asked_for_where_they_are_needed(command_line, masks, write, tmp_path, words):
    source = write(masks, sized=False)
    status, out, err = command_line("convert", source, "-o", tmp_path / "out.csv", *words)
    assert (status, out) == (1, "")
    assert err == (
        f"error: {source}: the sizes of 3 images are not known (a, b, c): give --shape, --size-columns or --images\n"
    )
    assert not (tmp_path / "out.csv").exists()


def test_sizes_are_written_when_asked_for(command_line, masks, write, tmp_path):
    command_line("convert", write(masks), "-o", tmp_path / "out.csv", "--with-sizes")
    table = read_csv(tmp_path / "out.csv")
    assert list(zip(table.heights, table.widths, strict=True)) == list(SHAPES.values())


OPTIONS = (
    "give --unite if an id's rows are parts of one mask, --columns if the ids are in another column, "
    "--class-column if rows are of several classes\n"
)


def test_rows_of_one_id_are_united_only_where_that_is_asked_for(command_line, tmp_path):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,rle\na,1 3\nb,\na,3 4 10 2\n")
    status, out, err = command_line("convert", source, "-o", output)
    assert (status, out) == (1, "")
    assert err == f"error: {source}: 1 id has several rows: a (rows 2, 4): {OPTIONS}"
    assert not output.exists()
    assert command_line("convert", source, "-o", output, "--unite")[0] == 0
    assert output.read_text() == "id,rle\na,1 6 10 2\nb,\n"


def test_rows_of_different_images_are_never_merged(command_line, tmp_path):
    """Images that are numbered anew for each subject."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = [f"{subject},{image},{subject + 10 * image} 3" for subject in range(1, 6) for image in (1, 2)]
    source.write_text("\n".join(["subject,img,pixels", *rows]) + "\n")
    for words in ([], ["--columns", "subject,pixels"]):
        status, _, err = command_line("convert", source, "-o", output, *words)
        other = "img" if words else "subject"
        assert (status, err.count("\n")) == (1, 1)
        assert f"no two rows have the same id and '{other}': {OPTIONS}" in err
        assert not output.exists()


def test_a_text_of_its_own_that_is_as_long_as_a_cell_is_written(command_line, tmp_path):
    """A text that would be refused as cut off in somebody else's file."""
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    text = " ".join(f"{100_000 + 100 * run} {10 if run < 8 else 1}" for run in range(3640))
    assert len(text) == 32_767
    source.write_text(f"id,rle\na,{text} \n")  # the space says that it is whole
    assert command_line("convert", source, "-o", output)[::2] == (0, "")
    assert output.read_text() == f"id,rle\na,{text}\n"


def test_masks_go_to_png_files_and_back(command_line, masks, write, tmp_path):
    folder, again = tmp_path / "pngs", tmp_path / "again.csv"
    assert command_line("convert", write(masks), "-o", folder)[0] == 0
    for name, mask in masks.items():
        assert np.array_equal(np.asarray(Image.open(folder / f"{name}.png")), 255 * mask)
    assert command_line("convert", folder, "-o", again, "--to", "carvana", "--with-sizes")[0] == 0
    table = read_csv(again, "carvana")
    assert table.ids == list(SHAPES)
    assert again.read_text().splitlines()[1] == f"a,{encode(masks['a'], 'carvana')},7,5"


def test_mask_files_need_two_values_or_a_threshold(command_line, tmp_path):
    folder, output = tmp_path / "masks", tmp_path / "out.csv"
    folder.mkdir()
    Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).save(folder / "a.png")
    Image.fromarray(np.array([[0, 90], [128, 255]], np.uint8)).save(folder / "b.png")
    status, _, err = command_line("convert", folder, "-o", output)
    assert (status, err.count("\n")) == (1, 1)
    assert f"{folder / 'b.png'}: has the values 90, 128, --threshold allows 0/255" in err
    (folder / "c.png").write_text("no picture")
    status, _, err = command_line("convert", folder, "-o", output)
    assert (status, err.count("\n")) == (1, 2)
    assert f"{folder / 'c.png'}: not an image" in err
    (folder / "c.png").unlink()
    (folder / "a.png").unlink()
    command_line("convert", folder, "-o", output, "--threshold", "128")
    assert output.read_text() == "image_id,rle\nb,2 1 4 1\n"


def test_a_folder_with_something_in_it_is_left_alone(command_line, masks, write, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    status, _, err = command_line("convert", write(masks), "-o", folder)
    assert (status, err) == (1, f"error: {folder}: is not empty; name a new folder\n")
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("image_id", ["../up", "a/b", "..", "."])
def test_ids_that_are_no_file_names_are_refused(command_line, tmp_path, image_id):
    source = tmp_path / "in.csv"
    source.write_text(f"id,rle\n{image_id},1 3\n")
    status, _, err = command_line("convert", source, "-o", tmp_path / "pngs", "--shape", 4, 4)
    assert status == 1
    assert "cannot be file names" in err
    assert not (tmp_path / "pngs").exists()


def test_other_kinds_of_output_are_wrong_usage(command_line, masks, write):
    assert command_line("convert", write(masks), "-o", "out.parquet")[0] == 2


def test_what_is_no_mask_in_a_folder_is_counted_and_no_class(command_line, tmp_path):
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:4] = 255
    for name in ("skin", "hair", "__MACOSX", ".cache"):
        (tmp_path / "masks" / name).mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "masks" / name / "a.png")
    (tmp_path / "masks/skin/b.npy").touch()
    status, out, err = command_line("convert", tmp_path / "masks", "-o", tmp_path / "out.csv")
    assert (status, err) == (0, "")
    system = "left by the operating system or a program"
    assert out.splitlines()[:-1] == [
        f"convert: {tmp_path / 'masks'}: not read: 1 folder (.cache with 1 image), 1 {system} (__MACOSX)",
        f"convert: {tmp_path / 'masks/skin'}: not read: 1 .npy (b.npy)",
    ]
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert [row.rpartition(",")[0] for row in rows] == ["image_id,class", "a,hair", "a,skin"]
    Image.fromarray(mask).save(tmp_path / "masks/preview.png")
    out = command_line("convert", tmp_path / "masks", "-o", tmp_path / "out.csv")[1]
    folders = "3 folders (.cache with 1 image, hair with 1 image, skin with 1 image)"
    assert f"convert: {tmp_path / 'masks'}: not read: {folders}, 1 {system} (__MACOSX)" in out
    assert "convert: 1 masks (0 empty)" in out
