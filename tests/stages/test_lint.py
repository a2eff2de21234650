"""`lint` through the command line: every planted mistake is found, and a sound file has none."""

import json
from time import process_time

import numpy as np
import pytest
from PIL import Image

from pipeline.findings import Mask, readings
from pipeline.linting.sample import other_spellings
from pipeline.rle import encode, get_format, read_csv, to_edges

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

    def respell(self, pattern):
        self.texts = {pattern.format(name): text for name, text in self.texts.items()}

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
        (lambda f: f.texts.update(i00="None"), "error", "an empty mask is written as 'None'"),
        (lambda f: f.texts.update(i00='"[3, 4]"'), "error", "not a whole number"),
        (lambda f: f.texts.update(dict.fromkeys(f.texts, "")), "warning", "all masks are empty"),
        (lambda f: f.texts.update(dict.fromkeys(f.texts, "1 1")), "warning", "all masks are the same"),
        (lambda f: f.texts.update({k: f"1 {m.size}" for k, m in f.masks.items()}), "warning", "all masks cover"),
        (lambda f: f.texts.update({k: encode(m, "carvana") for k, m in f.masks.items()}), "warning", "other direction"),
        (lambda f: f.texts.update({k: shift(t, -1) for k, t in f.texts.items()}), "warning", "counted from 0"),
        (lambda f: f.texts.update({k: encode(m[::2, ::2]) for k, m in f.masks.items()}), "warning", "another size"),
        (lambda f: f.respell("{}.png"), "error", "24 ids are spelt otherwise"),
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
    assert (
        "error: a start without a length (odd number of tokens)\n  evidence: row 2 (id i00): token 1 '5', and 1 more"
        in out
    )
    assert "error: not a whole number\n  evidence: row 4 (id i02): token 3 'x'\n" in out
    assert out.endswith("submission.csv: 24 rows, 3 errors, 0 warnings\n")


def test_turned_masks_are_another_format_or_are_turned_back(lint, files):
    fix = (
        "if the masks are right, name another --format; if they are turned, --fix turns them back "
        "(check that sizes are height, then width)"
    )
    assert [finding["fix"] for finding in lint(files("carvana"))[1]] == [fix]


def test_a_column_of_names_that_is_taken_for_masks_points_at_the_option(command_line, tmp_path):
    path = tmp_path / "masks.csv"
    path.write_text("photo,sitter,runs\n000,sitter 0,1 2\n001,sitter 0,\n")
    status, out, _ = command_line("lint", path)
    assert status == 1
    assert "evidence: row 2 (id 000): token 1 'sitter', and 1 more rows\n  fix: write runs, " in out
    assert "; or name the RLE column: --columns ID,RLE\n" in out
    assert command_line("lint", path, "--columns", "photo,runs")[0] == 0


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
        lambda f: f.texts.update({k: encode(m, "carvana") for k, m in f.masks.items()}),
        lambda f: f.texts.update({k: shift(t, -1) for k, t in f.texts.items()}),
        lambda f: f.texts.update({k: shift(t, 1) for k, t in f.texts.items()}),
        lambda f: f.texts.pop("i03"),
        lambda f: f.texts.update({k: " ".join(reversed_pairs(t)) for k, t in f.texts.items()}),
        lambda f: f.texts.update({k: " ".join(halves(t)) for k, t in f.texts.items()}),
        lambda f: f.respell("{}.jpg"),
        lambda f: f.texts.update({k: '"[' + t.replace(" ", ", ") + ']"' for k, t in f.texts.items()}),
        lambda f: f.texts.update({k: t.replace(" ", ".0 ") for k, t in f.texts.items()}),
        lambda f: f.texts.update({k: t or "-1" for k, t in f.texts.items()}),
    ],
    ids=[
        *("other direction", "counted from 0", "counted from 2", "missing id", "unsorted", "overlapping"),
        *("file names", "brackets", "decimals", "another empty text"),
    ],
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [("1" * 5000, "not pairs of whole numbers"), (f"1 {'1' * 5000}", "positions that no image has")],
)
def test_numbers_of_thousands_of_digits_are_told_like_others(command_line, tmp_path, text, problem):
    path = tmp_path / "submission.csv"
    path.write_text(f"id,rle,height,width\na,{text},8,{'9' * 5000}\nb,{text},8,9\n")
    status, out, err = command_line("lint", path, "--fix", tmp_path / "fixed.csv")
    assert (status, err) == (1, f"error: {path} row 2 (id a): cannot be fixed: {problem}\n")
    assert "error: an image of 8x999999999999 has more than 4294967295 pixels\n  evidence: row 2 (id a)\n" in out
    assert "error: too large, no image has more than 4294967295 pixels\n  evidence: row 3 (id b): token " in out


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


