"""Data sources: what the images are called, where they lie, and what their true masks are.

Every source lists its ``Sample``s without decoding anything, and gives one sample's true masks, one for each class, as
column-major edges when the image's size is known. ``open_source`` makes the source that the settings describe.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from pipeline.config import DataSettings, EasyPortraitData, FolderData, GeneratedData, KaggleData, data_root
from pipeline.data.classes import image_ids, mask_id, mask_ids, row_columns
from pipeline.data.generated import write_generated
from pipeline.data.images import (
    IMAGE_SUFFIXES,
    by_stem,
    is_plain_id,
    list_images,
    mask_edges,
    read_class_map,
    read_size,
)
from pipeline.data.tables import read_table
from pipeline.errors import DataError, some
from pipeline.rle import (
    RepeatedIdsError,
    RleError,
    RleTable,
    get_format,
    read_column_names,
    read_csv,
    read_fields,
    split_class,
    to_edges,
)

Subset = Literal["train", "test"]

NO_NUMBER = "not a whole number"
"""What is wrong with a text that is no mask but, say, a name."""

NO_VALUE = ("", "nan", "NaN")
"""Texts in a column of groups for an image without one: an empty field, or what pandas makes of it."""


@dataclass(frozen=True)
class Sample:
    """One image of the data set; ``group`` is empty where images are independent."""

    image_id: str
    path: Path
    subset: Subset
    group: str = ""


class Source(Protocol):
    """A data set: its images, and the true masks that it knows."""

    samples: list[Sample]

    def true_edges(self, sample: Sample, height: int, width: int) -> list[np.ndarray] | None:
        """The sample's masks as column-major edges, uint32, one for each class; None where the truth is not known.

        Raises:
            DataError: a mask does not fit an image of ``height`` x ``width``, or is malformed.
        """
        ...


def open_source(settings: DataSettings) -> Source:
    """The source that the settings describe, checked for ids that are unusable, missing or superfluous.

    Raises:
        DataError: ``data.root`` is not given or does not exist, or the files do not fit each other.
    """
    data_root(settings)
    if isinstance(settings, GeneratedData):
        settings = write_generated(settings)
    if not settings.root.is_dir():
        raise DataError(f"data.root: {settings.root} is not a folder")
    kinds = {KaggleData: KaggleSource, EasyPortraitData: EasyPortraitSource, FolderData: FolderSource}
    source = kinds[type(settings)](settings, settings.root)
    _check_samples(source.samples, settings.root)
    return source


def _check_samples(samples: list[Sample], root: Path) -> None:
    """Ids become file names and CSV fields: they must be plain and unique."""
    unusable = [repr(s.image_id) for s in samples if not is_plain_id(s.image_id)]
    if unusable:
        raise DataError(f"{root}: ids with path separators, '..' or control characters: {some(unusable)}")
    subset_of: dict[str, str] = {}
    repeated = [s.image_id for s in samples if subset_of.setdefault(s.image_id, s.subset) != s.subset]
    if repeated:
        raise DataError(f"{root}: ids that occur in the training and the test set: {some(repeated)}")
    if not any(sample.subset == "train" for sample in samples):
        raise DataError(f"{root}: the training set is empty")


class KaggleSource:
    """A CSV of ids and RLE texts, a folder of training images, a folder of test images."""

    def __init__(self, settings: KaggleData, root: Path) -> None:
        self.csv = root / settings.train_csv
        self.test_csv = root / settings.test_truth if settings.test_truth else None
        if not self.csv.is_file():
            raise DataError(f"{self.csv}: no such file; data.train_csv names the CSV of training masks")
        train_files = list_images(root / settings.train_images)
        test_files = list_images(root / settings.test_images) if settings.test_images else {}
        self.classes = settings.class_names
        self.tables = {"train": self._read_truth(self.csv, settings, train_files)}
        train_ids = image_ids(self.tables["train"].ids, self.classes)
        train = _match_ids(train_ids, train_files, self.csv, settings.unlisted)
        test = by_stem(test_files)
        if self.test_csv:
            self.tables["test"] = self._read_truth(self.test_csv, settings, test_files)
            test = _match_ids(image_ids(self.tables["test"].ids, self.classes), test_files, self.test_csv)
        elif settings.sample_submission:
            sample = root / settings.sample_submission
            test = _match_ids(image_ids(read_sample_submission(sample, settings)[1], self.classes), test_files, sample)
        groups = self._read_groups(settings)
        self.samples = [Sample(i, train[i], "train", groups.get(i, "")) for i in sorted(train)]
        self.samples += [Sample(i, test[i], "test") for i in sorted(test)]
        submission_template(settings, list(test))  # better refused now than after all the training
        self.rows = {(s, i): row for s, table in self.tables.items() for row, i in enumerate(table.ids)}

    @staticmethod
    def _read_truth(csv: Path, settings: KaggleData, files: dict[str, Path]) -> RleTable:
        """Row-major runs cannot be turned without the image's height: only then are all headers read."""
        sizes = None
        if get_format(settings.format).order == "C":
            sizes = {key: read_size(path) for path in files.values() for key in (path.name, path.stem)}
        try:
            table = read_csv(
                csv,
                settings.format,
                columns=settings.columns,
                class_column=settings.class_column_of_csvs,
                sizes=sizes,
                unite=settings.unite_rows,
            )
        except RepeatedIdsError as error:
            raise DataError(
                f"{error}: set data.unite_rows: true if an id's rows are parts of one mask, data.columns if the ids "
                "are in another column, data.classes if rows are of several classes"
            ) from None
        except RleError as error:
            if settings.columns is not None or not str(error).endswith(NO_NUMBER):
                raise
            raise DataError(f"{error}; if these are no masks, name the columns: data.columns=[ID, RLE]") from None
        if settings.classes is not None:
            found = {split_class(id)[1] for id in table.ids}
            unknown = [name for name in settings.classes if name not in found]
            if unknown:
                raise DataError(
                    f"{csv}: no row has the class {unknown[0]!r} of data.classes; the column "
                    f"{settings.class_column!r} has {some(sorted(found))}"
                )
        return table

    def _read_groups(self, settings: KaggleData) -> dict[str, str]:
        """Group by image id, without the images that have none."""
        wanted = settings.group_column
        if wanted is None:
            return {}
        columns, class_column = settings.columns, settings.class_column_of_csvs
        id_column, *_, rle_column = read_column_names(self.csv, columns, class_column)
        for column, what in ((id_column, "ids: each image would be a group of its own"), (rle_column, "masks")):
            if wanted == column:
                raise DataError(
                    f"{self.csv}: data.group_column {wanted!r} is the column of the {what}; name the column of what "
                    "images have in common (patient, user, scene), or leave data.group_column out"
                )
        try:
            ids, (texts,) = read_fields(self.csv, [wanted], columns=columns, class_column=class_column)
        except RleError as error:
            raise DataError(f"{error} (data.group_column)") from None
        groups: dict[str, str] = {}
        values = ["" if text.strip() in NO_VALUE else text.strip() for text in texts]
        torn = [i for i, value in zip(ids, values, strict=True) if groups.setdefault(i, value) != value]
        if torn:
            named = some(list(dict.fromkeys(torn)))
            raise DataError(f"{self.csv}: ids with several values of {wanted!r} (data.group_column): {named}")
        return groups

    def true_edges(self, sample: Sample, height: int, width: int) -> list[np.ndarray] | None:
        if sample.subset not in self.tables:
            return None
        return [self._edges(sample, name, height, width) for name in self.classes]

    def _edges(self, sample: Sample, name: str, height: int, width: int) -> np.ndarray:
        """One class's mask; where classes have rows of their own, one without a row is not in the image."""
        key = mask_id(sample.image_id, name)
        row = self.rows.get((sample.subset, key))
        if row is None:
            return np.empty(0, np.uint32)
        table = self.tables[sample.subset]
        csv = self.csv if sample.subset == "train" else self.test_csv
        stated = (int(table.heights[row]), int(table.widths[row]))
        if stated not in ((0, 0), (height, width)):
            raise DataError(
                f"{csv}: id {key}: the mask is {stated[0]} x {stated[1]} (height x width), "
                f"the image {sample.path.name} is {height} x {width}"
            )
        edges = table[row]
        if edges.size and int(edges[-1]) > height * width:
            raise DataError(
                f"{csv}: id {key}: a run ends at pixel {int(edges[-1])}, past the end of "
                f"{sample.path.name} ({height} x {width} = {height * width} pixels)"
            )
        return edges


