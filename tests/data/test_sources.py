import gzip
import shutil
import unicodedata
import zipfile

import numpy as np
import pytest
from PIL import Image

from pipeline.config import EasyPortraitData, FolderData, GeneratedData, KaggleData
from pipeline.data.folders import is_plain_id
from pipeline.data.images import read_image
from pipeline.data.sources import open_source, submission_template
from pipeline.errors import DataError
from pipeline.rle import RleError, encode, from_edges

SHAPE = (20, 14)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def mask_of(source, image_id, shape=SHAPE):
    sample = next(sample for sample in source.samples if sample.image_id == image_id)
    return from_edges(source.true_edges(sample, *shape)[0], shape)


def ids_of(source, subset):
    return [sample.image_id for sample in source.samples if sample.subset == subset]


def message_of(settings):
    with pytest.raises(DataError) as caught:
        open_source(settings)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ kaggle


@pytest.mark.parametrize("suffix", ["", ".jpg"])
@pytest.mark.parametrize("fmt", ["kaggle", "carvana", "siim", "coco"])
def test_kaggle_masks_in_every_format(competition, fmt, suffix):
    data = competition(fmt=fmt, suffix=suffix)
    source = open_source(KaggleData(source="kaggle", root=data.root, format=fmt))
    assert ids_of(source, "train") == data.ids["train"]
    assert ids_of(source, "test") == data.ids["test"]
    for sample in source.samples:
        assert sample.path == data.file(sample.subset, sample.image_id)
        if sample.subset == "train":
            shape = data.masks[sample.image_id].shape
            assert np.array_equal(from_edges(source.true_edges(sample, *shape)[0], shape), data.masks[sample.image_id])
        else:
            assert source.true_edges(sample, 64, 64) is None


def test_kaggle_rows_of_one_id_are_united_only_where_the_settings_say_so(competition):
    data = competition(train=2)
    data.write("train.csv", "image_id,rle", "a1,1 3", "a0,5 2", "a1,11 4", "a1,4 1", "a0,")
    with pytest.raises(DataError, match=r"train.csv: 2 ids have several rows: a1 \(rows 2, 4, 5\), .*data.unite_rows"):
        open_source(KaggleData(source="kaggle", root=data.root))
    source = open_source(KaggleData(source="kaggle", root=data.root, unite_rows=True))
    assert [source.true_edges(sample, 64, 64)[0].tolist() for sample in source.samples[:2]] == [[4, 6], [0, 4, 10, 14]]


@pytest.mark.parametrize("header", ["image_id,rle,person", "person,image_id,rle", "rle,person,image_id"])
def test_kaggle_groups_are_joined_by_id_wherever_the_columns_are(competition, header):
    data = competition()
    rows = [{"image_id": i, "rle": encode(data.masks[i]), "person": data.people[i]} for i in data.ids["train"]]
    data.write("train.csv", header, *(",".join(row[name] for name in header.split(",")) for row in rows[::-1]))
    source = open_source(KaggleData(source="kaggle", root=data.root, group_column="person"))
    assert {s.image_id: s.group for s in source.samples if s.subset == "train"} == {
        image_id: data.people[image_id] for image_id in data.ids["train"]
    }


def test_kaggle_group_and_id_columns_may_have_any_name(competition):
    data = competition(train=2)
    data.write("train.csv", "note,picture,charlene,mask", "x,a0,c1,1 2", "y,a1,c2,")
    settings = KaggleData(source="kaggle", root=data.root, group_column="charlene", columns=("picture", "mask"))
    assert [sample.group for sample in open_source(settings).samples[:2]] == ["c1", "c2"]


def test_kaggle_a_missing_group_column_is_named(competition):
    data = competition()
    message = message_of(KaggleData(source="kaggle", root=data.root, group_column="user"))
    assert message.endswith("train.csv: no column 'user'; the columns are image_id, rle, person (data.group_column)")


def groups_of(settings):
    return {sample.image_id: sample.group for sample in open_source(settings).samples if sample.subset == "train"}


def test_kaggle_groups_are_those_of_the_column_that_the_masks_ids_are_in(competition):
    """Another column may have the same values in another order."""
    data = competition(train=4)
    rows = [f"a{(number + 1) % 4},a{number},p{number // 2},1 3" for number in range(4)]
    data.write("train.csv", "previous,id,patient,rle", *rows)
    settings = KaggleData(source="kaggle", root=data.root, group_column="patient")
    assert groups_of(settings) == {"a0": "p0", "a1": "p0", "a2": "p1", "a3": "p1"}
    other = settings.model_copy(update={"columns": ("previous", "rle")})
    assert groups_of(other) == {"a1": "p0", "a2": "p0", "a3": "p1", "a0": "p1"}


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("id, rle, patient", None),
        ("id ,rle\t,patient ", None),
        ('"id","rle","patient"', None),
        ("\ufeffid,rle,patient", None),
        ("rle_id,rle,patient", None),
        ("scan,rle,patient", ("scan", "rle")),
        ("RLE id,mask,patient", ("RLE id", "mask")),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_kaggle_groups_are_found_under_every_header_that_masks_are_found_under(competition, header, columns, packed):
    data = competition(train=2)
    data.write("train.csv", header, 'a0,1 3,"Doe, J."', '"a1",1 3, p1 ')
    if packed:
        (data.root / "train.csv").write_bytes(gzip.compress((data.root / "train.csv").read_bytes()))
    settings = KaggleData(source="kaggle", root=data.root, group_column="patient", columns=columns)
    assert groups_of(settings) == {"a0": "Doe, J.", "a1": "p1"}


