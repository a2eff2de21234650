"""The sample submission decides, through the command line of `lint`."""

import json

import numpy as np
import pytest

from pipeline.rle import encode


@pytest.fixture
def lint(command_line, tmp_path):
    """``lint(submission, sample, *words) -> (status, findings, text of the corrected file or None)``."""

    def call(submission, sample, *words):
        paths = [tmp_path / f"{name}.csv" for name in ("submission", "sample", "fixed")]
        paths[0].write_text(submission)
        with_sample = []
        if sample is not None:
            paths[1].write_text(sample)
            with_sample = ["--sample", paths[1]]
        status, out, _ = command_line("lint", paths[0], *with_sample, "--json", *words)
        command_line("lint", paths[0], *with_sample, *words, "--fix", paths[2])
        return status, json.loads(out)["findings"], paths[2].read_text() if paths[2].exists() else None

    return call


def table(texts, header="id,rle"):
    return "\n".join([header, *(f"i{number},{text}" for number, text in enumerate(texts))]) + "\n"


@pytest.mark.parametrize("fmt", ["kaggle", "contrails", "sennet", "siim"])
@pytest.mark.parametrize("empty", ["-", "-1", "1 0", "", "empty"])
@pytest.mark.parametrize("written", ["-", "-1", "1 0", ""])
def test_the_sample_decides_how_an_empty_mask_is_written(lint, fmt, empty, written):
    texts = ["5 3", written, "2 2", "7 1"]
    words = ["--format", fmt, "--shape", 8, 9]
    blank_sample_takes_the_formats = (
        empty == "" and {"contrails": "-", "sennet": "1 0", "siim": "-1"}.get(fmt) == written
    )
    status, findings, fixed = lint(table(texts), table([empty] * 4), *words)
    if written == empty or blank_sample_takes_the_formats:
        assert (status, findings, fixed) == (0, [], table(texts))
        return
    assert status == 1
    assert [(finding["severity"], finding["what"]) for finding in findings] == [
        ("error", f"an empty mask is written as {written!r}")
    ]
    assert findings[0]["evidence"] == f"row 3 (id i1); the sample writes {empty!r}"
    assert fixed == table(["5 3", empty, "2 2", "7 1"])


@pytest.mark.parametrize(("fmt", "empty"), [("contrails", "-"), ("sennet", "1 0"), ("siim", "-1"), ("kaggle", "")])
@pytest.mark.parametrize("sample", [None, ["1 1"] * 4])
def test_the_format_decides_where_no_sample_does(lint, fmt, empty, sample):
    texts = ["5 3", empty, "2 2", "7 1"]
    words = ["--format", fmt, "--shape", 8, 9]
    sample = sample and table(sample)
    assert lint(table(texts), sample, *words) == (0, [], table(texts))
    other = "" if empty else "-"
    status, findings, fixed = lint(table(["5 3", other, "2 2", "7 1"]), sample, *words)
    assert (status, fixed) == (1, table(texts))
    assert findings[0]["evidence"] == f"row 3 (id i1); --format {fmt} writes {empty!r}"


def test_an_added_row_is_empty_as_the_sample_has_it(lint):
    assert lint("id,rle\ni0,1 1\n", table(["-", "-"]))[2] == "id,rle\ni0,1 1\ni1,-\n"


def test_a_sample_with_several_ways_takes_each_of_them(lint):
    status, findings, _ = lint(table(["5 3", "", "-1", "7 1"]), table(["-1", "", "-1", "1 1"]))
    assert (status, findings) == (0, [])


def test_masks_past_the_samples_full_ones_are_an_error(lint):
    """350 x 525 is asked for, masks are of 1400 x 2100."""
    full = table(["1 183750"] * 4)
    for text in ("1 183750", "183700 51", ""):
        assert [f for f in lint(table([text, "5 3", "9 3", "70 1"]), full)[1] if f["severity"] == "error"] == []
    status, findings, _ = lint(table(["5 3", "2900000 20", "183700 52", "7 1"]), full, "--shape", 1400, 2100)
    assert status == 1
    assert [finding["what"] for finding in findings if finding["severity"] == "error"] == [
        "masks run past the end of the sample's own"
    ]
    assert findings[-1]["evidence"] == (
        "row 3 (id i1) ends at pixel 2900019, the sample's mask that covers the whole image at 183750, and 1 more rows"
    )


def test_each_image_has_the_size_of_its_own_full_mask(lint):
    sample = table(["1 576", "1 768"])
    assert lint(table(["1 3", "700 69"]), sample)[0] == 0
    status, findings, _ = lint(table(["700 69", "1 3"]), sample)
    assert (status, len(findings)) == (1, 1)


