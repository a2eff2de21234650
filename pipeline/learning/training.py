"""One training run: the Lightning module, its data, its schedule, and what it writes after each epoch."""

from __future__ import annotations

import csv
import io
import logging
import math
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO
from segmentation_models_pytorch.base import ClassificationHead
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, Subset
from torchmetrics import MeanMetric

from pipeline.artifacts import FoldArtifacts, whole_or_absent, write_text
from pipeline.config import ProgressiveSettings, TrainingSettings
from pipeline.data.augmentation import Augmentation
from pipeline.data.dataset import HeldOutImages, TrainingImages, quiet_worker
from pipeline.errors import DataError
from pipeline.geometry import Tiling, scaled_size
from pipeline.learning.acceleration import accelerate_training
from pipeline.learning.averages import weight_averages
from pipeline.learning.hardware import (
    LIGHTNING_NAMES,
    best_device,
    choose_precision,
    choose_workers,
)
from pipeline.learning.inference import in_tiles
from pipeline.learning.losses import mixed_loss
from pipeline.learning.networks import SegmentationNetwork
from pipeline.learning.sizes import resize
from pipeline.postprocess import HALF


@dataclass(frozen=True)
class FoldData:
    """Small copies of N images, and which rows to train and to validate on.

    ``images`` are uint8 (H, W, 3) each, ``masks`` uint8 (H, W, C), ``empty`` bool (N,): no pixel of any mask is set,
    ``tiling`` cuts what the network does not see at once, ``mirrored`` tells for each of the C classes which one it is
    in a mirrored image.
    """

    images: Sequence[np.ndarray]
    masks: Sequence[np.ndarray]
    empty: np.ndarray
    training_rows: np.ndarray
    held_out_rows: np.ndarray
    tiling: Tiling
    mirrored: list[int]


