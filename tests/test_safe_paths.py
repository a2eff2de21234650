import pytest

from pipeline.errors import DataError
from pipeline.safe_paths import join_inside


@pytest.mark.parametrize(
    "name", ["a.jpg", "a/b.jpg", "./a", "a//b", "a~", "..a", "a..b", "é 字/$x`.jpg", "-rf", "ab:c", "%2e%2e"]
)
def test_a_name_below_a_folder_is_joined_to_it(tmp_path, name):
    assert join_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *[(name, "it is empty") for name in ("", ".", "/", "./")],
        *[(name, "it is absolute") for name in ("/etc/passwd", "//host/x", "\\\\host\\x")],
        *[(name, r"it contains '\.\.'") for name in ("..", "../x", "a/../b", "a/..", "a\\..\\b")],
        *[(name, "it starts with a drive letter") for name in ("C:/x", "c:x", "Z:")],
        *[(name, "it starts with ~") for name in ("~", "~/x", "~root/x")],
        *[(name, "it has a control character") for name in ("a\x00b", "a\nb", "\x7f", "a/\x1b[2J")],
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name, reason):
    with pytest.raises(DataError, match=f"cannot be a name below .*: {reason}"):
        join_inside(tmp_path, name)


def test_links_are_followed_before_it_is_said_where_a_name_leads(tmp_path):
    folder = tmp_path / "folder"
    (folder / "own").mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    (folder / "inner").symlink_to("own")
    (folder / "outer").symlink_to("..")
    (folder / "file").symlink_to("/etc/passwd")
    (folder / "circle").symlink_to("circle")
    assert join_inside(tmp_path / "link", "own/a") == tmp_path / "link" / "own" / "a"
    assert join_inside(folder, "inner/a") == folder / "inner" / "a"
    for name in ("outer/a", "file"):
        with pytest.raises(DataError, match="a link leads to"):
            join_inside(folder, name)
    with pytest.raises(DataError, match="circle"):
        join_inside(folder, "circle/a")
