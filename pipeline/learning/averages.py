"""Averages of the weights in the course of a training, which are validated and kept in place of the last ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pipeline.config import TrainingSettings

if TYPE_CHECKING:
    from pipeline.learning.training import SegmentationTraining


def weight_averages(settings: TrainingSettings) -> list[WeightAveraging]:
    """The callback that averages weights, if the recipe has one."""
    if settings.soup:
        return [WeightSoup(settings.soup)]
    return [MovingAverage(settings.ema_decay)] if settings.ema_decay else []


class MovingAverage(WeightAveraging):
    """Exponential moving average of the weights, validated and kept instead of the last ones.

    The decay rises as (1 + n) / (10 + n) with the number of updates, as in TensorFlow's
    ``ExponentialMovingAverage``, so that the random start is forgotten at once.
    """

    def __init__(self, decay: float) -> None:
        def update(averages: list[torch.Tensor], weights: list[torch.Tensor], updates: torch.Tensor | int) -> None:
            warmed = min(decay, (1 + int(updates)) / (10 + int(updates)))
            get_ema_multi_avg_fn(warmed)(averages, weights, updates)

        super().__init__(multi_avg_fn=update)

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Hand over the average even where the last epoch was done before an interruption, and none is trained."""
        self._copy_average_to_current(module)


class WeightSoup(WeightAveraging):
    """The plain mean of the weights after each of the last epochs, validated and kept instead of the last ones.

    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (UAI 2018), at the end of the
    recipe's own schedule. The statistics of batch normalisation are no weights: those of the mean network are taken
    anew from the epoch's training images, before each validation.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__(use_buffers=False)
        self.epochs = epochs

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, module, stage)
        self.trainer = trainer

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After an epoch's last step, which comes before its validation, and not after the validation again."""
        late = self.trainer.current_epoch >= self.trainer.max_epochs - self.epochs
        return step_idx is not None and late and self.trainer.is_last_batch

    @property
    def _begun(self) -> bool:
        return int(self._average_model.n_averaged) > 0

    def on_validation_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._begun:
            super().on_validation_epoch_start(trainer, module)
            refresh_batch_norm(module, trainer)

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._begun:
            super().on_validation_epoch_end(trainer, module)

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """As ``MovingAverage`` does."""
        self._copy_average_to_current(module)


def refresh_batch_norm(module: SegmentationTraining, trainer: L.Trainer) -> None:
    """Take the statistics of batch normalisation anew, as means over the batches of the present epoch.

    ``torch.optim.swa_utils.update_bn`` does the same, but to frozen modules too, whose statistics are to stay. The
    module is in evaluation mode and stays so.
    """
    norms = [
        part
        for part in module.network.modules()
        if isinstance(part, _BatchNorm) and any(parameter.requires_grad for parameter in part.parameters())
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for images, masks in trainer.train_dataloader:
            images, _ = module.sized(images.to(module.device), masks.to(module.device))
            module.logits(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            statistic.copy_(trainer.strategy.reduce(statistic, reduce_op="mean"))  # over processes
