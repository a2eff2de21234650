"""Score a submission CSV against a CSV of true masks.

Reads   two CSVs of id and RLE; the truth may have height and width columns
Writes  the scores on stdout; with --json one object: metric, score, n, metrics

    python -m pipeline score submissions/demo.csv kfold/demo/truth.csv --json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline.command import make_console, run_command
from pipeline.errors import DataError, some
from pipeline.metrics import METRICS, Counts, score_all
from pipeline.rle import RleTable, areas, intersections, read_csv

FormatOption = Annotated[str, typer.Option("--format", metavar="PRESET", help="RLE convention of the submission.")]
TruthFormatOption = Annotated[
    str | None, typer.Option("--truth-format", metavar="PRESET", help="... of the truth, where it differs.")
]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", metavar="ID,RLE", help="Columns of the submission; else their usual names.")
]
TruthColumnsOption = Annotated[str | None, typer.Option("--truth-columns", metavar="ID,RLE", help="... of the truth.")]


def score(
    submission: Annotated[Path, typer.Argument(help="CSV with id and RLE.")],
    truth: Annotated[Path, typer.Argument(help="CSV with id and RLE of the true masks.")],
    fmt: FormatOption = "kaggle",
    truth_format: TruthFormatOption = None,
    columns: ColumnsOption = None,
    truth_columns: TruthColumnsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score a submission CSV against a CSV of true masks.

    \b
    Example:
      python -m pipeline score submissions/demo.csv kfold/demo/truth.csv --json
    """
    for path in (submission, truth):
        if not path.is_file():
            raise DataError(f"{path}: no such file")
    true = read_csv(truth, truth_format or fmt, columns=_pair(truth_columns, "--truth-columns"))
    sizes = {i: (int(h), int(w)) for i, h, w in zip(true.ids, true.heights, true.widths, strict=True) if h}
    predicted = read_csv(submission, fmt, columns=_pair(columns, "--columns"), sizes=sizes or None, unique=True)
    counts = count_pixels(predicted, true, submission, truth)
    metrics = score_all(counts)
    headline = next(iter(METRICS))
    if as_json:
        print(json.dumps({"metric": headline, "score": metrics[headline], "n": len(true), "metrics": metrics}))
        return
    console = make_console(quiet=False)
    console.print(f"{submission.name}: {len(true)} images")
    for name, value in metrics.items():
        console.print(f"  {name:<12} {value:.6f}")


def count_pixels(predicted: RleTable, true: RleTable, submission: Path, truth: Path) -> Counts:
    """Counts of each image of the truth, joined by id.

    Raises:
        DataError: the ids differ, or there are none.
    """
    row_of = {image_id: row for row, image_id in enumerate(predicted.ids)}
    missing = [image_id for image_id in true.ids if image_id not in row_of]
    known = set(true.ids)
    extra = [image_id for image_id in predicted.ids if image_id not in known]
    if missing:
        raise DataError(
            f"{submission}: {len(missing)} of the {len(true)} ids of {truth.name} are missing: {some(missing)}"
        )
    if extra:
        raise DataError(f"{submission}: {len(extra)} ids are not in {truth.name}: {some(extra)}")
    if not true.ids:
        raise DataError(f"{truth}: has no rows")
    aligned = predicted.take(np.array([row_of[image_id] for image_id in true.ids], np.int64))
    return Counts(intersections(aligned, true), areas(aligned), areas(true))


def _pair(text: str | None, option: str) -> tuple[str, str] | None:
    if text is None:
        return None
    names = text.split(",")
    if len(names) != 2 or not all(names):
        raise typer.BadParameter(f"{option} takes two column names, ID,RLE", param_hint=option)
    return names[0], names[1]


if __name__ == "__main__":
    run_command(score)
