import importlib.util
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import METRICS, Counts, ParticipantVisibleError, score
from pipeline.rle import FORMATS, RleError, encode, text_to_edges

PAIRS = [name for name, preset in FORMATS.items() if preset.style in ("pairs", "gaps")]
SHAPE = (6, 7)
PIXELS = SHAPE[0] * SHAPE[1]


def module(source):
    """What a file's text defines."""
    names = {"__name__": "metric"}
    exec(compile(source, "metric.py", "exec"), names)
    return names


@pytest.fixture
def made(command_line):
    """``made(*words)``: what the printed file defines."""

    def make(*words):
        status, out, err = command_line("kaggle-metric", *words)
        assert (status, err) == (0, "")
        return module(out)

    return make


def tables(masks, fmt, order):
    """Solution and submission of masks bool (2, N, H, W); the submission's rows in this order."""
    ids = [f"i{number}" for number in range(masks.shape[1])]
    true, predicted = ([encode(mask, fmt) for mask in side] for side in masks)
    solution = pd.DataFrame({"id": ids, "rle": true, "height": masks.shape[2], "width": masks.shape[3]})
    return solution, pd.DataFrame({"id": ids, "rle": predicted}).iloc[order]


@pytest.mark.parametrize("fmt", ["kaggle", "carvana", "siim", "sennet", "contrails"])
@pytest.mark.parametrize("both_empty", ["1", "0", "nan"])
def test_scores_are_those_of_the_score_command(made, command_line, tmp_path, fmt, both_empty):
    rng = np.random.default_rng(PAIRS.index(fmt))
    density = np.array([0, 0, 0.02, 0.3, 0.6, 1])[rng.integers(0, 6, (2, 12))]
    masks = rng.random((2, 12, *SHAPE)) < density[:, :, None, None]
    masks[0, :4] = masks[1, :4]
    solution, submission = tables(masks, fmt, rng.permutation(12))
    words = ["--format", fmt, "--both-empty", both_empty, "--beta", 2]
    paths = [tmp_path / "submission.csv", tmp_path / "solution.csv"]
    for table, path in zip((submission, solution), paths, strict=True):
        table.to_csv(path, index=False)
    expected = json.loads(command_line("score", *paths, *words, "--json")[1])["metrics"]
    read = [pd.read_csv(path) for path in reversed(paths)]  # as Kaggle does: an empty text is NaN
    found = {name: made("--metric", name, *words)["score"](*read, "id") for name in METRICS}
    assert found == pytest.approx(expected, abs=1e-12)


tokens = st.one_of(
    st.integers(0, PIXELS + 2).map(str),
    st.sampled_from(["-1", "+1", "x", "1.0", "007", "00000000000003", "4294967296", "99999999999999999999", "٣", "\t"]),
)
texts = st.one_of(
    st.lists(tokens, max_size=6).map(" ".join),
    st.lists(st.integers(1, PIXELS), max_size=6).map(lambda numbers: " ".join(map(str, sorted(numbers)))),
    st.sampled_from(["", " ", "-", "-1", "1 0", " 1  2 ", "nan"]),
)


@pytest.fixture(scope="module")
def files():
    """The printed file in each convention."""
    from pipeline.stages.kaggle_metric import metric_file

    return {
        name: module(metric_file({"BASE": f.base, "GAPS": f.style == "gaps", "EMPTY": f.empty}))
        for name, f in FORMATS.items()
        if f.style in ("pairs", "gaps")
    }


@settings(max_examples=400)
@given(text=texts, fmt=st.sampled_from(["kaggle", "carvana", "siim", "sennet", "contrails"]))
def test_texts_are_read_and_refused_as_by_the_reader_of_masks(files, text, fmt):
    read = files[fmt]["_runs"]
    if text.strip(" ") in ("", "nan"):  # NaN is a blank field in a table
        if FORMATS[fmt].empty == "":
            assert read(text, PIXELS).size == 0
        else:
            with pytest.raises(ValueError, match="a blank field; an empty mask is written as"):
                read(text, PIXELS)
        return
    try:
        expected, reason = text_to_edges(text, SHAPE, fmt).tolist(), None
    except RleError as error:
        reason = str(error)
    if reason is not None:
        with pytest.raises(ValueError, match="token") as refused:
            read(text, PIXELS)
        assert str(refused.value).split(", ")[0] == reason.split(", ")[0]
        return
    starts, ends = read(text, PIXELS)
    column_major = np.zeros(PIXELS, bool)
    for start, end in zip(starts, ends, strict=True):
        column_major[start:end] = True
    mask = column_major.reshape(SHAPE, order=FORMATS[fmt].order)
    again = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=False, append=False))
    assert again.tolist() == expected