def _match_ids(ids: list[str], files: dict[str, Path], csv: Path, unlisted: str | None = None) -> dict[str, Path]:
    """Image file of every id; ids may have the files' suffixes or not.

    Args:
        unlisted: as ``data.unlisted``; None where that has no say.

    Raises:
        DataError: naming ids without a file, or files without an id that are not to be.
    """
    with_suffix = any(Path(image_id).suffix.lower() in IMAGE_SUFFIXES for image_id in ids)
    paths = files if with_suffix else by_stem(files)
    listed = set(ids)
    if unlisted == "empty":
        ids = [*ids, *(image_id for image_id in paths if image_id not in listed)]
    elif unlisted == "leave-out":
        paths = {image_id: path for image_id, path in paths.items() if image_id in listed}
    _check_pairs(paths, ids, "row", csv, " (data.unlisted says what becomes of them)" if unlisted else "")
    return {image_id: paths[image_id] for image_id in ids}


def _check_pairs(
    images: Collection[str], masks: Collection[str], what: str, place: Path | str, advice: str = ""
) -> None:
    """Every image has its mask and every mask its image.

    Raises:
        DataError: naming ids that lack the other.
    """
    masked, imaged = set(masks), set(images)
    maskless = [image_id for image_id in images if image_id not in masked]
    imageless = [image_id for image_id in masks if image_id not in imaged]
    if maskless:
        raise DataError(f"{place}: {len(maskless)} of the images have no {what}: {some(maskless)}{advice}")
    if imageless:
        raise DataError(f"{place}: {len(imageless)} of the {what}s have no image: {some(imageless)}")


