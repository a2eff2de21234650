import pytest

from pipeline.data.folders import ImageFolder
from pipeline.data.pairs import check_pairs, find_copies, have_suffixes, pair_ids, without_copy
from pipeline.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """``folder(*names)``: a listed folder with files of these names, each of its own content."""

    def make(*names):
        for name in names:
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())
        return ImageFolder.open(tmp_path / "photos")

    return make


def problem(ids, listed):
    with pytest.raises(DataError) as caught:
        pair_ids(ids, listed, "t.csv")
    return str(caught.value)


REASONS = [
    ("a.png", "a.jpg", "ids have other suffixes than their files: 'a.png' and 'a.jpg'"),
    ("a", "a.jpg.jpg", "ids have other suffixes than their files: 'a' and 'a.jpg.jpg'"),
    ("IMG_1", "img_1.jpg", "ids differ from the files' names in upper and lower case: 'IMG_1' and 'img_1.jpg'"),
    ("a ", "a.jpg", "ids have spaces or invisible characters around or in them: 'a ' and 'a.jpg'"),
    ("\ufeffa", "a.jpg", r"invisible characters around or in them: '\ufeffa' and 'a.jpg'"),
    ("a\xa0b", "a b.jpg", r"invisible characters around or in them: 'a\xa0b' and 'a b.jpg'"),
    ("train\\a.jpg", "a.jpg", r"ids are paths, where the file's name alone is needed: 'train\\a.jpg' and 'a.jpg'"),
    ("train/a", "a.jpg", "ids are paths, where the file's name alone is needed: 'train/a' and 'a.jpg'"),
    ("1", "0001.jpg", "ids have lost leading zeros or become decimal numbers, as in a spreadsheet: '1' and '0001.jpg'"),
    ("17.0", "17.jpg", "lost leading zeros or become decimal numbers, as in a spreadsheet: '17.0' and '17.jpg'"),
    ("1E+05", "100000.jpg", "as in a spreadsheet: '1E+05' and '100000.jpg'"),
    ("a b", "a%20b.jpg", "ids are percent-encoded, or their files' names are: 'a b' and 'a%20b.jpg'"),
    ("caf%C3%A9", "café.jpg", "ids are percent-encoded, or their files' names are: 'caf%C3%A9' and 'café.jpg'"),
    ("b'a'", "a.jpg", "ids are Python objects written as text: \"b'a'\" and 'a.jpg'"),
    ("['a.jpg']", "a.jpg", "ids are Python objects written as text: \"['a.jpg']\" and 'a.jpg'"),
    ("PosixPath('a')", "a.jpg", "ids are Python objects written as text: \"PosixPath('a')\" and 'a.jpg'"),
    ("Zoë", "ZoÃ«.jpg", "UTF-8 that was read as Windows-1252: 'Zoë' and 'ZoÃ«.jpg'"),
    ("Zoë", "Zo├½.jpg", "UTF-8 that was read as code page 437, by an unpacker: 'Zoë' and 'Zo├½.jpg'"),
    ("a", "a (1).jpg", "ids are those of files that are called like copies: 'a' and 'a (1).jpg'"),
    ("a", "a - Copy.jpg", "ids are those of files that are called like copies: 'a' and 'a - Copy.jpg'"),
    ("a b", "a_b.jpg", "ids differ from the files' names in spaces, hyphens or underscores: 'a b' and 'a_b.jpg'"),
    ("Train/A 1.PNG", "a-1.jpg", "differ from the files' names in several of these"),
    ("0001", "img_0001_sat.jpg", "ids are a part of the files' names: '0001' and 'img_0001_sat.jpg'"),
    ("0001", "IMG0001.jpg", "ids are a part of the files' names: '0001' and 'IMG0001.jpg'"),
    ("case1_a0_day", "a0.jpg", "ids have more in them than the files' names: 'case1_a0_day' and 'a0.jpg'"),
    ("a", "a.heic", "a.heic is there, which is not read"),
    ("a.jpg", "a.avif", "a.avif is there, which is not read"),
    ("a", "a.jpg ", "'a.jpg ' is there, which is not read"),
    ("a", "inner/a.jpg", "images must lie directly in the folder, and there is inner/a.jpg"),
    ("inner/a", "inner/a.jpg", "images must lie directly in the folder, and there is inner/a.jpg"),
    ("x\\y\\a.jpg", "x/y/a.jpg", "images must lie directly in the folder, and there is x/y/a.jpg"),
    ("a", "x/y/a.jpg", "images must lie directly in the folder, and there is x/y/a.jpg"),
]


