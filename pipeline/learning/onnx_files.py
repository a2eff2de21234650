"""A trained network as an ONNX model, and ONNX Runtime to compute it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

INPUT, OUTPUT = "images", "logits"


def to_onnx(network: torch.nn.Module, sample: torch.Tensor) -> bytes:
    """The model's file: uint8 (N, 3, H, W) -> logits, float (N, C, H, W), for any N and the height and width of
    ``sample``.

    Args:
        network: in evaluation mode, on the CPU.
        sample: uint8 (N, 3, H, W), N > 1: the exporter takes a batch of one for a constant.
    """
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, about its own parts
            program = torch.onnx.export(
                network,
                (sample.contiguous(),),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    return program.model_proto.SerializeToString()


def onnx_runtime(model: bytes | Path, threads: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """ONNX Runtime on the CPU: uint8 (N, 3, H, W) -> logits, float (N, C, H, W)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    given = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {INPUT: images.contiguous().numpy()})[0])
