"""Curves and scatter plots as coordinates; the template draws them as SVG, and the style sheet colours them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator

from pipeline.data.held_out import spread
from pipeline.postprocess import HALF, LEVELS

WIDTH, HEIGHT = 380, 210
"""Of the plot area."""
COLOURS = 8
"""Of lines and dots; then they begin again."""
MOST_POINTS = 300
"""Of a line, so that long trainings don't make a long page."""


@dataclass(frozen=True)
class Scale:
    """From values to pixels of the plot area."""

    low: float
    high: float
    length: float
    downwards: bool = False
    logarithmic: bool = False
    whole: bool = False
    """Ticks at whole numbers only."""

    def __call__(self, values: Any) -> np.ndarray:
        """float64, shaped as the values; outside the plot area for values outside the limits."""
        low, high, values = self.low, self.high, np.asarray(values, np.float64)
        if self.logarithmic:
            low, high, values = np.log10(low), np.log10(high), np.log10(np.maximum(values, low))
        share = (values - low) / (high - low)
        return self.length * (1 - share if self.downwards else share)

    def ticks(self) -> list[tuple[float, str]]:
        """Places, pixels, and texts of round numbers between the limits."""
        locator = LogLocator(subs=(1, 2, 5)) if self.logarithmic else MaxNLocator(nbins=5, integer=self.whole)
        values = locator.tick_values(self.low, self.high)
        inside = [value for value in values if self.low <= value <= self.high * (1 + 1e-9)]
        return [(round(float(self(value)), 1), f"{value:g}") for value in inside]


@dataclass(frozen=True)
class Line:
    """A curve; ``points`` is what SVG's polyline has."""

    label: str
    colour: int
    points: str
    dashed: bool = False


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    colour: int
    label: str


@dataclass(frozen=True)
class Mark:
    """A vertical line."""

    x: float
    label: str
    kind: str
    """Class in the style sheet."""


@dataclass(frozen=True)
class Chart:
    """A plot, in pixels of its area."""

    title: str
    x_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    band: tuple[float, float] | None = None
    """Left side and width of a shaded range."""
    legend: list[tuple[str, int]] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT


def learning_charts(model: str, histories: Sequence[tuple[int, pd.DataFrame]]) -> list[Chart]:
    """The held-out Dice and the losses of a model's folds, epoch by epoch.

    Args:
        histories: fold and content of ``history.csv``.
    """
    legend = [(f"fold {fold}", fold % COLOURS) for fold, _ in histories]
    parts = [
        ("Dice of the held-out images", [("val_dice", False)]),
        ("loss: held out, and dashed training", [("val_loss", False), ("train_loss", True)]),
    ]
    charts = []
    for title, columns in parts:
        values = np.concatenate([table[column].to_numpy(float) for _, table in histories for column, _ in columns])
        epochs = max(int(table["epoch"].max()) for _, table in histories)
        x, y = Scale(1, max(epochs, 2), WIDTH, whole=True), _limits(values)
        lines = [
            Line(f"fold {fold}", fold % COLOURS, _points(x(table["epoch"]), y(table[column])), dashed)
            for fold, table in histories
            for column, dashed in columns
        ]
        charts.append(Chart(f"{model}: {title}", "epoch", x.ticks(), y.ticks(), lines, legend=legend))
    return charts


def threshold_chart(title: str, tuned: dict[str, Any]) -> Chart:
    """The score at each threshold without other rules, the plateau, the threshold that was found and one half.

    Args:
        tuned: of one class, from ``tuning.json``.
    """
    curve = np.array([np.nan if score is None else score for score in tuned["curve"]], np.float64)
    # The ends, where all or nothing is foreground, would flatten the rest.
    x, y = Scale(0, LEVELS - 1, WIDTH, whole=True), _limits(curve[LEVELS // 10 : -LEVELS // 10])
    found, (low, high) = tuned["found"]["threshold"], tuned["plateau"]["threshold"]
    what = "chosen" if tuned["postprocess"] == tuned["found"] else "found, not submitted"
    left, right = x(np.clip([low - 0.5, high + 0.5], 0, LEVELS - 1)).tolist()
    marks = [Mark(float(x(HALF)), "1/2", "half"), Mark(float(x(found)), f"{what}: {found}", "chosen")]
    return Chart(
        title,
        "threshold, of 255",
        x.ticks(),
        y.ticks(),
        [Line(title, 0, _points(x(np.arange(LEVELS)), y(curve), most=LEVELS))],
        marks=marks,
        band=(round(left, 1), round(right - left, 1)),
    )


def area_chart(area: np.ndarray, dice: np.ndarray, fold: np.ndarray, labels: Sequence[str]) -> Chart:
    """Dice against the true mask's share of its image, by fold.

    Args:
        area: float (n,), 0..1; empty masks stand at the left.
        dice: float (n,).
        fold: int (n,).
        labels: of the dots.
    """
    percent = 100 * area
    least = percent[percent > 0].min(initial=100.0)
    x = Scale(float(least) / 1.5, 100, WIDTH, logarithmic=True)
    y = Scale(float(min(dice.min(initial=1.0), 0.99)), 1, HEIGHT, downwards=True)
    places = zip(x(percent).round(1).tolist(), y(dice).round(1).tolist(), fold.tolist(), labels, strict=True)
    dots = [Dot(left, top, number % COLOURS, label) for left, top, number, label in places]
    legend = [(f"fold {number}", number % COLOURS) for number in np.unique(fold).tolist()]
    title = "Dice against the true mask's area"
    return Chart(title, "true area, % of the image", x.ticks(), y.ticks(), dots=dots, legend=legend)


def _limits(values: np.ndarray) -> Scale:
    """An upright axis that holds all finite values, with a little room."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    room = max(0.05 * (high - low), 1e-4)
    return Scale(low - room, high + room, HEIGHT, downwards=True)


def _points(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> str:
    """Where both are finite; a long line at equal steps."""
    finite = spread(np.flatnonzero(np.isfinite(x) & np.isfinite(y)), most)
    return " ".join(f"{left:.1f},{top:.1f}" for left, top in zip(x[finite], y[finite], strict=True))
