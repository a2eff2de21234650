"""Score a submission CSV against a CSV of true masks.

Reads   two CSVs of id and RLE, or three; the truth may have height and width columns
Writes  the scores on stdout; with --json one object: metric, score, n, ci95, metrics, and compare if asked for
        --per-image FILE   id, scores, intersection, predicted and true area in pixels; the worst image first

    python -m pipeline score submissions/demo.csv kfold/demo/truth.csv --json
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from pipeline.artifacts import whole_or_absent
from pipeline.command import make_console, run_command
from pipeline.csv_options import (
    BetaOption,
    BothEmptyOption,
    ColumnsOption,
    FormatOption,
    ImagesOption,
    MetricOption,
    ShapeOption,
    SizeColumnsOption,
    align,
    read_masks,
)
from pipeline.errors import DataError
from pipeline.metrics import BETA, Counts, compare, dice, interval, iou, metrics_by_name, score_all
from pipeline.rle import RleTable, areas, intersections

WORST = 3  # images that the text names


def score(
    submission: Annotated[Path, typer.Argument(help="CSV with id and RLE.")],
    truth: Annotated[Path, typer.Argument(help="CSV with id and RLE of the true masks.")],
    metric: MetricOption = "dice",
    both_empty: BothEmptyOption = "1",
    beta: BetaOption = BETA,
    fmt: FormatOption = "kaggle",
    truth_format: Annotated[
        str | None, typer.Option("--truth-format", metavar="PRESET", help="RLE convention of the truth, if another.")
    ] = None,
    columns: ColumnsOption = None,
    truth_columns: Annotated[
        str | None, typer.Option("--truth-columns", metavar="ID,RLE", help="The truth's columns.")
    ] = None,
    size_columns: SizeColumnsOption = None,
    shape: ShapeOption = None,
    images: ImagesOption = None,
    other: Annotated[
        Path | None, typer.Option("--compare", metavar="CSV", help="Another submission, to compare image by image.")
    ] = None,
    per_image: Annotated[
        Path | None, typer.Option("--per-image", metavar="FILE", help="Write a CSV of each image's score, worst first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the intervals' resamples.")] = 0,
) -> None:
    """Score a submission CSV against a CSV of true masks.

    The interval is the bootstrap's over images, 95%.

    \b
    Example:
      python -m pipeline score submissions/demo.csv kfold/demo/truth.csv --metric iou --compare other.csv
    """
    true = read_masks(
        truth,
        truth_format or fmt,
        columns=truth_columns,
        columns_option="--truth-columns",
        size_columns=size_columns,
        shape=shape,
        images=images,
    )
    if not true.ids:
        raise DataError(f"{truth}: has no rows")
    sizes = {i: (int(h), int(w)) for i, h, w in zip(true.ids, true.heights, true.widths, strict=True) if h}

    def count(path: Path) -> Counts:
        predicted = read_masks(path, fmt, columns=columns, sizes=sizes or None, unique=True)
        return count_pixels(predicted, true, path, truth)

    counts = count(submission)
    rule = float(both_empty)
    headline = metrics_by_name(beta)[metric]
    metrics = score_all(counts, rule, beta)
    result: dict[str, Any] = {
        "metric": metric,
        "score": metrics[metric],
        "n": len(true),
        "ci95": interval(headline, counts, rule, seed=seed),
        "metrics": metrics,
    }
    if other is not None:
        result["compare"] = asdict(compare(headline, counts, count(other), rule, seed=seed))

    values = headline.formula(counts, rule)
    worst = np.argsort(values, kind="stable")  # NaN last
    if per_image is not None:
        scores = {"dice": dice(counts, rule), "iou": iou(counts, rule)}
        if not headline.pooled:
            scores[metric] = values
        write_images(per_image, true.ids, scores, counts, worst)
    if as_json:
        print(json.dumps(_nan_as_none(result), allow_nan=False))
        return
    console = make_console(quiet=False)
    console.print(f"{submission.name}: {len(true)} images")
    print_scores(result, console)
    console.print("worst: " + ", ".join(f"{true.ids[row]} {values[row]:.4f}" for row in worst[:WORST]))
    if other is not None:
        print_comparison(result["compare"], other, console)


def count_pixels(predicted: RleTable, true: RleTable, submission: Path, truth: Path) -> Counts:
    """Counts of each image of the truth, joined by id.

    Raises:
        DataError: the ids differ.
    """
    aligned = align(predicted, true.ids, submission, truth)
    return Counts(intersections(aligned, true), areas(aligned), areas(true))


def write_images(path: Path, ids: list[str], scores: dict[str, np.ndarray], counts: Counts, order: np.ndarray) -> None:
    """Write a CSV of a row for each image.

    Args:
        scores: float (N,) by name; NaN, an image that is left out, becomes an empty field.
        order: int (N,), the images' rows.
    """
    columns = [*scores.values(), counts.intersection, counts.predicted, counts.true]
    with whole_or_absent(path) as new, open(new, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *scores, "intersection", "predicted", "true"])
        for row in order:
            writer.writerow([ids[row], *map(_nan_as_none, (column[row].item() for column in columns))])


def print_scores(result: dict[str, Any], console: Console) -> None:
    """A line for each metric, the headline's with its interval."""
    for name, value in result["metrics"].items():
        low, high = result["ci95"]
        note = f"   95% interval {low:.6f} to {high:.6f}" if name == result["metric"] else ""
        console.print(f"  {name:<12} {value:.6f}{note}")


def print_comparison(comparison: dict[str, Any], other: Path, console: Console) -> None:
    """The difference to another submission, and on how many images it is one."""
    low, high = comparison["ci95"]
    console.print(f"against {other.name} ({comparison['score']:.6f}):")
    console.print(f"  difference   {comparison['difference']:+.6f}   95% interval {low:+.6f} to {high:+.6f}")
    console.print("  images       " + ", ".join(f"{comparison[k]:.1%} {k}" for k in ("better", "worse", "equal")))


def _nan_as_none(value: Any) -> Any:
    """What JSON and CSV files write for NaN is nothing, at any depth."""
    if isinstance(value, dict):
        return {key: _nan_as_none(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_as_none(inner) for inner in value]
    return None if isinstance(value, float) and isnan(value) else value


if __name__ == "__main__":
    run_command(score)