def test_the_file_works_alone(command_line, tmp_path):
    source = command_line("kaggle-metric", "--format", "siim")[1]
    assert "pipeline." not in "".join(line for line in source.splitlines() if "import" in line)
    (tmp_path / "metric.py").write_text(source, encoding="utf-8")
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "import pandas as pd, metric\n"
        "solution = pd.DataFrame({'id': ['a', 'b'], 'rle': ['0 4', '-1'], 'Usage': ['Public', 'Private']})\n"
        "submission = pd.DataFrame({'id': ['b', 'a'], 'rle': ['-1', '2 2']})\n"
        "print(metric.score(solution, submission, 'id'), 'numba' in sys.modules, 'pipeline' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == [str((2 * 2 / 6 + 1) / 2), "False", "False"]


def test_the_file_scores_without_being_a_registered_module(command_line, tmp_path):
    (tmp_path / "metric.py").write_text(command_line("kaggle-metric", "--metric", "global-dice")[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("metric_of_a_competition", tmp_path / "metric.py")
    metric = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metric)
    assert spec.name not in sys.modules
    submission = pd.DataFrame({"id": ["c", "b", "a"], "rle": ["3 2", None, "3 2"]})
    assert metric.score(SOLUTION, submission, "id") == 2 * 4 / (6 + 4)


def test_the_settings_stand_in_the_file_once(command_line):
    source = command_line("kaggle-metric", "--metric", "fbeta", "--beta", 2, "--format", "sennet")[1]
    lines = [line.partition("  #")[0] for line in source.splitlines()]
    for line in ("METRIC = 'fbeta'", "BETA = 2.0", "BOTH_EMPTY = '1'", "BASE = 1", "GAPS = False", "EMPTY = '1 0'"):
        assert lines.count(line) == 1
        assert sum(other.startswith(line.split()[0] + " =") for other in lines) == 1


SOLUTION = pd.DataFrame({"id": ["a", "b", "c"], "rle": ["1 4", None, "3 2"], "height": 4, "width": 3})


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"id": ["a", "b"], "rle": ["", ""]}, "1 of the 3 ids are missing: c"),
        ({"id": ["a", "b", "c", "d"], "rle": ""}, "1 ids are unknown: d"),
        ({"id": ["a", "b", "b", "c"], "rle": ""}, r"row 4 \(id b\): the id is in row 3 already"),
        ({"id": ["a", "b", None], "rle": ""}, "row 4: the id is empty"),
        ({"id": ["a", "b", "c"], "mask": ""}, "the submission has no column 'rle'"),
        ({"key": ["a", "b", "c"], "rle": ""}, "the submission has no column 'id'"),
        ({"id": ["a", "b", "c"], "rle": ["", "1 2 3", ""]}, r"row 3 \(id b\): token 3 '3': a start without a length"),
        ({"id": ["a", "b", "c"], "rle": ["", "11 3", ""]}, r"row 3 \(id b\): token 2 '3': run ends at pixel 13, past"),
        ({"id": ["a", "b", "c"], "rle": ["", "1 2 2 1", ""]}, r"row 3 \(id b\): token 3 '2': run overlaps"),
        ({"id": ["a", "b", "c"], "rle": ["", 1.5, ""]}, r"row 3 \(id b\): token 1 '1.5': not a whole number"),
    ],
)
def test_a_participant_sees_what_is_wrong(columns, problem):
    with pytest.raises(ParticipantVisibleError, match=problem):
        score(SOLUTION, pd.DataFrame(columns), "id")


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("rle", ["1 4", "5", ""], r"solution: row 3 \(id b\): token 1 '5': a start without a length"),
        ("id", ["a", "b", "a"], "solution: the rows of id a differ"),
    ],
)
def test_only_the_host_sees_what_is_wrong_with_the_solution(column, values, problem):
    solution = SOLUTION.assign(height=[4, 4, 5], **{column: values})
    submission = pd.DataFrame({"id": list(dict.fromkeys(solution["id"])), "rle": ""})
    with pytest.raises(ValueError, match=problem):
        score(solution, submission, "id")