def test_leading_zeros_that_were_lost_are_found_again(command_line, tmp_path):
    files = [tmp_path / name for name in ("submission.csv", "sample.csv", "fixed.csv")]
    files[0].write_text("id,rle\n7,1 3\n12,\n0,2 1\n")
    files[1].write_text("id,rle\n0000,\n0007,\n0012,\n")
    status, out, _ = command_line("lint", files[0], "--sample", files[1], "--fix", files[2])
    assert status == 0
    assert "error: 3 ids are spelt otherwise than in the sample\n  evidence: '7' for '0007', '12' for '0012'" in out
    assert files[2].read_text() == "id,rle\n0000,2 1\n0007,1 3\n0012,\n"


def test_spellings_that_could_be_two_ids_are_not_guessed(command_line, tmp_path):
    submission, sample = tmp_path / "submission.csv", tmp_path / "sample.csv"
    submission.write_text("id,rle\n7,1 3\n07,\n")
    sample.write_text("id,rle\n007,\n8,\n")
    out = command_line("lint", submission, "--sample", sample)[1]
    assert "2 of the sample's 2 ids are missing" in out
    assert "2 ids are not in the sample" in out


@pytest.mark.parametrize(
    ("ids", "expected", "found"),
    [
        (["1", "2", ""], ["0", "1", "2"], {}),
        (["x/face", "/face"], ["0/face", "x/face"], {}),
        (["x/"], ["x/0"], {}),
        (["", " "], [".png", "0"], {}),
        (["0", "00/face"], ["000.png", "0/face"], {"0": "000.png", "00/face": "0/face"}),
        (["a", "b"], ["a.png", "a.jpg", "b"], {}),
        (["a", "7", "07", "c.PNG"], ["a.png", "a.jpg", "007", "c"], {"c.PNG": "c"}),
        (["a", "a.jpg"], ["a.png", "a.jpg"], {"a": "a.png"}),
        (["7", "7"], ["007", "007"], {"7": "007"}),
        (["\ufeffcafe\u0301", "b"], ["caf\u00e9", "b"], {"\ufeffcafe\u0301": "caf\u00e9"}),
    ],
)
def test_other_spellings_are_of_one_id_and_never_of_none(ids, expected, found):
    assert other_spellings(ids, expected) == found


def test_a_row_without_an_id_is_not_given_to_image_0(command_line, tmp_path):
    submission, sample, fixed = (tmp_path / name for name in ("submission.csv", "sample.csv", "fixed.csv"))
    submission.write_text("id,rle\n1,\n2,\n,2 2\n")
    sample.write_text("id,rle\n0,\n1,\n2,\n")
    _, out, err = command_line("lint", submission, "--sample", sample, "--fix", fixed)
    assert "error: rows without an id\n  evidence: row 4\n" in out
    assert "error: 1 of the sample's 3 ids are missing\n  evidence: 0\n" in out
    assert "cannot be fixed, it would lose row 4, which has no id" in err
    assert not fixed.exists()


@pytest.mark.parametrize(
    ("retell", "looks"),
    [
        (lambda mask: encode(mask, "siim"), "texts of --format siim"),
        (lambda mask: encode(mask, "coco-counts"), "texts of --format coco-counts"),
        (lambda mask: '"' + encode(mask, "coco").replace('"', '""') + '"', "texts of --format coco"),
        (lambda mask: " ".join(ends(encode(mask))), "pairs of start and end, not start and length"),
    ],
    ids=["siim", "coco-counts", "coco", "ends"],
)
def test_other_conventions_are_named_and_not_mended(command_line, files, tmp_path, retell, looks):
    planted = files()
    planted.write(**{name: retell(mask) for name, mask in planted.masks.items() if mask.any()})
    fixed = tmp_path / "fixed.csv"
    status, out, err = command_line("lint", planted.submission, "--sample", planted.sample, "--fix", fixed)
    assert status == 1
    fixes = [line for line in out.splitlines() if line.startswith("  fix: ")]
    assert set(fixes) == {f"  fix: they look like {looks}"}
    assert err == f"error: {planted.submission}: cannot be fixed: they look like {looks}\n"
    assert not fixed.exists()