def test_kaggle_groups_of_images_with_a_row_for_each_class(competition):
    data = competition(train=2)
    data.write("train.csv", "id,class,rle,case", "a0,x,1 3,c0", "a1,x,1 3,c1", "a0,y,,c0", "a1,y,,")
    data.write("sample_submission.csv", "id,class,rle", *(f"b{number},{name}," for number in range(3) for name in "xy"))
    settings = KaggleData(source="kaggle", root=data.root, group_column="case", classes=("x", "y"))
    assert message_of(settings).endswith("ids with several values of 'case' (data.group_column): a1")
    data.write("train.csv", "id,class,rle,case", "a0,x,1 3,c0", "a1,x,1 3,nan", "a0,y,,c0", "a1,y,,")
    assert groups_of(settings) == {"a0": "c0", "a1": ""}
    assert open_source(settings).notes == ["1 training images have no 'case': each is a group of its own: a1"]


@pytest.mark.parametrize(("column", "what"), [("image_id", "column of the ids"), ("rle", "column of the masks")])
def test_kaggle_groups_cannot_be_the_ids_or_the_masks(competition, column, what):
    data = competition()
    message = message_of(KaggleData(source="kaggle", root=data.root, group_column=column))
    assert f"train.csv: data.group_column {column!r} is the {what}" in message


def test_kaggle_a_group_column_that_is_there_twice_is_named(competition):
    data = competition(train=2)
    data.write("train.csv", "id,rle,patient,patient", "a0,1 3,p,q", "a1,1 3,p,q")
    message = message_of(KaggleData(source="kaggle", root=data.root, group_column="patient"))
    assert "train.csv: several columns 'patient'" in message


def test_kaggle_texts_that_are_no_masks_point_at_the_setting_of_the_columns(competition):
    data = competition(train=2)
    data.write("train.csv", "photo,sitter,runs", "a0,sitter 0,1 2", "a1,sitter 1,")
    problem = f"{data.root / 'train.csv'} row 2 (id a0): token 1 'sitter': not a whole number"
    settings = KaggleData(source="kaggle", root=data.root)
    advice = "if these are no masks, name the columns: data.columns=[ID, RLE]"
    assert message_of(settings) == f"{problem}; {advice}"
    with pytest.raises(RleError) as caught:
        open_source(settings.model_copy(update={"columns": ("photo", "sitter")}))
    assert str(caught.value) == problem
    open_source(settings.model_copy(update={"columns": ("photo", "runs")}))


def test_kaggle_truth_of_the_test_images(competition):
    data = competition()
    data.write("truth.csv", "image_id,rle", *(f"{i},{encode(data.masks[i])}" for i in data.ids["test"][::-1]))
    settings = KaggleData(source="kaggle", root=data.root, test_truth="truth.csv")
    source = open_source(settings)
    for image_id in data.ids["test"]:
        mask = data.masks[image_id]
        assert np.array_equal(mask_of(source, image_id, mask.shape), mask)
    assert settings.knows_test_truth
    assert not settings.model_copy(update={"test_truth": None}).knows_test_truth


def test_kaggle_a_size_that_is_not_the_images_is_refused(competition):
    data = competition(train=2)
    data.write("train.csv", "image_id,rle,height,width", "a0,1 2,30,40", "a1,1 2,30,40")
    source = open_source(KaggleData(source="kaggle", root=data.root))
    with pytest.raises(DataError, match=r"id a0: the mask is 30 x 40 .* the image a0\.jpg is 40 x 30"):
        source.true_edges(source.samples[0], 40, 30)


@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_kaggle_missing_images_and_rows_are_named_alike_in_every_order(competition, fmt, suffix):
    data = competition(fmt=fmt, suffix=suffix)
    settings = KaggleData(source="kaggle", root=data.root, format=fmt)
    data.file("train", "a2").rename(data.root / "train/a2.heic")
    assert message_of(settings) == (
        f"{data.root / 'train.csv'}: 1 of the rows have no image: a2{suffix}; a2.heic is there, which is not read"
    )
    (data.root / "train/part").mkdir()
    for number in range(6):
        data.file("train", f"a{number}").with_suffix(".heic" if number == 2 else ".jpg").rename(
            data.root / "train/part" / f"a{number}.jpg"
        )
    assert message_of(settings) == (
        f"{data.root / 'train'}: no images in this folder, only 1 folder (part with 6 images); "
        f"data.train_images names the one that the ids are of, such as {data.root / 'train/part'}"
    )
    open_source(settings.model_copy(update={"train_images": "train/part"}))
    data.write_csv()
    lines = (data.root / "train.csv").read_text().splitlines()
    data.write("train.csv", *(line for line in lines if not line.startswith("a4")))
    message = message_of(settings.model_copy(update={"train_images": "train/part"}))
    assert f"train.csv: 1 of the images have no row: a4{suffix} (data.unlisted says what becomes of them)" in message


