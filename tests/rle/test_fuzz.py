"""Arbitrary texts and bytes into the parsers: an RleError or the mask that a slow reader sees, nothing else.

A few hundred examples a run, always the same; FUZZ_EXAMPLES=2500 tries as many new ones, in about a minute. Of the
texts for the kernels there are thousands, or FUZZ_TEXTS.
"""

import csv
import io
import os
import random
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline import rle
from pipeline.rle import codec

SHAPE = (8, 10)
FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", 300)),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # a file is written anew for each example
)

numbers = st.one_of(
    st.integers(0, 12).map(str),
    st.integers(0, 90).map(str),
    st.integers(1, 30).map(lambda number: f"{number:012d}"),
    st.sampled_from(["4294967295", "4294967296", "18446744073709551617", "99999999", "100000000", "9" * 70]),
    st.sampled_from(["-1", "+1", "1.0", "1_0", "0x1", "1e1", "nan", "NaN", "\u0663", "\t", "1\t2", "", "1\n", "\x00"]),
)
separators = st.sampled_from([" "] * 12 + ["  ", " " * 70, "\t", ",", "\n", "\u00a0"])


@st.composite
def joined(draw):
    """Tokens that are numbers, or look like some."""
    tokens = draw(st.lists(numbers, max_size=9))
    return "".join(token + draw(separators) for token in tokens) + draw(st.sampled_from(["", " ", "1"]))


@st.composite
def sorted_runs(draw):
    """Pairs that are valid more often than not."""
    starts = sorted(draw(st.sets(st.integers(0, 81), max_size=20)))
    return " ".join(f"{start} {draw(st.integers(1, 3))}" for start in starts)


@st.composite
def counted(draw):
    """Lengths that add up to the image, or nearly."""
    edges = sorted(draw(st.sets(st.integers(0, 80), max_size=12)))
    return " ".join(map(str, np.diff([0, *edges, 80 + draw(st.sampled_from([0, 0, 0, 1, -1]))])))


@st.composite
def compressed(draw):
    """COCO's compressed counts, with a few characters exchanged."""
    mask = np.zeros(80, np.uint8)
    mask[list(draw(st.sets(st.integers(0, 79))))] = 1
    text = list(rle.encode(mask.reshape(SHAPE), "coco"))
    for at in draw(st.lists(st.integers(0, len(text) - 1), max_size=3)):
        text[at] = chr(draw(st.integers(33, 126)))
    return "".join(text)


texts = st.one_of(joined(), sorted_runs(), counted(), compressed(), st.text(st.characters(max_codepoint=300)))


def slow_counts(text: str) -> list[int] | None:
    """rleFrString of cocoapi's maskApi.c, with checks."""
    counts, at = [], 0
    while at < len(text):
        value = places = 0
        more = True
        while more:
            if at == len(text) or places == 7 or not 48 <= ord(text[at]) < 112:
                return None
            bits = ord(text[at]) - 48
            value += (bits & 31) * 32**places
            more = bits >= 32
            at += 1
            places += 1
        if bits & 16:
            value -= 32**places
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts if all(count >= 0 for count in counts) else None


def slow_mask(text: str, fmt: rle.RleFormat) -> np.ndarray | None:
    """The mask that a text stands for, by pixels; None if it stands for none."""
    text = text.strip(" ")
    pixels = [0] * (SHAPE[0] * SHAPE[1])
    if text not in ("", fmt.empty):
        tokens = slow_counts(text) if fmt.style == "coco" else re.split(" +", text)
        if tokens is None or not all(re.fullmatch("[0-9]+", str(token)) for token in tokens):
            return None
        values = [int(token) for token in tokens]
        counted = fmt.style in ("counts", "coco")
        if sum(values) != len(pixels) if counted else len(values) % 2:
            return None
        end = 0
        for gap, length in zip(values[::2], values[1::2], strict=False):
            start = gap - fmt.base if fmt.style == "pairs" else end + gap
            if start < end or length < 1 or start + length > len(pixels):
                return None
            end = start + length
            pixels[start:end] = [1] * length
    return np.reshape(pixels, SHAPE, order=fmt.order)


LARGEST = 2**32 - 1
SHAPES = [None, SHAPE, (1, LARGEST), (65535, 65537), (3, 2**30)]
STYLES = ["kaggle", "siim", "coco-counts", "coco"]


