"""Packed tables: what is read of them, and what the damaged, encrypted and misnamed ones are called."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline import rle
from pipeline.rle import unpacking

PLAIN = "id,rle\na,1 3\nb,\n"


def named(value: object) -> str:
    """A test's name, which must be the same each time: packed bytes have the time in them."""
    return value if isinstance(value, str) else ""


def packed_gzip(content: bytes, level: int = 9) -> bytes:
    return gzip.compress(content, level, mtime=0)


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def encrypted() -> bytes:
    """A zip whose one file says that it is encrypted."""
    content = bytearray(zipped(("train.csv", PLAIN.encode())))
    content[6] |= 1  # of the file itself
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and of the directory at the end
    return bytes(content)


ROWS = "id,rle\n" + "".join(
    f"{row},{number} 1\n" for row, number in enumerate(np.random.default_rng(0).permutation(3000))
)
LAYERS = {"gz": packed_gzip, "bz2": bz2.compress, "xz": lzma.compress}
CSV = ("train.csv", PLAIN.encode())
BESIDE = ("__MACOSX/._train.csv", b"\0\5\x16\7")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"train.csv.{suffix}", pack(PLAIN.encode())) for suffix, pack in LAYERS.items()),
        *((f"of {suffix}.csv", pack(PLAIN.encode())) for suffix, pack in LAYERS.items()),
        ("two.csv.gz", packed_gzip(PLAIN[:9].encode()) + packed_gzip(PLAIN[9:].encode())),
        ("train.csv.zip", zipped(CSV)),
        ("stored.zip", zipped(CSV, method=zipfile.ZIP_STORED)),
        ("mac.zip", zipped(CSV, BESIDE, ("folder/", b""), ("folder/.DS_Store", b"x"))),
        ("train.tar", tarred(CSV, ("._train.csv", b"\0\5"))),
        ("train.tar.gz", packed_gzip(tarred(CSV))),
        ("train.tgz", packed_gzip(tarred(CSV))),
        ("train.tar.xz", lzma.compress(tarred(CSV))),
        ("twice.gz", packed_gzip(zipped(CSV))),
    ],
    ids=named,
)
def test_packed_files_are_read_as_what_is_in_them(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    table = rle.read_csv(path)
    assert (table.ids, table.edges.tolist()) == (["a", "b"], [0, 3])
    assert rle.read_column_names(path) == ("id", "rle")


def damaged(pack) -> dict[str, bytes]:
    whole = pack(ROWS.encode())
    middle = len(whole) // 2
    return {
        "cut": whole[:-30],
        "cut in half": whole[:middle],
        "begun only": whole[:12],
        "flipped": whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 40]) + whole[middle + 40 :],
    }


DAMAGED = [
    (f"{how}.csv.{suffix}", content)
    for suffix, pack in {**LAYERS, "zip": lambda content: zipped(("train.csv", content))}.items()
    for how, content in damaged(pack).items()
] + [
    ("train.tar", tarred(("train.csv", ROWS.encode()))[:900]),
    ("train.tar.gz", packed_gzip(tarred(("train.csv", ROWS.encode()))[:900])),
    ("train.tar.bz2", bz2.compress(tarred(("train.csv", ROWS.encode())))[:-20]),
]


@pytest.mark.parametrize(("name", "content"), DAMAGED, ids=named)
def test_damaged_files_are_one_line(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(rle.RleError) as error:
        rle.read_csv(path)
    assert str(error.value).startswith(f"{path}: a damaged ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("secret.zip", encrypted(), "is encrypted: unpack it with its password first"),
        ("two.zip", zipped(CSV, ("test.csv", b"x")), "this has 2 files: train.csv, test.csv: unpack it first"),
        ("two.tar.gz", packed_gzip(tarred(CSV, ("test.csv", b"x"))), "this has 2 files: train.csv, test.csv: unp"),
        ("none.zip", zipped(BESIDE), "this has no file: unpack it first"),
        ("none.tar", tarred(("folder/.DS_Store", b"x")), "this has no file: unpack it first"),
        ("book.csv", zipped(("[Content_Types].xml", b"x"), ("xl/workbook.xml", b"x")), "a document of an office pro"),
        ("book.csv", zipped(("mimetype", b"x"), ("content.xml", b"x")), "a document of an office program"),
        ("t.csv.zst", b"\x28\xb5\x2f\xfd\x04\x00", "Zstandard files are not read: unpack it first, with `zstd -d`"),
        ("t.csv", b"\x28\xb5\x2f\xfd\x04\x00", "Zstandard files are not read: unpack it first, with `zstd -d`"),
        ("t.csv.gz", PLAIN.encode(), "File is not a gzip file, but plain text, or something else"),
        ("t.csv.xz", packed_gzip(PLAIN.encode()), "File is not a xz file, but a gzip file: give it the name of what"),
        ("t.zip", b"\x1f\x8b", "File is not a zip file, but a gzip file"),
        ("t.zip", b"", "File is not a zip file, but plain text, or"),
        ("t.tar", PLAIN.encode(), "File is not a tar file, but plain text, or"),
        ("t.gz", packed_gzip(packed_gzip(packed_gzip(packed_gzip(b"id,rle\n")))), "packed more than 3 times"),
    ],
    ids=named,
)
def test_what_is_not_read_is_named(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (rle.read_csv, rle.read_column_names):
        with pytest.raises(rle.RleError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: ")
        assert reason in str(error.value)


def test_pipes_and_folders_are_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    for path, what in ((pipe, "no plain file"), (tmp_path, "a folder")):
        with pytest.raises(rle.RleError, match=f": is {what}$"):
            rle.read_csv(path)
    with pytest.raises(FileNotFoundError):
        rle.read_csv(tmp_path / "none.csv")


SPACES = b"id,rle\na," + b" " * 4_000_000
BOMBS = {
    "b.gz": packed_gzip,
    "b.bz2": bz2.compress,
    "b.xz": lzma.compress,
    "b.zip": lambda content: zipped(("b.csv", content)),
    "b.tar.gz": lambda content: packed_gzip(tarred(("b.csv", content))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_before_they_fill_the_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(unpacking, "SMALL", 2**16, raising=False)
    path = Path(tmp_path / name)
    path.write_bytes(BOMBS[name](SPACES))
    with pytest.raises(rle.RleError, match=r": unpacks to more than \d+ MiB, which no table does that is so small"):
        rle.read_csv(path)


def test_tables_of_masks_are_far_from_being_bombs(tmp_path):
    """Equal rows of a sample submission, the most that packs."""
    path = tmp_path / "sample.csv.gz"
    path.write_bytes(packed_gzip(("id,rle\n" + "".join(f"{row:06}.png,1 1\n" for row in range(100_000))).encode(), 9))
    assert len(rle.read_csv(path)) == 100_000
    assert path.stat().st_size * unpacking.MOST_TIMES > 4 * 17 * 100_000
