"""`predict --preview`: what one fold's network makes of images that it has not seen, before anything is tuned."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.artifacts import Artifacts, whole_or_absent
from pipeline.config import Experiment
from pipeline.data.held_out import HeldOutMasks, spread
from pipeline.data.probabilities import read_probabilities
from pipeline.members import member_name
from pipeline.postprocess import UNTUNED, final_edges
from pipeline.report.pictures import SIDE, Sight
from pipeline.report.poster import COLUMNS, WHAT, Column, draw_grid
from pipeline.rle import dice


def draw_preview(settings: Experiment, model: str, fold: int, path: Path) -> None:
    """Held-out masks at equal steps, at probability 1/2; the views of an image averaged."""
    artifacts = Artifacts.of(settings)
    masks = HeldOutMasks.read(artifacts, settings.image.fit, settings.data.class_names).of_fold(fold)
    members = [member_name(model, view) for view in settings.prediction.stored_views]
    maps = [
        read_probabilities(artifacts.fold(member, fold).oof, "predict", artifacts.folder).maps for member in members
    ]
    columns = []
    for row in spread(np.arange(len(masks)), COLUMNS).tolist():
        prob_hw = np.rint(np.mean([of_member[row] for of_member in maps], axis=0)).astype(np.uint8)
        edges = final_edges(prob_hw, *masks.sizes[row], masks.fit, UNTUNED)
        sight = Sight.of(masks, settings, row, SIDE)
        columns.append(Column(f"{masks.ids[row]}: {dice(edges, masks.truth[row]):.3f}", sight, sight.shrunk(edges)))
    with whole_or_absent(path) as new:
        draw_grid(columns, f"{settings.name}, {model} fold {fold}: {WHAT}", new)
