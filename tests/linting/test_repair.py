"""`lint --fix` through the command line: no row, column or mask is lost, or nothing is written."""

import csv
import itertools

import numpy as np
import pytest

from pipeline.rle import encode


@pytest.fixture
def fix(command_line, tmp_path):
    """``fix(submission, sample, *words) -> (status, stdout, stderr, text of the corrected file or None)``."""

    def call(submission, sample=None, *words):
        files = {"submission": submission, "sample": sample}
        paths = {name: tmp_path / f"{name}.csv" for name in (*files, "fixed")}
        for name, text in files.items():
            if text is not None:
                paths[name].write_text(text, encoding="utf-8")
        paths["fixed"].unlink(missing_ok=True)
        with_sample = [] if sample is None else ["--sample", paths["sample"]]
        status, out, err = command_line("lint", paths["submission"], *with_sample, *words, "--fix", paths["fixed"])
        return status, out, err, paths["fixed"].read_bytes().decode() if paths["fixed"].exists() else None

    return call


def table(header, rows):
    """A CSV of dictionaries."""
    return "\n".join([",".join(header), *(",".join(row[name] for name in header) for row in rows)]) + "\n"


CLASSES = [
    {"ImageId": "a.jpg", "EncodedPixels": "", "ClassId": "1", "AttributesIds": "7"},
    {"ImageId": "a.jpg", "EncodedPixels": "5 3", "ClassId": "2", "AttributesIds": "8"},
    {"ImageId": "b.jpg", "EncodedPixels": "1 1 9 2", "ClassId": "1", "AttributesIds": "9"},
    {"ImageId": "b.jpg", "EncodedPixels": "", "ClassId": "2", "AttributesIds": ""},
]


def test_a_sample_with_a_placeholder_for_the_class_destroys_no_correct_file(fix):
    submission = "ImageId,EncodedPixels,ClassId\na.jpg,,1\na.jpg,5 3,2\n"
    status, out, err, fixed = fix(submission, "ImageId,EncodedPixels,ClassId\na.jpg,1 409600,0\n")
    assert (status, err, fixed) == (0, "", submission)
    assert "note: the sample names no class but '0', which is taken for a placeholder" in out
    assert "0 errors, 0 warnings" in out


@pytest.mark.parametrize("header", list(itertools.permutations(("ImageId", "EncodedPixels", "ClassId"))))
@pytest.mark.parametrize("with_sample", [False, True])
def test_columns_stay_where_they_are_and_classes_apart(fix, header, with_sample):
    rows = [{name: row[name] for name in header} for row in CLASSES]
    sample = table(header, [{**row, "EncodedPixels": ""} for row in rows]) if with_sample else None
    damaged = [{**row, "EncodedPixels": row["EncodedPixels"].replace("1 1 9 2", "9 2 1 1")} for row in rows]
    status, _, err, fixed = fix(table(header, damaged), sample)
    assert (status, err) == (0, "")
    assert fixed == table(header, rows)


def test_the_sample_gives_the_order_and_every_other_field_stays_with_its_row(fix):
    header = ("AttributesIds", "ClassId", "EncodedPixels", "ImageId")
    sample = [{**row, "EncodedPixels": "", "AttributesIds": "0"} for row in CLASSES]
    status, _, err, fixed = fix(table(tuple(CLASSES[0]), CLASSES[::-1]), table(header, sample))
    assert (status, err) == (0, "")
    assert fixed == table(header, CLASSES)


def test_a_column_that_tells_rows_apart_need_not_have_a_usual_name(fix):
    submission = "img,organ,runs\nb,k,1 1\nb,l,2 2\na,k,5 3\na,l,\n"
    status, _, err, fixed = fix(submission, "img,runs,organ\na,,l\na,,k\nb,,l\nb,,k\n")
    assert (status, err) == (0, "")
    assert fixed == "img,runs,organ\na,,l\na,5 3,k\nb,2 2,l\nb,1 1,k\n"


def test_columns_that_the_sample_lacks_are_kept_behind_their_neighbour(fix):
    status, out, err, fixed = fix("x,id,y,rle,z\n1,b,2,1 1,3\n4,a,5,2 2,6\n", "id,rle\na,\nb,\n")
    assert (status, err) == (0, "")
    assert fixed == "x,id,y,rle,z\n4,a,5,2 2,6\n1,b,2,1 1,3\n"
    assert "warning: columns that the sample does not have\n  evidence: x, y, z\n" in out