@pytest.mark.parametrize(("image_id", "name", "reason"), REASONS)
def test_an_id_without_an_image_is_named_with_the_reason(folder, image_id, name, reason):
    message = problem(["other", image_id], folder("other.png", name))
    assert message.startswith("t.csv: 1 of the rows have no image: ")
    assert message.endswith(reason) if reason[-1] == "'" else reason in message


def test_the_reason_is_that_of_most_ids(folder):
    listed = folder("a1.jpg", "a2.jpg", "a3.jpg", "b.jpg.jpg", "x.jpg")
    assert problem(["A1", "A2", "A3", "b", "zz"], listed) == (
        "t.csv: 5 of the rows have no image: A1, A2, A3, b, zz; "
        "ids differ from the files' names in upper and lower case: 'A1' and 'a1.jpg', and 2 more alike"
    )


@pytest.mark.parametrize(("image_id", "name"), [("1", "10.jpg"), ("a", "ab.jpg"), ("9", "x.jpg"), ("a", "b.heic")])
def test_no_reason_is_better_than_a_wrong_one(folder, image_id, name):
    listed = folder(name)
    assert problem([image_id], listed).endswith(f"no image: {image_id}")


def test_two_ids_of_one_image_are_refused(folder):
    assert problem(["a", "a.jpg", "b"], folder("a.jpg", "b.jpg")) == "t.csv: ids of one image: a and a.jpg"


def test_pairs_and_whether_ids_have_suffixes(folder):
    listed = folder("a.jpg", "b.jpg", "c.png")
    found = pair_ids(["c.png", "a.jpg"], listed, "t.csv")
    assert found == {"c.png": listed.path / "c.png", "a.jpg": listed.path / "a.jpg"}
    assert have_suffixes(found)
    assert not have_suffixes(pair_ids(["c", "a", "b"], listed, "t.csv"))


def test_ids_that_end_like_files_are_not_the_whole_names_of_files_with_two_suffixes(folder):
    assert not have_suffixes(pair_ids(["a.jpg", "b.jpg"], folder("a.jpg.png", "b.jpg.png"), "t.csv"))


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("a (1)", "a"),
        ("a(2)", "a"),
        ("a - Copy", "a"),
        ("a - Copy (2)", "a"),
        ("a copy", "a"),
        ("a copy 3", "a"),
        ("Copy of a", "a"),
        ("a - Kopie", "a"),
        ("a", "a"),
        ("copy", "copy"),
        ("photocopy", "photocopy"),
        ("(1)", "(1)"),
    ],
)
def test_names_of_copies(name, original):
    assert without_copy(name) == original


def test_copies_are_copies_by_name_and_content(folder):
    listed = folder("a.jpg", "a (1).jpg", "b.jpg", "b - Copy.jpg", "c (1).jpg")
    (listed.path / "a (1).jpg").write_bytes((listed.path / "a.jpg").read_bytes())
    assert find_copies(listed.files, listed) == ["a (1).jpg of a.jpg"]


def test_images_and_masks_that_lack_each_other_are_both_named(folder):
    with pytest.raises(DataError) as caught:
        check_pairs(["A", "b", "c"], ["a", "b"], "mask", "masks", folder("A.jpg", "b.jpg", "c.jpg"))
    assert str(caught.value).splitlines() == [
        "masks: 2 of the images have no mask: A, c",
        "masks: 1 of the masks have no image: a; ids differ from the files' names in upper and lower case: 'a' and 'A'",
    ]
    with pytest.raises(DataError) as caught:
        check_pairs(["a", "a (1)"], ["a"], "mask", "masks", folder("a.jpg", "a (1).jpg"))
    assert str(caught.value) == (
        "masks: 1 of the images have no mask: a (1); a (1) by the name a copy of an image that has one"
    )
