"""A finished experiment as one function: photographs in, masks out, the same way as its submission was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.artifacts import Artifacts
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
from pipeline.stored import Tuning, Weights, check_bundled, open_json


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
            sample: uint8 (n, H, W, 3), some images as ``to_network_size`` makes them, to compare engines on.
            count: images to predict in all.
            folds: so many of each model's folds, the first ones; all where not given.

        Raises:
            DataError: the experiment is not finished, or has fewer folds.
        """
        if folds is not None and not 1 <= folds <= settings.folds.count:
            raise DataError(f"--folds {folds}: the experiment {settings.name!r} has {settings.folds.count} folds")
        artifacts = Artifacts.of(settings)
        check_bundled(artifacts.workspace, artifacts.tuning, artifacts.ensemble_weights, artifacts.image_range)
        tuning = open_json(Tuning, artifacts.tuning, "tune", artifacts.folder)
        blend = stored_blend(artifacts, settings.members)
        options = settings.prediction
        views = Views.of(settings)
        used = used_models(settings, blend)
        reserve_gpus(1)
        rows = np.arange(len(sample))
        engines = [
            [
                make_engines(network, sample, rows, count=count, options=options, views=views)
                for fold in range(folds or settings.folds.count)
                for network in [load_network(artifacts.fold(model, fold).weights)]
            ]
            if model in used
            else []
            for model in settings.models
        ]
        return cls(settings, engines, views, blend, stored_postprocess(tuning, artifacts.tuning))

    def masks(self, small: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[list[np.ndarray]]:
        """The edges of each class of each photograph, column-major, uint32, at the photograph's own size.

        Args:
            small: uint8 (N, H, W, 3), of ``to_network_size``.
            sizes: height and width of each photograph.
        """
        views = range(len(self.settings.prediction.stored_views))
        members = [[of_fold[view] for of_fold in of_model] for of_model in self.maps(small) for view in views]
        return self.edges(members, sizes)

    def maps(self, small: np.ndarray) -> list[list[np.ndarray]]:
        """What each model's folds say of images, each as ``predict_bytes`` has it, uint8 (V, N * C, H, W).

        Args:
            small: uint8 (N, H, W, 3), of ``to_network_size``.
        """
        batch = torch.from_numpy(small).permute(0, 3, 1, 2).contiguous().to(best_device())
        return [[predict_bytes(engines, batch, self.views) for engines in of_model] for of_model in self.engines]

    def edges(
        self, members: Sequence[Sequence[np.ndarray]], sizes: Sequence[tuple[int, int]]
    ) -> list[list[np.ndarray]]:
        """As ``masks``, of maps.

        Args:
            members: each member's maps by each fold, uint8 (N * C, H, W), as ``test.zarr`` has them.
            sizes: height and width of each image.
        """
        image = self.settings.image
        maps = self.blend(members).reshape(len(sizes), len(self.postprocess), *image.size)
        return [
            [
                final_edges(prob_hw, *size, image.fit, of_class)
                for prob_hw, of_class in zip(of_image, self.postprocess, strict=True)
            ]
            for size, of_image in zip(sizes, maps, strict=True)
        ]


def used_models(settings: Experiment, blend: Blend) -> list[str]:
    """The models that have a weight in the blend."""
    weights = zip(settings.members, blend.weights, strict=True)
    used = {split_member(name)[0] for name, weight in weights if weight}
    return [model for model in settings.models if model in used]


def to_network_size(photograph: Photograph, settings: Experiment) -> np.ndarray:
    """uint8 (H, W, 3), as ``prepare`` makes the small copies."""
    image = settings.image
    return shrink(photograph.pixels, image.size, image.fit, height=photograph.height, width=photograph.width)


def stored_blend(artifacts: Artifacts, members: Sequence[str]) -> Blend:
    """The blend for new images that ``ensemble`` has chosen.

    Raises:
        DataError: there is none, or it is of other members.
    """
    path = artifacts.ensemble_weights
    content = open_json(Weights, path, "ensemble", artifacts.folder)
    if set(content["weights"]) != set(members):
        raise DataError(f"{path} is of {', '.join(content['weights'])}: run 'ensemble' again")
    histograms = content.get("histograms") or dict.fromkeys(members, [1] * 256)
    scale = make_scale(content["space"], np.array([histograms[member] for member in members]))
    return Blend(scale, np.array([content["weights"][member] for member in members]))
