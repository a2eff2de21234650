"""The whole pipeline through its real command line, on a tiny data set."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import zarr
from safetensors.numpy import load_file

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, save_settings
from pipeline.config import load_experiment
from pipeline.geometry import restore
from pipeline.locks import try_lock
from pipeline.memory import available_memory
from pipeline.postprocess import Postprocess, final_edges
from pipeline.rle import decode, from_edges

MODELS = ("unet", "fpn")  # of the fixture two_networks


def masks_of(csv, ids, sizes):
    texts = pd.read_csv(csv, dtype=str, keep_default_na=False).set_index("image_id")["rle"]
    return [decode(texts[image_id], sizes[image_id]) for image_id in ids]


def naive_dice(predicted, true):
    scores = []
    for p, t in zip(predicted, true, strict=True):
        total = int(p.sum()) + int(t.sum())
        scores.append(2 * int((p & t).sum()) / total if total else 1.0)
    return float(np.mean(scores))


@pytest.fixture(scope="module")
def sizes(two_networks):
    images = pd.read_csv(two_networks.artifacts.images, dtype={"image_id": str})
    return dict(zip(images["image_id"], zip(images["height"], images["width"], strict=True), strict=True))


def test_every_image_is_predicted_by_the_network_that_has_not_seen_it(two_networks):
    artifacts = two_networks.artifacts
    folds = pd.read_csv(artifacts.folds)
    for model in MODELS:
        for fold in range(2):
            maps = zarr.open_array(artifacts.fold(model, fold).oof, mode="r")
            assert maps.attrs["image_ids"] == folds.loc[folds["fold"] == fold, "image_id"].tolist()
            assert maps.shape == (len(maps.attrs["image_ids"]), 64, 64)
            assert maps.dtype == np.uint8
            assert not artifacts.fold(model, fold).checkpoint.exists()
            assert len(pd.read_csv(artifacts.fold(model, fold).history)) == 1


def test_the_blend_is_the_mean_of_the_models_and_folds(two_networks):
    artifacts = two_networks.artifacts
    weights = json.loads(artifacts.ensemble_weights.read_text())["weights"]
    folds = {m: [zarr.open_array(artifacts.fold(m, k).tests[0], mode="r")[:] for k in range(2)] for m in MODELS}
    mean = sum(weight * np.mean(folds[model], axis=0) for model, weight in weights.items())
    assert np.abs(zarr.open_array(artifacts.ensemble_test, mode="r")[:] - mean).max() <= 0.501


def test_the_submission_has_the_samples_ids_and_the_tuned_masks(two_networks, sizes):
    artifacts = two_networks.artifacts
    submission = pd.read_csv(artifacts.submission, dtype=str, keep_default_na=False)
    sample = pd.read_csv(artifacts.workspace / "data" / "sample_submission.csv", dtype=str)
    assert submission.columns.tolist() == ["image_id", "rle"]
    assert submission["image_id"].tolist() == sample["image_id"].tolist()
    postprocess = Postprocess(**json.loads(artifacts.tuning.read_text())["postprocess"][0])
    maps = zarr.open_array(artifacts.ensemble_test, mode="r")
    for row, image_id in enumerate(maps.attrs["image_ids"]):
        edges = final_edges(maps[row], *sizes[image_id], "stretch", postprocess)
        expected = from_edges(edges, sizes[image_id])
        assert np.array_equal(masks_of(artifacts.submission, [image_id], sizes)[0], expected)


def test_the_table_agrees_with_a_naive_recount(two_networks, sizes):
    artifacts, printed = two_networks.artifacts, two_networks.printed
    results = json.loads(artifacts.results.read_text())
    truth = pd.read_csv(artifacts.truth, dtype=str)["image_id"].tolist()
    test = naive_dice(masks_of(artifacts.submission, truth, sizes), masks_of(artifacts.truth, truth, sizes))
    rows = {row["model"]: row for row in results["rows"]}
    assert set(rows) == {*MODELS, "ensemble"}
    assert rows["ensemble"]["test"] == pytest.approx(test, abs=1e-9)
    maps = zarr.open_array(artifacts.ensemble_oof, mode="r")
    ids = maps.attrs["image_ids"]
    predicted = [(restore(maps[row], *sizes[i], "stretch") >= 128).astype(np.uint8) for row, i in enumerate(ids)]
    oof = naive_dice(predicted, masks_of(artifacts.images, ids, sizes))
    assert rows["ensemble"]["mean_oof"] == pytest.approx(oof, abs=1e-9)
    assert f"{rows['ensemble']['test']:.4f}" in printed


def test_score_gives_the_same_number(two_networks, python):
    artifacts = two_networks.artifacts
    result = python("-m", "pipeline", "score", artifacts.submission, artifacts.truth, "--json")
    scored = json.loads(result.stdout)
    stored = json.loads(artifacts.score.read_text())
    assert stored.pop("made_by")["inputs"].keys() == {"../../submissions/tiny.json", "truth.csv"}
    assert scored == stored
    assert scored["metric"] == "dice"
    assert scored["score"] == scored["metrics"]["dice"]
    assert set(scored["metrics"]) >= {"dice", "iou", "global-dice"}


def test_the_run_says_what_comes_next_and_its_jobs_do_not(two_networks):
    artifacts = two_networks.artifacts
    assert two_networks.printed.splitlines()[-1].endswith(f"lint {artifacts.submission} --format kaggle")
    assert not any("next: " in log.read_text() for log in artifacts.log("train").parent.glob("*-*.log"))


def test_provenance_names_inputs_settings_and_versions(two_networks):
    artifacts = two_networks.artifacts
    record = json.loads(artifacts.submission.with_suffix(".json").read_text())
    assert record["settings"]["models"]["unet"]["training"]["epochs"] == 1
    assert record["made_by"]["versions"]["torch"]
    assert set(record["made_by"]["inputs"]) == {"ensemble/test.zarr", "tuning.json", "images.csv"}
    assert artifacts.predictions.read_bytes().startswith(b"\x89PNG")


def rewritten_files(artifacts, before, after):
    return {path.relative_to(artifacts.folder).as_posix() for path in after if after[path] != before.get(path)}


def stamps(artifacts):
    files = [path for path in artifacts.folder.rglob("*") if path.is_file()]
    files = [path for path in files if not {".snakemake", "logs"} & set(path.parts)]
    return {path: path.stat().st_mtime_ns for path in files if path.name != ".running"}


def test_parts_of_the_test_images_are_jobs_of_their_own(two_networks, python):
    words = ("--set", "prediction.parts=3", "--dry-run")
    result = python("-m", "pipeline", "run", "--experiment", two_networks.experiment, *words)
    assert result.returncode == 0, result.stderr
    jobs = [line.split(": ")[1] for line in result.stdout.splitlines() if line.startswith("would run: predict")]
    parts = ("", " part2", " part3")
    assert sorted(jobs) == sorted(f"predict {m} fold{k}{part}" for m in MODELS for k in range(2) for part in parts)


def test_later_runs_do_only_what_is_needed(two_networks, tmp_path, python):
    run = two_networks.copy(tmp_path / "later")
    artifacts, experiment = run.artifacts, run.experiment
    before = stamps(artifacts)
    again = python("-m", "pipeline", "run", "--experiment", experiment)
    assert again.returncode == 0, again.stderr
    assert stamps(artifacts) == before
    assert "mean OOF" in again.stdout
    assert "train:" not in again.stdout
    changed = python("-m", "pipeline", "run", "--experiment", experiment, "--set", "prediction.flip=false")
    assert changed.returncode == 0, changed.stderr
    after = stamps(artifacts)
    rewritten = rewritten_files(artifacts, before, after)
    assert "unet/fold0/oof.zarr/zarr.json" in rewritten
    assert "tuning.json" in rewritten
    assert not {path for path in rewritten if "weights.safetensors" in path or path in ("images.csv", "folds.csv")}
    options = ["--set", "prediction.flip=false", "--set", "tuning.choose=best"]
    tuned = python("-m", "pipeline", "run", "--experiment", experiment, *options)
    assert tuned.returncode == 0, tuned.stderr
    before, after = after, stamps(artifacts)
    from_tuning_on = {"experiment.yaml", "tuning.json", "score.json", "results.json", "report.html", "predictions.png"}
    assert "settings have changed: prediction.flip True -> False" in changed.stdout
    assert rewritten_files(artifacts, before, after) == from_tuning_on
    tuned = python("-m", "pipeline", "run", "--experiment", experiment, *options, "--set", "tuning.metric=global-dice")
    assert tuned.returncode == 0, tuned.stderr
    before, after = after, stamps(artifacts)
    rewritten = rewritten_files(artifacts, before, after)  # the metric is what the models' weights are chosen by, too
    assert from_tuning_on | {"ensemble/weights.json"} <= rewritten
    assert not {path for path in rewritten if path.startswith(tuple(MODELS))}
    assert "Dice of all pixels together" in tuned.stdout
    scored = json.loads(artifacts.score.read_text())
    assert (scored["metric"], scored["score"]) == ("global-dice", scored["metrics"]["global-dice"])
    rows = {row["model"]: row for row in json.loads(artifacts.results.read_text())["rows"]}
    assert rows["ensemble"]["test"] == scored["score"]


def test_links_in_an_experiments_folder_are_replaced_and_not_written_through(one_network, tmp_path, python):
    run = one_network.copy(tmp_path / "run")
    artifacts = run.artifacts
    artifacts.score.unlink()
    artifacts.results.unlink()
    logs = [artifacts.log(job) for job in ("score", "report", "snakemake")]
    planted = [artifacts.folder / ".running", artifacts.score, *logs, artifacts.log("train-unet-fold0")]
    targets = [tmp_path / f"precious{number}" for number in range(len(planted))]
    for path, target in zip(planted, targets, strict=True):
        target.write_text("precious")
        path.unlink(missing_ok=True)
        path.symlink_to(target)
    again = python("-m", "pipeline", "run", "--experiment", run.experiment)
    assert (again.returncode, again.stderr) == (0, "")
    assert [target.read_text() for target in targets] == ["precious"] * len(targets)
    assert [path.name for path in planted if path.is_symlink()] == ["train-unet-fold0.log"]  # no job has written it
    assert "report: open" in artifacts.log("report").read_text()
    assert json.loads(artifacts.score.read_text()) == json.loads(one_network.artifacts.score.read_text())


SECOND = ("--set", "name=second")
READERS = {
    "ensemble": (["ensemble"], "unet/fold1/oof.zarr", "predict --model unet --fold 1"),
    "ensemble, test images": (["ensemble"], "unet/fold0/test.zarr", "predict --model unet --fold 0"),
    "tune": (["tune"], "ensemble/oof.zarr", "ensemble"),
    "tune, of a model": (["tune"], "unet/fold0/oof.zarr", "predict --model unet --fold 0"),
    "submit": (["submit"], "ensemble/test.zarr", "ensemble"),
    "submit --oof": (["submit", "--oof"], "ensemble/oof.zarr", "ensemble"),
    "report": (["report"], "ensemble/oof.zarr", "ensemble"),
    "pseudo": (["pseudo", *SECOND, "--set", "pseudo.experiment=tiny"], "unet/fold1/test.zarr", "predict"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "maps", "stage"), READERS.values(), ids=READERS.keys())
def test_every_reader_of_maps_refuses_what_is_not_as_it_was_written(
    one_network, tmp_path, command_line, words, maps, stage
):
    """A chunk that is gone, and one with a flipped bit; the submission of before stays as it is."""
    run = one_network.copy(tmp_path / "run")
    if words[0] == "pseudo":
        for name in ("prepare", "split"):
            assert command_line(name, "-e", run.experiment, *SECOND)[0] == 0
    chunk = run.artifacts.folder / maps / "c" / "0" / "0" / "0"
    content = chunk.read_bytes()
    before = run.artifacts.submission.read_bytes()
    for damage in ("gone", "flipped"):
        if damage == "gone":
            chunk.unlink()
        else:
            chunk.write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
        status, _, err = command_line(*words, "-e", run.experiment)
        assert status == 1
        what = "of 1 chunks 1 or more are missing, c/0/0/0 the first" if damage == "gone" else "c/0/0/0 is damaged"
        assert err.startswith(f"error: {chunk.parents[3]}: {what}")
        assert f"run '{stage}" in err
        assert len(err.splitlines()) == 1
        chunk.write_bytes(content)
    assert run.artifacts.submission.read_bytes() == before


DAMAGED = {
    "unet/fold1/weights.safetensors": ("predict", "segment", "export", "bundle"),
    "ensemble/weights.json": ("segment", "bundle"),
    "tuning.json": ("segment", "bundle", "submit", "report"),
}
"""Artifacts, and the commands that read them."""


@pytest.mark.parametrize(("damaged", "command"), [(name, each) for name, all_ in DAMAGED.items() for each in all_])
def test_every_reader_of_weights_and_settings_refuses_what_is_not_as_it_was_written(
    one_network, tmp_path, command_line, damaged, command
):
    """A flipped bit in weights, another number in JSON."""
    words = {
        "predict": ["--model", "unet", "--fold", "1"],
        "segment": [one_network.settings["data"]["root"] + "/test", "-o", tmp_path / "out"],
        "export": ["-o", tmp_path / "out"],
        "bundle": ["-o", tmp_path / "out"],
    }
    run = one_network.copy(tmp_path / "run")
    path = run.artifacts.folder / damaged
    content = path.read_bytes()
    before, after = (b'"fill_holes": 0', b'"fill_holes": 8') if "tuning" in damaged else (b": 1.0", b": 0.9999")
    flipped = bytes([*content[:-1], content[-1] ^ 1])
    path.write_bytes(content.replace(before, after, 1) if path.suffix == ".json" else flipped)
    assert path.read_bytes() != content
    status, _, err = command_line(command, *words.get(command, []), "-e", run.experiment)
    assert (status, len(err.splitlines())) == (1, 1)
    assert err.startswith(f"error: {path} is damaged, or ")
    assert " again" in err


def test_views_apart_are_members_in_a_run_and_averaged_again_need_no_training(
    one_network, tmp_path, write_experiment, python
):
    artifacts = one_network.copy(tmp_path / "views").artifacts
    views = {"views": "separate", "scales": [1.0, 0.5]}
    experiment = write_experiment(artifacts.workspace, **one_network.settings, prediction=views)
    result = python("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 0, result.stderr
    members = ["unet", "unet@mirrored", "unet@0.5", "unet@0.5-mirrored"]
    assert list(json.loads(artifacts.ensemble_weights.read_text())["weights"]) == members
    rows = [row["model"] for row in json.loads(artifacts.results.read_text())["rows"]]
    assert rows == [*members, "ensemble"]
    segmented = python(
        *("-m", "pipeline", "segment", "--experiment", experiment, artifacts.workspace / "data" / "test"),
        *("--csv", tmp_path / "segmented.csv"),
    )
    assert segmented.returncode == 0, segmented.stderr
    texts = [
        pd.read_csv(path, dtype=str).set_index("image_id")
        for path in (tmp_path / "segmented.csv", artifacts.submission)
    ]
    assert texts[0].sort_index().equals(texts[1].sort_index())
    before = stamps(artifacts)
    planned = python("-m", "pipeline", "run", "--experiment", experiment, "--dry-run")
    assert planned.stdout == "nothing would run: all is up to date\n"
    averaged = python("-m", "pipeline", "run", "--experiment", experiment, "--set", "prediction.views=averaged")
    assert averaged.returncode == 0, averaged.stderr
    rewritten = rewritten_files(artifacts, before, stamps(artifacts))
    assert "unet/fold0/oof.zarr/zarr.json" in rewritten
    assert not {path for path in rewritten if "weights.safetensors" in path or path.startswith("unet/fold0/oof@")}
    assert [row["model"] for row in json.loads(artifacts.results.read_text())["rows"]] == ["unet", "ensemble"]


def test_a_failing_stage_is_one_clear_line(tmp_path, write_experiment, python):
    experiment = write_experiment(tmp_path, folds={"count": 50})
    save_settings(load_experiment(experiment))  # whose networks are then known, and not built first
    result = python("-m", "pipeline", "run", "--experiment", experiment)
    assert result.returncode == 1
    assert [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "folds.count" in result.stderr
    assert "Traceback" not in result.stderr
    assert not Artifacts(tmp_path, "tiny").folds.exists()


def test_a_misspelt_encoder_is_refused_before_anything_is_read(tmp_path, write_experiment, command_line):
    experiment = write_experiment(tmp_path, models={"unet": {"architecture": "Unet", "encoder": "resnet17"}})
    status, _, errors = command_line("run", "--experiment", experiment)
    assert status == 1
    assert "'resnet18'" in errors
    assert not (tmp_path / "kfold").exists()


def test_cores_are_not_given_where_a_profile_says_them(tmp_path, write_experiment, command_line):
    words = ("run", "--experiment", write_experiment(tmp_path), "--profile", "slurm", "--cores", 2)
    status, out, errors = command_line(*words)
    assert (status, out) == (2, "")
    assert "goes without --profile" in " ".join(errors.replace("│", " ").split())
    assert not (tmp_path / "kfold").exists()


def test_two_runs_of_one_experiment_do_not_meet(tmp_path, write_experiment, command_line):
    experiment = write_experiment(tmp_path)
    save_settings(load_experiment(experiment))
    with (Artifacts(tmp_path, "tiny").folder / ".running").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, _, errors = command_line("run", "--experiment", experiment)
    assert status == 1
    assert "another run" in errors


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (tmp_path / "file").open("w") as file:
        assert try_lock(file)


def test_the_memory_is_that_of_the_container(tmp_path):
    (tmp_path / "one").write_text("max\n")
    whole = available_memory([tmp_path / "none", tmp_path / "one"])
    assert whole > 100
    (tmp_path / "two").write_text(f"{whole * 2**20 // 2}\n")
    assert available_memory([tmp_path / "one", tmp_path / "two"]) == whole // 2


TRAIN = ("-m", "pipeline", "train", "--model", "unet", "--fold", "0", "--experiment")


def prepared(folder, write_experiment, command_line):
    recipe = {"epochs": 4, "batch_size": 2}
    experiment = write_experiment(folder, training=recipe)
    for stage in ("prepare", "split"):
        assert command_line(stage, "--experiment", experiment)[0] == 0
    return experiment


def test_a_killed_training_resumes_to_the_same_weights(tmp_path, write_experiment, command_line, python):
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
    experiments = [prepared(folder, write_experiment, command_line) for folder in folders]
    whole = python(*TRAIN, experiments[0])
    assert whole.returncode == 0, whole.stderr

    command = [sys.executable, "-u", *TRAIN, str(experiments[1])]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        # The second epoch's line means that the first epoch's checkpoint is there.
        next(line for line in process.stdout if "epoch   2/4" in line)
        process.send_signal(signal.SIGKILL)
    paths = [Artifacts(folder, "tiny").fold("unet", 0) for folder in folders]
    assert paths[1].checkpoint.exists()
    assert not paths[1].weights.exists()

    resumed = python(*TRAIN, experiments[1])
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming" in resumed.stdout
    assert "epoch   1/4" not in resumed.stdout
    assert not paths[1].checkpoint.exists()
    assert pd.read_csv(paths[1].history)["epoch"].tolist() == [1, 2, 3, 4]
    tensors = [load_file(path.weights) for path in paths]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
