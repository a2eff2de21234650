"""`lint` through the command line: every planted mistake is found, and a sound file has none."""

import json

import numpy as np
import pytest

from pipeline.rle import encode

COUNT = 24


def head_and_shoulders(height, width, rng):
    """A head over shoulders that reach the lower border, as in a portrait: uint8 (H, W)."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / height - 0.4 + rng.normal(0, 0.02), (x - width / 2) / height + rng.normal(0, 0.02)
    return ((np.hypot(x, y / 1.3) < 0.2) | ((y > 0.3) & (np.abs(x) < 0.3))).astype(np.uint8)


@pytest.fixture
def masks():
    rng = np.random.default_rng(0)
    shapes = [(int(rng.integers(60, 90)), int(rng.integers(30, 59))) for _ in range(COUNT)]
    drawn = {f"i{number:02d}": head_and_shoulders(*shape, rng) for number, shape in enumerate(shapes)}
    drawn["i03"][:] = 0
    return drawn


class Files:
    """A submission and its sample, which has the sizes."""

    def __init__(self, folder, masks, fmt):
        self.submission, self.sample = folder / "submission.csv", folder / "sample.csv"
        self.masks = masks
        self.texts = {name: encode(mask, fmt) for name, mask in masks.items()}
        rows = [f"{name},,{mask.shape[0]},{mask.shape[1]}" for name, mask in masks.items()]
        self.sample.write_text("\n".join(["image_id,rle,height,width", *rows]) + "\n")
        self.write()

    def write(self, header="image_id,rle", **texts):
        rows = [f"{name},{text}" for name, text in (self.texts | texts).items()]
        self.submission.write_text("\n".join([header, *rows]) + "\n")

    @property
    def sound(self):
        return "\n".join(["image_id,rle", *(f"{name},{text}" for name, text in self.texts.items())]) + "\n"


@pytest.fixture
def files(tmp_path, masks):
    return lambda fmt="kaggle": Files(tmp_path, masks, fmt)


@pytest.fixture
def lint(command_line):
    """``lint(files, *words) -> (status, findings)``."""

    def call(files, *words):
        status, out, err = command_line("lint", files.submission, "--sample", files.sample, "--json", *words)
        assert err == ""
        return status, json.loads(out)["findings"]

    return call


@pytest.mark.parametrize("fmt", ["kaggle", "carvana", "siim", "contrails", "coco"])
def test_a_sound_submission_has_no_findings(lint, files, fmt):
    assert lint(files(fmt), "--format", fmt) == (0, [])


def shift(text, by):
    numbers = [int(token) for token in text.split()]
    numbers[::2] = [start + by for start in numbers[::2]]
    return " ".join(map(str, numbers))


@pytest.mark.parametrize(
    ("change", "severity", "what"),
    [
        (lambda f: f.texts.update(i00="3 x"), "error", "not a whole number"),
        (lambda f: f.texts.update(i00="3 4 9"), "error", "a start without a length"),
        (lambda f: f.texts.update(i00="0.1 0.9"), "error", "not a whole number"),
        (lambda f: f.texts.update(i00="1 1000000"), "error", "run ends at pixel 1000000"),
        (lambda f: f.texts.update(x="1 1"), "error", "1 ids are not in the sample"),
        (lambda f: f.texts.pop("i05"), "error", "1 of the sample's 24 ids are missing"),
        (lambda f: f.texts.update(i00="9 2 1 2"), "error", "run starts before the one in front of it"),
        (lambda f: f.texts.update(i00="1 4 3 2"), "error", "run overlaps the one in front of it"),
        (lambda f: f.texts.update(dict.fromkeys(f.texts, "")), "warning", "all masks are empty"),
        (lambda f: f.texts.update({k: f"1 {m.size}" for k, m in f.masks.items()}), "warning", "all masks cover"),
        (lambda f: f.texts.update({k: encode(m, "carvana") for k, m in f.masks.items()}), "warning", "other direction"),
        (lambda f: f.texts.update({k: shift(t, -1) for k, t in f.texts.items()}), "warning", "counted from 0"),
        (lambda f: f.texts.update(i00="0 4 7 2"), "error", "start below 1"),
    ],
)
def test_a_planted_mistake_is_found(lint, files, change, severity, what):
    planted = files()
    change(planted)
    planted.write()
    status, findings = lint(planted)
    assert status == (severity == "error")
    assert [finding["severity"] for finding in findings] == [severity]
    assert what in findings[0]["what"]
    assert findings[0]["evidence"]
    assert findings[0]["fix"]


def test_all_kinds_of_errors_are_told_at_once_with_their_rows(command_line, files):
    planted = files()
    planted.write("id,mask", i00="5", i01="7", i02="1 2 x 4")
    status, out, err = command_line("lint", planted.submission, "--sample", planted.sample)
    assert (status, err) == (1, "")
    assert "error: the columns are id, mask\n  evidence: the sample has image_id, rle\n" in out
    assert "error: a start without a length (odd number of tokens)\n  evidence: row 2 (id i00), and 1 more" in out
    assert "error: not a whole number\n  evidence: row 4 (id i02)\n" in out
    assert out.endswith("submission.csv: 24 rows, 3 errors, 0 warnings\n")


def test_repeated_ids_and_ragged_rows(lint, files):
    planted = files()
    with planted.submission.open("a") as file:
        file.write(f"i01,{planted.texts['i01']}\ni02,1 1\ni03\n")
    status, findings = lint(planted)
    assert status == 1
    assert [finding["what"] for finding in findings] == [
        "rows with a wrong number of fields",
        "1 ids have several equal rows",
        "1 ids have several different rows",
    ]


def test_another_order_of_rows_is_a_note(lint, files):
    planted = files()
    planted.texts = dict(reversed(planted.texts.items()))
    planted.write()
    status, findings = lint(planted)
    assert (status, [finding["severity"] for finding in findings]) == (0, ["note"])


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.texts.update(i03="", x="1 1"),
        lambda f: f.texts.update({k: encode(m, "carvana") for k, m in f.masks.items()}),
        lambda f: f.texts.update({k: shift(t, -1) for k, t in f.texts.items()}),
        lambda f: f.texts.pop("i03"),
        lambda f: f.texts.update({k: " ".join(reversed_pairs(t)) for k, t in f.texts.items()}),
        lambda f: f.texts.update({k: " ".join(halves(t)) for k, t in f.texts.items()}),
    ],
    ids=["extra id", "other direction", "counted from 0", "missing id", "unsorted", "overlapping"],
)
def test_fix_restores_the_sound_file(command_line, files, tmp_path, change):
    planted = files()
    sound = planted.sound
    change(planted)
    planted.texts = dict(reversed(planted.texts.items()))
    planted.write("img,EncodedPixels")
    fixed = tmp_path / "fixed.csv"
    status, out, err = command_line("lint", planted.submission, "--sample", planted.sample, "--fix", fixed)
    assert (status, err) == (0, "")
    assert fixed.read_text() == sound
    assert out.endswith("fixed.csv: 24 rows, 0 errors, 0 warnings\n")


def reversed_pairs(text):
    tokens = text.split()
    return [token for i in range(len(tokens) - 2, -1, -2) for token in tokens[i : i + 2]]


def halves(text):
    """Each run as two that overlap by half of it."""
    numbers = [int(token) for token in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        half = (length + 1) // 2
        yield from map(str, (start, half, start, length))


def test_what_needs_a_decision_is_not_fixed(command_line, files, tmp_path):
    fixed = tmp_path / "fixed.csv"
    for change in ({"i00": "1 2 3"}, {"i00": "-4 2"}):
        planted = files()
        planted.write(**change)
        status, _, err = command_line("lint", planted.submission, "--sample", planted.sample, "--fix", fixed)
        assert (status, err.count("\n")) == (1, 1)
        assert "row 2 (id i00): cannot be fixed: not pairs of whole numbers" in err
    planted = files()
    with planted.submission.open("a") as file:
        file.write("i02,1 1\n")
    err = command_line("lint", planted.submission, "--sample", planted.sample, "--fix", fixed)[2]
    assert "row 26 (id i02): an earlier row has another mask" in err
    assert not fixed.exists()


def test_square_images_and_unknown_sizes_raise_no_alarm(command_line, tmp_path):
    rng = np.random.default_rng(1)
    path = tmp_path / "submission.csv"
    rows = [f"{number},{encode(head_and_shoulders(64, 64, rng), 'carvana')}" for number in range(COUNT)]
    path.write_text("\n".join(["id,rle", *rows]) + "\n")
    for words in ([], ["--shape", 64, 64]):
        assert command_line("lint", path, *words)[:2] == (0, "submission.csv: 24 rows, 0 errors, 0 warnings\n")
