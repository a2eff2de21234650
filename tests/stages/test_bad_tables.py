"""Tables that other programs, other people or a broken download have left, through the command line.

Status 1 and one line that names the file; memory in proportion to the file; long texts shortened.
"""

import csv
import gzip
import io
import json
import re
import zipfile

import pytest

from pipeline.rle import unpacking

PLAIN = "id,rle\na,1 3\nb,5 2\n"
LONG = "x" * 3_000_000


def encrypted_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("train.csv", PLAIN)
    content = bytearray(buffer.getvalue())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


PACKED = {
    "cut.csv.gz": gzip.compress((PLAIN + "c,9 9\n" * 5000).encode())[:-20],
    "secret.csv.zip": encrypted_zip(),
    "plain.csv.xz": PLAIN.encode(),
    "cut.csv.xz": b"\xfd7zXZ\0\0\x04",
    "new.csv.zst": b"\x28\xb5\x2f\xfd\x04\x00",
    "bomb.csv.gz": gzip.compress(PLAIN.encode() + b"\n" * 8_000_000),
}


@pytest.fixture(params=PACKED)
def packed(request, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "SMALL", 2**20, raising=False)
    path = tmp_path / request.param
    path.write_bytes(PACKED[request.param])
    return path


@pytest.fixture
def plain(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text(PLAIN)
    return path


def assert_refused(result, path):
    status, out, err = result
    assert (status, err.count("\n")) == (1, 1), err
    assert err.startswith(f"error: {path}: ")
    assert "rows" not in out


def test_packed_tables_that_cannot_be_read_are_one_line_in_every_command(command_line, packed, plain, tmp_path):
    output = tmp_path / "out.csv"
    for words in (
        ("score", packed, plain),
        ("score", plain, packed),
        ("score", plain, plain, "--compare", packed),
        ("convert", packed, "-o", output),
        ("vote", plain, packed, "-o", output),
        ("lint", packed),
        ("lint", plain, "--sample", packed),
    ):
        assert_refused(command_line(*words), packed)
        assert not output.exists()


@pytest.mark.parametrize("setting", ["train_csv", "sample_submission", "test_truth"])
def test_packed_tables_of_a_data_set_are_one_line(
    command_line, competition, write_experiment, packed, tmp_path, setting
):
    data = competition()
    moved = data.root / packed.name
    moved.write_bytes(packed.read_bytes())
    settings = {"source": "kaggle", "root": str(data.root), setting: moved.name}
    experiment = write_experiment(tmp_path, data=settings)
    assert_refused(command_line("prepare", "-e", experiment), moved)


def test_packed_tables_of_a_data_set_are_read(command_line, competition, write_experiment, tmp_path):
    data = competition()
    settings = {"source": "kaggle", "root": str(data.root), "group_column": "person"}
    for key in ("train_csv", "sample_submission"):
        name = f"{key.removesuffix('_csv')}.csv"
        packed = data.root / f"{name}.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(data.root / name, name)
        settings[key] = packed.name
    assert command_line("prepare", "-e", write_experiment(tmp_path, data=settings))[::2] == (0, "")


def test_texts_of_three_megabytes_make_no_message_of_three_megabytes(command_line, tmp_path):
    one, two, output = tmp_path / "one.csv", tmp_path / "two.csv", tmp_path / "out"
    csv.field_size_limit(2**17)  # as in a new process; what ran before in this one may have raised it
    cut, slashed = "x... (3000000 characters) ...x", "x... (3000003 characters) ...x/"
    convert = ("convert", one, "-o", output)
    for content, other, words, message in (
        (f"id,rle\n{LONG},1 3\n", "id,rle\na,1 3\n", ("score", one, two), f"1 ids are not in two.csv: {cut}\n"),
        (f"id,rle\n{LONG},1 3\n", f"id,rle\n{LONG}y,1 3\n", ("vote", one, two, "-o", output), f"missing: {cut}; "),
        (f"id,rle\n{LONG},1 3\n{LONG},1 3\n", "", convert, f"1 id has several rows: {cut} (rows 2, 3): "),
        (f"id,rle\n{LONG},{LONG}\n", "", convert, f"row 2 (id {cut}): token 1 'x...': not a whole number\n"),
        (f"id,rle\na,{LONG}\n", "", convert, "row 2 (id a): token 1 'x...': not a whole number\n"),
        (f"id,rle\n{LONG}/,1 3\n", "", (*convert, "--shape", 4, 4), f"cannot be file names: '{slashed}'\n"),
        (f"id,rle,{LONG}\na,1 3,\n", "", (*convert, "--columns", "id,mask"), "a comma between, not 'id,rle,x'\n"),
        (f"id,rle\na,1 3\n{LONG}\n", "", convert, "one.csv row 3: 1 fields, but the header has 2\n"),
        (f"id,class,rle\na,{LONG}/,1 3\n", "", convert, f"row 2: the class has a '/' in it: '{slashed}'\n"),
        (f'id,rle\n"{LONG}"x,1 3\n', "", convert, "row 2: text after the closing quote in b'\"x'\n"),
    ):
        one.write_text(content)
        two.write_text(other)
        status, out, err = command_line(*words)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert message in re.sub("x{2,}", "x", err)
        assert len(err) < 1000, words
    one.write_text(f"id,rle\n{LONG},1 3\n")
    status, out, _ = command_line("score", one, one)
    assert status == 0
    assert len(out) < 2000


HUGE = 4294967295
MEMORY = r"""
import re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from pipeline.__main__ import app
from pipeline.command import run_command
try:
    run_command(app)
finally:  # getrusage would tell of the process that has started this one
    print("peak", int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) >> 10, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("size", "text", "words", "problem"),
    [
        (f"{HUGE},1", "5 9", ("score", "IN", "IN", "--format", "carvana"), None),
        (f"1,{HUGE}", "5 9", ("convert", "IN", "-o", "OUT.csv", "--format", "carvana", "--with-sizes"), None),
        (f"{HUGE},1", "5 9", ("convert", "IN", "-o", "OUT.csv", "--to", "carvana"), None),
        (
            "2,2147483647",
            "5 9",
            ("score", "IN", "IN", "--format", "carvana"),
            "a side of 2147483647 pixels cannot be tur",
        ),
        (
            "2147483647,2",
            "1 4294967294",
            ("convert", "IN", "-o", "OUT.csv", "--to", "carvana"),
            "2147483647 pixels cannot",
        ),
        (f"{HUGE},1", "5 9", ("convert", "IN", "-o", "OUT"), f"a PNG of {HUGE} x 1 pixels is not written"),
        (f"1,{HUGE}", "5 9", ("lint", "IN"), None),
        ("65535,65537", "5 9", ("convert", "IN", "-o", "OUT"), "id a: 65535 x 65537 pixels do not fit into the memory"),
    ],
)
def test_a_size_that_no_image_has_takes_no_memory(python, tmp_path, size, text, words, problem):
    path = tmp_path / "in.csv"
    path.write_text(f"id,rle,height,width\na,{text},{size}\n")
    words = [{"IN": path}.get(word, str(word).replace("OUT", str(tmp_path / "out"))) for word in words]
    result = python("-c", MEMORY, *words)
    *lines, peak = result.stderr.splitlines()
    assert result.returncode == (0 if problem is None else 1), result.stderr[-500:]
    assert len(lines) == (0 if problem is None else 1)
    assert problem is None or problem in lines[0]
    assert int(peak.removeprefix("peak ")) < 700


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("id;rle\na;1 3\n", "columns are parted by semicolons"),
        ("sep=,\nid,rle\na,1 3\n", "a line for Excel only: delete it"),
        ("id,rle\ra,1 3\r", "lines end with carriage returns alone"),
        ("id,rle\na,1 3\n\x1a", "a Ctrl-Z, which ends files under DOS"),
        ("id,rle\na,[1 3]\n", "a list as Python or NumPy writes it"),
        ("<!DOCTYPE html>\n", "a web page, of an error or of a login"),
        ("id,rle\na," + "1 1 " * 8191 + "999\n", "Excel cuts off what a cell has beyond that"),
    ],
)
def test_what_other_programs_leave_is_named_in_every_command(command_line, plain, tmp_path, content, what):
    path = tmp_path / "left.csv"
    path.write_text(content, newline="")
    for words in (
        ("score", path, plain),
        ("convert", path, "-o", tmp_path / "o.csv"),
        ("vote", plain, path, "-o", "o"),
    ):
        status, out, err = command_line(*words)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"error: {path}")
        assert what in err


def test_ids_that_differ_in_their_spelling_only_are_named(command_line, tmp_path):
    truth, submission = tmp_path / "truth.csv", tmp_path / "submission.csv"
    truth.write_text("id,rle\ncafe\u0301,1 3\n0015,2 2\n", encoding="utf-8")
    submission.write_text("id,rle\ncaf\u00e9,1 3\n15.0,2 2\n", encoding="utf-8")
    status, _, err = command_line("score", submission, truth)
    assert status == 1
    assert "2 ids are spelt otherwise only: 'caf\\xe9' for 'cafe\\u0301', '15.0' for '0015'\n" in err


@pytest.mark.parametrize("form", ["e\u0301", "\u00e9"])
def test_sizes_are_found_whichever_form_of_unicode_names_are_in(command_line, competition, tmp_path, form):
    data = competition(train=1)
    (data.root / "train" / "a0.jpg").rename(data.root / "train" / f"caf{form}.jpg")
    table = tmp_path / "rows.csv"
    table.write_text("id,rle\ncaf\u00e9,1 3\n", encoding="utf-8")
    words = ("score", table, table, "--format", "carvana", "--images", data.root / "train", "--json")
    status, out, err = command_line(*words)
    assert (status, err) == (0, "")
    assert json.loads(out)["score"] == 1.0