def test_a_solution_without_the_column_of_ids_is_the_hosts_mistake():
    with pytest.raises(ValueError, match="solution: no column 'key'; it has id, rle, height, width"):
        score(SOLUTION, SOLUTION, "key")


def test_a_column_of_classes_is_not_taken_for_masks():
    solution = pd.DataFrame({"id": ["a_x", "a_y"], "Class": ["x", "y"], "rle": ["1 4", ""]})
    assert score(solution, solution[["id", "rle"]], "id") == 1.0
    with pytest.raises(ValueError, match="each row needs an id of its own"):
        score(solution.assign(id="a"), solution, "id")


def test_a_score_is_never_nan(made):
    empty = pd.DataFrame({"id": ["a"], "rle": [None]})
    with pytest.raises(ValueError, match="no image counts"):
        made("--both-empty", "nan")["score"](empty, empty, "id")


def test_rows_of_one_id_in_the_solution_are_united():
    solution = pd.DataFrame({"id": ["a", "b", "a", "a"], "rle": ["5 4", "1 1", "1 2", "7 3"]})
    submission = pd.DataFrame({"id": ["b", "a"], "rle": ["1 1", "1 2 5 5"]})
    assert score(solution, submission, "id") == 1.0


def test_numbers_that_pandas_made_of_texts_are_texts_again(made):
    solution = pd.DataFrame({"id": [1, 2], "rle": ["0 4", "-1"]})
    submission = pd.DataFrame({"id": [2.0, 1.0], "rle": [-1.0, -1.0]})
    assert made("--format", "siim")["score"](solution, submission, "id") == 0.5


@pytest.mark.parametrize(("fmt", "empty"), [("contrails", "-"), ("sennet", "1 0"), ("siim", "-1")])
def test_a_blank_field_is_no_empty_mask_where_the_competition_has_a_text_for_it(made, fmt, empty):
    names = made("--format", fmt)
    solution = pd.DataFrame({"id": ["a", "b"], "rle": ["1 4", empty]})
    assert names["score"](solution, pd.DataFrame({"id": ["a", "b"], "rle": ["1 4", empty]}), "id") == 1.0
    for blank in ("", None, np.nan, " "):
        with pytest.raises(names["ParticipantVisibleError"]) as refused:
            names["score"](solution, pd.DataFrame({"id": ["a", "b"], "rle": ["1 4", blank]}), "id")
        assert str(refused.value) == f"row 3 (id b): a blank field; an empty mask is written as {empty!r}"
    with pytest.raises(ValueError, match=r"solution: row 3 \(id b\): a blank field"):
        names["score"](solution.assign(rle=["1 4", None]), solution, "id")


def test_the_column_of_masks_is_found_by_its_name():
    solution = pd.DataFrame({"id": ["a", "b"], "organ": ["1 2", "3 4"], "rle": ["1 4", ""]})
    assert score(solution, solution, "id") == 1.0
    assert score(solution, solution.assign(rle=["5 4", ""]), "id") == 0.5


def test_large_images_are_counted_exactly():
    area = 2**32 - 2
    solution = pd.DataFrame({"id": range(1000), "rle": f"1 {area}"})
    submission = pd.DataFrame({"id": range(1000), "rle": f"2 {area}"})
    assert score(solution, submission, "id") == pytest.approx((area - 1) / area, abs=1e-15)


def test_counts_of_the_file_are_integers(files):
    counts = files["kaggle"]["_counts"](np.array([[0], [4]]), np.empty((2, 0), np.int64), 2)
    expected = Counts(*np.array([[0, 0], [4, 0], [0, 0]]))
    for part in ("intersection", "predicted", "true"):
        assert getattr(counts, part).dtype == np.int64
        assert getattr(counts, part).tolist() == getattr(expected, part).tolist()


def test_coco_counts_are_refused(command_line):
    status, out, err = command_line("kaggle-metric", "--format", "coco")
    assert (status, out) == (1, "")
    assert err.startswith("error: --format coco: a metric file reads starts and lengths")