class EasyPortraitSource:
    """``images/SPLIT/ID.jpg``, ``annotations/SPLIT/ID.png`` with class indices, and a table of user ids.

    The split folders are optional: without them the table's column ``set`` names each image's split.
    """

    def __init__(self, settings: EasyPortraitData, root: Path) -> None:
        self.root = root
        self.classes = ClassMaps(settings.class_indices)
        self.meta = self._read_meta(root, settings.meta)
        self.samples: list[Sample] = []
        self.masks: dict[str, Path] = {}
        for split in settings.train_splits:
            self._add_split(split, "train")
        if settings.test_split:
            self._add_split(settings.test_split, "test")
        unknown = [s.image_id for s in self.samples if s.subset == "train" and not s.group]
        if unknown:
            raise DataError(f"{root / settings.meta}: {len(unknown)} training images have no user_id: {some(unknown)}")

    @staticmethod
    def _read_meta(root: Path, meta: str) -> pd.DataFrame:
        """The table by image id; a release has it as meta.csv or zipped."""
        path = root / meta
        if not path.exists():
            path = path.with_suffix(".zip")
        if not path.exists():
            raise DataError(f"{root / meta}: no such file; it tells which photographs show one person")
        frame = read_table(path, sep="\t", dtype=str, keep_default_na=False)
        id_columns = [name for name in ("image_name", "attachment_id") if name in frame]
        if "user_id" not in frame or not id_columns:
            raise DataError(f"{path}: needs the tab-separated columns image_name and user_id, it has {list(frame)}")
        return frame.set_index(frame[id_columns[0]].str.replace(r"\.(jpe?g|png)$", "", regex=True))

    def _add_split(self, split: str, subset: Subset) -> None:
        images = self._files_of("images", split)
        masks = self._files_of("annotations", split) if subset == "train" or self._has_split(split) else {}
        if subset == "train" or masks:
            _check_pairs(images, masks, "annotation", self.root / "annotations" / split)
        users = self.meta["user_id"].to_dict()
        self.samples += [Sample(i, path, subset, users.get(i, "")) for i, path in images.items()]
        self.masks |= masks

    def _has_split(self, split: str) -> bool:
        return (self.root / "annotations" / split).is_dir()

    def _files_of(self, kind: str, split: str) -> dict[str, Path]:
        folder = self.root / kind
        if (folder / split).is_dir() or "set" not in self.meta:
            return by_stem(list_images(folder / split))
        members = set(self.meta.index[self.meta["set"] == split])
        return {stem: path for stem, path in by_stem(list_images(folder)).items() if stem in members}

    def true_edges(self, sample: Sample, height: int, width: int) -> list[np.ndarray] | None:
        path = self.masks.get(sample.image_id)
        if path is None:
            return None
        return self.classes.edges(_read_mask(path, sample, height, width))


