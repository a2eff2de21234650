"""The page as HTML: one file that needs no network, and no longer for a large data set than for a small one."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pipeline.artifacts import nan_as_none, settings_text
from pipeline.metrics import METRICS, dice, metrics_by_name
from pipeline.records import MADE_BY
from pipeline.report.against import Against
from pipeline.report.charts import Chart, area_chart, learning_charts, threshold_chart
from pipeline.report.facts import find_leaks, fold_table, read_trainings
from pipeline.report.finished import FinishedRun
from pipeline.report.pictures import COLOURS, draw_mask, panel_item
from pipeline.report.scores import Scores, error_kinds
from pipeline.report.selection import extremes, panel_rows, table_rows

FOLDER = Path(__file__).parent
MISSING = "\N{EN DASH}"


def render_page(run: FinishedRun, scores: Scores, results: dict[str, Any], against: Against | None = None) -> str:
    """The page.

    Args:
        scores: of the run's masks.
        results: content of ``results.json``.
        against: the difference to another run, if that is wanted.
    """
    in_panel = {int(row): number for number, row in enumerate(panel_rows(scores.worst_first))}
    trainings = read_trainings(run.artifacts, list(run.settings.models), run.settings.folds.count)
    script, style = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    return _template().render(
        script=Markup(script),
        style=Markup(style),
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}",
        run=run,
        results=results,
        metric=METRICS[results["metric"]].title,
        ensemble=run.tuning["sets"]["ensemble"],
        headline=next(row for row in results["rows"] if row["model"] == "ensemble"),
        scored=len(scores.worst_first),
        errors=error_kinds(scores.chosen, scores.both_empty),
        trainings=trainings,
        learning=_learning_charts(run, trainings),
        thresholds=_threshold_charts(run),
        areas=_area_chart(run, scores),
        galleries=_galleries(run, scores),
        in_panel=in_panel,
        panel={
            "colours": COLOURS.tolist(),
            "bothEmpty": nan_as_none(scores.both_empty),
            "masks": [_panel_entry(run, scores, row) for row in in_panel],
        },
        table=[_row(run, scores, int(row), in_panel) for row in table_rows(scores.worst_first)],
        value_title=_value_title(run),
        folds=fold_table(run, scores.chosen.true),
        leaks=find_leaks(run),
        settings=settings_text(run.settings),
        versions=run.tuning.get(MADE_BY, {}).get("versions", {}),
        against=against,
    )


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": format_score, "signed": format_signed, "percent": format_percent}
    return environment.get_template("page.html")


def _source(text: str) -> str:
    """What a content security policy calls an inline script or style, so that no other one is obeyed."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def format_score(value: float | None) -> str:
    """Four digits; a dash for what has no score."""
    return MISSING if value is None or math.isnan(value) else f"{value:.4f}"


def format_signed(value: float | None) -> str:
    """A difference of scores."""
    return MISSING if value is None or math.isnan(value) else f"{value:+.4f}".replace("-", "\N{MINUS SIGN}")


def format_percent(value: float | None, digits: int = 1) -> str:
    """A share of 0..1."""
    return MISSING if value is None or math.isnan(value) else f"{100 * value:.{digits}f}%"


def _learning_charts(run: FinishedRun, trainings: Sequence[Any]) -> list[Chart]:
    charts = []
    for model in run.settings.models:
        histories = [(each.fold, each.history) for each in trainings if each.model == model]
        charts += learning_charts(model, histories) if histories else []
    return charts


def _threshold_charts(run: FinishedRun) -> list[Chart]:
    of_classes = zip(run.classes, run.tuning["sets"]["ensemble"]["classes"], strict=True)
    return [threshold_chart(f"Score by threshold{f': {name}' if name else ''}", tuned) for name, tuned in of_classes]


def _area_chart(run: FinishedRun, scores: Scores) -> Chart:
    rows = table_rows(scores.worst_first)
    labels = [f"{run.masks['mask_id'].iat[row]}: {scores.dice[row]:.4f}" for row in rows]
    area = scores.chosen.true[rows] / run.pixels[rows]
    return area_chart(area, scores.dice[rows], run.masks["fold"].to_numpy()[rows], labels)


def _galleries(run: FinishedRun, scores: Scores) -> dict[str, list[tuple[int, str, float, Any]]]:
    """Row, id, Dice and pictures of the worst, the median and the best masks."""
    return {
        title: [
            (int(row), run.masks["mask_id"].iat[row], float(scores.dice[row]), draw_mask(run, int(row))) for row in rows
        ]
        for title, rows in extremes(scores.worst_first).items()
    }


def _panel_entry(run: FinishedRun, scores: Scores, row: int) -> dict[str, Any]:
    postprocess = run.chosen(row)
    return {
        "label": run.masks["mask_id"].iat[row],
        "dice": format_score(float(scores.dice[row])),
        "threshold": postprocess.threshold,
        "rules": str(postprocess),
        **panel_item(run, row),
    }


@dataclass(frozen=True)
class Row:
    """A mask in the table."""

    mask_id: str
    fold: int
    dice: float
    value: float
    """By the formula of the run's metric."""
    area: float
    """Of the true mask, as a share of the image."""
    missed: float
    """Share of the true mask; NaN for an empty one, as below."""
    extra: float
    """Share of the predicted mask."""
    panel: int | None
    """Its place in the panel."""


def _row(run: FinishedRun, scores: Scores, row: int, in_panel: dict[int, int]) -> Row:
    one = scores.chosen.take(slice(row, row + 1))
    inside, predicted, true = (int(part[0]) for part in (one.intersection, one.predicted, one.true))
    tuned = run.tuning["settings"]
    value = metrics_by_name(tuned["beta"])[run.tuning["metric"]].formula(one, scores.both_empty)
    return Row(
        mask_id=run.masks["mask_id"].iat[row],
        fold=int(run.masks["fold"].iat[row]),
        dice=float(scores.dice[row]),
        value=float(value[0]),
        area=true / int(run.pixels[row]),
        missed=1 - inside / true if true else np.nan,
        extra=1 - inside / predicted if predicted else np.nan,
        panel=in_panel.get(row),
    )


def _value_title(run: FinishedRun) -> str | None:
    """Heading of the metric's own column, where an image's score is not its Dice."""
    metric = run.tuning["metric"]
    return None if METRICS[metric].formula is dice else metric