@pytest.mark.parametrize("fmt", ["kaggle", "carvana"])
def test_kaggle_a_row_major_mask_of_another_size_is_refused_as_well(competition, fmt):
    data = competition(train=2)
    data.write("train.csv", "image_id,rle,height,width", "a0,1 2,30,40", "a1,1 2,30,40")
    source = open_source(KaggleData(source="kaggle", root=data.root, format=fmt))
    with pytest.raises(DataError, match=r"id a0: the mask is 30 x 40 .* the image a0\.jpg is 40 x 30"):
        source.true_edges(source.samples[0], 40, 30)
    assert (
        source.true_edges(source.samples[0], 30, 40)[0].tolist() == {"kaggle": [0, 2], "carvana": [0, 1, 30, 31]}[fmt]
    )
    data.write("train.csv", "image_id,rle", "a0,1 2", "a1,1199 3")
    source = open_source(KaggleData(source="kaggle", root=data.root, format=fmt))
    with pytest.raises(DataError, match=r"id a1: a run ends at pixel 1201, past the end of a1\.jpg \(30 x 40 = 1200"):
        source.true_edges(source.samples[1], 30, 40)


def test_kaggle_a_copy_of_an_image_is_no_image_with_an_empty_mask(competition):
    data = competition(train=2)
    shutil.copy(data.root / "train/a0.jpg", data.root / "train/a0 (1).jpg")
    settings = KaggleData(source="kaggle", root=data.root)
    assert "no row: a0 (1); a0 (1).jpg by the name a copy of an image that has one" in message_of(settings)
    message = message_of(settings.model_copy(update={"unlisted": "empty"}))
    assert message.endswith("train: 1 images are copies of others, delete them: a0 (1).jpg of a0.jpg")


def test_kaggle_a_sample_submission_that_names_no_image_is_refused(competition):
    data = competition()
    settings = KaggleData(source="kaggle", root=data.root)
    assert "sample_submission.csv: data.test_images is null; set data.sample_submission to null, too" in message_of(
        settings.model_copy(update={"test_images": None})
    )
    data.write("sample_submission.csv", "image_id,rle")
    assert "sample_submission.csv: has no rows, and so names no image" in message_of(settings)


def test_kaggle_test_images_that_differ_in_their_suffix_only_are_those_that_the_sample_submission_names(competition):
    data = competition()
    shutil.copy(data.root / "test/b1.jpg", data.root / "test/b0.jpeg")
    data.write("sample_submission.csv", "image_id,rle", "b0.jpeg,", "b0.jpg,")
    settings = KaggleData(source="kaggle", root=data.root)
    source = open_source(settings)
    assert [(s.image_id, s.path.name) for s in source.samples if s.subset == "test"] == [
        ("b0.jpeg",) * 2,
        ("b0.jpg",) * 2,
    ]
    message = message_of(settings.model_copy(update={"sample_submission": None}))
    assert message.endswith("test: several images have one id: b0.jpeg and b0.jpg")


def test_kaggle_copies_among_test_images_are_named_where_nothing_lists_them(competition):
    data = competition()
    shutil.copy(data.root / "test/b1.jpg", data.root / "test/b1 (1).jpg")
    source = open_source(KaggleData(source="kaggle", root=data.root, sample_submission=None))
    assert ids_of(source, "test") == ["b0", "b1", "b1 (1)", "b2"]
    assert source.notes == [f"{data.root / 'test'}: 1 images are copies of others: b1 (1).jpg of b1.jpg"]


def test_kaggle_unlisted_images_are_counted_and_named(competition):
    data = competition(suffix=".jpg")
    data.write("train.csv", "image_id,rle", *(f"a{number}.jpg,1 3" for number in range(1, 4)))
    settings = KaggleData(source="kaggle", root=data.root)
    for value, what in (("empty", "have empty masks"), ("leave-out", "are left out")):
        source = open_source(settings.model_copy(update={"unlisted": value}))
        assert source.notes == [f"3 training images without a row in train.csv {what}: a0.jpg, a4.jpg, a5.jpg"]


def test_kaggle_truth_and_sample_submission_may_spell_ids_each_in_its_way(competition):
    data = competition()
    data.write("truth.csv", "image_id,rle", *(f"{i}.jpg,{encode(data.masks[i])}" for i in data.ids["test"]))
    settings = KaggleData(source="kaggle", root=data.root, test_truth="truth.csv")
    source = open_source(settings)
    assert ids_of(source, "test") == data.ids["test"]
    for image_id in data.ids["test"]:
        assert np.array_equal(mask_of(source, image_id, data.masks[image_id].shape), data.masks[image_id])
    data.write("truth.csv", "image_id,rle", "b0.jpg,", "b2.jpg,")
    assert message_of(settings).endswith("truth.csv: 1 of the images have no row: b1")


