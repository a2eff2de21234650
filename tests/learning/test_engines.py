import sys

import pytest
import torch

from pipeline.errors import DataError
from pipeline.learning import engines
from pipeline.learning.engines import choose_engines
from pipeline.learning.networks import SegmentationNetwork

CPU = torch.device("cpu")
MANY = engines.WORTH_CONVERTING


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SegmentationNetwork("DeepLabV3", "resnet18", {"decoder_channels": 16}).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def logits(network, images):
    with torch.inference_mode():
        return network(images)


def choose(network, wanted, samples, count, precision):
    """The engine for the first of the samples' sizes; that for the others is the same one."""
    chosen = choose_engines(network, wanted, samples, count, CPU, precision)
    assert [engine.name for engine in chosen] == [chosen[0].name] * len(samples)
    return chosen[0]


@pytest.mark.parametrize("wanted", ["torch", "openvino", "onnxruntime"])
def test_every_engine_gives_the_networks_answer_for_any_batch(network, images, wanted):
    engine = choose(network, wanted, [images], MANY, "fp32")
    assert engine.name == f"{wanted} fp32"
    assert engine.difference is None if wanted == "torch" else engine.mean_difference <= engine.difference < 1e-4
    for batch in (images, images[:1]):
        assert torch.allclose(engine.compute(batch), logits(network, batch), atol=1e-3)


@pytest.mark.parametrize(("count", "name"), [(MANY, "openvino fp32"), (MANY - 1, "torch fp32")])
def test_auto_converts_where_enough_images_wait(network, images, count, name):
    assert choose(network, "auto", [images], count, "fp32").name == name


def test_an_engine_that_does_not_agree_is_not_used(network, images, monkeypatch):
    for name in ("_openvino", "onnx_runtime"):
        monkeypatch.setattr(engines, name, lambda *_: lambda batch: logits(network, batch) + 3)
    assert choose(network, "auto", [images], MANY, "fp32").name == "torch fp32"
    with pytest.raises(DataError, match="differs from torch by 0"):
        choose(network, "openvino", [images], MANY, "fp32")


def test_a_single_pixel_counts_where_pytorch_is_exact_and_not_beside_its_own_rounding(network, images, monkeypatch):
    def other_at_one_pixel(network, *_):
        def compute(batch):
            moved = logits(network, batch).clone()
            moved[0, 0, 0, 0] += 3
            return moved

        return compute

    monkeypatch.setattr(engines, "_openvino", other_at_one_pixel)
    chosen = choose(network, "auto", [images], MANY, "bf16")
    assert chosen.name == "openvino bf16"
    assert chosen.difference > engines.TOLERANCE
    assert choose(network, "auto", [images], MANY, "fp32").name == "onnxruntime fp32"


def test_an_engine_that_agrees_at_one_size_only_is_used_at_none(network, images, monkeypatch):
    samples = [images, images[..., :32, :32]]

    def wrong_where_small(network, sample, _):
        return lambda batch: logits(network, batch) + 3 * (sample.shape[-1] == 32)

    monkeypatch.setattr(engines, "_openvino", wrong_where_small)
    assert choose(network, "auto", samples[:1], MANY, "bf16").name == "openvino bf16"
    fallback = choose(network, "auto", samples, MANY, "bf16")
    assert fallback.name == "torch bf16"
    assert 0 < fallback.mean_difference < fallback.difference


def test_a_precision_that_an_engine_does_not_have_on_cpus_becomes_fp32(network, images):
    assert choose(network, "auto", [images], MANY, "fp16").name == "torch fp16"
    assert choose(network, "openvino", [images], MANY, "fp16").name == "openvino fp32"


def test_where_openvino_is_missing_onnx_runtime_is_next_in_fp32(network, images, monkeypatch):
    find = engines.importlib.util.find_spec
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))
    assert choose(network, "auto", [images], MANY, "fp32").name == "onnxruntime fp32"
    assert choose(network, "auto", [images], MANY, "bf16").name == "torch bf16"


def test_without_other_engines_torch_computes(network, images, monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda _: None)
    assert choose(network, "auto", [images], MANY, "fp32").name == "torch fp32"
    with pytest.raises(DataError, match="pip install openvino"):
        choose(network, "openvino", [images], MANY, "fp32")


def test_openvinos_reports_over_the_network_stay_off(network, images):
    choose(network, "openvino", [images], MANY, "fp32")
    assert sys.modules["openvino_telemetry"] is None
