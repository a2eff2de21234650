"""``predictions.png``: the worst, middle and best out-of-fold masks; and how such a grid of pictures is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np

from pipeline.report.finished import FinishedRun
from pipeline.report.pictures import PREDICTED, SIDE, TRUE, Sight, difference, tinted
from pipeline.report.scores import Scores
from pipeline.report.selection import extremes

mpl.use("agg")
from matplotlib import pyplot as plt

mpl.rcdefaults()  # not what a file ``matplotlibrc`` of the working directory says

COLUMNS = 6
LINES = ("photograph", "truth", "prediction", "difference")
WHAT = "out-of-fold masks, Dice; difference: missed in blue, too much in pink, right in white"


@dataclass(frozen=True)
class Column:
    """A mask of the grid."""

    title: str
    sight: Sight
    predicted: np.ndarray
    """bool (h, w)."""

    @property
    def pictures(self) -> tuple[np.ndarray, ...]:
        """One for each of ``LINES``, uint8 (h, w, 3)."""
        photograph, truth = self.sight.photograph, self.sight.truth
        return (
            photograph,
            tinted(photograph, truth, TRUE),
            tinted(photograph, self.predicted, PREDICTED),
            difference(photograph, truth, self.predicted),
        )


def draw_poster(run: FinishedRun, scores: Scores, path: Path) -> None:
    """A few masks of the worst, of the middle and of the best by Dice, as the submission would have them."""
    columns = []
    for title, rows in extremes(scores.worst_first, COLUMNS // 3).items():
        for row in rows.tolist():
            heading = " ".join(filter(None, (title, run.masks["class"].iat[row])))
            sight = Sight.of(run.held_out, run.settings, row, SIDE)
            predicted = sight.shrunk(run.predicted(row, run.chosen(row)))
            columns.append(Column(f"{heading}: {scores.dice[row]:.3f}", sight, predicted))
    draw_grid(columns, f"{run.settings.name}: {WHAT}", path)


def draw_grid(columns: Sequence[Column], title: str, path: Path) -> None:
    """A column for each mask: photograph, truth, prediction and difference; a PNG."""
    size = (1.9 * len(columns), 1.9 * len(LINES))
    figure, axes = plt.subplots(len(LINES), len(columns), figsize=size, squeeze=False, layout="constrained")
    for of_column, column in zip(axes.T, columns, strict=True):
        for axis, picture in zip(of_column, column.pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[], frame_on=False)
        of_column[0].set_title(column.title, fontsize=8, parse_math=False)  # an id may have dollars
    for axis, line in zip(axes[:, 0], LINES, strict=True):
        axis.set_ylabel(line, fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.savefig(path, dpi=110, format="png")
    plt.close(figure)