def test_kaggle_without_sample_submission_takes_all_test_images(competition):
    data = competition()
    (data.root / "sample_submission.csv").unlink()
    settings = KaggleData(source="kaggle", root=data.root)
    assert "set data.sample_submission to null" in message_of(settings)
    source = open_source(settings.model_copy(update={"sample_submission": None}))
    assert ids_of(source, "test") == data.ids["test"]


@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_kaggle_images_without_a_row_are_empty_or_left_out(competition, suffix):
    data = competition(suffix=suffix)
    listed = [f"{image_id},1 3" for image_id in data.ids["train"][1:4]]
    data.write("train.csv", "image_id,rle", *listed)
    settings = KaggleData(source="kaggle", root=data.root)
    assert "3 of the images have no row" in message_of(settings)
    source = open_source(settings.model_copy(update={"unlisted": "empty"}))
    assert ids_of(source, "train") == data.ids["train"]
    edges = [source.true_edges(sample, 64, 64)[0].size for sample in source.samples[:6]]
    assert edges == [0, 2, 2, 2, 0, 0]
    source = open_source(settings.model_copy(update={"unlisted": "leave-out"}))
    assert ids_of(source, "train") == data.ids["train"][1:4]
    data.write("train.csv", "image_id,rle", *listed, "stranger,1 3")
    assert "1 of the rows have no image: stranger" in message_of(settings.model_copy(update={"unlisted": "empty"}))


def test_kaggle_without_test_images(competition):
    data = competition()
    settings = KaggleData(source="kaggle", root=data.root, test_images=None, sample_submission=None)
    assert ids_of(open_source(settings), "test") == []


def test_the_sample_submission_gives_order_and_columns(competition):
    data = competition()
    data.write("sample_submission.csv", "img,encoded", "b2,", "b0,", "b1,")
    settings = KaggleData(source="kaggle", root=data.root)
    assert submission_template(settings, data.ids["test"]) == (["img", "encoded"], ["b2", "b0", "b1"])
    for ids in (["b0", "b1"], ["b0", "b1", "b2", "b3"]):
        with pytest.raises(DataError, match=r"its ids are not those of the test images: b[23]$"):
            submission_template(settings, ids)
    without = settings.model_copy(update={"sample_submission": None, "submission_columns": ("id", "mask")})
    assert submission_template(without, ["b1", "b0"]) == (["id", "mask"], ["b0", "b1"])


def test_a_sample_submission_with_an_id_twice_is_refused_before_anything_is_made(competition):
    data = competition()
    data.write("sample_submission.csv", "image_id,rle", "b0,", "b1,", "b2,", "b1,")
    settings = KaggleData(source="kaggle", root=data.root)
    assert message_of(settings).endswith("its ids are not those of the test images, which have one row each: b1")


MALFORMED = [
    (b"b0,,\nb1,,\nb2,,\n", "its rows have more fields than the header, such as a comma at the end of each"),
    (b"b0,\nb1,,\nb2,\n", "row 3: 3 fields, but the header has 2"),
    (b'b0,\nb1,"\nb2,\n', "row 3: a quote is opened and never closed"),
    (b"b0,\nb\xe9,\n", "is no text in UTF-8: it has the byte 0xe9; save it in that encoding"),
]


@pytest.mark.parametrize(("rows", "problem"), MALFORMED, ids=["trailing commas", "ragged", "quote", "latin-1"])
def test_a_malformed_sample_submission_is_named(competition, rows, problem):
    data = competition()
    sample = data.root / "sample_submission.csv"
    sample.write_bytes(b"image_id,rle\n" + rows)
    assert message_of(KaggleData(source="kaggle", root=data.root)) == f"{sample}: {problem}"


def test_an_empty_sample_submission_is_named(competition):
    data = competition()
    sample = data.root / "sample_submission.csv"
    sample.write_bytes(b"")
    message = message_of(KaggleData(source="kaggle", root=data.root))
    assert message == f"{sample}: is empty; a table with a header is needed"


def test_kaggle_groups_that_are_no_text_are_named(competition):
    data = competition(train=2)
    (data.root / "train.csv").write_bytes(b"image_id,rle,person\na0,1 2,Ren\xe9\na1,1 2,x\n")
    message = message_of(KaggleData(source="kaggle", root=data.root, group_column="person"))
    assert message == f"{data.root / 'train.csv'} row 2: not UTF-8: b'Ren\\xe9' (data.group_column)"


def test_a_sample_submission_is_looked_for_in_the_data_set():
    with pytest.raises(DataError, match=r"data\.root is not set"):
        submission_template(KaggleData(source="kaggle"), [])