def test_columns_that_only_the_sample_has_are_an_error_and_take_its_values(fix):
    status, out, err, fixed = fix("id,rle\nb,1 1\na,2 2\n", "id,rle,confidence\na,,0.5\nb,,0.25\nc,,0.125\n")
    assert (status, err) == (0, "")
    assert "error: 1 of the sample's columns are missing\n  evidence: confidence\n" in out
    assert "fixed.csv, 1 rows added\n" in out
    assert fixed == "id,rle,confidence\na,2 2,0.5\nb,1 1,0.25\nc,,0.125\n"


def test_column_names_are_written_as_the_sample_has_them(fix):
    status, out, err, fixed = fix("ImageId,EncodedPixels\na,1 2\n", "ImageId, EncodedPixels\na,\n")
    assert (status, err, fixed) == (0, "", "ImageId, EncodedPixels\na,1 2\n")
    assert "error: the columns are ImageId, EncodedPixels\n  evidence: the sample has ImageId, ' EncodedPixels'" in out


def test_fields_with_commas_quotes_and_line_breaks_stay(fix):
    submission = 'id,note,rle\na,"x,y","3 1 1 1"\nb,"say ""no""\r\n",2 2\n'
    status, _, err, fixed = fix(submission)
    assert (status, err) == (0, "")
    assert list(csv.reader(fixed.splitlines(keepends=True)))[1:] == [
        ["a", "x,y", "1 1 3 1"],
        ["b", 'say "no"\r\n', "2 2"],
    ]


@pytest.mark.parametrize(
    ("submission", "lost"),
    [
        ("id,rle\na,1 1\nb,2 2\nx,3 3\n", "row 4 (id x), which is not in the sample"),
        ("id,rle\na,1 1\nx,\nb,2 2\n", "row 3 (id x), which is not in the sample"),
        ("id,rle\na,1 1\n,2 2\nb,\n", "row 3, which has no id or no class"),
        ("id,rle\na,1 1\nb,2 2,3\n", "row 3, which has not as many fields as the header"),
    ],
    ids=["another id", "another id without a mask", "no id", "ragged"],
)
def test_a_row_that_would_be_lost_is_named_and_nothing_is_written(fix, tmp_path, submission, lost):
    status, _, err, fixed = fix(submission, "id,rle\na,\nb,\n")
    assert (status, fixed) == (1, None)
    path = tmp_path / "submission.csv"
    assert err == f"error: {path}: cannot be fixed, it would lose {lost}: correct or remove such rows first\n"


def test_rows_that_differ_in_any_column_are_no_repetitions(fix):
    status, out, err, fixed = fix("id,rle,note\na,1 1,x\na,1 1,x\nb,2 2,\n")
    assert (status, err, fixed) == (0, "", "id,rle,note\na,1 1,x\nb,2 2,\n")
    assert "fixed.csv, 1 rows left out\n" in out
    status, _, err, fixed = fix("id,rle,note\na,1 1,x\na,1 1,y\nb,2 2,\n")
    assert (status, fixed) == (1, None)
    assert "row 3 (id a): an earlier row has another mask, or another field" in err


def test_objects_of_an_image_stay_apart(fix):
    """The sample has one row for some ids and several for others: rows are objects."""
    sample = "id,rle\na,1 1\na,3 1\nb,1 1\nc,1 1\n"
    status, out, err, fixed = fix("id,rle\nb,1 1\nb,5 2\nb,9 2\na,7 7\n", sample)
    assert (status, err) == (0, "")
    assert "error: 1 of the sample's 3 ids are missing\n  evidence: c\n" in out
    assert fixed == "id,rle\na,7 7\nb,1 1\nb,5 2\nb,9 2\nc,\n"