def runs_of(text: str, fmt: rle.RleFormat, shape: tuple[int, int] | None) -> list[int] | None:
    """The edges that a text names, by the page of its format alone; None if it names none."""
    words = slow_counts(text) if fmt.style == "coco" else text.split(" ")
    if words is None or not all(re.fullmatch("[0-9]*", str(word)) for word in words):
        return None
    values = [int(word) for word in words if word != ""]
    pixels = LARGEST if shape is None else shape[0] * shape[1]
    counted = fmt.style in ("counts", "coco")
    if counted and (sum(values) > pixels or (shape is not None and sum(values) != pixels)):
        return None
    if len(values) % 2 and not counted:
        return None
    edges = [0]
    for gap, length in zip(values[::2], values[1::2], strict=False):
        start = gap - fmt.base if fmt.style == "pairs" else edges[-1] + gap
        if start < edges[-1] or length == 0 or start + length > pixels or max(gap, length) > LARGEST:
            return None
        edges += [start, start + length]
    edges = edges[1:]
    return [edge for edge in edges if edges.count(edge) == 1]


def write_counts(counts: list[int]) -> str:
    """rleToString of cocoapi's maskApi.c, a character at a time, for counts of any size."""
    text = ""
    for i, count in enumerate(counts):
        rest, more = count - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits, rest = rest & 31, rest >> 5
            more = rest != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


