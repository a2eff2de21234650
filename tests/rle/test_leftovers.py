"""Leftovers of other programs in tables are read where they can mean one thing only, or else named."""

import pytest

from pipeline import rle
from pipeline.rle.leftovers import explain_text

NOTHING = "what another program writes for nothing; an empty mask has no text"
SPACE = "another character than a space beside a number: "
CELLS = [
    ("[1, 3]", "a list as Python or NumPy writes it; join its numbers with spaces"),
    ("[1 3]", "a list as Python or NumPy writes it; join its numbers with spaces"),
    ("(1, 3)", "a list as Python or NumPy writes it; join its numbers with spaces"),
    ("array([1, 3])", "an object as Python prints it, not its numbers"),
    ("<map object at 0x7f>", "an object as Python prints it, not its numbers"),
    ("[1 3 ... 9 2]", "a text that pandas or NumPy has shortened for printing: numbers are missing"),
    ("1 3 ...", "a text that pandas or NumPy has shortened for printing: numbers are missing"),
    ("1 3\u2026", "a text that pandas or NumPy has shortened for printing: numbers are missing"),
    ("None", NOTHING),
    ("[]", NOTHING),
    ("<NA>", NOTHING),
    ("NULL", NOTHING),
    ("''", NOTHING),
    ("b'1 3'", "Python's bytes as a text: decode them before they are written"),
    ("'1 3'", "a text with quotation marks in it, as spreadsheets and str() add them"),
    ("\u201c1 3\u201d", "a text with quotation marks in it, as spreadsheets and str() add them"),
    ("{'counts': '1'}", "JSON, or a dict as Python writes it: take its counts"),
    ("1.0 3.0", "whole numbers as floats, as pandas writes a column with gaps: convert them to int"),
    ("1e+05 3", "a number in scientific notation, as spreadsheets and pandas write large ones"),
    ("1,000 3", "numbers with a mark between thousands"),
    ("1,3", "numbers with commas or semicolons between: part them by spaces"),
    ("12-Mar", "a date, as spreadsheets make of texts"),
    ("#NAME?", "an error that a spreadsheet shows in a cell"),
    ("########", "an error that a spreadsheet shows in a cell"),
    ("1 3\\n", "an end of a line or a tab, written out"),
    ("1\t3", SPACE + "U+0009 tab"),
    ("1 3\r\r", SPACE + "U+000D carriage return"),
    ("1\u00a03", SPACE + "U+00A0 no-break space"),
    ("1\u30003", SPACE + "U+3000 ideographic space"),
    ("1\u200b 3", SPACE + "U+200B zero width space"),
    ("\ufeff1 3", SPACE + "U+FEFF zero width no-break space"),
    ("\uff11 \uff13", "digits of another script: U+FF11 fullwidth digit one"),
    ("\u0661 3", "digits of another script: U+0661 arabic-indic digit one"),
    ("\u22121 3", "another sign than a minus: U+2212 minus sign"),
    ("1\x003", "zero bytes in a text: the file is damaged"),
    ("x 3", ""),
    ("1 3 x", ""),
    ("-", ""),
]


@pytest.mark.parametrize(("cell", "what"), CELLS)
def test_cells_are_named(tmp_path, cell, what):
    assert explain_text(cell, rle.get_format("kaggle")) == what
    path = tmp_path / "cells.csv"
    quoted = cell.replace('"', '""')
    path.write_text(f'id,rle\nb,1 1\na,"{quoted}"\n', encoding="utf-8", newline="")
    with pytest.raises(rle.RleError) as error:
        rle.read_csv(path)
    text = str(error.value)
    assert text.startswith(f"{path} row 3 (id a): token ")
    assert text.endswith(f": not a whole number ({what})" if what else ": not a whole number")


@pytest.mark.parametrize(
    ("fmt", "cell", "what"),
    [
        ("coco", "b'O2O'", "Python's bytes as a text"),
        ("coco", "None", NOTHING),
        ("coco", '{"size": [2, 2]}', "JSON, or a dict"),
        ("siim", "None", "what another program writes for nothing; in this format an empty mask is '-1'"),
        ("contrails", "[]", "what another program writes for nothing; in this format an empty mask is '-'"),
    ],
)
def test_cells_of_other_formats(tmp_path, fmt, cell, what):
    path = tmp_path / "cells.csv"
    quoted = cell.replace('"', '""')
    path.write_text(f'id,rle\na,"{quoted}"\n')
    with pytest.raises(rle.RleError) as error:
        rle.read_csv(path, fmt)
    assert f"({what}" in str(error.value)


