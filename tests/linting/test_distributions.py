"""Many masks that are empty, full or alike, and areas far from the training's, through the command line of `lint`."""

import json

import numpy as np
import pytest

from pipeline.rle import encode

SHAPE = (40, 30)
FULL = f"1 {SHAPE[0] * SHAPE[1]}"


@pytest.fixture
def lint(command_line, tmp_path):
    """``lint(texts, *words, truth=None) -> findings``, each as severity and what, of masks of SHAPE."""

    def call(texts, *words, truth=None, header="id,rle"):
        path, train = tmp_path / "submission.csv", tmp_path / "train.csv"
        path.write_text("\n".join([header, *texts]) + "\n")
        if truth is not None:
            train.write_text("\n".join([header, *truth]) + "\n")
            words = (*words, "--truth", train)
        status, out, err = command_line("lint", path, "--shape", *SHAPE, "--json", *words)
        assert (status, err) == (0, "")
        return [(finding["severity"], finding["what"]) for finding in json.loads(out)["findings"]]

    return call


def rows(texts):
    return [f"i{number},{text}" for number, text in enumerate(texts)]


def discs(count, seed=0, radius=(5, 12)):
    """Discs of different places and sizes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]]
    return [
        encode((np.hypot(y - rng.uniform(12, 28), x - rng.uniform(12, 18)) < rng.uniform(*radius)).astype(np.uint8))
        for _ in range(count)
    ]


def speckled(text, count):
    """A mask, and copies of it that lack one pixel of a run each."""
    for number in range(count):
        tokens = text.split()
        tokens[2 * number + 1] = str(int(tokens[2 * number + 1]) - 1)
        yield " ".join(tokens)


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        ([FULL] * 6 + discs(4), "6 of 10 masks cover the whole image"),
        ([f"2 {SHAPE[0] * SHAPE[1] - 1}"] * 6 + discs(4), "6 of 10 masks cover the whole image"),
        ([""] * 6 + discs(4), "6 of 10 masks are empty"),
        (discs(1) * 6 + discs(4, 1), "6 of 10 masks are identical to another one"),
        ([*discs(1), *discs(1)] + discs(1, 2) * 2 + discs(6, 1), "4 of 10 masks are identical to another one"),
        ([*speckled(discs(1, 0, (11, 12))[0], 6), *discs(4, 1)], "6 of 10 masks are nearly identical to others"),
        (
            [*speckled(discs(1, 0, (11, 12))[0], 6), *discs(4, 1)] * 1 + discs(5, 2),
            "6 of 15 masks are nearly identical to others",
        ),
    ],
    ids=["full", "nearly full", "empty", "identical", "pairs", "nearly identical", "less than half"],
)
def test_many_masks_of_one_kind_are_a_warning(lint, texts, what):
    assert lint(rows(texts)) == [("warning", what)]
    assert lint(rows(texts[::-1])) == [("warning", what)]


@pytest.mark.parametrize(
    "texts",
    [discs(20), [FULL] * 2 + discs(20), [""] * 9 + discs(20), discs(1) * 2 + discs(20, 1)],
    ids=["none", "two full", "a third empty", "one twice"],
)
def test_a_few_are_none(lint, texts):
    assert lint(rows(texts)) == []


def test_full_masks_show_without_a_size_as_identical_ones(command_line, tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("\n".join(["id,rle", *rows([FULL] * 6 + discs(4))]) + "\n")
    assert "warning: 6 of 10 masks are identical to another one\n" in command_line("lint", path)[1]


def test_areas_far_from_the_trainings_are_a_warning(lint):
    truth = rows(discs(40))
    assert lint(rows(discs(20, 1)), truth=truth) == []
    far = ("warning", "areas are far from those in train.csv")
    assert lint(rows(discs(20, 1, (2, 4))), truth=truth) == [far]
    assert lint(rows(discs(20, 1, (15, 20))), truth=truth) == [far]
    assert lint(rows(discs(20, 1) + discs(10, 2, (15, 20))), truth=truth) == [far]
    assert lint(rows(discs(90, 1) + discs(6, 2, (1, 2))), truth=truth) == [far]  # smaller than half of the smallest
    assert far in lint(rows([FULL] * 6 + discs(4, 1)), truth=truth)


def test_nearly_full_masks_are_far_from_masks_of_half_the_image(lint):
    half = rows([f"1 {n}" for n in range(650, 980, 8)])
    large = rows([f"{n % 30 + 1} {n}" for n in range(1130, 1165)])
    assert ("warning", "areas are far from those in train.csv") in lint(large, truth=half)


def test_areas_are_compared_class_by_class(lint):
    def of_classes(seed, eye, face):
        eyes, faces = discs(20, seed, eye), discs(20, seed + 1, face)
        pairs = zip(eyes, faces, strict=True)
        return [line for n, (a, b) in enumerate(pairs) for line in (f"i{n},eye,{a}", f"i{n},face,{b}")]

    truth = of_classes(0, (2, 4), (10, 12))
    header = "id,class,rle"
    assert lint(of_classes(2, (2, 4), (10, 12)), truth=truth, header=header) == []
    found = lint(of_classes(2, (10, 12), (10, 12)), truth=truth, header=header)
    assert found == [("warning", "areas of class 'eye' are far from those in train.csv")]


def test_as_many_empty_masks_as_in_training_are_right(lint):
    texts = rows([""] * 60 + discs(40))
    assert lint(texts) == [("warning", "60 of 100 masks are empty")]
    assert lint(texts, truth=rows([""] * 55 + discs(45, 1))) == []
    found = lint(texts, truth=rows([""] * 5 + discs(95, 1)))
    assert ("warning", "60% of the masks are empty, 5% in train.csv") in found
    assert lint(rows(discs(40)), truth=texts) == [("warning", "0% of the masks are empty, 60% in train.csv")]


def test_several_rows_of_an_id_in_training_are_one_mask(lint):
    objects = [f"i{n},{1 + 2 * k} 1" for n in range(10) for k in range(300)]
    whole = [f"i{n},{n + 1} {290 + 5 * n}" for n in range(10)]
    assert lint(whole, truth=objects) == []


def test_truth_in_another_format_and_other_columns(command_line, tmp_path):
    submission, train = tmp_path / "submission.csv", tmp_path / "train.csv"
    submission.write_text("\n".join(["id,rle", *rows(discs(10))]) + "\n")
    train.write_text("photo,sitter,runs\n" + "".join(f"{n},s,{70 * n} {50 + n}\n" for n in range(10)))
    words = ["lint", submission, "--shape", *SHAPE, "--truth", train]
    status, _, err = command_line(*words)
    assert (status, err) == (
        1,
        f"error: {train} row 2 (id 0): token 1 's': not a whole number; "
        "--truth needs masks in --format or --truth-format, in --truth-columns\n",
    )
    status, out, err = command_line(*words, "--truth-columns", "photo,runs", "--truth-format", "siim")
    assert (status, err) == (0, "")
    assert "warning: areas are far from those in train.csv\n" in out
