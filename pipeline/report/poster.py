"""``predictions.png``: the worst, middle and best out-of-fold masks with their outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

from pipeline.report.finished import FinishedRun
from pipeline.report.pictures import PREDICTED, TRUE
from pipeline.report.scores import Scores
from pipeline.report.selection import extremes
from pipeline.rle import from_edges

mpl.use("agg")
from matplotlib import pyplot as plt


def draw_poster(run: FinishedRun, scores: Scores, path: Path) -> None:
    """Three rows of pictures: the worst, the middle and the best by Dice."""
    picks = extremes(scores.worst_first)
    shown = len(picks["worst"])
    figure, axes = plt.subplots(3, shown, figsize=(1.9 * shown, 7.6), squeeze=False, layout="constrained")
    for line, (title, rows) in zip(axes, picks.items(), strict=True):
        for axis, row in zip(line, rows, strict=True):
            heading = " ".join(filter(None, (title, run.masks["class"].iat[row])))
            _draw_one(axis, run, int(row), f"{heading}: {scores.dice[row]:.3f}")
    figure.suptitle(f"{run.settings.name}: out-of-fold masks, Dice; predicted in pink, true in blue", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_one(axis: Any, run: FinishedRun, row: int, title: str) -> None:
    axis.imshow(run.photograph(row).pixels)
    for edges, colour in ((run.truth[row], TRUE), (run.predicted(row, run.chosen(row)), PREDICTED)):
        if edges.size:
            rgb = [level / 255 for level in colour]
            axis.contour(from_edges(edges, run.sizes[row]), levels=[0.5], colors=[rgb], linewidths=1.2)
    axis.set_title(title, fontsize=8)
    axis.axis("off")
