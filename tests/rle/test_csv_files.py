"""CSV files of RLE texts: what is read, what is written, and what each fault is called."""

import csv
import gzip
import re
import tracemalloc
from contextlib import suppress
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import rle
from pipeline.rle import kernels

ROWS = {"0015": [0, 3, 9, 14], "b": [], "c,d": [75, 76]}
PLAIN = 'image_id,rle\n0015,1 3 10 5\nb,\n"c,d",76 1\n'


def write(folder: Path, content: str | bytes, name: str = "train.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def masks(table: rle.RleTable) -> dict[str, list[int]]:
    return {id: table[i].tolist() for i, id in enumerate(table.ids)}


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r\n").rstrip("\r\n"),
        "\ufeff" + PLAIN,
        PLAIN.replace("1 3 10 5", '"1 3 10 5"').replace("b,", 'b,""'),
        PLAIN.replace("1 3 10 5", "  1 3  10 5 ").replace("b,", "b, "),
        PLAIN.replace("b,", "b,nan"),
        PLAIN.replace("b,", "b,NaN"),
        PLAIN.replace("\n", "\n\n").replace("image_id,rle\n\n", "image_id,rle\n"),
        PLAIN.replace("image_id,rle", "ImageId, EncodedPixels"),
        PLAIN.replace("image_id,rle", '"id","rle_mask"'),
        PLAIN.replace("image_id,rle", "first,second"),
        'rle,note,id\n1 3 10 5,"a ""quoted"", note\nof two lines",0015\n,,b\n76 1,"5""","c,d"\n',
        'rle,note,id\n1 3 10 5,it is 5" long,0015\n,,b\n76 1,"","c,d"\n',
        gzip.compress(PLAIN.encode(), mtime=0),
    ],
)
def test_variants_of_one_file(tmp_path, content):
    table = rle.read_csv(write(tmp_path, content), shape=(8, 10))
    assert masks(table) == ROWS
    assert table.ids == list(ROWS)
    assert table.heights.tolist() == [8, 8, 8]
    assert table.widths.tolist() == [10, 10, 10]


def test_a_file_without_rows(tmp_path):
    for content in ("image_id,rle", "image_id,rle\n", "image_id,rle\r\n\r\n"):
        table = rle.read_csv(write(tmp_path, content))
        assert len(table) == 0
        assert table.offsets.tolist() == [0]
        assert rle.areas(table).tolist() == []


def test_rows_of_an_id_are_united_only_where_that_is_asked_for(tmp_path):
    content = "id,rle\na,1 3\nb,5 5\na,\na,10 2 20 1\nb,8 4\nc,\na,2 9\n"
    table = rle.read_csv(write(tmp_path, content), unite=True)
    assert masks(table) == {"a": [0, 11, 19, 20], "b": [4, 11], "c": []}
    with pytest.raises(rle.RepeatedIdsError) as error:
        rle.read_csv(tmp_path / "train.csv")
    assert str(error.value) == (
        f"{tmp_path}/train.csv: 2 ids have several rows: a (rows 2, 4, 5 and 1 more), b (rows 3, 6)"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("id,rle\na,1 1\na,1 1\n", "1 id has several rows: a (rows 2, 3)"),  # the very same mask, too
        (
            "subject,img,pixels\n1,1,1 1\n1,2,\n2,1,2 2\n2,2,\n",
            "2 ids have several rows: 1 (rows 2, 4), 2 (rows 3, 5); no two rows have the same id and 'subject'",
        ),
        (
            "image,name,pixels\nx,a,1 1\nx,b,2 2\ny,c,\n",
            "1 id has several rows: x (rows 2, 3); in the column 'name' each row has a value of its own",
        ),
        (
            'id,note,ClassId,rle\nx,"a""b",1,1 1\nx,"a""b",2,2 2\n\nx,,3,3 3\n',
            "1 id has several rows: x (rows 2, 3, 5); in the column 'ClassId' each row has a value of its own",
        ),
        ('id,bad,rle\nx,"a"b,1 1\nx,c,2 2\n', "1 id has several rows: x (rows 2, 3)"),
        (
            "id,rle\n" + "".join(f"{letter},\n" * 2 for letter in "abcde"),
            "5 ids have several rows: a (rows 2, 3), b (rows 4, 5), c (rows 6, 7) and 2 more",
        ),
    ],
)
def test_repeated_ids_are_named_with_what_tells_their_rows_apart(tmp_path, content, reason):
    path = write(tmp_path, content)
    with pytest.raises(rle.RepeatedIdsError) as error:
        rle.read_csv(path)
    assert str(error.value) == f"{path}: {reason}"


