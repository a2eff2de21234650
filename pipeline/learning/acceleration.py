"""Rewritten modules that make a training step faster: same weights, same values, same gradients up to rounding."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad
from torch.nn.grad import conv2d_weight
from torch.overrides import TorchFunctionMode

from pipeline.learning.hardware import Precision

# Autograd keeps their input, so that in place they copy it first; of ReLU it keeps the output.
KEEPING_THEIR_INPUT = (nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.SiLU)  # ReLU6 is a Hardtanh
TAPS = 3  # in a row of the widest depthwise kernel that oneDNN has a fast gradient for in bf16

Pair = tuple[int, int]


def accelerate_training(network: nn.Module, precision: Precision, device: torch.device) -> None:
    """Prepare a network for training. Names and weights stay, and what is computed where no gradient is taken.

    Activations that would copy their input for autograd are taken out of place. On CPUs in bf16, the depthwise
    convolutions that oneDNN has no fast gradient for become :func:`depthwise_conv2d`: those with a stride take 9 to
    23 ms for the input's gradient where others take one, those of more than three columns 10 to 22 ms for the weights'.
    """
    for module in network.modules():
        if isinstance(module, KEEPING_THEIR_INPUT):
            module.inplace = False
        elif device.type == "cpu" and precision == "bf16" and _is_slow_depthwise(module):
            module.forward = functools.partial(_forward, module.forward)


def _is_slow_depthwise(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == module.in_channels == module.out_channels > 1
        and (max(module.stride) > 1 or module.kernel_size[1] > TAPS)
    )


def _forward(forward: Callable[[torch.Tensor], torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    trained = torch.is_grad_enabled() and (features.requires_grad or forward.__self__.weight.requires_grad)
    if not trained or not torch.is_autocast_enabled("cpu"):
        return forward(features)
    with _DepthwiseMode():
        return forward(features)


class _DepthwiseMode(TorchFunctionMode):
    """Takes the place of ``conv2d`` alone, since modules pad their input before it in ways of their own."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (depthwise_conv2d if function is torch.conv2d else function)(*args, **(kwargs or {}))


def depthwise_conv2d(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> torch.Tensor:
    """``torch.conv2d`` of each channel by itself, with gradients that oneDNN is fast at in bf16.

    Args:
        features: (N, C, H, W).
        weight: (C, 1, K, L).
        bias: (C,).
        groups: C.
    """
    stride, dilation = _pair(stride), _pair(dilation)
    if isinstance(padding, str) or any(
        of > most for of, most in zip(_pair(padding), _reach(weight, dilation), strict=True)
    ):
        return torch.conv2d(features, weight, bias, stride, padding, dilation, groups)
    if torch.is_autocast_enabled("cpu"):  # which does not reach into a function of one's own
        dtype = torch.get_autocast_dtype("cpu")
        features, weight, bias = features.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    result = _DepthwiseConvolution.apply(features, weight, stride, _pair(padding), dilation)
    return result if bias is None else result + bias.view(-1, 1, 1)


class _DepthwiseConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, features: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair, dilation: Pair
    ) -> torch.Tensor:
        context.save_for_backward(features, weight)
        context.geometry = stride, padding, dilation
        return torch.conv2d(features, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        features, weight = context.saved_tensors
        of_features, of_weight = context.needs_input_grad[:2]
        return (
            _input_gradient(gradient, features.shape, weight, *context.geometry) if of_features else None,
            _weight_gradient(gradient, features, weight, *context.geometry) if of_weight else None,
            None, None, None,
        )  # fmt: skip


def _input_gradient(
    gradient: torch.Tensor, shape: torch.Size, weight: torch.Tensor, stride: Pair, padding: Pair, dilation: Pair
) -> torch.Tensor:
    """The output's gradient, spread by the stride with zeros between, convolved with the mirrored kernel.

    Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), relationship 14.
    """
    images, channels, height, width = shape
    down, right = _reach(weight, dilation)
    if max(stride) > 1:
        size = height + 2 * padding[0] - down, width + 2 * padding[1] - right
        spread = gradient.new_zeros((images, *size, channels)).permute(0, 3, 1, 2)
        spread[:, :, :: stride[0], :: stride[1]] = gradient
        gradient = spread
    around = down - padding[0], right - padding[1]
    return torch.conv2d(gradient, weight.flip(2, 3), None, 1, around, dilation, channels)


def _weight_gradient(
    gradient: torch.Tensor, features: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair, dilation: Pair
) -> torch.Tensor:
    """A wide kernel's is put together from its parts', three columns each, of which the last two may overlap."""
    channels, _, _, width = weight.shape
    if width <= TAPS:
        return conv2d_weight(features, weight.shape, gradient, stride, padding, dilation, channels)
    result = torch.empty_like(weight)
    seen = (gradient.shape[3] - 1) * stride[1] + (TAPS - 1) * dilation[1] + 1
    for start in [min(TAPS * number, width - TAPS) for number in range(math.ceil(width / TAPS))]:
        part = result[..., start : start + TAPS]
        before = padding[1] - start * dilation[1]
        columns = pad(features, (before, seen - features.shape[3] - before))
        part.copy_(conv2d_weight(columns, part.shape, gradient, stride, (padding[0], 0), dilation, channels))
    return result


def _reach(weight: torch.Tensor, dilation: Pair) -> Pair:
    """Pixels from a kernel's first tap to its last, down and to the right."""
    return dilation[0] * (weight.shape[2] - 1), dilation[1] * (weight.shape[3] - 1)


def _pair(number: int | Pair) -> Pair:
    return (number, number) if isinstance(number, int) else tuple(number)