class FolderSource:
    """Images with mask files beside them."""

    def __init__(self, settings: FolderData, root: Path) -> None:
        self.rule = settings.mask_values
        self.classes = None if settings.classes is None else ClassMaps(settings.classes)
        suffix = settings.mask_suffix
        images = by_stem(list_images(root / settings.train_images))
        if settings.train_masks is not None:
            files = by_stem(list_images(root / settings.train_masks))
        elif suffix:
            files = {stem: path for stem, path in images.items() if stem.endswith(suffix)}
            images = {stem: path for stem, path in images.items() if not stem.endswith(suffix)}
        else:
            raise DataError("data.mask_suffix and data.train_masks are both unset: masks cannot be told from images")
        self.masks = {stem.removesuffix(suffix): path for stem, path in files.items() if stem.endswith(suffix)}
        place = root / (settings.train_masks or settings.train_images)
        _check_pairs(images, self.masks, "mask", f"{place} (data.mask_suffix: a mask is called ID{suffix})")
        tests = by_stem(list_images(root / settings.test_images)) if settings.test_images else {}
        self.samples = [Sample(stem, path, "train") for stem, path in images.items()]
        self.samples += [Sample(stem, path, "test") for stem, path in tests.items()]

    def true_edges(self, sample: Sample, height: int, width: int) -> list[np.ndarray] | None:
        if sample.subset == "test":
            return None
        path = self.masks[sample.image_id]
        values = _read_mask(path, sample, height, width)
        if self.classes is None:
            return [mask_edges(values, self.rule, path, "data.mask_values")]
        self.classes.check(values, path)
        return self.classes.edges(values)


class ClassMaps:
    """Masks out of maps of class indices.

    Args:
        indices: those of each class; an index of no class is background.
    """

    def __init__(self, indices: dict[str, tuple[int, ...]]) -> None:
        self.count = len(indices)
        self.class_of = np.zeros(256, np.uint8)  # 0 is the background, classes count from 1
        for number, of_class in enumerate(indices.values(), 1):
            self.class_of[list(of_class)] = number

    def check(self, values: np.ndarray, path: Path) -> None:
        """Refuse a map, uint8 (H, W), with values of no class but 0.

        Raises:
            DataError: naming the file and the first of them.
        """
        strange = np.flatnonzero(np.bincount(values.ravel(), minlength=256)[1:] * (self.class_of[1:] == 0)) + 1
        if strange.size:
            raise DataError(f"{path}: has the value {strange[0]}, which is of none of data.classes")

    def edges(self, values: np.ndarray) -> list[np.ndarray]:
        """uint8 (H, W) -> edges of each class."""
        numbers = self.class_of[values]
        return [to_edges(numbers == number) for number in range(1, self.count + 1)]


def _read_mask(path: Path, sample: Sample, height: int, width: int) -> np.ndarray:
    values = read_class_map(path)
    if values.shape != (height, width):
        raise DataError(
            f"{path}: the mask is {values.shape[0]} x {values.shape[1]} (height x width), "
            f"the image {sample.path.name} is {height} x {width}"
        )
    return values


def submission_template(settings: DataSettings, test_ids: list[str]) -> tuple[list[str], list[str]]:
    """Columns and ids (``mask_ids``) of the submission, in the order of the sample submission where there is one.

    Raises:
        DataError: the sample submission asks for other images or classes than there are, or is not there.
    """
    expected = mask_ids(sorted(test_ids), settings.class_names)
    sample = getattr(settings, "sample_submission", None)
    if sample is None:
        return list(row_columns(settings.class_column_of_csvs, settings.submission_columns)), expected
    path = data_root(settings) / sample
    columns, ids = read_sample_submission(path, settings)
    if sorted(ids) != sorted(expected):
        differing = sorted(set(ids) ^ set(expected)) or sorted({i for i in ids if ids.count(i) > 1})
        raise DataError(f"{path}: its ids are not those of the test images: {some(differing)}")
    return columns, ids


def read_sample_submission(path: Path, settings: DataSettings) -> tuple[list[str], list[str]]:
    """Column names and ids, in the file's order, of a sample submission: id and RLE, or id, class and RLE.

    Raises:
        DataError: it does not exist, is no table, or has other columns.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; set data.sample_submission to null if the competition has none")
    frame = read_table(path, dtype=str, keep_default_na=False)
    columns, class_column = list(frame), settings.class_column_of_csvs
    if class_column is None and len(columns) == 2:
        return columns, frame.iloc[:, 0].tolist()
    if class_column is not None and len(columns) == 3 and columns[1] == class_column:
        return columns, [mask_id(*pair) for pair in zip(frame.iloc[:, 0], frame.iloc[:, 1], strict=True)]
    wanted = "two columns, id and RLE" if class_column is None else f"three columns, id, {class_column} and RLE"
    raise DataError(f"{path}: a sample submission has {wanted}; this has {columns}")
