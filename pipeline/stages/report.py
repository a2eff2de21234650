"""Gather the scores into a table, and show on one page what to do next.

Reads   kfold/<experiment>/tuning.json, ensemble/oof.zarr, images.csv, folds.csv, the images; score.json and each
        model's history.csv and metrics.json where there are any
Writes  kfold/<experiment>/report.html       one self-contained page: scores, errors, masks, curves, folds, settings
        kfold/<experiment>/predictions.png   photographs with the true and the predicted outline
        kfold/<experiment>/results.json      the table: a row for each model and for the ensemble

With --against OTHER the page says what has changed from that experiment of the same workspace to this one.

    python -m pipeline report --experiment pipeline/experiments/demo.yaml --against demo-longer
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.artifacts import whole_or_absent, write_text
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command
from pipeline.config import load_experiment
from pipeline.records import Record
from pipeline.report.against import compare_runs, open_other
from pipeline.report.finished import FinishedRun
from pipeline.report.page import render_page
from pipeline.report.poster import draw_poster
from pipeline.report.scores import score_masks
from pipeline.results import results_table
from pipeline.stored import Score, open_json


def report(
    experiment: ExperimentOption,
    overrides: OverridesOption = None,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Another experiment of the workspace, to compare with.")
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Gather the scores into a table, and show on one page what to do next.

    \b
    Example:
      python -m pipeline report --experiment pipeline/experiments/demo.yaml --against demo-longer
    """
    console = make_console(quiet)
    run = FinishedRun.read(load_experiment(experiment, overrides))
    other = None if against is None else open_other(run, against)
    artifacts, results = run.artifacts, results_of(run)
    scores = score_masks(run, console)
    change = None if other is None else compare_runs(run, scores, other, score_masks(other, console))
    artifacts.results.unlink(missing_ok=True)  # which stands for the page and the picture, too
    write_text(artifacts.page, render_page(run, scores, results, change))
    with whole_or_absent(artifacts.predictions) as path:
        draw_poster(run, scores, path)
    folds = range(run.settings.folds.count)
    where_any = [
        artifacts.score,
        *(artifacts.fold(name, fold).metrics for name in run.settings.models for fold in folds),
    ]
    inputs = [artifacts.images, artifacts.image_range, artifacts.folds, artifacts.ensemble_oof, artifacts.tuning]
    inputs += [path for path in where_any if path.exists()]
    record = Record.of(run.settings, "report", inputs)
    record.write(artifacts.results, artifacts.page, artifacts.predictions, **results)
    console.print(results_table(results))
    console.print(f"report: open {artifacts.page} in a browser")


def results_of(run: FinishedRun) -> dict[str, Any]:
    """Content of ``results.json``, but for the record."""
    artifacts, tuning = run.artifacts, run.tuning
    test_score = None
    if artifacts.score.exists():
        test_score = open_json(Score, artifacts.score, "score", artifacts.folder)["score"]
    of_classes = zip(run.classes, run.postprocess, strict=True)
    return {
        "experiment": run.settings.name,
        "metric": tuning["metric"],
        "postprocess": {name or "all images": str(each) for name, each in of_classes},
        "verdict": tuning["sets"]["ensemble"]["verdict"],
        "against": (tuning["against"] or {}).get("verdict"),
        "rows": [_row(name, scores, test_score) for name, scores in tuning["sets"].items()],
    }


def _row(name: str, scores: dict[str, Any], test_score: float | None) -> dict[str, Any]:
    return {
        "model": name,
        "folds": scores["at_half_by_fold"],
        "mean_oof": scores["at_half"],
        "submitted": scores["submits"],
        "submitted_oof": scores["submitted"],
        "submitted_oof_ci95": scores["submitted_ci95"],
        "tuned_oof": scores["cross_fitted"],
        "tuned_oof_ci95": scores["cross_fitted_ci95"],
        "tuned_oof_optimistic": scores["tuned"],
        "optimism": scores["optimism"],
        "test": test_score if name == "ensemble" else None,
    }


if __name__ == "__main__":
    run_command(report)
