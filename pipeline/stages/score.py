"""Score a submission CSV against a CSV of true masks.

Reads   two CSVs of id and RLE, or three; the truth may have height and width columns. Where they have a column
        of classes, an image has a row for each of its classes, and scores are means over all rows
Writes  the scores on stdout; with --json one object: metric, score, n (rows), ci95, metrics; with classes also
        images (their number) and classes (name: metrics); and compare if asked for
        kfold/<experiment>/score.json   the same object, with --experiment FILE, as `run` calls it
        --per-image FILE   id, scores, intersection, predicted and true area in pixels; the worst row first

    python -m pipeline score submissions/demo.csv kfold/demo/truth.csv --json
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from pipeline.artifacts import Artifacts, nan_as_none, whole_or_absent
from pipeline.command import make_console, run_command
from pipeline.csv_options import (
    BetaOption,
    BothEmptyOption,
    ClassColumnOption,
    ColumnsOption,
    ExifOption,
    FormatOption,
    ImagesOption,
    MetricOption,
    ShapeOption,
    SizeColumnsOption,
    UniteOption,
    align,
    class_columns,
    read_masks,
)
from pipeline.errors import DataError
from pipeline.metrics import BETA, Counts, Metric, compare, dice, interval, iou, metrics_by_name, score_all
from pipeline.records import Record, check
from pipeline.rle import RleTable, areas, intersections, shown, split_class

WORST = 3  # images that the text names

TruthFormatOption = Annotated[
    str | None, typer.Option("--truth-format", metavar="PRESET", help="RLE convention of the truth, if another.")
]
TruthColumnsOption = Annotated[
    str | None, typer.Option("--truth-columns", metavar="ID,RLE", help="The truth's columns.")
]
OtherOption = Annotated[
    Path | None, typer.Option("--compare", metavar="CSV", help="Another submission, to compare image by image.")
]
PerImageOption = Annotated[
    Path | None, typer.Option("--per-image", metavar="FILE", help="Write a CSV of each image's score, worst first.")
]


def score(
    submission: Annotated[Path, typer.Argument(help="CSV with id and RLE.")],
    truth: Annotated[Path, typer.Argument(help="CSV with id and RLE of the true masks.")],
    metric: MetricOption = "dice",
    both_empty: BothEmptyOption = "1",
    beta: BetaOption = BETA,
    fmt: FormatOption = "kaggle",
    truth_format: TruthFormatOption = None,
    columns: ColumnsOption = None,
    truth_columns: TruthColumnsOption = None,
    class_column: ClassColumnOption = None,
    size_columns: SizeColumnsOption = None,
    shape: ShapeOption = None,
    images: ImagesOption = None,
    exif: ExifOption = "apply",
    unite: UniteOption = False,
    other: OtherOption = None,
    per_image: PerImageOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the intervals' resamples.")] = 0,
    experiment: Annotated[
        Path | None,
        typer.Option(
            "--experiment", "-e", metavar="FILE", help="Write score.json of this experiment, whose files they are."
        ),
    ] = None,
) -> None:
    """Score a submission CSV against a CSV of true masks.

    The interval is the bootstrap's over images, 95%.

    \b
    Example:
      python -m pipeline score submissions/demo.csv kfold/demo/truth.csv --metric iou --compare other.csv
    """
    place, record = (None, None) if experiment is None else open_record(experiment)
    files = [submission] if other is None else [submission, other]
    class_of_truth, *class_of = class_columns(class_column, truth, *files, others=(columns, truth_columns))
    true = read_masks(
        truth,
        truth_format or fmt,
        columns=truth_columns,
        columns_option="--truth-columns",
        class_column=class_of_truth,
        size_columns=size_columns,
        shape=shape,
        images=images,
        exif=exif,
        unite=unite,
    )
    rows = Rows.of(true, class_of_truth, truth)
    sizes = {i: (int(h), int(w)) for i, h, w in zip(rows.images, true.heights, true.widths, strict=True) if h}
    counts = []
    for path, name in zip(files, class_of, strict=True):
        predicted = read_masks(path, fmt, columns=columns, class_column=name, sizes=sizes or None, unite=unite)
        counts.append(count_pixels(predicted, true, path, truth))

    scoring = Scoring(metric, float(both_empty), beta, seed)
    result = evaluate(rows, counts, scoring)
    values = scoring.headline.formula(counts[0], scoring.both_empty)
    worst = np.argsort(values, kind="stable")  # NaN last
    if per_image is not None:
        write_rows(per_image, rows, counts[0], scoring, worst)
    if record is not None:
        record.write(place, **nan_as_none(result))
    if as_json:
        print(json.dumps(nan_as_none(result), allow_nan=False))
        return
    console = make_console(quiet=False)
    named = ", ".join(f"{shown(true.ids[row])} {values[row]:.4f}" for row in worst[:WORST])
    print_scores(f"{submission.name}: {rows}", result, f"worst: {named}", console)
    if other is not None:
        print_comparison(result["compare"], other, rows, console)


def open_record(experiment: Path) -> tuple[Path, Record]:
    """An experiment's ``score.json``, and what makes it.

    Raises:
        DataError: its submission or its true masks are damaged.
    """
    from pipeline.config import load_experiment  # with pydantic and yaml, which two CSVs do without

    settings = load_experiment(experiment)
    artifacts = Artifacts.of(settings)
    check(artifacts.truth, artifacts.folder, "prepare")
    check(artifacts.submission, artifacts.folder, "submit", artifacts.submission_record)
    return artifacts.score, Record.of(settings, "score", [artifacts.submission_record, artifacts.truth])


@dataclass(frozen=True)
class Scoring:
    """How rows are scored."""

    metric: str
    both_empty: float
    """What a row is worth where both masks are empty; NaN, it is left out."""
    beta: float
    seed: int

    @property
    def headline(self) -> Metric:
        return metrics_by_name(self.beta)[self.metric]

    def all(self, counts: Counts) -> dict[str, float]:
        """Every metric by name."""
        return score_all(counts, self.both_empty, self.beta)


@dataclass(frozen=True)
class Rows:
    """What the rows of the truth are."""

    images: list[str]
    """Each row's image."""
    classes: list[str] | None
    """Each row's class; None: a row is an image."""

    @classmethod
    def of(cls, true: RleTable, class_column: str | None, truth: Path) -> Rows:
        """Those of a file, which has to have some."""
        if not true.ids:
            raise DataError(f"{truth}: has no rows")
        if class_column is None:
            return cls(true.ids, None)
        return cls(*map(list, zip(*map(split_class, true.ids), strict=True)))

    def __str__(self) -> str:
        if self.classes is None:
            return f"{len(self.images)} images"
        return f"{len(self.images)} rows of {len(set(self.images))} images and {len(set(self.classes))} classes"


