"""Several probability maps of one picture become one: a weighted mean in a space of one's choice.

A space is a table for each model that takes its 256 bytes to one common scale, and one table back:

    probability   the bytes as they are
    logit         log(p / (1 - p)), where a sure model counts more than an unsure one; the bytes 0 and 255 stand for
                  the middle of what is rounded to them
    rank          the share of the model's pixels that are below, so that only their order counts and not how a model
                  spreads its probabilities; back by the mean of the models' tables

Rank tables come from histograms of out-of-fold bytes, before any test map is read, and are the same for every map: a
test image is blended by itself, whatever the other test images are. They use no truth.

One model alone gets its bytes back as they were, in every space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Space = Literal["probability", "logit", "rank"]
SPACES: tuple[Space, ...] = get_args(Space)

FINEST = 2**20 - 1
"""Greatest value of the common scale: so fine because all bytes between 0 and 255 share few pixels' ranks."""

_LEAST_SHARE = 2.0**-17
"""Of the pixels, taken to have each byte besides those that do: eight places on the scale, which keep bytes apart."""


@dataclass(frozen=True)
class Scale:
    """A space as tables."""

    tables: np.ndarray
    """float32 (M, 256), rising, within 0 to ``FINEST``: where each model's bytes lie on the common scale."""
    back: np.ndarray
    """uint8 (FINEST + 1,), rising: the byte of each place on it."""

    def weighted(self, weights: np.ndarray) -> np.ndarray:
        """The tables with the weights in them, float32 (M, 256): a blend is ``back`` of the sum of their entries."""
        return (self.tables * np.asarray(weights)[:, None]).astype(np.float32)


def make_scale(space: Space, histograms: np.ndarray) -> Scale:
    """The tables of a space.

    Args:
        space: one of ``SPACES``.
        histograms: (M, 256), how often each model's out-of-fold maps have each byte; only ranks depend on it.
    """
    levels = np.arange(256) / 255
    if space == "probability":
        rising = levels
    elif space == "logit":
        inside = np.clip(levels, 0.25 / 255, 254.75 / 255)
        logits = np.log(inside / (1 - inside))
        rising = logits / (2 * logits[-1]) + 0.5
    else:
        rising = _middle_ranks(histograms)
    tables = FINEST * np.broadcast_to(rising, (len(histograms), 256))
    common = tables.mean(axis=0)
    borders = (common[1:] + common[:-1]) / 2
    back = np.searchsorted(borders, np.arange(FINEST + 1), side="right").astype(np.uint8)
    return Scale(tables.astype(np.float32), back)


def _middle_ranks(histograms: np.ndarray) -> np.ndarray:
    """Rank of each byte's middle pixel, 0 to 1, (M, 256)."""
    shares = histograms / histograms.sum(axis=1, keepdims=True) + _LEAST_SHARE
    return (shares.cumsum(axis=1) - shares / 2) / shares.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Blend:
    """A space and the models' weights in it."""

    scale: Scale
    weights: np.ndarray
    """float (M,), not negative, summing to one."""

    def __call__(self, maps: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
        """The blend of maps.

        Args:
            maps: each model's, of one shape and uint8; several of one model count alike: its folds. A model of weight
                0 may have none.
        """
        total = np.float32(0.5)  # what is cut off below is then rounded
        for table, weight, of_model in zip(self.scale.weighted(self.weights), self.weights, maps, strict=True):
            for each in of_model if weight else ():
                total = total + (table / np.float32(len(of_model)))[each]
        # The more numbers are added, the more their rounding may carry them past the end.
        return self.scale.back[np.minimum(total, FINEST).astype(np.int32)]


def normalised(weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Weights that are not negative, divided by their sum; equal ones where all are 0."""
    weights = np.asarray(weights, np.float64)
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
