"""A finished experiment as one function: photographs in, masks out, the same way as its submission was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.artifacts import Artifacts, need, read_json
from pipeline.blending.spaces import Blend, make_scale
from pipeline.config import Experiment
from pipeline.data.images import Photograph
from pipeline.errors import DataError
from pipeline.geometry import shrink
from pipeline.learning.engines import Engine
from pipeline.learning.hardware import best_device, reserve_gpus
from pipeline.learning.inference import Views, make_engines, predict_bytes
from pipeline.learning.networks import load_network
from pipeline.members import split_member
from pipeline.postprocess import Postprocess, final_edges, stored_postprocess


@dataclass(frozen=True)
class Predictor:
    """The networks of all models and folds, how they are blended, and how their maps become masks."""

    settings: Experiment
    engines: list[list[list[Engine]]]
    """Of each model, of each fold: one for each size of the views."""
    views: Views
    blend: Blend
    postprocess: list[Postprocess]
    """Of each class."""

    @classmethod
    def load(cls, settings: Experiment, sample: np.ndarray, count: int, folds: int | None = None) -> Predictor:
        """Read weights, blend and post-processing.

        Args:
            sample: uint8 (n, H, W, 3), some images as ``small`` makes them, to compare engines on.
            count: images to predict in all.
            folds: so many of each model's folds, the first ones; all where not given.

        Raises:
            DataError: the experiment is not finished, or has fewer folds.
        """
        if folds is not None and not 1 <= folds <= settings.folds.count:
            raise DataError(f"--folds {folds}: the experiment {settings.name!r} has {settings.folds.count} folds")
        artifacts = Artifacts.of(settings)
        tuning = read_json(need(artifacts.tuning, "tune"))
        blend = stored_blend(artifacts.ensemble_weights, settings.members)
        options = settings.prediction
        views = Views.of(settings)
        used = {split_member(name)[0] for name, weight in zip(settings.members, blend.weights, strict=True) if weight}
        reserve_gpus(1)
        rows = np.arange(len(sample))
        engines = [
            [
                make_engines(network, sample, rows, count=count, engine=options.engine, views=views)
                for fold in range(folds or settings.folds.count)
                for network in [load_network(artifacts.fold(model, fold).weights)]
            ]
            if model in used
            else []
            for model in settings.models
        ]
        return cls(settings, engines, views, blend, stored_postprocess(tuning, artifacts.tuning))

    def masks(self, photographs: Sequence[Photograph]) -> list[list[np.ndarray]]:
        """The edges of each class of each photograph, column-major, uint32, at the photograph's own size."""
        image = self.settings.image
        small = np.stack([to_network_size(photograph, self.settings) for photograph in photographs])
        batch = torch.from_numpy(small).permute(0, 3, 1, 2).contiguous().to(best_device())
        maps = self.blend(self._members(batch)).reshape(len(photographs), len(self.postprocess), *image.size)
        return [
            [
                final_edges(prob_hw, photograph.height, photograph.width, image.fit, of_class)
                for prob_hw, of_class in zip(of_image, self.postprocess, strict=True)
            ]
            for photograph, of_image in zip(photographs, maps, strict=True)
        ]

    def _members(self, batch: torch.Tensor) -> list[list[np.ndarray]]:
        """Each member's maps by each fold, uint8 (N * C, H, W), as ``test.zarr`` has them."""
        members: list[list[np.ndarray]] = []
        views = range(len(self.settings.prediction.stored_views))
        for of_folds in self.engines:
            maps = [predict_bytes(engines, batch, self.views) for engines in of_folds]  # of each (V, N * C, H, W)
            members += [[of_fold[view] for of_fold in maps] for view in views]
        return members


def to_network_size(photograph: Photograph, settings: Experiment) -> np.ndarray:
    """uint8 (H, W, 3), as ``prepare`` makes the small copies."""
    image = settings.image
    return shrink(photograph.pixels, image.size, image.fit, height=photograph.height, width=photograph.width)


def stored_blend(path: Path, members: Sequence[str]) -> Blend:
    """The blend for new images that ``ensemble`` has chosen.

    Raises:
        DataError: there is none, or it is of other members.
    """
    content = read_json(need(path, "ensemble"))
    if set(content["weights"]) != set(members):
        raise DataError(f"{path} is of {', '.join(content['weights'])}: run 'ensemble' again")
    histograms = content.get("histograms") or dict.fromkeys(members, [1] * 256)
    scale = make_scale(content["space"], np.array([histograms[member] for member in members]))
    return Blend(scale, np.array([content["weights"][member] for member in members]))
