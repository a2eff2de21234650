import copy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from pipeline.config import ModelSettings
from pipeline.learning.acceleration import accelerate_training, depthwise_conv2d
from pipeline.learning.losses import soft_dice_loss
from pipeline.learning.networks import build_network

CPU = torch.device("cpu")
LITE = ModelSettings(architecture="Unet", encoder="tu-tf_efficientnet_lite0")
PADDED_BY_SMP = ModelSettings(architecture="Unet", encoder="efficientnet-b0")

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def slow_depthwise(network):
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and module.groups > 1
        and (max(module.stride) > 1 or max(module.kernel_size) > 3)
    ]


@given(
    size=st.tuples(st.integers(6, 17), st.integers(6, 17)),
    taps=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=pairs,
    dilation=pairs,
    padding=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    with_bias=st.booleans(),
)
def test_values_and_gradients_are_those_of_conv2d(size, taps, stride, dilation, padding, with_bias):
    seen = [of + 2 * around for of, around in zip(size, padding, strict=True)]
    assume(all(apart * (of - 1) < most for apart, of, most in zip(dilation, taps, seen, strict=True)))
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, *size, generator=generator).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(4, 1, *taps, generator=generator), torch.randn(4, generator=generator)
    inputs = [features, weight, bias] if with_bias else [features, weight]
    results = []
    for convolve in (torch.conv2d, depthwise_conv2d):
        leaves = [each.double().requires_grad_() for each in inputs]
        output = convolve(*leaves, stride=stride, padding=padding, dilation=dilation, groups=4)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        results.append([output.detach(), *(leaf.grad for leaf in leaves)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_padding_in_words_is_torchs():
    features, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 1, 5, 5)
    assert torch.equal(depthwise_conv2d(features, weight, padding="same", groups=4),
                       torch.conv2d(features, weight, padding="same", groups=4))  # fmt: skip


@pytest.mark.parametrize("settings", [LITE, PADDED_BY_SMP], ids=["timm", "smp"])
def test_gradients_are_as_near_to_fp32_as_torchs_own_in_bf16(settings, images):
    exact = build_network(settings, seed=0).eval()  # no random dropping of paths
    plain, accelerated = copy.deepcopy(exact), copy.deepcopy(exact)
    accelerate_training(accelerated, "bf16", CPU)
    masks = torch.ones(2, 64, 64)
    for network in (exact, plain, accelerated):
        with torch.autocast("cpu", torch.bfloat16, enabled=network is not exact):
            logits = network(images)[:, 0]
        soft_dice_loss(logits.float(), masks).backward()
    convolutions = [slow_depthwise(network) for network in (exact, plain, accelerated)]
    assert len(convolutions[0]) == 11  # 4 with a stride and 9 of 5x5, 2 are both
    for of_exact, of_plain, of_accelerated in zip(*convolutions, strict=True):
        gradient = of_exact.weight.grad
        torchs = (of_plain.weight.grad - gradient).norm() / gradient.norm()
        ours = (of_accelerated.weight.grad - gradient).norm() / gradient.norm()
        assert ours < 1.1 * torchs


def test_a_slow_convolution_is_taken_apart_under_autocast_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "pipeline.learning.acceleration.depthwise_conv2d", lambda *args: calls.append(args) or torch.conv2d(*args)
    )
    network = build_network(LITE, seed=0)
    accelerate_training(network, "bf16", CPU)
    module = slow_depthwise(network)[0]
    features = torch.randn(2, module.in_channels, 16, 16)
    module(features)
    assert not calls
    with torch.autocast("cpu", torch.bfloat16):
        module(features)
        assert len(calls) == 1
        with torch.no_grad():  # validation
            module(features)
        module.requires_grad_(False)  # frozen
        module(features)
    assert len(calls) == 1


def test_names_of_the_weights_and_what_is_predicted_stay(images):
    network = build_network(LITE, seed=0).eval()
    names = list(network.state_dict())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = network(images)
        accelerate_training(network, "bf16", CPU)
        assert torch.equal(network(images), before)
    assert list(network.state_dict()) == names


def test_a_copy_computes_with_its_own_weights(images):
    network = build_network(LITE, seed=0).eval()
    accelerate_training(network, "bf16", CPU)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images).abs().max() > 0
        assert copied(images).abs().max() == 0


def test_torch_compile_follows(images):
    network = build_network(LITE, seed=0).eval()
    accelerate_training(network, "bf16", CPU)
    with torch.autocast("cpu", torch.bfloat16):
        expected = network(images)
        found = torch.compile(network, backend="eager")(images)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert slow_depthwise(network)[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize(("precision", "device"), [("fp32", "cpu"), ("bf16", "cuda"), ("fp16", "cuda")])
def test_elsewhere_convolutions_stay(precision, device):
    network = build_network(LITE, seed=0)
    accelerate_training(network, precision, torch.device(device))
    assert not any("forward" in vars(module) for module in network.modules())


def test_no_activation_copies_its_input():
    network = build_network(LITE, seed=0)
    activations = [module for module in network.modules() if isinstance(module, nn.ReLU6)]
    assert any(module.inplace for module in activations)
    accelerate_training(network, "fp32", CPU)
    assert not any(module.inplace for module in activations)