@given(
    rows=st.lists(
        st.tuples(st.sampled_from("aab"), st.lists(st.integers(0, 40), max_size=12, unique=True).map(sorted)),
        max_size=20,
    ),
    first=st.sampled_from([0, 2**32 - 1 - 40]),
)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_any_rows_of_an_id_have_the_union_of_their_pixels(tmp_path_factory, rows, first):
    """Up to the last pixel that an image can have."""
    runs = [(id, list(zip(edges[::2], edges[1::2], strict=False))) for id, edges in rows]
    texts = [" ".join(f"{first + start + 1} {end - start}" for start, end in of_row) for _, of_row in runs]
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    rle.write_csv(path, [id for id, _ in rows], texts)
    pixels = {id: set() for id, _ in rows}
    for id, of_row in runs:
        pixels[id].update(*(range(start, end) for start, end in of_row))
    expected = {
        id: [first + at for at in range(42) if (at in united) != (at - 1 in united)] for id, united in pixels.items()
    }
    assert masks(rle.read_csv(path, unite=True)) == expected


def test_very_many_rows_of_an_id_take_a_moment(tmp_path):
    rows = np.random.default_rng(0).permutation(200_000)
    path = write(tmp_path, "id,rle\n" + "".join(f"a,{2 * row + 1} 1\n" for row in rows))
    begin = process_time()
    assert np.array_equal(rle.read_csv(path, unite=True)[0], np.arange(400_000))
    assert process_time() - begin < 20  # a second; looking at all rows for each edge took minutes


@given(content=st.text("\n\n\r\rab", max_size=300), begin=st.integers(0, 300))
@settings(max_examples=500, deadline=None, derandomize=True, database=None)
def test_lines_are_counted_as_python_splits_them(content, begin):
    begin = min(begin, len(content))
    data = np.frombuffer(bytearray(content.encode()) + bytes(kernels.BLOCK), np.uint8)
    lines = content[begin:].split("\n")[:-1]
    assert kernels.count_lines(data, begin, len(content)) == sum(line not in ("", "\r") for line in lines)


def peak_of(path: Path) -> int:
    """The most bytes that reading a file, or refusing it, takes at once."""
    with suppress(rle.RleError):
        rle.read_csv(write(path.parent, "id,rle\na,1 3\nb,x\n", "small.csv"))  # loads the kernels
    tracemalloc.start()
    try:
        with suppress(rle.RleError):
            rle.read_csv(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_blank_lines_take_no_memory(tmp_path):
    path = write(tmp_path, "id,rle\n\na,1 3\n" + "\n" * 2_000_000 + "\r\n" * 1_000_000 + "b,x\n")
    with pytest.raises(rle.RleError, match=r"row 3000004 \(id b\): token 1 'x'"):
        rle.read_csv(path)
    assert peak_of(path) < 2 * path.stat().st_size


def test_a_wrong_token_in_a_long_text_takes_little_more_memory_than_a_right_one(tmp_path):
    text = " ".join(f"{start} 1" for start in range(1, 200_001, 2))
    right, wrong = write(tmp_path, f"id,rle\na,{text}\n", "right.csv"), write(tmp_path, f"id,rle\na,{text[:-1]}x\n")
    with pytest.raises(rle.RleError, match=r"row 2 \(id a\): token 200000 'x': not a whole number$"):
        rle.read_csv(wrong)
    assert peak_of(wrong) < peak_of(right) + 2 * len(text)


def test_columns_and_sizes(tmp_path):
    path = write(tmp_path, "h,w,key,note,code\n2,3,a,x,2 5\n,,b,x,99 1\n2,3,a,y,1 1\n")
    table = rle.read_csv(path, columns=("key", "code"), unite=True)
    assert masks(table) == {"a": [0, 6], "b": [98, 99]}
    assert table.heights.tolist() == [2, 0]
    assert table.widths.tolist() == [3, 0]
    table = rle.read_csv(path, columns=("key", "code"), unite=True, size_columns=("w", "h"))
    assert table.heights.tolist() == [3, 0]
    table = rle.read_csv(path, columns=("key", "code"), unite=True, sizes={"a": (10, 10), "b": (33, 3)})
    assert table.heights.tolist() == [10, 33]
    table = rle.read_csv(path, columns=("key", "code"), unite=True, shape=(100, 100))
    assert table.widths.tolist() == [100, 100]


@pytest.mark.parametrize("name", rle.FORMATS)
def test_every_format(tmp_path, name):
    shape = (20, 70)
    rng = np.random.default_rng(5)
    pixels = [rng.random(shape) < density for density in (0, 0.1, 0.9, 1)]
    ids = [f"{i:04}" for i in range(len(pixels))]
    rle.write_csv(tmp_path / "x.csv", ids, [rle.encode(mask, name) for mask in pixels])
    table = rle.read_csv(tmp_path / "x.csv", name, shape=shape)
    assert masks(table) == {id: rle.to_edges(mask).tolist() for id, mask in zip(ids, pixels, strict=True)}


def test_siim_as_published(tmp_path):
    """A space after the comma, in the header too."""
    table = rle.read_csv(write(tmp_path, "ImageId, EncodedPixels\n1.2.3, -1\n1.2.4, 5 2 1 3\n"), "siim")
    assert masks(table) == {"1.2.3": [], "1.2.4": [5, 7, 8, 11]}


def test_a_first_row_too_long_for_a_header(tmp_path):
    with pytest.raises(
        rle.RleError, match="the first line must name an id and an RLE column, with a comma between, not 'a,1 1"
    ):
        rle.read_csv(write(tmp_path, "a," + " ".join(f"{2 * i + 1} 1" for i in range(30_000)) + "\nb,\n"))


@given(
    ids=st.lists(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1),
        unique=True,
    )
)
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_round_trip(tmp_path_factory, ids):
    """Any id survives, and Python's own reader sees the same."""
    path = tmp_path_factory.mktemp("csv") / "ids.csv"
    texts = [f"{i + 1} 1 {i + 3} 7" if i % 3 else "" for i in range(len(ids))]
    rle.write_csv(path, ids, texts, columns=("Id", "EncodedPixels"))
    table = rle.read_csv(path)
    assert table.ids == ids
    assert [rle.edges_to_text(table[i], None) for i in range(len(table))] == texts
    with open(path, newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["Id", "EncodedPixels"], *map(list, zip(ids, texts, strict=True))]