def test_a_sample_submission_of_three_columns_is_refused(competition):
    data = competition()
    data.write("sample_submission.csv", "image_id,rle,height", "b0,,3")
    assert "a sample submission has two columns" in message_of(KaggleData(source="kaggle", root=data.root))


# ------------------------------------------------------------------------------------------ easyportrait

CLASSES = np.zeros(SHAPE, np.uint8)
CLASSES[2:18, 2:12] = 1
CLASSES[5:15, 4:10] = 2
CLASSES[7, 5:9] = [3, 4, 5, 6]
CLASSES[12, 5:9] = [7, 7, 8, 8]


def test_kaggle_classes_have_rows_of_their_own(competition):
    """Rows of classes that are not asked for are left out; a class without a row is not in the image."""
    data = competition()
    rows = [f"{image_id},stomach,{encode(data.masks[image_id])}" for image_id in data.ids["train"]]
    data.write("train.csv", "id,class,segmentation", *rows, "a0,bowel,1 3", "a0,other,9 9")
    sample = [f"{image_id},{name}," for image_id in data.ids["test"] for name in ("bowel", "stomach")]
    data.write("sample_submission.csv", "id,class,predicted", *sample)
    settings = KaggleData(source="kaggle", root=data.root, classes=("stomach", "bowel"))
    source = open_source(settings)
    assert (ids_of(source, "train"), ids_of(source, "test")) == (data.ids["train"], data.ids["test"])
    stomach, bowel = source.true_edges(source.samples[0], *data.masks["a0"].shape)
    assert np.array_equal(from_edges(stomach, data.masks["a0"].shape), data.masks["a0"])
    assert bowel.tolist() == [0, 3]
    assert source.true_edges(source.samples[1], *data.masks["a1"].shape)[1].size == 0
    columns, ids = submission_template(settings, data.ids["test"])
    assert columns == ["id", "class", "predicted"]
    assert ids == [f"{image_id}/{name}" for image_id in data.ids["test"] for name in ("bowel", "stomach")]
    with pytest.raises(DataError, match=r"no row has the class 'lung' of data\.classes; .* has bowel, other, stomach"):
        open_source(settings.model_copy(update={"classes": ("lung",)}))


def write_easyportrait(root, with_folders=True):
    """Three training images of two users, one test image."""
    rows = ["attachment_id\tuser_id\tset"]
    for image_id, split, user in (
        ("x0", "train", "u0"),
        ("x1", "train", "u1"),
        ("x2", "val", "u0"),
        ("y0", "test", "u2"),
    ):
        folder = split if with_folders else "."
        save(root / "images" / folder / f"{image_id}.jpg", np.full((*SHAPE, 3), 90))
        save(root / "annotations" / folder / f"{image_id}.png", CLASSES)
        rows.append(f"{image_id}\t{user}\t{split}")
    (root / "meta.csv").write_text("\n".join(rows) + "\n")
    return EasyPortraitData(source="easyportrait", root=root, train_splits=("train", "val"))


@pytest.mark.parametrize("with_folders", [True, False], ids=["folders", "set column"])
def test_easyportrait_layouts(tmp_path, with_folders):
    settings = write_easyportrait(tmp_path, with_folders)
    source = open_source(settings)
    assert {(s.image_id, s.subset, s.group) for s in source.samples} == {
        ("x0", "train", "u0"),
        ("x1", "train", "u1"),
        ("x2", "train", "u0"),
        ("y0", "test", "u2"),
    }
    for image_id in ("x0", "x1", "x2"):
        assert np.array_equal(mask_of(source, image_id), CLASSES >= 2)
    truth = source.true_edges(source.samples[-1], *SHAPE)
    assert (truth is not None) == settings.knows_test_truth == with_folders


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("face", CLASSES >= 2),
        ("portrait", CLASSES >= 1),
        ("skin", CLASSES == 2),
        ((5, 6), (CLASSES == 5) | (CLASSES == 6)),
    ],
    ids=str,
)
def test_easyportrait_classes(tmp_path, classes, expected):
    settings = write_easyportrait(tmp_path).model_copy(update={"positive_classes": classes})
    assert np.array_equal(mask_of(open_source(settings), "x1"), expected)


@pytest.mark.parametrize(
    ("classes", "indices"),
    [(("skin", "right_eye"), [(2,), (6,)]), ({"eyes": (5, 6), "skin": (2,)}, [(5, 6), (2,)])],
    ids=["EasyPortrait's names", "own names"],
)
def test_easyportrait_parts_have_a_mask_each(tmp_path, classes, indices):
    settings = write_easyportrait(tmp_path).model_copy(update={"classes": classes})
    source = open_source(settings)
    masks = source.true_edges(source.samples[1], *SHAPE)
    assert settings.class_names == tuple(classes)
    assert len(masks) == len(indices)
    for edges, of_class in zip(masks, indices, strict=True):
        assert np.array_equal(from_edges(edges, SHAPE), np.isin(CLASSES, of_class))