class FoldLoaders(L.LightningDataModule):
    """Loaders of one fold; the training loader is made anew for each epoch, which seeds its order and changes.

    Where several processes share a training, each takes its part of the rows and of the batch. Held-out rows are
    dealt out without the repetitions by which PyTorch's sampler makes all parts equal, so that the score is that
    of the images, whatever the number of processes.
    """

    def __init__(self, data: FoldData, settings: TrainingSettings, seed: int) -> None:
        super().__init__()
        self.data, self.settings, self.seed = data, settings, seed
        of_image = data.images[0].nbytes + data.masks[0].nbytes
        self.workers = choose_workers(settings.workers, best_device(), 2 * settings.batch_size * of_image)

    def train_dataloader(self) -> DataLoader:
        epoch = self.trainer.current_epoch
        data = self.data
        tile = data.tiling.size if data.tiling.size != data.masks[0].shape[:2] else None
        augmentation = Augmentation(self.settings.augmentation, self.seed, data.mirrored, tile)
        # The order is the data set's own: a sampler would draw a new one whenever Lightning starts to iterate,
        # which it does once more after a resumption.
        rng = np.random.default_rng([self.seed, epoch])
        empty_share = empty_share_of_epoch(self.settings.empty_share, epoch, self.settings.epochs)
        rows = draw_rows(data.training_rows, data.empty[data.training_rows], empty_share, rng)
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        images = TrainingImages(data.images, data.masks, rows, augmentation, epoch)
        # Every process must take as many steps as the others.
        mine = Subset(images, range(rank, len(rows) // processes * processes, processes))
        # Batch normalisation cannot use a rest of one image, so the rest of an epoch is left out.
        return self._loader(mine, min(self._batch_size, len(mine)), drop_last=True)

    def val_dataloader(self) -> DataLoader:
        rows = self.data.held_out_rows[self.trainer.global_rank :: self.trainer.world_size]
        images = HeldOutImages(self.data.images, self.data.masks, rows)
        return self._loader(images, 2 * self._batch_size)

    @property
    def _batch_size(self) -> int:
        """Of each process."""
        return self.settings.batch_size // self.trainer.world_size

    def _loader(self, images: Any, batch_size: int, **options: Any) -> DataLoader:
        pinned = best_device().type == "cuda"
        return DataLoader(
            images, batch_size, num_workers=self.workers, worker_init_fn=quiet_worker, pin_memory=pinned, **options
        )


def empty_share_of_epoch(shares: tuple[float, float] | None, epoch: int, epochs: int) -> float | None:
    """Share of empty images in an epoch (counted from 0), from the first's to the last's in equal steps."""
    if shares is None:
        return None
    first, last = shares
    return first + (last - first) * epoch / max(1, epochs - 1)


def draw_rows(rows: np.ndarray, empty: np.ndarray, share: float | None, rng: np.random.Generator) -> np.ndarray:
    """The rows of one epoch in random order, as many as there are.

    Args:
        rows: int (N,).
        empty: bool (N,), which of them have an empty mask.
        share: of the empty ones in the epoch; a kind that has to be drawn more often than it is there is gone
            through several times. None, or where all are of one kind: every row once.
    """
    if share is None or empty.all() or not empty.any():
        return rng.permutation(rows)
    wanted = round(share * len(rows))
    drawn = [_cycle(rows[empty], wanted, rng), _cycle(rows[~empty], len(rows) - wanted, rng)]
    return rng.permutation(np.concatenate(drawn))


def _cycle(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` rows, none drawn again before all others."""
    rounds = -(-count // len(rows))
    return np.concatenate([rows[:0], *(rng.permutation(rows) for _ in range(rounds))])[:count]


class SegmentationTraining(L.LightningModule):
    """Loss, optimiser and schedule around a network.

    Args:
        network: what is trained.
        settings: the recipe.
        tiling: what the network sees at once of a held-out image.
        origin: what the run depends on; kept in the checkpoint, so that another run does not resume from it.
        seed: of what the network itself leaves to chance, dropout.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        settings: TrainingSettings,
        tiling: Tiling,
        origin: dict[str, Any],
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.settings = settings
        self.tiling = tiling
        self.origin = origin
        self.seed = seed
        self.deepest: torch.Tensor | None = None
        self.val_loss, self.val_dice = MeanMetric("disable"), MeanMetric("disable")  # else it leaves NaN out
        if settings.auxiliary:
            self.presence = ClassificationHead(network.encoder.out_channels[-1], network.description["classes"])
            self.hook = network.encoder.register_forward_hook(self._keep_deepest)

    def _keep_deepest(self, _: torch.nn.Module, __: Any, features: list[torch.Tensor]) -> None:
        self.deepest = features[-1]

    def on_fit_end(self) -> None:
        if self.settings.auxiliary:
            self.hook.remove()
            self.deepest = None

    def on_train_batch_start(self, *_: Any) -> None:
        # A resumed training must draw what an uninterrupted one draws, and each device something else. At every step,
        # since Lightning's loaders draw, too, and once more after a resumption.
        numbers = [self.seed, self.global_step, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        images, masks = self.sized(*batch)
        loss = self._loss(self.logits(images), masks)
        if self.settings.auxiliary:
            there = (masks >= HALF).any(-1).any(-1).float()
            presence = binary_cross_entropy_with_logits(self.presence(self.deepest).float(), there)
            loss = loss + self.settings.auxiliary * presence
        options = {"on_step": False, "on_epoch": True, "batch_size": len(batch[0]), "sync_dist": True}
        self.log("train_loss", loss, logger=False, **options)  # EpochLog writes it
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        images, masks = self.sized(*batch)
        logits = in_tiles(self.logits, images, replace(self.tiling, size=self._epoch_size(self.tiling.size)))
        loss = self._loss(logits, masks)
        # Metrics add up over images and processes, however unequal the batches are.
        self.val_loss.update(loss, len(logits))
        self.val_dice.update(mask_dice(logits > 0, masks >= HALF))
        self.log_dict({"val_loss": self.val_loss, "val_dice": self.val_dice}, logger=False)

    def sized(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch at the size of this epoch."""
        size = self._epoch_size(images.shape[-2:])
        return resize(images, size), resize(masks, size)

    def _epoch_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return training_size(size, self.settings.progressive, self.current_epoch, self.settings.epochs)

    def epoch_pixels(self) -> list[int]:
        """Pixels of an input in each epoch, which is what its time depends on."""
        epochs = self.settings.epochs
        sizes = [training_size(self.tiling.size, self.settings.progressive, epoch, epochs) for epoch in range(epochs)]
        return [height * width for height, width in sizes]

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, H, W) -> fp32 (N, C, H, W)."""
        return self.network(images.to(memory_format=torch.channels_last)).float()

    def _loss(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        return mixed_loss(logits, masks.float() / 255, self.settings.loss)

    def configure_optimizers(self) -> dict[str, Any]:
        encoder = list(self.network.encoder.parameters())
        in_encoder = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in in_encoder]
        rate = self.settings.learning_rate
        groups = [{"params": encoder, "lr": rate * self.settings.encoder_rate}, {"params": rest, "lr": rate}]
        fused = self.device.type == "cpu" or None  # on a CPU not torch's choice, and 3 to 20% of a step faster
        optimizer = torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay, fused=fused)
        return {"optimizer": optimizer, "lr_scheduler": self._schedule(optimizer)}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning's own refuses fused optimisers, which is right where gradients are scaled: there, ours is not fused.
        torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def _schedule(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        schedulers = torch.optim.lr_scheduler
        if self.settings.schedule == "plateau":
            schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
            return {"scheduler": schedule, "interval": "epoch", "monitor": "train_loss"}
        steps = int(self.trainer.estimated_stepping_batches)
        if self.settings.schedule == "one-cycle":
            rates = [group["lr"] for group in optimizer.param_groups]
            # PyTorch divides by the lengths of both phases, warmup * steps - 1 and the rest.
            rise = min(max(self.settings.warmup * steps, 1.5), steps - 0.5) if self.settings.warmup else 0.0
            schedule = schedulers.OneCycleLR(optimizer, rates, steps, pct_start=rise / steps)
        else:
            schedule = schedulers.LambdaLR(optimizer, warmup_cosine(steps, round(self.settings.warmup * steps)))
        return {"scheduler": schedule, "interval": "step"}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        # Lightning asks for a plateau's step after the checkpoint is written, which would lack it.
        if not isinstance(scheduler, ReduceLROnPlateau):
            super().lr_scheduler_step(scheduler, metric)

    def on_train_epoch_end(self) -> None:
        if isinstance(scheduler := self.lr_schedulers(), ReduceLROnPlateau):
            scheduler.step(self.trainer.callback_metrics["train_loss"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["origin"] = self.origin


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside where they belong.

    Lightning writes them to the system's temporary folder, which may have no room for them, and from there copies
    them where that is another disk: one that a kill has cut short could not be resumed from.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        content = io.BytesIO()  # PyTorch tells of a full disk by an error of its own, Python by the system's
        torch.save(checkpoint, content)
        with whole_or_absent(Path(path)) as new:
            new.write_bytes(content.getbuffer())


def training_size(size: tuple[int, int], settings: ProgressiveSettings, epoch: int, epochs: int) -> tuple[int, int]:
    """Height and width of the input in an epoch (counted from 0) of progressive resizing."""
    return scaled_size(size, 1 if epoch >= round(settings.share * epochs) else settings.scale)


def time_left(seconds: float, pixels: list[int], epoch: int) -> str:
    """Readable time of the epochs that remain, if the last one (counted from 0) took so many seconds; "" at the end."""
    left = seconds * sum(pixels[epoch + 1 :]) / pixels[epoch]
    if not left:
        return ""
    return f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"


def mask_dice(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Dice of each mask, bool (..., H, W) twice -> float (...); 1 where both are empty."""
    overlap = (predicted & true).sum((-2, -1))
    total = predicted.sum((-2, -1)) + true.sum((-2, -1))
    return torch.where(total > 0, 2 * overlap / total.clamp(min=1), 1.0)


def warmup_cosine(steps: int, warmup: int) -> Callable[[int], float]:
    """Factor of the learning rate as a pure function of the step: linear to 1, then a cosine to 0."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor


class EpochLog(Callback):
    """Writes ``history.csv`` and TensorBoard's scalars, and prints one line after each epoch; survives a resumption."""

    FIELDS = (
        *("epoch", "train_loss", "val_loss", "val_dice", "learning_rate"),
        *("images_per_second", "waiting", "seconds"),
    )

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path, self.say = path, say
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        self.start = self.trained = time.perf_counter()
        self.images = 0
        self.waited = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, _: int) -> None:
        self.waited += time.perf_counter() - self.trained

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        self.images += len(batch[0]) * trainer.world_size
        self.trained = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(metrics["train_loss"] + metrics["val_loss"]):
            # Before the checkpoint is written, which Lightning does last, so that the weights in it stay usable.
            raise DataError(
                f"{self.path.parent}: the loss of epoch {trainer.current_epoch + 1} is not a number: lower "
                "training.learning_rate, or set training.precision=fp32"
            )
        if not trainer.is_global_zero:
            return
        row = {
            "epoch": trainer.current_epoch + 1,
            **{name: round(metrics[name], 5) for name in ("train_loss", "val_loss", "val_dice")},
            "learning_rate": float(f"{trainer.optimizers[0].param_groups[-1]['lr']:.4g}"),
            "images_per_second": round(self.images / (self.trained - self.start), 1),
            "waiting": round(self.waited / (self.trained - self.start), 3),
            "seconds": round(time.perf_counter() - self.start, 1),
        }
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, self.FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())
        for logger in trainer.loggers:
            logger.log_metrics({name: row[name] for name in self.FIELDS[1:]}, row["epoch"])
            logger.experiment.flush()  # else it keeps two minutes of them, which a kill would take from the curve
        self.say(
            f"epoch {row['epoch']:>3}/{trainer.max_epochs}"
            f"{time_left(row['seconds'], module.epoch_pixels(), trainer.current_epoch)}  "
            f"loss {row['train_loss']:.4f}  validation: loss {row['val_loss']:.4f}, Dice {row['val_dice']:.4f}  "
            f"{row['images_per_second']:.1f} images/s, {row['waiting']:.0%} waiting for data, {row['seconds']:.1f} s"
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

    Raises:
        DataError: the recipe wants more GPUs than there are, or a loss is not a number.
    """
    _silence_lightning()
    device = best_device()
    if device.type == "cuda" and settings.devices > (gpus := torch.cuda.device_count()):
        raise DataError(f"training.devices is {settings.devices}, more than the GPUs here ({gpus})")
    precision = choose_precision(settings.precision, device)
    accelerate_training(network, precision, device)
    log = EpochLog(paths.history, say)
    checkpoints = ModelCheckpoint(paths.folder, paths.checkpoint.stem, enable_version_counter=False)
    average = weight_averages(settings)
    checkpoint = resumable(paths.checkpoint, origin)
    trainer = L.Trainer(
        max_epochs=settings.epochs,
        accelerator=device.type if device.type != "cuda" else "gpu",
        devices=settings.devices,
        # An encoder of less than its full depth has layers that no loss depends on.
        strategy="ddp_find_unused_parameters_true" if settings.devices > 1 else "auto",
        precision=LIGHTNING_NAMES[precision],
        gradient_clip_val=settings.gradient_clip,
        callbacks=[log, checkpoints, *average],
        # A job of Slurm's is one task, in which Lightning would start no further processes.
        plugins=[WholeCheckpoints(), LightningEnvironment()],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=tensorboard_logger(paths.tensorboard, resumes=checkpoint is not None) if settings.tensorboard else False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=paths.folder,
    )
    if checkpoint:
        say(f"resuming from {checkpoint}")
    L.seed_everything(seed, verbose=False)
    if settings.compile:
        network.compile()  # in place: the names of its tensors stay
    trainer.fit(
        SegmentationTraining(network, settings, data.tiling, origin, seed),
        datamodule=FoldLoaders(data, settings, seed),
        ckpt_path=checkpoint,
    )
    if trainer.interrupted:
        raise KeyboardInterrupt
    return log.rows[-1] if trainer.is_global_zero else None


def tensorboard_logger(folder: Path, resumes: bool) -> TensorBoardLogger:
    """Writes to the folder, which a training from the start empties and a resumed one adds to."""
    if not resumes:
        shutil.rmtree(folder, ignore_errors=True)
    return TensorBoardLogger(folder.parent, name=None, version=folder.name)


def resumable(checkpoint: Path, origin: dict[str, Any]) -> Path | None:
    """The checkpoint, if it is whole and of the same settings and inputs; a foreign one is deleted."""
    if not checkpoint.exists():
        return None
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            whole = archive.testzip() is None  # PyTorch writes checksums and does not look at them
        known = whole and torch.load(checkpoint, map_location="cpu", weights_only=True)["origin"] == origin
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
