import os
import unicodedata

import pytest
from PIL import Image

from pipeline.data.folders import APPLE_DOUBLE, ImageFolder, ImageSizes, beside, by_stem, list_images
from pipeline.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """``folder(*names)``: a folder with empty files of these names."""

    def make(*names):
        path = tmp_path / "photos"
        path.mkdir(exist_ok=True)
        for name in names:
            (path / name).touch()
        return path

    return make


def test_files_are_images_by_their_suffix_in_any_case(folder):
    path = folder("b.JPG", "a.jpeg", "c.Tif", ".hidden.png", "d.txt", "e")
    assert list(list_images(path)) == [".hidden.png", "a.jpeg", "b.JPG", "c.Tif"]
    assert ImageFolder.open(path).unread == {".txt": ["d.txt"], "without a suffix": ["e"]}


def test_what_systems_leave_is_no_image(folder):
    names = (".DS_Store", "Thumbs.db", "desktop.ini", "Icon\r", "a.jpg:Zone.Identifier", "._a.txt", ".gitkeep")
    path = folder("a.jpg", "._real.jpg", *names)
    for head in APPLE_DOUBLE:
        (path / "._a.jpg").write_bytes(head + b"\x00\x02\x00\x00")
        listed = ImageFolder.open(path)
        assert list(listed.files) == ["._real.jpg", "a.jpg"]
        assert listed.unread == {"left by the operating system or a program": sorted([*names, "._a.jpg"])}
    (path / "__MACOSX").mkdir()
    assert "__MACOSX" in ImageFolder.open(path).unread["left by the operating system or a program"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_folders_and_broken_links_with_an_images_name_are_not_read(folder):
    path = folder("a.jpg")
    os.mkfifo(path / "pipe.jpg")
    (path / "folder.jpg").mkdir()
    (path / "gone.jpg").symlink_to(path / "nothing")
    (path / "link.jpg").symlink_to(path / "a.jpg")
    listed = ImageFolder.open(path)
    assert list(listed.files) == ["a.jpg", "link.jpg"]
    assert listed.describe_unread() == (
        "2 neither files nor folders, or links to nothing (gone.jpg, pipe.jpg), 1 folder (folder.jpg)"
    )


def test_many_files_are_named_in_part_and_folders_with_their_images(folder):
    path = folder("a.jpg", *(f"{n}.heic" for n in range(5)))
    for name, count in (("one", 1), ("two", 2), ("none", 0)):
        (path / name).mkdir()
        for number in range(count):
            (path / name / f"{number}.png").touch()
    assert ImageFolder.open(path).describe_unread() == (
        "5 .heic (0.heic, 1.heic, 2.heic and 2 more), 3 folders (none, one with 1 image, two with 2 images)"
    )


def test_a_folder_without_images_names_what_is_there(folder):
    path = folder(".DS_Store")
    assert ImageFolder.open(path).need_images("data.test_images").files == {}
    (path / "photos").mkdir()
    (path / "photos/a.jpg").touch()
    with pytest.raises(DataError) as caught:
        ImageFolder.open(path).need_images("data.test_images")
    assert str(caught.value) == (
        f"{path}: no images in this folder, only 1 folder (photos with 1 image), 1 left by the operating system or a "
        f"program (.DS_Store); data.test_images names the one that the ids are of, such as {path / 'photos'}"
    )


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ("Train", "; there is Train"),
        ("train.zip", "; train.zip is there: unpack it"),
        ("TRAIN.tar.gz", "; TRAIN.tar.gz is there: unpack it"),
        ("train (1)", "; there is train (1)"),
        ("TRAIN_", "; there is TRAIN_"),
        ("other", ""),
    ],
)
def test_a_missing_folder_names_what_could_be_meant(tmp_path, there, hint):
    (tmp_path / there).mkdir()
    with pytest.raises(DataError) as caught:
        ImageFolder.open(tmp_path / "train")
    assert str(caught.value) == f"{tmp_path / 'train'}: no such folder of images{hint}"
    assert beside(tmp_path / "nowhere" / "train") == ""
    (tmp_path / "sampleSubmission.csv").touch()
    assert beside(tmp_path / "sample_submission.csv") == "; there is sampleSubmission.csv"
    with pytest.raises(DataError, match="is a file, not a folder of images"):
        ImageFolder.open(tmp_path / "sampleSubmission.csv")


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("a", "a.jpg"),
        ("a.jpg", "a.jpg"),
        ("b", "b.JPG"),
        ("b.jpg", "b.JPG"),
        ("b.JPG", "b.JPG"),
        ("c.jpg", "c.jpg.jpg"),
        ("v1.0", "v1.0.png"),
        ("A", None),
        ("a.png", None),
        ("a.", None),
        ("", None),
    ],
)
def test_an_id_is_a_files_name_with_or_without_its_suffix(folder, image_id, name):
    listed = ImageFolder.open(folder("a.jpg", "b.JPG", "c.jpg.jpg", "v1.0.png"))
    assert listed.find(image_id) == (name and listed.path / name)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_csv", ["NFC", "NFD"])
@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_an_id_may_be_in_another_unicode_form_than_its_file(folder, on_disk, in_csv, suffix):
    name = unicodedata.normalize(on_disk, "é한.jpg")
    listed = ImageFolder.open(folder(name))
    assert listed.find(unicodedata.normalize(in_csv, "é한") + suffix) == listed.path / name


def test_an_id_that_could_be_of_several_files_is_refused_only_if_it_is_asked_for(folder):
    both = [unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD")]
    listed = ImageFolder.open(folder("a.jpg", "a.png", *both))
    assert listed.find("a.png") == listed.path / "a.png"
    assert [listed.find(name).name for name in both] == both
    with pytest.raises(DataError, match=r"photos: several images have one id, a: a\.jpg and a\.png"):
        listed.find("a")
    with pytest.raises(DataError, match="several images have one id"):
        by_stem(listed.files)


def test_sizes_are_read_when_they_are_asked_for(folder):
    path = folder("broken.jpg")
    Image.new("L", (5, 3)).save(path / "a.png")
    sizes = ImageSizes(ImageFolder.open(path))
    assert (sizes.get("a"), sizes["a.png"], sizes.get("b")) == ((3, 5), (3, 5), None)
    assert (list(sizes), len(sizes)) == (["a.png", "broken.jpg"], 2)
    with pytest.raises(DataError, match=r"broken\.jpg"):
        sizes.get("broken")