def test_many_rows_around_the_blocks_of_64_bytes(tmp_path):
    rng = np.random.default_rng(1)
    for length in range(20):
        starts = [rng.integers(1, 9, rng.integers(0, 30)) for _ in range(50)]
        texts = [" ".join(f"{s} 1" for s in np.cumsum(start + 1)) for start in starts]
        ids = [f"{i}" + "x" * (length * i % 67) for i in range(50)]
        rle.write_csv(tmp_path / "x.csv", ids, texts)
        table = rle.read_csv(tmp_path / "x.csv")
        assert table.ids == ids
        assert [rle.edges_to_text(table[i], None) for i in range(50)] == texts


def test_on_several_threads(tmp_path, monkeypatch):
    """Each writes to its own part of the edges; runs that touch are merged, and leave gaps between the parts."""
    monkeypatch.setattr("pipeline.rle.threads.WORTH_A_THREAD", 1)
    monkeypatch.setattr("pipeline.rle.threads.available_cores", lambda: 4)
    expected = {f"{i:03d}": [] if i % 7 == 0 else [10 + i % 5, 30, 40, 41 + i] for i in range(100)}
    texts = [f"{e[0] + 1} 4 {e[0] + 5} {26 - e[0]} 41 {e[3] - 40}" if e else "" for e in expected.values()]
    rle.write_csv(tmp_path / "a.csv", list(expected), texts)
    table = rle.read_csv(tmp_path / "a.csv")
    assert masks(table) == expected
    areas = [sum(e[1::2]) - sum(e[::2]) for e in expected.values()]
    assert rle.areas(table).tolist() == rle.intersections(table, table).tolist() == areas
    texts[90] = "5 0"
    rle.write_csv(tmp_path / "a.csv", list(expected), texts)
    with pytest.raises(rle.RleError, match=re.escape("/a.csv row 92 (id 090): token 2 '0'")):
        rle.read_csv(tmp_path / "a.csv")


