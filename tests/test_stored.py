import copy
import json

import pytest

from pipeline.artifacts import write_json
from pipeline.errors import DataError
from pipeline.stored import (
    Folds,
    Manifest,
    Maps,
    Metrics,
    Results,
    Score,
    Tuning,
    Weights,
    WeightsOfNetwork,
    WholeTuning,
    check_bundled,
    open_json,
)

RULES = {
    "threshold": 128,
    "top_threshold": None,
    "min_area": 0,
    "fill_holes": 0,
    "min_component": 0,
    "max_components": None,
}
WORTH = {
    "at_half": 0.7,
    "at_half_by_fold": [0.7, None],
    "tuned": 0.8,
    "cross_fitted": 0.7,
    "cross_fitted_ci95": [0.6, 0.8],
    "cross_fitted_by_fold": [0.7, 0.7],
    "submitted": 0.7,
    "submitted_ci95": [None, None],
    "submitted_by_fold": [0.7, 0.7],
    "submits": "at 1/2",
    "verdict": "nothing",
    "optimism": "some",
    "tuned_classes": 0,
}
OF_CLASS = {
    **WORTH,
    "postprocess": RULES,
    "postprocess_by_fold": [RULES],
    "found": RULES,
    "plateau": {"size": 3, "threshold": [1, 2]},
    "curve": [0.5] * 256,
}
CONTENTS = {
    Tuning: {
        "metric": "dice",
        "settings": {"metric": "dice", "beta": 0.5, "both_empty": 1},
        "classes": [None],
        "postprocess": [RULES],
        "sets": {"ensemble": {**WORTH, "classes": [OF_CLASS]}},
    },
    Weights: {"weights": {"a": 0.25, "b": 0.75}, "space": "rank", "histograms": {"a": [1] * 256, "b": [2] * 256}},
    WeightsOfNetwork: {
        "network": {
            "architecture": "Unet",
            "encoder": "resnet18",
            "options": {},
            "classes": 1,
            "normalisation": [[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]],
        },
        "sha256": "0" * 64,
    },
    Maps: {"engine": "torch", "difference": None, "files": {"zarr.json": "a" * 64}},
    Score: {"metric": "iou", "score": 0.5, "n": 3},
    Results: {
        "experiment": "tiny",
        "metric": "dice",
        "postprocess": {"all images": "threshold 128/255"},
        "verdict": "nothing",
        "rows": [{"model": "a", "folds": [0.5, None], "mean_oof": 0.5, "tuned_oof": 0.5, "test": None}],
    },
    Metrics: {
        "epoch": 1,
        "val_dice": 0.5,
        "images_per_second": 9.5,
        "waiting": 0,
        "parameters": 3,
        "total_seconds": 1.5,
    },
    Folds: {"duplicates": [["a", "b"]]},
    Manifest: {"experiment": "tiny", "options": ["--folds", "1"], "needs": {"a": "a==1"}, "files": {"b": "0" * 64}},
}
CONTENTS[WholeTuning] = CONTENTS[Tuning]
ABSENT = object()
BREAKAGES = [
    (Tuning, "metric", "accuracy"),
    (Tuning, "metric", None),
    (Tuning, "metric", ABSENT),
    (Tuning, "postprocess", {}),
    (Tuning, "postprocess", []),
    (Tuning, "postprocess", "128"),
    (Tuning, "postprocess.0", None),
    (Tuning, "postprocess.0.threshold", 127.5),
    (Tuning, "postprocess.0.threshold", "128"),
    (Tuning, "postprocess.0.threshold", True),
    (Tuning, "postprocess.0.threshold", 300),
    (Tuning, "postprocess.0.min_area", -1),
    (Tuning, "postprocess.0.max_components", 0),
    (Tuning, "postprocess.0.minimum", 3),
    (Tuning, "extra", 1),
    (Tuning, "sets", []),
    (Tuning, "sets.ensemble", ABSENT),
    (Tuning, "sets.ensemble.tuned", "high"),
    (Tuning, "sets.ensemble.classes.0.curve", [0.5] * 255),
    (WholeTuning, "settings", ABSENT),
    (WholeTuning, "sets.ensemble.at_half_by_fold", ABSENT),
    (WholeTuning, "sets.ensemble.classes.0.curve", ABSENT),
    (Weights, "weights", {}),
    (Weights, "weights", [0.5, 0.5]),
    (Weights, "weights", {"a": 2, "b": -1}),
    (Weights, "weights", {"a": 0.5, "b": 0.25}),
    (Weights, "weights.a", "0.25"),
    (Weights, "weights.a", None),
    (Weights, "space", "mean"),
    (Weights, "histograms", ABSENT),
    (Weights, "histograms.a", [1] * 255),
    (Weights, "histograms.a", [-1] * 256),
    (Weights, "extra", 1),
    (WeightsOfNetwork, "network", ABSENT),
    (WeightsOfNetwork, "network", None),
    (WeightsOfNetwork, "network.classes", -1),
    (WeightsOfNetwork, "network.classes", 1.0),
    (WeightsOfNetwork, "network.encoder", ""),
    (WeightsOfNetwork, "network.options", []),
    (WeightsOfNetwork, "network.weights", "imagenet"),
    (WeightsOfNetwork, "network.normalisation", [[0.5] * 3, [0.2, 0.2, 0]]),
    (WeightsOfNetwork, "network.normalisation", [[0.5] * 3]),
    (WeightsOfNetwork, "sha256", "abc"),
    (WeightsOfNetwork, "extra", 1),
    (Maps, "files", []),
    (Maps, "files", {"zarr.json": 1}),
    (Maps, "extra", 1),
    (Score, "score", "0.5"),
    (Score, "score", ABSENT),
    (Results, "rows", []),
    (Results, "rows.0.folds", None),
    (Results, "metric", "accuracy"),
    (Metrics, "parameters", -1),
    (Metrics, "val_dice", None),
    (Folds, "duplicates", [["a"]]),
    (Folds, "extra", 1),
    (Manifest, "files", ABSENT),
    (Manifest, "options", [1]),
]


