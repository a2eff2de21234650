import copy
import os

import pytest
import torch

from pipeline.config import ModelSettings
from pipeline.learning.hardware import choose_precision, keep_depthwise_in_fp32, reserve_gpus
from pipeline.learning.networks import build_network

CPU = torch.device("cpu")
LITE = ModelSettings(architecture="Unet", encoder="tu-tf_efficientnet_lite0")


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_some_depthwise_convolutions_compute_in_fp32_under_autocast(images):
    network = build_network(LITE, seed=0).eval()
    names = list(network.state_dict())
    exact = network(images)
    strided = network.encoder.model.blocks[1][0].conv_dw
    features = torch.randn(2, strided.in_channels, 16, 16).bfloat16()
    in_fp32 = strided(features.float()).bfloat16()
    assert keep_depthwise_in_fp32(network, "bf16", CPU) == 11  # 4 with a stride and 9 of 5x5, 2 are both
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(strided(features), in_fp32)
        mixed = network(images)
    assert list(network.state_dict()) == names
    assert (mixed.float() - exact).abs().mean() < 0.05 * exact.abs().mean()  # 0.025 with AMX
    assert torch.equal(network(images), exact)


@pytest.mark.parametrize("gradients", [True, False])
def test_depthwise_convolutions_stay_in_bf16_where_no_gradient_is_taken(gradients):
    network = build_network(LITE, seed=0).eval()
    strided = network.encoder.model.blocks[1][0].conv_dw.requires_grad_(not gradients)  # frozen, or in validation
    features = torch.randn(2, strided.in_channels, 16, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(gradients):
        in_bf16 = strided(features)
        keep_depthwise_in_fp32(network, "bf16", CPU)
        assert torch.equal(strided(features), in_bf16)


def test_a_copy_computes_with_its_own_weights(images):
    network = build_network(LITE, seed=0).eval()
    keep_depthwise_in_fp32(network, "bf16", CPU)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        assert network(images).abs().max() > 0
        assert copied(images).abs().max() == 0


def test_elsewhere_nothing_is_exempt():
    network = build_network(LITE, seed=0)
    assert keep_depthwise_in_fp32(network, "fp32", CPU) == 0
    assert keep_depthwise_in_fp32(network, "bf16", torch.device("cuda")) == 0


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "expected"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")]
)
def test_a_cpu_computes_in_bf16_where_it_need_not_emulate_it(monkeypatch, amx, avx512_bf16, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("fp32", CPU) == "fp32"


def test_trainings_at_once_take_different_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.learning.hardware._reserved", [])
    taken = []
    for _ in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,GPU-7")  # each a process of its own
        taken.append(reserve_gpus(1, tmp_path))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == taken[-1][0]
    assert taken == [["0"], ["1"], ["GPU-7"]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,GPU-7")
    assert reserve_gpus(1, tmp_path) == []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,GPU-7"


def test_a_training_on_several_gpus_takes_all_or_hides_none(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.learning.hardware._reserved", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert reserve_gpus(2, tmp_path) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert reserve_gpus(2, tmp_path) == []
    assert reserve_gpus(1, tmp_path) == ["2"]  # what a training that found too few has let go
