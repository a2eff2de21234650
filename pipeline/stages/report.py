"""Gather the scores into one table, and draw some of the masks.

Reads   kfold/<experiment>/tuning.json, ensemble/oof.zarr, images.csv, the images; score.json where there is one
Writes  kfold/<experiment>/results.json      the table: a row for each model and for the ensemble
        kfold/<experiment>/predictions.png   photographs with the true and the predicted outline

    python -m pipeline report --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from pipeline.artifacts import Artifacts, need, read_json, whole_or_absent, write_json
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import one_row_a_mask, read_images, read_true_masks
from pipeline.data.images import read_image
from pipeline.data.probabilities import CHUNK, read_probabilities
from pipeline.postprocess import Postprocess, final_edges, stored_postprocess
from pipeline.records import MADE_BY, Record
from pipeline.results import results_table
from pipeline.rle import dice, from_edges

mpl.use("agg")
from matplotlib import pyplot as plt

COLUMNS = 6
TRUE_COLOUR, PREDICTED_COLOUR = "#35e0ff", "#ff3d7f"


def report(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Gather the scores into one table, and draw out-of-fold masks.

    \b
    Example:
      python -m pipeline report --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    tuning = read_json(need(artifacts.tuning, "tune"))
    postprocess = stored_postprocess(tuning, artifacts.tuning)
    test_score = read_json(artifacts.score)["score"] if artifacts.score.exists() else None
    inputs = [artifacts.images, artifacts.ensemble_oof, artifacts.tuning]
    inputs += [artifacts.score] if artifacts.score.exists() else []
    rows = [_row(name, scores, test_score) for name, scores in tuning["sets"].items()]
    results = {
        "experiment": settings.name,
        "metric": tuning["metric"],
        "postprocess": {
            name or "all images": str(each) for name, each in zip(settings.data.class_names, postprocess, strict=True)
        },
        "verdict": tuning["sets"]["ensemble"]["verdict"],
        "rows": rows,
        MADE_BY: Record.of(settings, "report", inputs).stored(),
    }
    gallery = Gallery(settings, artifacts, postprocess)
    with whole_or_absent(artifacts.predictions) as path:
        gallery.draw(path, console)
    write_json(artifacts.results, results)
    console.print(results_table(results))


def _row(name: str, scores: dict[str, Any], test_score: float | None) -> dict[str, Any]:
    return {
        "model": name,
        "folds": scores["at_half_by_fold"],
        "mean_oof": scores["at_half"],
        "tuned_oof": scores["cross_fitted"],
        "tuned_oof_ci95": scores["cross_fitted_ci95"],
        "tuned_oof_optimistic": scores["tuned"],
        "test": test_score if name == "ensemble" else None,
    }


class Gallery:
    """Out-of-fold masks of the ensemble as the submission would have them."""

    def __init__(self, settings: Experiment, artifacts: Artifacts, postprocess: Sequence[Postprocess]) -> None:
        self.settings, self.postprocess = settings, postprocess
        images, classes = read_images(artifacts, "train"), settings.data.class_names
        self.masks = one_row_a_mask(images, classes)
        self.truth = read_true_masks(artifacts, images["image_id"].tolist(), classes)
        self.maps = read_probabilities(artifacts.ensemble_oof, "ensemble").maps

    def predicted(self, row: int, prob_hw: np.ndarray) -> np.ndarray:
        height, width = (int(self.masks[side].iloc[row]) for side in ("height", "width"))
        of_class = self.postprocess[row % len(self.postprocess)]
        return final_edges(prob_hw, height, width, self.settings.image.fit, of_class)

    def draw(self, path: Path, console: Any) -> None:
        """Three rows of pictures: the worst, the middle and the best by Dice, of images with a mask."""
        scores = np.ones(len(self.masks))
        for row in track(range(len(scores)), len(scores), "report", console):
            if row % CHUNK == 0:
                chunk = self.maps[row : row + CHUNK]
            scores[row] = dice(self.predicted(row, chunk[row % CHUNK]), self.truth[row])
        order = np.argsort(scores, kind="stable")
        shown = min(COLUMNS, max(1, len(order) // 3))
        middle = (len(order) - shown) // 2
        picks = {"worst": order[:shown], "middle": order[middle : middle + shown], "best": order[-shown:]}
        figure, axes = plt.subplots(3, shown, figsize=(1.9 * shown, 7.6), squeeze=False, layout="constrained")
        for line, (title, rows) in zip(axes, picks.items(), strict=True):
            for axis, row in zip(line, rows, strict=True):
                heading = " ".join(filter(None, (title, self.masks["class"].iloc[row])))
                self._draw_one(axis, int(row), f"{heading}: {scores[row]:.3f}")
        figure.suptitle(f"{self.settings.name}: out-of-fold masks, Dice; predicted in pink, true in blue", fontsize=10)
        figure.savefig(path, dpi=110)
        plt.close(figure)

    def _draw_one(self, axis: Any, row: int, title: str) -> None:
        photograph = read_image(self.settings.data.root / self.masks["path"].iloc[row])
        shape = (photograph.height, photograph.width)
        axis.imshow(photograph.pixels)
        outlines = ((self.truth[row], TRUE_COLOUR), (self.predicted(row, self.maps[row]), PREDICTED_COLOUR))
        for edges, colour in outlines:
            if edges.size:
                axis.contour(from_edges(edges, shape), levels=[0.5], colors=[colour], linewidths=1.2)
        axis.set_title(title, fontsize=8)
        axis.axis("off")


if __name__ == "__main__":
    run_command(report)