def ends(text):
    """Start and end, the last pixel, for start and length."""
    numbers = [int(token) for token in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        yield from (f"{start}", f"{start + length - 1}")


def test_one_wrong_start_does_not_shift_the_other_masks(command_line, files, tmp_path):
    planted = files()
    planted.write(i00="0 4 7 2")
    status, out, err = command_line(
        "lint", planted.submission, "--sample", planted.sample, "--fix", tmp_path / "fixed.csv"
    )
    assert status == 1
    assert "evidence: row 2 (id i00): token 1 '0'\n  fix: write the row anew\n" in out
    assert "row 2 (id i00): cannot be fixed: positions that no image has" in err


def test_rows_without_ids_and_columns_that_are_too_many_are_found(command_line, tmp_path):
    submission, sample = tmp_path / "submission.csv", tmp_path / "sample.csv"
    submission.write_text(",id,rle\n0,a,1 3\n1,,\n")
    sample.write_text("id,rle\na,\n")
    out = command_line("lint", submission, "--sample", sample)[1]
    assert "error: rows without an id\n  evidence: row 3\n" in out
    assert "warning: columns that the sample does not have\n  evidence: ''\n  fix: remove them, unless " in out


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('id,rle\n"a"x,1 2', "',' expected after '\"'"),
        ('id,rle\na,"1 2', "unexpected end of data"),
        ('"i"d,rle\na,1 2', "',' expected after '\"'"),
        ('id,"rle\na,1 2\nc,1 2"', "the header ends in line 1"),
    ],
)
def test_quotes_that_the_reader_would_refuse_are_refused(command_line, tmp_path, lines, problem):
    path = tmp_path / "submission.csv"
    path.write_text(f"{lines}\nb,1 3\n")
    status, _, err = command_line("lint", path)
    assert status == 1
    assert err.startswith(f"error: {path}: the quotes up to line ")
    assert problem in err


def write_images(folder, masks, suffix=".png"):
    folder.mkdir()
    for name, mask in masks.items():
        Image.fromarray(mask).save(folder / f"{name}{suffix}")
    return folder


@pytest.mark.parametrize("classes", [False, True], ids=["an id a row", "classes"])
def test_ids_without_an_image_in_the_folder_are_named(command_line, masks, tmp_path, classes):
    images = write_images(tmp_path / "images", masks)
    path, fixed = tmp_path / "submission.csv", tmp_path / "fixed.csv"
    field = ",face" if classes else ""
    rows = [f"{name}{field},{encode(mask)}" for name, mask in masks.items()]
    path.write_text("\n".join(["id,class,rle" if classes else "id,rle", *rows]) + "\n")
    assert command_line("lint", path, "--images", images)[:2] == (0, "submission.csv: 24 rows, 0 errors, 0 warnings\n")
    (images / "i05.png").rename(images / "x05.png")
    status, out, err = command_line("lint", path, "--images", images, "--fix", fixed)
    assert (status, err) == (1, "")
    lacking = "i05/face" if classes else "i05"
    assert out.count(f"error: 1 ids have no image in {images}\n  evidence: {lacking}\n") == 2  # also after --fix


def test_ids_are_looked_for_among_the_images_as_the_sample_spells_them(command_line, files, masks, tmp_path):
    planted = files()
    planted.respell("I{}.png")
    planted.write(**{"": "1 1"})
    sample = planted.sample.read_text().replace("\ni", "\nii")
    planted.sample.write_text(sample)
    images = write_images(tmp_path / "images", {f"i{name}": mask for name, mask in masks.items()})
    out = command_line("lint", planted.submission, "--sample", planted.sample, "--images", images)[1]
    assert "error: 24 ids are spelt otherwise" in out
    assert "error: rows without an id" in out
    assert "have no image" not in out


def test_a_folder_without_images_or_beside_a_size_for_all_is_refused(command_line, files, tmp_path):
    words = ("lint", files().submission, "--images", tmp_path)
    there = "2 .csv (sample.csv, submission.csv)"
    message = f"error: {tmp_path}: no images in this folder, only {there}; --images names the one that the ids are of\n"
    assert command_line(*words) == (1, "", message)
    message = "error: sizes can come from one place only, not from --shape and --images\n"
    assert command_line(*words, "--shape", 90, 59) == (1, "", message)


@pytest.mark.parametrize(("bars", "looked_at"), [(10, 24), (50, 5), (140, 3)])
def test_the_rougher_masks_are_the_fewer_tell_that_they_are_turned(bars, looked_at):
    """Upright bars, written along the rows: each has a run in every row."""
    rng = np.random.default_rng(bars)
    mask = np.zeros((1000, 300), np.uint8)
    for left, right in np.sort(rng.choice(np.arange(1, 300), 2 * bars, replace=False)).reshape(-1, 2):
        mask[:, left:right] = 1
    masks = [Mask(to_edges(mask.T), mask.shape)] * COUNT
    turned, resized = readings(masks, get_format("kaggle")).evidence(get_format("kaggle"))
    assert turned.endswith(f" times as many runs across as along the rows ({looked_at} masks looked at)")
    assert resized is None
    assert readings(masks, get_format("carvana")).evidence(get_format("carvana")) == (None, None)