def evaluate(rows: Rows, counts: list[Counts], scoring: Scoring) -> dict[str, Any]:
    """All that is said about a submission, as --json prints it.

    Args:
        counts: of every row; the submission's and, to compare, another one's.
    """
    # A resample draws an image with all its classes.
    groups = None if rows.classes is None else np.unique(rows.images, return_inverse=True)[1]
    how = {"both_empty": scoring.both_empty, "seed": scoring.seed, "groups": groups}
    metrics = scoring.all(counts[0])
    result = {
        "metric": scoring.metric,
        "score": metrics[scoring.metric],
        "n": len(rows.images),
        "ci95": interval(scoring.headline, counts[0], **how),
        "metrics": metrics,
    }
    if rows.classes is not None:
        result["images"] = len(set(rows.images))
        of_class = {name: np.flatnonzero(np.array(rows.classes) == name) for name in dict.fromkeys(rows.classes)}
        result["classes"] = {name: scoring.all(counts[0].take(members)) for name, members in of_class.items()}
    if len(counts) > 1:
        result["compare"] = asdict(compare(scoring.headline, *counts, **how))
    return result


def count_pixels(predicted: RleTable, true: RleTable, submission: Path, truth: Path) -> Counts:
    """Counts of each image of the truth, joined by id.

    Raises:
        DataError: the ids differ.
    """
    aligned = align(predicted, true.ids, submission, truth)
    return Counts(intersections(aligned, true), areas(aligned), areas(true))


def write_rows(path: Path, rows: Rows, counts: Counts, scoring: Scoring, order: np.ndarray) -> None:
    """Write a CSV of dice, iou, the headline and the counts of each image, or each class of it.

    Args:
        scoring: a headline without values for single rows is left out, as are the values of rows that don't count.
        order: int (N,), the rows.
    """
    headline, rule = scoring.headline, scoring.both_empty
    columns = {"id": rows.images} | ({} if rows.classes is None else {"class": rows.classes})
    columns |= {"dice": dice(counts, rule), "iou": iou(counts, rule)}
    columns |= {} if headline.pooled else {scoring.metric: headline.formula(counts, rule)}
    columns |= {"intersection": counts.intersection, "predicted": counts.predicted, "true": counts.true}
    lists = [np.asarray(column, object)[order].tolist() for column in columns.values()]
    with whole_or_absent(path) as new, open(new, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(nan_as_none, zip(*lists, strict=True)))


def print_scores(title: str, result: dict[str, Any], worst: str, console: Console) -> None:
    """A line for each metric, the headline's with its interval; and one for each class."""
    console.print(title)
    longest = max(12, *map(len, result["metrics"]))
    for name, value in result["metrics"].items():
        low, high = result["ci95"]
        note = f"   95% interval {low:.6f} to {high:.6f}" if name == result["metric"] else ""
        console.print(f"  {name:<{longest}} {value:.6f}{note}")
    classes = result.get("classes", {})
    width = max(map(len, ("class", *classes)))
    if classes:
        console.print(f"{'class':<{width}}" + "".join(f"{name:>{longest + 1}}" for name in result["metrics"]))
    for name, metrics in classes.items():
        console.print(f"{name:<{width}}" + "".join(f"{value:>{longest + 1}.6f}" for value in metrics.values()))
    console.print(worst)


def print_comparison(comparison: dict[str, Any], other: Path, rows: Rows, console: Console) -> None:
    """The difference to another submission, and on how many images it is one."""
    low, high = comparison["ci95"]
    console.print(f"against {other.name} ({comparison['score']:.6f}):")
    console.print(f"  difference   {comparison['difference']:+.6f}   95% interval {low:+.6f} to {high:+.6f}")
    what = "images" if rows.classes is None else "rows"
    console.print(f"  {what:<12} " + ", ".join(f"{comparison[k]:.1%} {k}" for k in ("better", "worse", "equal")))


if __name__ == "__main__":
    run_command(score)