HEADER = "image_id,rle,height,width\n"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (HEADER + "a,1 3,8,10\n0015,1 1 5 1 76 7,8,10\n", {},
         "train.csv row 3 (id 0015): token 6 '7': run ends at pixel 82, the image 8x10 has 80 pixels"),
        (HEADER + "\n\na,1 x,8,10\n", {}, "train.csv row 4 (id a): token 2 'x': not a whole number"),
        (HEADER + 'a,"1 ""3""",8,10\n', {}, "train.csv row 2 (id a): token 2 '\"\"3\"\"': not a whole number"),
        (HEADER + "a,-,8,10\n", {}, "train.csv row 2 (id a): token 1 '-': not a whole number"),
        (HEADER + "a,é 1,8,10\n", {}, "train.csv row 2 (id a): token 1 'é': not a whole number"),
        (HEADER + "a,1 3,8,10\n,1 3,8,10\n", {}, "train.csv row 3: the id is empty"),
        (HEADER + "a,1 3,8\n", {}, "train.csv row 2: 3 fields, but the header has 4"),
        (HEADER + "a,1,3,8,10\n", {}, "train.csv row 2: 5 fields, but the header has 4"),
        (HEADER + 'a,1 3,8,10\nb,"1 3,8,10\nc,1 3,8,10\n', {},
         "train.csv row 3: a quote is opened and never closed"),
        (HEADER + '"a"b,1 3,8,10\n', {}, "train.csv row 2: text after the closing quote in b'\"a\"b'"),
        (HEADER + '"a"b"c",1 3,8,10\n', {}, "train.csv row 2: text after the closing quote in b'\"a\"b\"c\"'"),
        (HEADER + "a\rb,1 3,8,10\n", {}, "train.csv row 2: a carriage return without a newline in b'a\\rb'"),
        (HEADER + "a,1 3,8.0,10\n", {},
         "train.csv row 2: a height or width must be a positive whole number, not '8.0'"),
        (HEADER + "a,1 3,0,10\n", {},
         "train.csv row 2: a height or width must be a positive whole number, not '0'"),
        (HEADER + "a,1 3,8," + "1" * 5000 + "\n", {},
         f"train.csv row 2: a height or width must be a positive whole number, not '{'1' * 40}'"),
        (HEADER + "a,1 3,,10\n", {}, "train.csv row 2 (id a): an image of 0x10 has no pixels"),
        (HEADER + "a,1 3,99999,99999\n", {},
         "train.csv row 2 (id a): an image of 99999x99999 has more than 4294967295 pixels"),
        (HEADER + "a,1 3,8,10\na,1 3,10,8\n", {},
         "train.csv row 3 (id a): the image is 10x8 here, but 8x10 in row 2"),
        (PLAIN, {"fmt": "carvana"},
         "train.csv row 2 (id 0015): format carvana needs the image's shape (height, width)"),
        (PLAIN, {"fmt": "carvana", "sizes": {"b": (5, 5), "0015": (3, 3)}},
         "train.csv row 2 (id 0015): token 4 '5': run ends at pixel 14, the image 3x3 has 9 pixels"),
        (PLAIN, {"columns": ("id", "rle")}, "train.csv: no column 'id'; the columns are image_id, rle"),
        (PLAIN, {"size_columns": ("height", "width")},
         "train.csv: no column 'height'; the columns are image_id, rle"),
        ("id,rle,rle\na,1 1,1 1\n", {"columns": ("id", "rle")},
         "train.csv: several columns 'rle'; the columns are id, rle, rle"),
        ("id\n1\n", {}, "train.csv: the first line must name an id and an RLE column, with a comma between, not 'id'"),
        ("", {}, "train.csv: the first line must name an id and an RLE column, with a comma between, not ''"),
        ("0015,1 3\nb,\n", {},
         "train.csv: the first line must name an id and an RLE column, with a comma between, not '0015,1 3'"),
        (PLAIN, {"fmt": "kagle"}, "unknown RLE format 'kagle'; did you mean 'kaggle'? Known: "
         + ", ".join(rle.FORMATS)),
        (PLAIN, {"shape": (0, 5)}, "an image of 0x5 has no pixels"),
    ],
)  # fmt: skip
def test_faults(tmp_path, content, options, message):
    with pytest.raises(rle.RleError) as error:
        rle.read_csv(write(tmp_path, content), **options)
    assert str(error.value).removeprefix(f"{tmp_path}/") == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,rle\na\xff,1 1\n", r"train.csv row 2: not UTF-8: b'a\xff'"),
        (b"id,rle\na,1 \xff\n", "train.csv row 2 (id a): token 2 '\ufffd': not a whole number"),
        (
            "id,rle".encode("utf-16"),
            "train.csv: not a text in UTF-8, but one in UTF-16 or no text at all: it begins b'",
        ),
        (
            "id,rle".encode("utf-16-le"),
            r"train.csv: not a text in UTF-8, but one in UTF-16 or no text at all: it begins "
            r"b'i\x00",
        ),
        (b"\x89PNG\r\n", r"train.csv: not a text in UTF-8, but one in UTF-16 or no text at all: it begins b'\x89PNG"),
    ],
)
def test_bytes_that_are_not_utf8(tmp_path, content, message):
    with pytest.raises(rle.RleError, match=re.escape(f"{tmp_path}/{message}")):
        rle.read_csv(write(tmp_path, content))


