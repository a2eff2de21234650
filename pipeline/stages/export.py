"""Write the trained networks as ONNX models.

Reads   kfold/<experiment>/<model>/fold<k>/weights.safetensors
Writes  DIR/<model>-fold<k>.onnx        uint8 (N, 3, H, W), RGB -> logits, float32 (N, C, H, W), for any N; it
                                        normalises the image itself
        DIR/<model>-fold<k>.onnx.json   height and width of the input; image_height, image_width and fit, how an image
                                        is brought to that size first; overlap, the least share of a side that inputs
                                        have in common, which are tiles where that size is larger; classes; how far its
                                        probabilities are from PyTorch's on random images

    python -m pipeline export --experiment pipeline/experiments/demo.yaml -o onnx/
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from pipeline.artifacts import Artifacts, whole_or_absent, write_json
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command
from pipeline.config import load_experiment
from pipeline.errors import DataError
from pipeline.learning.networks import load_network
from pipeline.learning.onnx_files import INPUT, OUTPUT, onnx_runtime, to_onnx
from pipeline.records import record_of

TOLERANCE = 1e-3
BATCHES = (1, 3)  # the model is verified on, other ones than it is traced with
TRACED = 2


def export(
    experiment: ExperimentOption,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the models.")],
    overrides: OverridesOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write the trained networks as ONNX models, each compared with PyTorch.

    \b
    Example:
      python -m pipeline export --experiment pipeline/experiments/demo.yaml -o onnx/
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    size = settings.image.tiling.size
    console.print(f"export: {len(settings.models) * settings.folds.count} networks as ONNX models, to {output}")
    for model in settings.models:
        for fold in range(settings.folds.count):
            network = load_network(artifacts.fold(model, fold).weights)
            content = to_onnx(network, random_images(TRACED, size))
            apart = difference(network, content, size)
            path = output / f"{model}-fold{fold}.onnx"
            if apart > TOLERANCE:
                raise DataError(f"{path}: its probabilities differ from PyTorch's by {apart:.2g}; not written")
            with whole_or_absent(path) as new:
                new.write_bytes(content)
            about = {
                "input": INPUT,
                "output": OUTPUT,
                "height": size[0],
                "width": size[1],
                "image_height": settings.image.size[0],
                "image_width": settings.image.size[1],
                "fit": settings.image.fit,
                "overlap": settings.image.overlap,
                "classes": [name or None for name in settings.data.class_names],
                "largest_difference_of_a_probability": apart,
            }
            write_json(record_of(path), about)
            console.print(f"export: {path}, {len(content) / 1e6:.1f} MB, probabilities within {apart:.1e} of PyTorch's")


def random_images(count: int, size: tuple[int, int]) -> torch.Tensor:
    """uint8 (count, 3, H, W), the same for every call."""
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)


def difference(network: torch.nn.Module, model: bytes, size: tuple[int, int]) -> float:
    """Largest difference of a probability between a network and its ONNX model, over batches of several sizes."""
    compute = onnx_runtime(model, torch.get_num_threads())
    apart = 0.0
    for count in BATCHES:
        images = random_images(count, size)
        with torch.inference_mode():
            exact = network(images).sigmoid()
        apart = max(apart, (compute(images).sigmoid() - exact).abs().max().item())
    return apart


if __name__ == "__main__":
    run_command(export)