def draw_text(fmt: rle.RleFormat, shape: tuple[int, int] | None, rng: random.Random) -> str:
    """A text that is valid half of the time, or nearly so."""
    pixels = LARGEST if shape is None else shape[0] * shape[1]
    cuts = sorted({rng.choice([rng.randrange(pixels + 1), rng.randrange(90), pixels]) for _ in range(rng.randrange(9))})
    cuts = [cut for cut in cuts if cut <= pixels]
    numbers = [b - a for a, b in zip([0, *cuts], [*cuts, pixels], strict=True)]
    if fmt.style == "pairs":
        numbers = [n for a, b in zip(cuts[::2], cuts[1::2], strict=False) for n in (a + fmt.base, b - a)]
    if fmt.style == "gaps":
        numbers = numbers[: len(numbers) // 2 * 2]
    for _ in range(rng.choice([0, 0, 1, 2])):
        changed = rng.choice(
            [0, 1, 5, rng.randrange(90), LARGEST, LARGEST - 1, LARGEST + 1, pixels, 2**33, 10 ** rng.randrange(20)]
        )
        numbers.insert(rng.randrange(len(numbers) + 1), changed)
    if numbers and rng.random() < 0.3:
        del numbers[rng.randrange(len(numbers))]
    if fmt.style == "coco":
        text = write_counts(numbers)
    else:
        text = rng.choice([" ", " ", " ", "  "]).join(str(n).zfill(rng.choice([1, 1, 1, 9, 12])) for n in numbers)
    for _ in range(rng.choice([0, 0, 0, 1, 2]) if text else 0):
        at = rng.randrange(len(text) + 1)
        odd = rng.choice(
            ["", " ", "o", "?", "0", "~", "\udc80", "\ud83d", "\u0663", "\xa0", "-", "\0", chr(rng.randrange(33, 127))]
        )
        text = text[:at] + odd + text[at + rng.randrange(2) :]
    return text.strip(" ")


@pytest.mark.parametrize("name", STYLES)
def test_the_kernel_and_the_strict_reader_accept_the_same_texts(name):
    """And both what an independent reader does, with a size, without one, and in the largest images."""
    fmt, rng = rle.get_format(name), random.Random(0)
    valid = []
    for _ in range(int(os.environ.get("FUZZ_TEXTS", 16_000)) // len(STYLES)):
        shape = rng.choice(SHAPES)
        text = draw_text(fmt, shape, rng)
        expected = [] if text in ("", fmt.empty) else runs_of(text, fmt, shape)
        if expected is None:
            with pytest.raises(rle.RleError):
                rle.text_to_edges(text, shape, fmt)
        else:
            assert rle.text_to_edges(text, shape, fmt).tolist() == expected, (text, shape)
            valid.append((text, shape))
    assert len(valid) > 500
    for text, shape in valid:
        if text not in ("", fmt.empty):  # accepted by a kernel alone
            codec.check_text(text, shape, fmt)


@pytest.mark.parametrize(
    ("name", "text", "shape", "message"),
    [
        ("coco-counts", "0 5 4294967295", None, f"add up to {LARGEST + 5}, no image has more than {LARGEST} pixels"),
        ("coco-counts", "0 5 1", (1, LARGEST), f"add up to 6, the image 1x{LARGEST} has {LARGEST} pixels"),
        ("coco", write_counts([0, 5, LARGEST]), None, f"add up to {LARGEST + 5}, no image has more than {LARGEST} pix"),
        ("coco", write_counts([0, 5]), (65535, 65537), f"add up to 5, the image 65535x65537 has {LARGEST} pixels"),
        ("coco", "0\udc805", (1, 20), "not a character of compressed COCO counts"),
        ("coco", "\ud83d5", None, "not a character of compressed COCO counts"),
    ],
)
def test_texts_that_one_reader_has_accepted(name, text, shape, message):
    with pytest.raises(rle.RleError, match=message):
        rle.text_to_edges(text, shape, name)


@pytest.mark.parametrize("name", ["kaggle", "contrails", "carvana", "siim", "coco-counts", "coco"])
@FUZZ
@given(text=texts)
def test_texts(name, text):
    expected = slow_mask(text, rle.get_format(name))
    if expected is None:
        with pytest.raises(rle.RleError):
            rle.decode(text, SHAPE, name)
    else:
        assert np.array_equal(rle.decode(text, SHAPE, name), expected)


fields = st.one_of(
    sorted_runs(),
    joined(),
    st.sampled_from(
        ["a", "b", "0015", "1 3", "", "nan", '"1 3"', '"a,b"', "a/b", '"a""b"', '"a\nb"', '"', '"x', 'x"y', "é"]
    ),
)


@st.composite
def files(draw):
    """The bytes of something like a CSV, below a header that is well."""
    lines = draw(st.lists(st.lists(fields, min_size=1, max_size=3).map(",".join), max_size=5))
    text = "".join(line + draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", "\r", ""])) for line in lines)
    body = bytearray(text.encode())
    for _ in range(draw(st.integers(0, 2)) if body else 0):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    header = draw(st.sampled_from([b"image_id,rle\n", b"image_id,class,rle\n"]))
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + header + body


def slow_table(content: bytes) -> dict[str, np.ndarray] | None:
    """The file as Python's own reader sees it."""
    try:
        header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    except (UnicodeDecodeError, csv.Error):
        return None
    table = {}
    for row in filter(None, rows):
        *key, text = row
        mask = slow_mask("" if text.strip().lower() == "nan" else text, rle.get_format("kaggle"))
        if len(row) != len(header) or not all(key) or mask is None or "/" in "".join(key[1:]):
            return None
        table["/".join(key)] = mask | table.get("/".join(key), 0)
    return table


@FUZZ
@given(content=files())
def test_files(tmp_path, content):
    path = tmp_path / "submission.csv"
    path.write_bytes(content)
    try:
        table = rle.read_csv(path, shape=SHAPE, class_column=rle.find_class_column(path))
    except rle.RleError:
        return
    expected = slow_table(content)
    assert expected is not None
    assert table.ids == list(expected)
    for i, mask in enumerate(expected.values()):
        assert np.array_equal(rle.from_edges(table[i], SHAPE), mask)


@FUZZ
@given(
    rows=st.dictionaries(st.text(st.characters(exclude_characters="\r\x00", codec="utf-8"), min_size=1), sorted_runs()),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_files_that_python_writes(tmp_path, rows, quoting, newline):
    """Whatever the ids, a file is read if its texts are valid, and refused if one isn't."""
    path = tmp_path / "submission.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=quoting, lineterminator=newline)
        writer.writerows([("image_id", "rle"), *rows.items()])
    expected = [slow_mask(text, rle.get_format("kaggle")) for text in rows.values()]
    if any(mask is None for mask in expected):
        with pytest.raises(rle.RleError):
            rle.read_csv(path, shape=SHAPE)
    else:
        table = rle.read_csv(path, shape=SHAPE)
        assert table.ids == list(rows)
        assert all(np.array_equal(rle.from_edges(table[i], SHAPE), mask) for i, mask in enumerate(expected))