def test_easyportrait_meta_may_be_zipped(tmp_path):
    settings = write_easyportrait(tmp_path)
    with zipfile.ZipFile(tmp_path / "meta.zip", "w") as archive:
        archive.write(tmp_path / "meta.csv", "meta.csv")
    (tmp_path / "meta.csv").unlink()
    assert [sample.group for sample in open_source(settings).samples] == ["u0", "u1", "u0", "u2"]


def test_easyportrait_meta_may_name_files(tmp_path):
    settings = write_easyportrait(tmp_path)
    table = (tmp_path / "meta.csv").read_text().replace("attachment_id", "image_name")
    (tmp_path / "meta.csv").write_text(table.replace("x0\t", "x0.jpg\t").replace("x1\t", "x1.png\t"))
    assert [sample.group for sample in open_source(settings).samples] == ["u0", "u1", "u0", "u2"]


def test_easyportrait_without_users_is_refused(tmp_path):
    settings = write_easyportrait(tmp_path)
    meta = tmp_path / "meta.csv"
    meta.write_text(meta.read_text().replace("x1\tu1\ttrain\n", ""))
    assert "1 training images have no user_id: x1" in message_of(settings)
    meta.write_text("attachment_id,user_id\nx0,u0\n")
    assert "needs the tab-separated columns image_name and user_id" in message_of(settings)
    meta.unlink()
    assert "it tells which photographs show one person" in message_of(settings)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("meta.csv", b"", "is empty"),
        ("meta.csv", b"image_name\tuser_id\nx0\tu0\nx1\tu1\tmore\n", "row 3: 3 fields, but the header has 2"),
        ("meta.csv", b"image_name\tuser_id\nx0\t\xe9\n", "is no text in UTF-8"),
        ("meta.zip", b"image_name\tuser_id\n", "File is not a zip file"),
    ],
)
def test_easyportrait_a_malformed_meta_is_named(tmp_path, name, content, problem):
    settings = write_easyportrait(tmp_path)
    (tmp_path / "meta.csv").unlink()
    (tmp_path / name).write_bytes(content)
    assert message_of(settings).startswith(f"{tmp_path / name}: {problem}")


def test_easyportrait_test_annotations_may_be_missing(tmp_path):
    settings = write_easyportrait(tmp_path)
    assert settings.knows_test_truth
    (tmp_path / "annotations/test/y0.png").unlink()
    (tmp_path / "annotations/test").rmdir()
    assert not settings.knows_test_truth
    source = open_source(settings)
    assert source.true_edges(source.samples[-1], *SHAPE) is None


def test_easyportrait_test_annotations_are_all_there_or_none(tmp_path):
    """In a folder without them, all masks of the test images would count as empty."""
    settings = write_easyportrait(tmp_path)
    (tmp_path / "annotations/test/y0.png").unlink()
    assert "annotations/test: 1 of the images have no annotation: y0" in message_of(settings)


def test_easyportrait_image_without_annotation(tmp_path):
    settings = write_easyportrait(tmp_path)
    (tmp_path / "annotations/val/x2.png").unlink()
    assert "1 of the images have no annotation: x2" in message_of(settings)


def test_a_mask_of_another_size_is_refused(tmp_path):
    settings = write_easyportrait(tmp_path)
    save(tmp_path / "annotations/train/x1.png", CLASSES.T)
    source = open_source(settings)
    with pytest.raises(DataError, match=r"x1\.png: the mask is 14 x 20 .* x1\.jpg is 20 x 14"):
        mask_of(source, "x1")


# ------------------------------------------------------------------------------------------------ folder

TRUTH = np.zeros(SHAPE, np.uint8)
TRUTH[3:9, 2:7] = 1


def write_folder(root, factor=255, masks="train", suffix="_mask"):
    for image_id in ("a", "b"):
        save(root / "train" / f"{image_id}.jpg", np.full((*SHAPE, 3), 90))
        save(root / masks / f"{image_id}{suffix}.png", TRUTH * factor)
    save(root / "test" / "c.jpg", np.full((*SHAPE, 3), 90))


def test_folder_masks_of_several_classes_have_no_other_values(tmp_path):
    write_folder(tmp_path, factor=7)
    settings = FolderData(source="folder", root=tmp_path, classes={"road": [1], "car": [7, 8]})
    road, car = open_source(settings).true_edges(open_source(settings).samples[0], *SHAPE)
    assert road.size == 0
    assert np.array_equal(from_edges(car, SHAPE), TRUTH)
    source = open_source(settings.model_copy(update={"classes": {"road": (1,)}}))
    with pytest.raises(DataError, match=r"a_mask\.png: has the value 7; no class in data\.classes has it"):
        source.true_edges(source.samples[0], *SHAPE)