@pytest.mark.parametrize("words", [(), ("--shape", 40, 30)])
def test_small_images_have_full_masks_too(lint, words):
    status, findings, _ = lint(table(["5 3", "1100 20", "7 1"]), table(["1 1200"] * 3), *words)
    assert (status, findings) == (0, [])
    sample = ["1 300"] * 3 if words else ["1 320"] * 3
    status, findings, _ = lint(table(["5 3", "1100 20", "7 1"]), table(sample), *words)
    assert status == 1
    assert findings[-1]["what"] == "masks run past the end of the sample's own"


def test_masks_of_the_samples_size_are_right_where_the_images_are_larger(lint):
    y, x = np.mgrid[0:350, 0:525]
    discs = [encode((np.hypot(y - 100 - 10 * n, x - 200) < 60).astype(np.uint8)) for n in range(8)]
    assert lint(table(discs), None, "--shape", 1400, 2100)[1] != []  # looks resized
    for sample in (["1 183750"] * 8, discs[::-1]):
        status, findings, _ = lint(table(discs), table(sample), "--shape", 1400, 2100)
        assert status == 0
        assert [(finding["severity"], finding["what"]) for finding in findings] == [
            ("note", "the sample's own masks are of another size than the images")
        ]


@pytest.mark.parametrize("scale", [2, 0.5])
@pytest.mark.parametrize("discs", [True, False])
def test_masks_of_another_size_than_the_samples_are_told(lint, scale, discs):
    def texts(height, width, radius):
        y, x = np.mgrid[0:height, 0:width]
        for n in range(8):
            near = np.hypot(y / height - 0.4 - 0.02 * n, (x / width - 0.6)) < radius
            yield encode((near if discs else x / width > 0.5 + 0.04 * n).astype(np.uint8))

    sample = list(texts(120, 160, 0.2))
    other = list(texts(int(120 * scale), int(160 * scale), 0.25))
    status, findings, _ = lint(table(other), table(sample))
    assert status == 0
    assert [finding["what"] for finding in findings] == ["masks look made for another size than the sample's own"]
    assert lint(table(list(texts(120, 160, 0.25))), table(sample))[1] == []


@pytest.mark.parametrize("dummy", ["1 1", "1 2", "1 1 5 1", "1 100", "1 500", "1 1000", "1 144", "10 3"])
def test_a_placeholder_says_nothing_of_sizes(lint, dummy):
    y, x = np.mgrid[0:120, 0:160]
    texts = [encode((np.hypot(y - 50 - 3 * n, x - 90) < 30).astype(np.uint8)) for n in range(8)]
    assert lint(table(texts), table([dummy] * 8), "--shape", 120, 160)[:2] == (0, [])


def test_what_the_samples_own_masks_do_is_the_format_not_a_mistake(lint):
    y, x = np.mgrid[0:120, 0:80]
    texts = [encode((np.hypot(y - 50 - 3 * n, x - 40) < 30).astype(np.uint8), "carvana") for n in range(8)]
    _, findings, fixed = lint(table(texts), table(texts[::-1]), "--shape", 120, 80)
    what = "the sample's own masks are not what --format kaggle says"
    assert what in [finding["what"] for finding in findings]
    assert fixed is None
    status, findings, fixed = lint(table(["5 3", "0 2"]), table(["0 1", "0 1"]))
    assert (status, fixed) == (1, None)
    assert findings[-1]["what"] == what
    assert findings[-1]["evidence"].startswith("row 2 (id i0) of the sample: token 1 '0': start below 1")


def test_every_column_of_the_sample_must_be_there(lint):
    sample = "id,rle,AttributesIds,usage\na,,,\nb,,,\n"
    status, findings, _ = lint("id,rle,usage\na,1 1,\nb,,\n", sample)
    assert status == 1
    assert [(finding["severity"], finding["evidence"]) for finding in findings] == [("error", "AttributesIds")]
    assert lint("id,usage,rle,AttributesIds\na,,1 1,\nb,,,\n", sample)[0] == 0


def test_a_missing_column_of_classes_is_named(command_line, tmp_path):
    (tmp_path / "submission.csv").write_text("ImageId,EncodedPixels\na,1 1\n")
    (tmp_path / "sample.csv").write_text("ImageId,EncodedPixels,ClassId\na,,1\n")
    status, _, err = command_line("lint", tmp_path / "submission.csv", "--sample", tmp_path / "sample.csv")
    assert status == 1
    assert "has no column of classes, sample.csv has 'ClassId'" in err


def test_one_other_class_is_no_sign_of_a_placeholder(lint):
    status, findings, fixed = lint("id,class,rle\na,x,1 1\nb,x,\n", "id,class,rle\na,y,\nb,y,\n")
    assert (status, fixed) == (1, None)
    assert [finding["what"] for finding in findings] == [
        "2 of the sample's 2 ids are missing",
        "2 ids are not in the sample",
    ]