def test_as_many_texts_as_ids(tmp_path):
    with pytest.raises(rle.RleError, match="differ in number"):
        rle.write_csv(tmp_path / "x.csv", ["a", "b"], ["1 1"])


def test_tables_that_are_not_aligned(tmp_path):
    table = rle.read_csv(write(tmp_path, PLAIN))
    assert rle.intersections(table, table).tolist() == [8, 0, 1]
    with pytest.raises(rle.RleError, match="tables of 3 and 3 rows differ in their ids or the ids' order"):
        rle.intersections(table, table.take([2, 1, 0]))


def test_rows_of_a_table(tmp_path):
    table = rle.read_csv(write(tmp_path, PLAIN))
    assert table[-1].tolist() == [75, 76]
    assert [len(edges) for edges in table] == [4, 0, 2]
    assert len(table.take([])) == 0
    for bad in (3, -4):
        with pytest.raises(IndexError):
            table[bad]
        with pytest.raises(IndexError):
            table.take([bad])


def test_sizes_are_written_as_columns_that_are_found_again(tmp_path):
    path = tmp_path / "sized.csv"
    rle.write_csv(path, ["a", "b"], ["1 3", ""], ("img", "mask"), sizes=[(4, 5), (6, 7)])
    assert path.read_text() == "img,mask,height,width\na,1 3,4,5\nb,,6,7\n"
    table = rle.read_csv(path)
    assert (table.heights.tolist(), table.widths.tolist()) == ([4, 6], [5, 7])
    assert rle.read_column_names(path) == ("img", "mask")
    with pytest.raises(rle.RleError, match="differ in number"):
        rle.write_csv(path, ["a", "b"], ["1 3", ""], sizes=[(4, 5)])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_column_names_are_found_as_the_reader_finds_them(tmp_path, pack):
    path = tmp_path / "named.csv"
    path.write_bytes(pack(b"\xef\xbb\xbfheight,EncodedPixels,ImageId\r\n4,1 1,a\r\n"))
    assert rle.read_column_names(path) == ("ImageId", "EncodedPixels")
    assert rle.read_column_names(path, ("ImageId", "height")) == ("ImageId", "height")
    with pytest.raises(rle.RleError, match="no column 'id'"):
        rle.read_column_names(path, ("id", "height"))


WITH_CLASSES = "id,class,segmentation\nu1,large,1 3\nu1,small,\nu2,small,5 2\nu2,large,9 1\nu1,large,7 1\n"


@pytest.mark.parametrize(
    "content",
    [
        WITH_CLASSES,
        WITH_CLASSES.replace("id,class,segmentation", "ImageId,ClassId,EncodedPixels").replace("\n", "\r\n"),
        WITH_CLASSES.replace("id,class,segmentation", "key,label,runs"),
        WITH_CLASSES.replace("large", '"large"'),
        "".join(",".join([text, "x", name, key]) + "\n" for key, name, text in csv.reader(WITH_CLASSES.splitlines())),
    ],
)
def test_an_image_has_a_mask_for_each_class(tmp_path, content):
    path = write(tmp_path, content)
    name = rle.find_class_column(path)
    table = rle.read_csv(path, class_column=name, sizes={"u1": (2, 5), "u2": (5, 2)}, unite=True)
    assert masks(table) == {"u1/large": [0, 3, 6, 7], "u1/small": [], "u2/small": [4, 6], "u2/large": [8, 9]}
    assert table.heights.tolist() == [2, 2, 5, 5]
    assert masks(rle.read_csv(path, unite=True)) == {"u1": [0, 3, 6, 7], "u2": [4, 6, 8, 9]}  # classes ignored
    with pytest.raises(rle.RepeatedIdsError):
        rle.read_csv(path)
    columns = rle.read_column_names(path, class_column=name)
    texts = [rle.edges_to_text(edges, None) for edges in table]
    rle.write_csv(tmp_path / "again.csv", table.ids, texts, columns, sizes=[(2, 5), (2, 5), (5, 2), (5, 2)])
    lines = (tmp_path / "again.csv").read_text().splitlines()
    assert lines[0] == ",".join([*columns, "height", "width"])
    assert lines[1:3] == ["u1,large,1 3 7 1,2,5", "u1,small,,2,5"]
    again = rle.read_csv(tmp_path / "again.csv", class_column=name)
    assert masks(again) == masks(table)
    assert again.widths.tolist() == [5, 5, 2, 2]


