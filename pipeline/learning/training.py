"""One training run: the Lightning module, its data, its schedule, and what it writes after each epoch."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from pipeline.artifacts import FoldArtifacts, write_text
from pipeline.config import TrainingSettings
from pipeline.data.augmentation import Augmentation
from pipeline.data.dataset import HeldOutImages, TrainingImages, quiet_worker
from pipeline.learning.hardware import LIGHTNING_NAMES, best_device, choose_precision, choose_workers
from pipeline.learning.losses import bce_dice_loss
from pipeline.learning.networks import SegmentationNetwork
from pipeline.postprocess import HALF


@dataclass(frozen=True)
class FoldData:
    """Small copies of the training set, and which rows to train and to validate on.

    ``images`` is uint8 (N, H, W, 3), ``masks`` uint8 (N, H, W).
    """

    images: np.ndarray
    masks: np.ndarray
    training_rows: np.ndarray
    held_out_rows: np.ndarray


class FoldLoaders(L.LightningDataModule):
    """Loaders of one fold; the training loader is made anew for each epoch, which seeds its order and changes."""

    def __init__(self, data: FoldData, settings: TrainingSettings, seed: int) -> None:
        super().__init__()
        self.data, self.settings, self.seed = data, settings, seed
        self.workers = choose_workers(settings.workers, best_device())

    def train_dataloader(self) -> DataLoader:
        epoch = self.trainer.current_epoch
        data = self.data
        augmentation = Augmentation(self.settings.augmentation, self.seed)
        # The order is the data set's own: a sampler would draw a new one whenever Lightning starts to iterate,
        # which it does once more after a resumption.
        rows = np.random.default_rng([self.seed, epoch]).permutation(data.training_rows)
        images = TrainingImages(data.images, data.masks, rows, augmentation, epoch)
        # Batch normalisation cannot use a rest of one image, so the rest of an epoch is left out.
        return self._loader(images, min(self.settings.batch_size, len(images)), drop_last=True)

    def val_dataloader(self) -> DataLoader:
        images = HeldOutImages(self.data.images, self.data.masks, self.data.held_out_rows)
        return self._loader(images, 2 * self.settings.batch_size)

    def _loader(self, images: Any, batch_size: int, **options: Any) -> DataLoader:
        pinned = best_device().type == "cuda"
        return DataLoader(
            images, batch_size, num_workers=self.workers, worker_init_fn=quiet_worker, pin_memory=pinned, **options
        )


class SegmentationTraining(L.LightningModule):
    """Loss, optimiser and schedule around a network.

    Args:
        network: what is trained.
        settings: the recipe.
        origin: what the run depends on; kept in the checkpoint, so that another run does not resume from it.
    """

    def __init__(self, network: SegmentationNetwork, settings: TrainingSettings, origin: dict[str, Any]) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.settings = settings
        self.origin = origin

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        loss = self._loss(*batch)[1]
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]), sync_dist=True)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        logits, loss = self._loss(*batch)
        dice = image_dice(logits > 0, batch[1] >= HALF).mean()
        size = len(batch[0])
        self.log_dict({"val_loss": loss, "val_dice": dice}, batch_size=size, on_epoch=True, sync_dist=True)

    def _loss(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = images.to(memory_format=torch.channels_last)
        logits = self.network(images).float()
        return logits, bce_dice_loss(logits, masks.float() / 255, self.settings.dice_weight)

    def configure_optimizers(self) -> dict[str, Any]:
        encoder = list(self.network.encoder.parameters())
        in_encoder = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in self.network.parameters() if id(parameter) not in in_encoder]
        rate = self.settings.learning_rate
        groups = [{"params": encoder, "lr": rate * self.settings.encoder_rate}, {"params": rest, "lr": rate}]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        factor = warmup_cosine(steps, round(self.settings.warmup * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["origin"] = self.origin


def image_dice(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Dice of each image, bool (N, H, W) twice -> float (N,); 1 where both are empty."""
    overlap = (predicted & true).sum((1, 2))
    total = predicted.sum((1, 2)) + true.sum((1, 2))
    return torch.where(total > 0, 2 * overlap / total.clamp(min=1), 1.0)


def warmup_cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Factor of the learning rate as a pure function of the step: linear to 1, then a cosine to 0."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor


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


class EpochLog(Callback):
    """Writes ``history.csv`` and prints one line after each epoch; survives a resumption."""

    FIELDS = ("epoch", "train_loss", "val_loss", "val_dice", "learning_rate", "images_per_second", "seconds")

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path, self.say = path, say
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        self.start = time.perf_counter()
        self.images = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        self.images += len(batch[0]) * trainer.world_size
        self.trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch + 1,
            **{name: round(metrics[name], 5) for name in ("train_loss", "val_loss", "val_dice")},
            "learning_rate": float(f"{trainer.optimizers[0].param_groups[-1]['lr']:.4g}"),
            "images_per_second": round(self.images / (self.trained - self.start), 1),
            "seconds": round(time.perf_counter() - self.start, 1),
        }
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, self.FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())
        self.say(
            f"  epoch {row['epoch']:>3}/{trainer.max_epochs}  loss {row['train_loss']:.4f}  "
            f"validation: loss {row['val_loss']:.4f}, Dice {row['val_dice']:.4f}  "
            f"{row['images_per_second']:.1f} images/s, {row['seconds']:.1f} s"
        )


def train_network(
    network: SegmentationNetwork,
    data: FoldData,
    settings: TrainingSettings,
    seed: int,
    paths: FoldArtifacts,
    origin: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, float] | None:
    """Train to the end, from the last checkpoint if this very run was interrupted; ``network`` is changed.

    Returns:
        The last epoch's row of the history; None in the helper processes of a training on several devices, which
        leave writing to the first. No epoch is chosen by its validation score, so the held-out
        images have no influence on the weights.
    """
    _silence_lightning()
    device = best_device()
    log = EpochLog(paths.history, say)
    checkpoints = ModelCheckpoint(paths.folder, paths.checkpoint.stem, enable_version_counter=False)
    average = [MovingAverage(settings.ema_decay)] if settings.ema_decay else []
    trainer = L.Trainer(
        max_epochs=settings.epochs,
        accelerator=device.type if device.type != "cuda" else "gpu",
        devices=settings.devices,
        precision=LIGHTNING_NAMES[choose_precision(settings.precision, device)],
        gradient_clip_val=settings.gradient_clip,
        callbacks=[log, checkpoints, *average],
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=paths.folder,
    )
    checkpoint = resumable(paths.checkpoint, origin)
    if checkpoint:
        say(f"  resuming from {checkpoint}")
    L.seed_everything(seed, verbose=False)
    trainer.fit(
        SegmentationTraining(network, settings, origin),
        datamodule=FoldLoaders(data, settings, seed),
        ckpt_path=checkpoint,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt
    return log.rows[-1] if trainer.is_global_zero else None


def resumable(checkpoint: Path, origin: dict[str, Any]) -> Path | None:
    """The checkpoint, if it is whole and of the same settings and inputs; a foreign one is deleted."""
    if not checkpoint.exists():
        return None
    try:
        known = torch.load(checkpoint, map_location="cpu", weights_only=True)["origin"] == origin
    except Exception:
        # Whatever a damaged file makes the unpickler raise, the answer is to train from the start.
        known = False
    if not known:
        checkpoint.unlink(missing_ok=True)
    return checkpoint if known else None


def _silence_lightning() -> None:
    """Its advice on workers and logging is about defaults that are chosen on purpose here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