@pytest.mark.parametrize(("masks", "suffix"), [("train", "_mask"), ("masks", "_mask"), ("masks", "")])
def test_folder_masks_lie_beside_the_images_or_in_their_own_folder(tmp_path, masks, suffix):
    write_folder(tmp_path, masks=masks, suffix=suffix)
    folder = None if masks == "train" else masks
    settings = FolderData(source="folder", root=tmp_path, train_masks=folder, mask_suffix=suffix)
    source = open_source(settings)
    assert (ids_of(source, "train"), ids_of(source, "test")) == (["a", "b"], ["c"])
    assert np.array_equal(mask_of(source, "b"), TRUTH)
    assert source.true_edges(source.samples[-1], *SHAPE) is None
    assert not settings.knows_test_truth


def test_folder_files_that_are_no_masks_are_counted_and_named(tmp_path):
    write_folder(tmp_path, masks="masks")
    for name in ("masks/a.png", "masks/a_mask.npy", "test/x.heic", "train/Thumbs.db"):
        (tmp_path / name).touch()
    source = open_source(FolderData(source="folder", root=tmp_path, train_masks="masks"))
    assert source.notes == [
        f"{tmp_path / 'train'}: not read: 1 left by the operating system or a program (Thumbs.db)",
        f"{tmp_path / 'masks'}: not read: 1 .npy (a_mask.npy)",
        f"{tmp_path / 'masks'}: 1 files that do not end in '_mask' are no masks: a.png",
        f"{tmp_path / 'test'}: not read: 1 .heic (x.heic)",
    ]


def test_folder_masks_that_are_called_otherwise_are_named(tmp_path):
    write_folder(tmp_path, masks="masks", suffix="_Mask")
    message = message_of(FolderData(source="folder", root=tmp_path, train_masks="masks"))
    assert "masks (data.mask_suffix: a mask is called ID_mask): 2 of the images have no mask: a, b" in message


def test_folder_without_suffix_and_folder_of_masks_is_refused(tmp_path):
    write_folder(tmp_path)
    assert "masks cannot be told from images" in message_of(FolderData(source="folder", root=tmp_path, mask_suffix=""))


@pytest.mark.parametrize(("rule", "factor"), [("0/1", 1), ("0/255", 255), (128, 128), (1, 7)])
def test_mask_values_that_the_rule_allows(tmp_path, rule, factor):
    write_folder(tmp_path, factor)
    source = open_source(FolderData(source="folder", root=tmp_path, mask_values=rule))
    assert np.array_equal(mask_of(source, "a"), TRUTH)


def test_a_threshold_takes_the_values_from_it_on(tmp_path):
    write_folder(tmp_path)
    values = np.zeros(SHAPE, np.uint8)
    values[0, :4] = [127, 128, 129, 255]
    save(tmp_path / "train/a_mask.png", values)
    source = open_source(FolderData(source="folder", root=tmp_path, mask_values=128))
    assert mask_of(source, "a")[0, :4].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(("rule", "factor"), [("0/1", 255), ("0/255", 1), ("0/255", 254)])
def test_mask_values_that_the_rule_does_not_allow_are_named(tmp_path, rule, factor):
    write_folder(tmp_path, factor)
    source = open_source(FolderData(source="folder", root=tmp_path, mask_values=rule))
    with pytest.raises(DataError, match=rf"a_mask\.png: has the value {factor}, data\.mask_values allows {rule}"):
        mask_of(source, "a")


# ------------------------------------------------------------------------------------------- all sources


def test_generated_portraits_are_a_competition_of_known_masks(generated):
    source = open_source(KaggleData(source="kaggle", root=generated, test_truth="truth.csv", group_column="person"))
    assert len(ids_of(source, "train")) >= 8
    assert len(ids_of(source, "test")) >= 4
    assert not {s.group for s in source.samples if s.subset == "train"} & {"", "person4", "person5"}
    for sample in source.samples:
        photograph = read_image(sample.path)
        assert photograph.pixels.shape == (photograph.height, photograph.width, 3)
        assert source.true_edges(sample, photograph.height, photograph.width) is not None


def test_generated_portraits_are_not_drawn_twice_but_anew_when_the_settings_change(tmp_path):
    settings = GeneratedData(
        source="generated", root=tmp_path / "old", people=1, photos=1, test_people=1, heights=(64, 64), widths=(64, 64)
    )
    open_source(settings)
    files = sorted(settings.root.rglob("*.jpg"))
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in files}
    open_source(settings)
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in files} == before
    open_source(settings.model_copy(update={"seed": 1}))
    assert all(path.read_bytes() != content for path, (_, content) in before.items())


@pytest.mark.parametrize("name", ["thesis.txt", "dataset.json"])
@pytest.mark.parametrize("text", ["mine", '{"name": "Task01", "training": []}', "[1]"])
def test_generated_portraits_never_overwrite_other_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    message = message_of(GeneratedData(source="generated", root=tmp_path))
    assert "is not empty and was not generated here" in message
    assert [path.read_text() for path in tmp_path.iterdir()] == [text]