BEGIN = "the first line must name an id and an RLE column, with a comma between, not "
HEADERS = [
    (
        b"id;rle\na;1 1\n",
        f"{BEGIN}'id;rle' (columns are parted by semicolons, as some spreadsheets do: save it with comm",
    ),
    (b"id\trle\na\t1 1\n", "(columns are parted by tabs, as some"),
    ("id\uff0crle\n".encode(), "(columns are parted by full-width commas"),
    (b"sep=,\nid,rle\na,1 1\n", f"{BEGIN}'sep=,' (a line for Excel only: delete it)"),
    (b'"sep=,"\nid,rle\n', "(a line for Excel only: delete it)"),
    (b"sep=;\r\nid;rle\r\n", "(a line for Excel only: delete it)"),
    (b"id,rle\ra,1 1\r", "(lines end with carriage returns alone, as on old Macs"),
    (b"\nid,rle\na,1 1\n", "(the first line is blank)"),
    (b"<!DOCTYPE html>\n<html>", "(the file is a web page, of an error or of a login"),
    (b'[{"id": "a", "rle": "1 1"}]', "(the file is JSON)"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "(the file is a pointer of Git LFS"),
    ("id,rle\n".encode("utf-16"), "(a text in UTF-16, as Excel's 'Unicode text' is; save it as CSV in UTF-8)"),
    ("id,rle\n".encode("utf-16-le"), "(a text in UTF-16 without its mark"),
    ("id,rle\n".encode("utf-16-be"), "(a text in UTF-16 without its mark"),
    ("id,rle,h\u00f6he\n".encode("cp1252"), "(a text in another encoding, such as Windows-1252"),
    (b"PAR1\x15\x04\n", "(a Parquet file; convert it with pandas"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\n", "(an old Excel workbook; save it as CSV)"),
    (b"%PDF-1.4\n", "(a PDF)"),
    (b"\x89PNG\r\n\x1a\n", "(a PNG image)"),
    (b"\0" * 4096, "(nothing but zeros: writing it has been interrupted, or the disk was full)"),
]


@pytest.mark.parametrize(("content", "what"), HEADERS)
def test_other_kinds_of_files_are_named(tmp_path, content, what):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    for read in (rle.read_csv, rle.read_column_names, rle.find_class_column):
        with pytest.raises(rle.RleError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")
        assert what in str(error.value)


FIELDS = "1 fields, but the header has 2; "
ROWS = [
    (b"\x1a", f"row 4: {FIELDS}a Ctrl-Z, which ends files under DOS: delete it"),
    (b"\x1a\r\n", f"row 4: {FIELDS}a Ctrl-Z, which ends files under DOS: delete it"),
    (b"\0\0\0\0", f"row 4: {FIELDS}zeros only: writing the file has been interrupted, or the disk was full"),
    (b"   \n", f"row 4: {FIELDS}spaces only: delete the row"),
    (b"\n\n\xc2\xa0\n", f"row 6: {FIELDS}spaces only: delete the row"),
    (b"b;1 1\n", f"row 4: {FIELDS}fields are parted by semicolons here"),
    (b"<<<<<<< HEAD\nb,\n", f"row 4: {FIELDS}a mark of a conflict in Git"),
    (b"b 1 1\n", "row 4: 1 fields, but the header has 2"),
    (b",\n", "row 4: the id is empty, as is all else in the row: delete it"),
    (b",1 1\n", "row 4: the id is empty"),
    (b"id,rle\nb,1 1\n", "row 4 (id id): token 1 'rle': not a whole number (the header once more: were files joined?)"),
    (b"b\xe9,1 1\n", r"row 4: not UTF-8: b'b\xe9'"),
]


@pytest.mark.parametrize(("row", "what"), ROWS)
def test_rows_are_named(tmp_path, row, what):
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,rle\na,1 1\n\n" + row)
    with pytest.raises(rle.RleError) as error:
        rle.read_csv(path)
    assert str(error.value) == f"{path} {what}"


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"id,rle\na,1 1\nb,\n\n\r\n\n", ["a", "b"]),
        (b",id,rle\n0,a,1 1\n1,b,\n", ["a", "b"]),  # the numbers that pandas writes in front
        (b"Unnamed: 0.1,Unnamed: 0,id,runs\n0,0,a,1 1\n1,1,b,\n", ["a", "b"]),
        (b",rle\na,1 1\nb,\n", ["a", "b"]),  # ids that were made the index
        (b"photo,runs,,\na,1 1,,\nb,,,\n", ["a", "b"]),  # the empty columns of a spreadsheet
        (b"\xef\xbb\xbf\xef\xbb\xbfid,rle\na,1 1\nb,\n", ["a", "b"]),  # saved as "CSV UTF-8" twice
        (b'\xef\xbb\xbf"id" , rle\xe2\x80\x8b \r\na,1 1\r\nb,nan\r\n', ["a", "b"]),
        ("id\u00a0,rle\n\u5b57,1 1\ncaf\u00e9,\n".encode(), ["\u5b57", "caf\u00e9"]),
    ],
)
def test_what_can_mean_one_thing_only_is_read(tmp_path, content, ids):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    table = rle.read_csv(path)
    assert (table.ids, table.edges.tolist()) == (ids, [0, 1])