def test_as_many_rows_as_the_sample_has_of_each_id(fix):
    sample = "id,rle\n" + "".join(f"{name},\n" * 4 for name in "ab")
    rows = "".join(f"a,{number} 1\n" for number in (1, 3, 5, 7))
    status, _, err, fixed = fix(f"id,rle\n{'b,' + chr(10)}{rows}b,\nb,9 1\nb,\n", sample)
    assert (status, err) == (0, "")
    assert fixed == f"id,rle\n{rows}b,\nb,\nb,9 1\nb,\n"
    status, out, err, fixed = fix(f"id,rle\n{rows}b,\nb,9 1\nb,\n", sample)
    assert (status, fixed) == (1, None)
    assert "error: 1 ids have another number of rows than in the sample\n  evidence: b: 3 rows, not 4\n" in out
    assert "row 6 (id b): the id has 3 rows, the sample has 4 of it" in err


def test_columns_of_one_name_are_refused(fix):
    status, out, err, fixed = fix("id,note,rle,note\na,x,1 1,y\n")
    assert (status, fixed) == (1, None)
    assert "error: several columns of one name\n  evidence: note\n" in out
    assert "cannot be fixed: several columns are called note" in err


@pytest.mark.parametrize("minority", [1, 3])
def test_starts_and_ends_are_not_united_as_if_they_were_lengths(fix, minority):
    rows = [f"r{number},{number + 1} 2\n" for number in range(8)]
    rows += [f"e{number},100 110 130 140\n" for number in range(minority)]
    status, out, err, fixed = fix("id,rle\n" + "".join(rows))
    assert (status, fixed) == (1, None)
    assert "fix: write the row anew: its numbers may be starts and ends, not starts and lengths\n" in out
    assert "row 10 (id e0): cannot be fixed: runs overlap, and the numbers could be starts and ends" in err


def test_a_turned_file_with_an_image_of_unknown_size_is_refused(fix):
    y, x = np.mgrid[0:60, 0:30]
    rows = [f"i{n},{encode((np.hypot(y - 25 - n, x - 15) < 12).astype(np.uint8), 'carvana')},60,30" for n in range(8)]
    turned = "\n".join(["id,rle,height,width", *rows])
    status, out, err, fixed = fix(turned + "\nlast,1 5,,\n")
    assert "masks look written along the other direction" in out
    assert (status, fixed) == (1, None)
    assert "row 10 (id last): cannot be fixed: masks are to be turned, and the size of this image is not known" in err
    status, out, _, _ = fix(turned + "\n")
    assert status == 0
    assert "fixed.csv, all masks turned\n" in out


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda header, rows: (header, rows[:-1]), "a row, there are 2, not 3"),
        (lambda header, rows: (header[:-1], [row[:-1] for row in rows]), "a column, there are id, rle"),
        (lambda header, rows: (header, [[row[0], "", *row[2:]] for row in rows]), "the mask of row 2 (id a)"),
        (lambda header, rows: (header, [[*row[:2], "?"] for row in rows]), "a field of row 2 (id a)"),
        (lambda header, rows: (header, [["x", *row[1:]] for row in rows]), "the id of row 2 (id a)"),
    ],
    ids=["row", "column", "mask", "field", "id"],
)
def test_what_was_written_is_read_back_before_it_counts(fix, monkeypatch, damage, lost):
    from pipeline.rle.csv_files import write_rows as write

    def write_damaged(path, header, rows):
        write(path, *damage(header, list(rows)))

    monkeypatch.setattr("pipeline.linting.repair.write_rows", write_damaged)
    status, _, err, fixed = fix("id,rle,note\na,1 1,x\nb,2 2,y\nc,3 3,z\n")
    assert (status, fixed) == (1, None)
    assert f"not fixed, this would be lost: {lost}" in err


def test_the_file_that_the_sample_names_by_other_columns_is_read_by_those(fix):
    """Without usual names the first column that is nothing else would be taken for the masks."""
    status, _, err, fixed = fix("photo,sitter,runs\nb,s1,1 1\na,s2,2 2\n", "photo,runs\na,\nb,\n")
    assert (status, err, fixed) == (0, "", "photo,sitter,runs\na,s2,2 2\nb,s1,1 1\n")
    status, _, err, fixed = fix("photo,runs\nb,1 1\na,2 2\n", "photo,sitter,runs\na,s,\nb,t,\n")
    assert (status, err, fixed) == (0, "", "photo,sitter,runs\na,s,2 2\nb,t,1 1\n")
