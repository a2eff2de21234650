"""What computes a trained network: PyTorch, or OpenVINO where that is faster and gives the same answer."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipeline.config import EngineName
from pipeline.errors import DataError
from pipeline.learning.hardware import Precision, autocast

Compute = Callable[[torch.Tensor], torch.Tensor]

WORTH_CONVERTING = 400
"""Network calls, in images, from which a few seconds of conversion are made up for."""
TOLERANCE = 0.05
"""Largest difference of a probability that still counts as the same answer; bf16 rounds to 0.004 near 1."""


@dataclass(frozen=True)
class Engine:
    """A network that is ready to predict."""

    name: str
    """What computes, and in which precision."""
    compute: Compute
    """uint8 (N, 3, H, W) -> logits, float (N, C, H, W)."""
    difference: float
    """Largest difference of a probability from PyTorch's in fp32, on the sample."""


def choose_engine(
    network: torch.nn.Module,
    wanted: EngineName,
    sample: torch.Tensor,
    images: int,
    device: torch.device,
    precision: Precision,
) -> Engine:
    """The engine to predict with.

    Args:
        network: in evaluation mode; uint8 (N, 3, H, W) -> logits (N, C, H, W).
        wanted: ``auto``: OpenVINO on a CPU, if it is installed, agrees with PyTorch on the sample, and there are
            enough images.
        sample: uint8 (N, 3, H, W), some of the images, to compare on.
        images: how many the network will see, mirrored ones included.

    Raises:
        DataError: OpenVINO is wanted, and is not installed, not for this device, or does not agree.
    """
    ours = Engine(f"torch {precision}", _torch(network, device, precision), 0.0)
    installed = importlib.util.find_spec("openvino") is not None
    if wanted == "torch" or (wanted == "auto" and (device.type != "cpu" or not installed or images < WORTH_CONVERTING)):
        return ours
    if device.type != "cpu" or not installed:
        raise DataError("prediction.engine openvino needs a CPU and `pip install openvino`: use auto or torch")
    compute = _openvino(network, sample, precision)
    exact = _torch(network, device, "fp32")(sample)
    difference = (compute(sample).sigmoid() - exact.sigmoid()).abs().max().item()
    if difference <= TOLERANCE:
        return Engine(f"openvino {precision}", compute, difference)
    if wanted == "auto":
        return ours
    raise DataError(
        f"prediction.engine openvino differs from torch by {difference:.3f} in a probability: use auto or torch"
    )


def _torch(network: torch.nn.Module, device: torch.device, precision: Precision) -> Compute:
    network = network.to(device, memory_format=torch.channels_last)

    def compute(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), autocast(precision, device):
            return network(images.to(device).contiguous(memory_format=torch.channels_last)).float()

    return compute


def _openvino(network: torch.nn.Module, sample: torch.Tensor, precision: Precision) -> Compute:
    # Imported as it is, OpenVINO reports each use of it over the network; without this module it has a stub for that.
    sys.modules.setdefault("openvino_telemetry", None)
    import openvino

    with torch.no_grad(), warnings.catch_warnings():
        # The converter itself still calls torch.jit, which PyTorch has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        model = openvino.convert_model(network, example_input=sample, input=[-1, *sample.shape[1:]])
    hints = {
        "INFERENCE_PRECISION_HINT": {"bf16": "bf16"}.get(precision, "f32"),
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.compile_model(model, "CPU", hints)
    return lambda images: torch.from_numpy(compiled(images.contiguous().numpy())[0])