def test_the_column_of_classes_has_a_usual_name_or_the_one_given(tmp_path):
    path = write(tmp_path, "id,organ,Class_ID,rle\na,1,x,\n")
    assert rle.find_class_column(path) == "Class_ID"
    assert rle.find_class_column(path, "organ") == "organ"
    assert rle.find_class_column(path, "other") == "Class_ID"
    assert rle.find_class_column(path, others=["Class_ID", "id"]) is None
    assert rle.find_class_column(write(tmp_path, PLAIN)) is None
    assert rle.find_class_column(write(tmp_path, "id,label\na,1 3\n")) is None


@given(
    rows=st.dictionaries(
        st.tuples(st.text(st.characters(codec="utf-8"), min_size=1), st.text("ab1é ,\"'", min_size=1)),
        st.booleans(),
    )
)
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_any_image_and_any_class_without_a_slash_survive(tmp_path_factory, rows):
    """An image's id may have slashes in it: the last one begins the class."""
    path = tmp_path_factory.mktemp("csv") / "classes.csv"
    ids = [f"{image}/{name}" for image, name in rows]
    rle.write_csv(path, ids, ["1 2" if full else "" for full in rows.values()], ("id", "class", "rle"))
    table = rle.read_csv(path, class_column="class")
    assert table.ids == ids
    assert [rle.split_class(row_id) for row_id in table.ids] == list(rows)
    assert (rle.areas(table) == [2 * full for full in rows.values()]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,class,rle\na,x,1 1\na,,1 1\n", "train.csv row 3: the class is empty"),
        ("id,class,rle\n\na,x/y,1 1\n", "train.csv row 3: the class has a '/' in it: 'x/y'"),
        ("id,class,rle\na,x,1 1\n,x,1 1\n", "train.csv row 3: the id is empty"),
        ("id,class,rle\na,x,1 1 1\n", "train.csv row 2 (id a/x): token 3 '1': a start without a length "
         "(odd number of tokens)"),
        ("id,class,rle,h,w\na,x,1 1,8,9\na,y,1 1,9,8\n",
         "train.csv row 3 (id a/y): the image is 9x8 here, but 8x9 in row 2"),
        ("id,rle\na,1 1\n", "train.csv: no column 'class'; the columns are id, rle"),
        ("id,class,class,rle\na,x,y,1 1\n",
         "train.csv: several columns 'class'; the columns are id, class, class, rle"),
        ("id,class\na,x\n", "train.csv: no columns for ids and RLE texts; the columns are id, class"),
    ],
)  # fmt: skip
def test_faults_of_classes(tmp_path, content, message):
    with pytest.raises(rle.RleError) as error:
        rle.read_csv(write(tmp_path, content), class_column="class")
    assert str(error.value).removeprefix(f"{tmp_path}/") == message


@pytest.mark.parametrize("row_id", ["a", "/a", "a/", "/", ""])
def test_an_id_without_a_class_has_no_three_columns(tmp_path, row_id):
    with pytest.raises(rle.RleError, match=re.escape(f"an id with a class is image/class, not {row_id!r}")):
        rle.write_csv(tmp_path / "x.csv", [row_id], [""], ("id", "class", "rle"))


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("height,width,image_id,text", ("image_id", "text")),
        ("name,height,width,rle", ("name", "rle")),
        ("first,h,w,second", ("first", "second")),
        ("mask,img", ("img", "mask")),
    ],
)
def test_columns_of_sizes_are_never_taken_for_ids_or_texts(tmp_path, header, columns):
    assert rle.read_column_names(write(tmp_path, header + "\n")) == columns


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed[:20] + b"\0\xff" * 9])
def test_a_damaged_gzip_file_is_an_error(tmp_path, damage):
    rng = np.random.default_rng(0)
    content = "id,rle\n" + "".join(f"{row},{rng.integers(1, 99)} 1\n" for row in range(3000))
    path = write(tmp_path, damage(gzip.compress(content.encode())), "train.csv.gz")
    with pytest.raises(rle.RleError, match=r"train\.csv\.gz: a damaged gzip file: "):
        rle.read_csv(path)