def changed(content, key, value):
    content = copy.deepcopy(content)
    *outer, last = key.split(".")
    inner = content
    for part in outer:
        inner = inner[int(part) if isinstance(inner, list) else part]
    last = int(last) if isinstance(inner, list) else last
    if value is ABSENT:
        del inner[last]
    else:
        inner[last] = value
    return content


@pytest.mark.parametrize("kind", CONTENTS, ids=lambda kind: kind.__name__)
def test_what_is_right_comes_back_as_it_is(tmp_path, kind):
    write_json(tmp_path / "a.json", CONTENTS[kind])
    assert open_json(kind, tmp_path / "a.json", "tune") == CONTENTS[kind]
    assert open_json(kind, tmp_path / "a.json", "tune", tmp_path) == CONTENTS[kind]  # has no record


@pytest.mark.parametrize(("kind", "key", "value"), BREAKAGES)
def test_what_is_wrong_is_one_line_with_the_file_and_the_key(tmp_path, kind, key, value):
    path = tmp_path / "a.json"
    write_json(path, changed(CONTENTS[kind], key, value))
    with pytest.raises(DataError) as caught:
        open_json(kind, path, "tune")
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(": run the stage 'tune' again")
    assert key.split(".")[-1].strip("0") in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", "1", '"text"', "{", "", "\x00", '{"metric": NaN}', '{"metric": Infinity}', "[" * 100_000),
        *('{"metric": "dice", "metric": "iou"}', "9" * 5000, '{"\\ud800": 1}', "\ufeff{}"),
    ],
)
def test_what_is_no_object_of_json_is_one_line_too(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.json\b") as caught:
        open_json(Score, tmp_path / "a.json", "score")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_a_missing_file_names_its_stage(tmp_path):
    with pytest.raises(DataError, match="is missing: run the stage 'tune' first"):
        open_json(Tuning, tmp_path / "a.json", "tune")


def test_files_of_a_bundle_are_as_they_were_bundled(tmp_path):
    path = tmp_path / "kfold" / "tuning.json"
    path.parent.mkdir()
    path.write_text("as bundled")
    check_bundled(tmp_path, path)  # of no bundle
    known = {"kfold/tuning.json": "22b07ba7aa8b6be2e53ee0e9b6c5b4f8e6b5ff4a1f2fe4bbd1a5f3f5ad4f2a4e"}
    (tmp_path / "bundle.json").write_text(json.dumps({**CONTENTS[Manifest], "files": known}))
    with pytest.raises(DataError, match=r"tuning\.json is damaged, or another one than was bundled"):
        check_bundled(tmp_path, path)