def test_masks_of_noise_take_a_moment():
    rng = np.random.default_rng(0)
    edges = np.flatnonzero(rng.random(1080 * 1920) < 0.5).astype(np.uint32)
    masks = [Mask(edges[: edges.size // 2 * 2], (1080, 1920))] * 60
    begin = process_time()
    found = readings(masks, get_format("kaggle"))
    assert process_time() - begin < 20  # a few seconds; all masks took a minute
    assert (len(found.lines), found.evidence(get_format("kaggle"))) == (3, (None, None))


def test_ten_thousand_rows_take_a_moment(command_line, tmp_path):
    """No rule may look through all rows for each row."""
    submission, sample = tmp_path / "submission.csv", tmp_path / "sample.csv"
    rows = [f"{number:05d}" for number in range(10_000)]
    submission.write_text("id,rle\n" + "".join(f"x{row},1 {int(row) + 1}\n" for row in rows))
    sample.write_text("id,rle\n" + "".join(f"{row},\n" for row in rows))
    begin = process_time()
    assert command_line("lint", submission, "--sample", sample)[0] == 1
    assert process_time() - begin < 20  # a second; with a set made anew for each id it was minutes


def test_damaged_files_pass_only_if_the_strict_reader_takes_them(command_line, files, tmp_path):
    """Random characters changed, added or cut off: never a traceback, and what --fix writes is in order."""
    rng = np.random.default_rng(0)
    fixed = tmp_path / "fixed.csv"
    for _ in range(30):
        planted = files()
        content = list(planted.sound.partition("\n")[2])
        for at in rng.integers(0, len(content), rng.integers(1, 4)):
            content[at] = rng.choice(["", "0", " ", ",", "-", ".", '"', "\n", "x", "7 1 ", "]"])
        planted.submission.write_text("image_id,rle\n" + "".join(content))
        words = ["lint", planted.submission, "--sample", planted.sample]
        if command_line(*words)[0] == 0:
            assert set(read(planted.submission, planted).ids) == set(planted.masks)
        if command_line(*words, "--fix", fixed)[0] == 0:
            assert read(fixed, planted).ids == list(planted.masks)


def read(path, planted):
    return read_csv(path, sizes={name: mask.shape for name, mask in planted.masks.items()})


def test_texts_that_a_spreadsheet_has_cut_off_are_an_error(command_line, tmp_path):
    path = tmp_path / "cut.csv"
    text = f"7 2 {'20'.zfill(32_767 - 6)} 1"
    for end, found in (("", 1), (" ", 0)):
        path.write_text(f"id,rle\na,1 1\nb,{text}{end}\n")
        status, out, _ = command_line("lint", path)
        assert (status, out.count("error: Excel has cut off texts\n  evidence: row 3 (id b) has 32767 char")) == (
            found,
            found,
        )


def test_a_fine_mask_in_a_large_image_does_not_stop_lint(command_line, tmp_path):
    """Its runs repeat every two pixels: lines as short would be more than can be turned."""
    path, runs = tmp_path / "submission.csv", " ".join(f"{start} 1" for start in (1, 3, 5, 7, 2_400_000))
    path.write_text("image_id,rle\n" + "".join(f"{name},{runs}\n" for name in "abcd"))
    status, out, err = command_line("lint", path, "--shape", 1280, 1918)
    assert (status, err) == (0, "")
    assert "submission.csv: 4 rows, 0 errors" in out


def test_ids_without_an_image_are_named_with_the_reason(command_line, tmp_path):
    path, folder = tmp_path / "submission.csv", tmp_path / "images"
    folder.mkdir()
    for number in range(1, 4):
        Image.new("L", (8, 6)).save(folder / f"000{number}.png")
    path.write_text("image_id,rle\n" + "".join(f"{number},1 2\n" for number in (1, 2, 3)))
    status, out, _ = command_line("lint", path, "--images", folder)
    assert status == 1
    assert (
        f"error: 3 ids have no image in {folder}\n  evidence: 1, 2, 3; ids have lost leading zeros or become decimal "
        "numbers, as in a spreadsheet: '1' and '0001.png', and 2 more alike\n"
    ) in out
    status, _, err = command_line("convert", path, "-o", tmp_path / "out.csv", "--images", folder, "--to", "carvana")
    assert status == 1
    assert "3 ids have no image in" in err
    assert "ids have lost leading zeros" in err
