"""What computes a trained network: PyTorch, or another engine where that is faster and gives the same answer."""

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
from pipeline.learning.onnx_files import onnx_runtime, to_onnx

Compute = Callable[[torch.Tensor], torch.Tensor]

WORTH_CONVERTING = 400
"""Network calls, in images, from which a few seconds of conversion are made up for."""
TOLERANCE = 0.05
"""Largest difference of a probability from PyTorch's in fp32 that still counts as the same answer ..."""
AS_PYTORCH = 2
"""... or so many times the mean difference that PyTorch itself has in the precision. The largest says little there: on
a mask's outline, where a network is steep, bf16 moves single pixels by 0.1 to 0.3, in PyTorch as in other engines."""


@dataclass(frozen=True)
class Engine:
    """A network that is ready to predict."""

    name: str
    """What computes, and in which precision."""
    compute: Compute
    """uint8 (N, 3, H, W) -> logits, float (N, C, H, W)."""
    difference: float | None = None
    """Largest difference of a probability from PyTorch's in fp32, on the sample; None: not compared."""
    mean_difference: float | None = None
    """Their mean."""


def choose_engines(
    network: torch.nn.Module,
    wanted: EngineName,
    samples: list[torch.Tensor],
    images: int,
    device: torch.device,
    precision: Precision,
) -> list[Engine]:
    """The engine to predict with, ready for inputs of each of several sizes.

    Args:
        network: in evaluation mode; uint8 (N, 3, H, W) -> logits (N, C, H, W).
        wanted: ``auto``: on a CPU and for enough images the first of OpenVINO and ONNX Runtime that is installed and
            agrees with PyTorch on all samples. They stand in the order of their speed
            (``tests/benchmarks/predict.py``); a measurement, which a busy machine can turn round, would make
            predictions depend on the day.
        samples: for each size uint8 (N, 3, H, W), some of the images, to compare on.
        images: how many of each size the network will see, mirrored ones included.

    Raises:
        DataError: another engine than PyTorch is wanted, and is not installed, not for this device, or disagrees.
    """
    name, compute = f"torch {precision}", _torch(network, device, precision)
    if wanted == "torch" or (wanted == "auto" and images < WORTH_CONVERTING):
        candidates = ()
    else:
        candidates = _candidates(precision) if wanted == "auto" else (wanted,)
    usable = [each for each in candidates if device.type == "cpu" and importlib.util.find_spec(each) is not None]
    if candidates == (wanted,) and not usable:
        raise DataError(f"prediction.engine {wanted} needs a CPU and `pip install {wanted}`: use auto or torch")
    if not usable:
        return [Engine(name, compute)] * len(samples)
    in_fp32 = _torch(network, device, "fp32")
    exact = [in_fp32(sample).sigmoid() for sample in samples]
    ours = [_compared(name, compute, *pair) for pair in zip(samples, exact, strict=True)]
    for each in usable:
        theirs = [_converted(each, network, precision, *pair) for pair in zip(samples, exact, strict=True)]
        if all(_agree(*pair) for pair in zip(theirs, ours, strict=True)):
            return theirs
    if wanted != "auto":
        difference = max(engine.difference for engine in theirs)
        raise DataError(
            f"prediction.engine {wanted} differs from torch by {difference:.3f} in a probability: use auto or torch"
        )
    return ours


def _candidates(precision: Precision) -> tuple[str, ...]:
    """Engines that have a precision on CPUs and are faster than PyTorch in it, the fastest first."""
    return {"fp32": ("openvino", "onnxruntime"), "bf16": ("openvino",), "fp16": ()}[precision]


def _agree(engine: Engine, ours: Engine) -> bool:
    """Whether an engine's answer counts as PyTorch's."""
    return engine.difference <= TOLERANCE or engine.mean_difference <= AS_PYTORCH * ours.mean_difference


def _compared(name: str, compute: Compute, sample: torch.Tensor, exact: torch.Tensor) -> Engine:
    """An engine beside PyTorch's probabilities in fp32 of a sample."""
    apart = (compute(sample).sigmoid() - exact).abs()
    return Engine(name, compute, apart.max().item(), apart.mean().item())


def _converted(
    name: str, network: torch.nn.Module, precision: Precision, sample: torch.Tensor, exact: torch.Tensor
) -> Engine:
    if name not in _candidates(precision):
        precision = "fp32"
    if name == "openvino":
        compute = _openvino(network, sample, precision)
    else:
        compute = onnx_runtime(to_onnx(network, _at_least_two(sample)), torch.get_num_threads())
    return _compared(f"{name} {precision}", compute, sample, exact)


def _at_least_two(sample: torch.Tensor) -> torch.Tensor:
    return sample if len(sample) > 1 else sample.repeat(2, 1, 1, 1)


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
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.compile_model(model, "CPU", hints)
    return lambda images: torch.from_numpy(compiled(images.contiguous().numpy())[0])