@pytest.mark.parametrize("name", ["thesis.txt", "train/mine.txt", "test/notes"])
def test_generated_portraits_never_overwrite_what_was_put_beside_them(tmp_path, name):
    one = {"people": 1, "photos": 1, "test_people": 1, "heights": (64, 64), "widths": (64, 64)}
    settings = GeneratedData(source="generated", root=tmp_path / "data", **one)
    open_source(settings)
    (settings.root / name).write_text("mine")
    open_source(settings)
    with pytest.raises(DataError, match=rf"is to be drawn anew, and has other files in it: {name}"):
        open_source(settings.model_copy(update={"seed": 1}))
    assert (settings.root / name).read_text() == "mine"


def test_a_root_that_is_not_given_or_not_there_is_named(tmp_path):
    assert "data.root is not set" in message_of(FolderData(source="folder"))
    assert f"{tmp_path / 'none'} is not a folder" in message_of(FolderData(source="folder", root=tmp_path / "none"))
    (tmp_path / "None.zip").touch()
    message = message_of(FolderData(source="folder", root=tmp_path / "none"))
    assert message.endswith("is not a folder; None.zip is there: unpack it")


def test_an_id_may_be_in_both_subsets_and_not_twice_in_one(tmp_path):
    write_folder(tmp_path / "folder")
    save(tmp_path / "folder/test/a.jpg", np.full((*SHAPE, 3), 90))
    source = open_source(FolderData(source="folder", root=tmp_path / "folder"))
    assert (ids_of(source, "train"), ids_of(source, "test")) == (["a", "b"], ["a", "c"])
    assert source.true_edges(source.samples[2], *SHAPE) is None
    settings = write_easyportrait(tmp_path / "faces")
    save(tmp_path / "faces/images/val/x0.jpg", np.full((*SHAPE, 3), 90))
    save(tmp_path / "faces/annotations/val/x0.png", CLASSES)
    with (tmp_path / "faces/meta.csv").open("a") as meta:
        meta.write("x0\tu9\tval\n")
    message = message_of(settings)
    assert "1 ids of several images: x0 (" in message
    assert "val/x0.jpg" in message


def test_easyportrait_users_and_annotations_are_those_of_the_images_own_split(tmp_path):
    settings = write_easyportrait(tmp_path)
    save(tmp_path / "images/test/x0.jpg", np.full((*SHAPE, 3), 90))
    save(tmp_path / "annotations/test/x0.png", np.zeros(SHAPE))
    with (tmp_path / "meta.csv").open("a") as meta:
        meta.write("x0\tu9\ttest\n")
    source = open_source(settings)
    (train,) = [sample for sample in source.samples if (sample.image_id, sample.subset) == ("x0", "train")]
    (test,) = [sample for sample in source.samples if (sample.image_id, sample.subset) == ("x0", "test")]
    assert (train.group, test.group) == ("u0", "u9")
    assert np.array_equal(from_edges(source.true_edges(train, *SHAPE)[0], SHAPE), CLASSES >= 2)
    assert source.true_edges(test, *SHAPE)[0].size == 0


def test_easyportrait_files_that_no_split_has_are_counted_and_named(tmp_path):
    settings = write_easyportrait(tmp_path, with_folders=False)
    save(tmp_path / "images/extra.jpg", np.full((*SHAPE, 3), 90))
    (tmp_path / "annotations/x0.npy").touch()
    assert open_source(settings).notes == [
        f"{tmp_path / 'images'}: 1 files without a row in meta.csv are left out: extra.jpg",
        f"{tmp_path / 'annotations'}: not read: 1 .npy (x0.npy)",
    ]


def test_easyportrait_table_and_files_may_differ_in_unicode_form_and_in_a_suffixs_case(tmp_path):
    settings = write_easyportrait(tmp_path)
    names = [unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD")]
    for kind, name in (("images", f"{names[1]}.JPG"), ("annotations", f"{names[0]}.png")):
        (path,) = (tmp_path / kind / "train").glob("x0.*")
        path.rename(path.with_name(name))
    meta = tmp_path / "meta.csv"
    meta.write_text(meta.read_text().replace("x0\t", f"{names[1]}.JPG\t"))
    source = open_source(settings)
    assert {sample.image_id: sample.group for sample in source.samples}[names[0]] == "u0"
    assert np.array_equal(mask_of(source, names[0]), CLASSES >= 2)


def test_easyportrait_an_image_with_two_users_is_named(tmp_path):
    settings = write_easyportrait(tmp_path)
    with (tmp_path / "meta.csv").open("a") as meta:
        meta.write("x0.jpg\tu9\ttrain\n")
    assert "meta.csv: images with several user_ids: x0" in message_of(settings)


@pytest.mark.parametrize("image_id", ["", ".", "..", "a/b", "a\\b", "../a", "a..b", "a\nb", "a\x00"])
def test_ids_that_could_name_another_folder_are_refused(image_id):
    assert not is_plain_id(image_id)


@pytest.mark.parametrize("image_id", ["a", "0001", "a.jpg", "é", "a b", "img-1_x", ".a"])
def test_plain_ids(image_id):
    assert is_plain_id(image_id)