@pytest.mark.parametrize(("most", "program"), [(255, "an old spreadsheet"), (1024, "a database"), (4000, "a database")])
def test_several_texts_that_end_at_a_length_in_use_are_refused(tmp_path, most, program):
    """One may be so long by chance, and equal ones are one."""
    texts = [f"{'9'.zfill(most - 2 - len(str(first)))[: most - 2]} {first}" for first in range(1, 4)]
    texts = [text.zfill(most) for text in texts]
    path = tmp_path / "t.csv"
    rle.write_csv(path, list("abcd"), ["1 1", *texts])
    with pytest.raises(rle.RleError) as error:
        rle.read_csv(path)
    assert f"t.csv row 3 (id b): the text has {most} characters, and none has more: {program}" in str(error.value)
    for others in (["1 1", *texts[:2]], [texts[0]] * 3, [f"0{texts[0]}", *texts[:2]]):
        rle.write_csv(path, list("abc"), others)
        assert rle.read_csv(path).ids == ["a", "b", "c"]


@pytest.mark.parametrize("header", [",name,rle", "Unnamed: 0,name,runs", ",score,mask"])
def test_an_index_that_may_be_the_ids_or_not_is_not_guessed(tmp_path, header):
    path = tmp_path / "t.csv"
    path.write_text(header + "\n0,a,1 1\n1,b,\n")
    first, other, runs = header.split(",")
    for read in (rle.read_csv, rle.read_column_names):
        with pytest.raises(rle.RleError) as error:
            read(path)
        assert f"t.csv: are the ids in the column {first!r}, or is that pandas' count of the rows, " in str(error.value)
        assert f"they are in {other!r}? Name the columns" in str(error.value)
    assert rle.read_csv(path, columns=(other, runs)).ids == ["a", "b"]


@pytest.mark.parametrize(("most", "program"), [(32_767, "Excel"), (65_535, "older LibreOffice")])
def test_texts_that_a_spreadsheet_has_cut_off_are_refused(tmp_path, most, program):
    """Even where what is left is a text of runs."""
    whole = " ".join(f"{10 * run + 10000000} 1" for run in range(6000))[:most].rpartition(" 1 ")[0]
    cut = whole + " " + "1".zfill(most - len(whole) - 1)  # leading zeros fill it up
    assert len(cut) == most
    path = tmp_path / "t.csv"
    path.write_text(f"id,rle\na,1 1\nb,{cut}\n")
    with pytest.raises(rle.RleError) as error:
        rle.read_csv(path)
    assert f"t.csv row 3 (id b): the text has {most} characters, and none has more: {program} cuts off" in str(
        error.value
    )
    path.write_text(f"id,rle\na,1 1\nb,{cut} \n")  # as the message says, if the text is whole
    assert rle.read_csv(path).ids == ["a", "b"]
    path.write_text(f"id,rle\na,1 1\nb,{cut}\n")
    assert rle.read_csv(path, own=True).ids == ["a", "b"]
    path.write_text(f"id,rle\na,{cut}1\nb,{cut}\n")  # another is longer: nothing was cut
    assert rle.read_csv(path).ids == ["a", "b"]
