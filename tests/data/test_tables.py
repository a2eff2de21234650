"""The reader of tables with pandas: what pandas would take without a word is refused."""

import bz2
import gzip

import pytest

from pipeline.data.tables import read_table
from pipeline.errors import DataError

AS_TEXT = {"dtype": str, "keep_default_na": False}
PLAIN = b"id,rle\na,1 1\nb,\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", PLAIN),
        ("t.csv", PLAIN.replace(b"\n", b"\r\n")),
        ("t.csv", b"\xef\xbb\xbf" + PLAIN + b"\n\n"),
        ("t.csv", PLAIN.rstrip(b"\n") + b"\r"),
        ("t.csv.gz", gzip.compress(PLAIN, mtime=0)),
        ("t.csv", bz2.compress(PLAIN)),
    ],
)
def test_tables_are_read_packed_or_not(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    frame = read_table(path, **AS_TEXT)
    assert frame.to_dict("list") == {"id": ["a", "b"], "rle": ["1 1", ""]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"id,rle\na,1 1\nb\n", " row 3: 1 fields, but the header has 2"),
        (
            b"id,rle\n\na,1 1\n\x1a",
            " row 4: 1 fields, but the header has 2; a Ctrl-Z, which ends files under DOS: delete",
        ),
        (
            b"id,rle\na,1 1\n\0\0\0\0",
            " row 3: 1 fields, but the header has 2; zeros only: writing the file has been inter",
        ),
        (b"id,rle\na,1 1\n  \n", " row 3: 1 fields, but the header has 2; spaces only: delete the row"),
        (b"id,rle\ra,1 1\r", " row 1: a carriage return without a newline"),
        (b"id,rle\r\na,1 1\r\r\n", " row 2: a carriage return without a newline"),
        (b'a,b\n"x\ny\nz",1\n2,3\r4\n', " row 3: a carriage return without a newline"),
        (b"id;rle\na;1 1\n", ": the first line must name the columns, not 'id;rle' (columns are parted by semicolons"),
        (b"sep=,\nid,rle\na,1 1\n", ": the first line must name the columns, not 'sep=,' (a line for Excel only"),
        (b"<html>\n", ": the first line must name the columns, not '<html>' (the file is a web page"),
        ("id,rle\n".encode("utf-16"), ": not a text in UTF-8, but one in UTF-16 or no text at all"),
        (gzip.compress(PLAIN * 99, mtime=0)[:-9], ": a damaged gzip file: "),
        (b"PK\x03\x04\x14\0", ": a damaged zip file: File is not a zip file"),
        (b"", ": is empty; a table with a header is needed"),
    ],
)
def test_what_pandas_takes_without_a_word_is_refused(tmp_path, content, problem):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(path, **AS_TEXT)
    assert str(caught.value).startswith(f"{path}{problem}")


def test_fields_in_excess_are_found_where_their_columns_are_not_asked_for(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,note,rle\na,x,1 1\nb,an unquoted, comma,\n")
    with pytest.raises(DataError, match="3: 4 fields, but the header has 3"):
        read_table(path, usecols=["id"], **AS_TEXT)


def test_carriage_returns_within_quotes_are_left_alone(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(b'id\tnote\na\t"two\rlines"\nb\tx\n')
    assert read_table(path, sep="\t", **AS_TEXT)["note"].tolist() == ["two\rlines", "x"]
