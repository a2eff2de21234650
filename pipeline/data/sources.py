"""Data sources: what the images are called, where they lie, and what their true masks are.

Every source lists its ``Sample``s without decoding anything, and gives one sample's true masks, one for each class, as
column-major edges when the image's size is known. ``open_source`` makes the source that the settings describe.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from pipeline.config import (
    DataSettings,
    EasyPortraitData,
    FolderData,
    GeneratedData,
    KaggleData,
    data_root,
)
from pipeline.data.classes import Overlaps, image_ids, mask_id, mask_ids, row_columns
from pipeline.data.folders import ImageFolder, beside, by_stem, ids_of, is_plain_id, one_form, shown, without_suffix
from pipeline.data.generated import write_generated
from pipeline.data.images import ClassMap, Exif, distinct_values, mask_edges, read_class_map
from pipeline.data.pairs import check_pairs, explain_copies, find_copies, have_suffixes, left_over, pair_ids
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
    transpose,
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
    notes: list[str]
    """Lines on what is left out or taken otherwise than it might be expected, for the person at the command line."""

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
        raise DataError(f"data.root: {settings.root} is not a folder{beside(settings.root)}")
    kinds = {KaggleData: KaggleSource, EasyPortraitData: EasyPortraitSource, FolderData: FolderSource}
    source = kinds[type(settings)](settings, settings.root)
    _check_samples(source.samples, settings.root)
    return source


def unread_notes(folder: ImageFolder) -> list[str]:
    """Describe what a folder holds beside its images."""
    return [f"{folder.path}: not read: {folder.describe_unread()}"] if folder.unread else []


def copy_notes(folder: ImageFolder) -> list[str]:
    """Images that are copies of others by name and content, and count as images of their own."""
    copies = find_copies(folder.files, folder)
    return [f"{folder.path}: {len(copies)} images are copies of others: {some(copies, 3)}"] if copies else []


def _check_samples(samples: list[Sample], root: Path) -> None:
    """Ids become file names and CSV fields: they must be plain, and unique within their subset."""
    unusable = [repr(s.image_id) for s in samples if not is_plain_id(s.image_id)]
    if unusable:
        raise DataError(f"{root}: ids with path separators, '..' or control characters: {some(unusable)}")
    path_of: dict[tuple[str, str], Path] = {}
    repeated = [
        f"{s.image_id} ({path_of[s.subset, s.image_id]} and {s.path})"
        for s in samples
        if path_of.setdefault((s.subset, s.image_id), s.path) != s.path
    ]
    if repeated:
        raise DataError(f"{root}: {len(repeated)} ids of several images: {some(repeated)}")
    if not any(sample.subset == "train" for sample in samples):
        raise DataError(f"{root}: the training set is empty")


class KaggleSource:
    """A CSV of ids and RLE texts, a folder of training images, a folder of test images."""

    def __init__(self, settings: KaggleData, root: Path) -> None:
        self.settings = settings
        self.classes = settings.class_names
        self.csv, self.test_csv = root / settings.train_csv, settings.test_truth and root / settings.test_truth
        self.tables: dict[Subset, RleTable] = {}
        self.rows: dict[tuple[Subset, str], int] = {}
        if not self.csv.is_file():
            raise DataError(
                f"{self.csv}: no such file{beside(self.csv)}; data.train_csv names the CSV of training masks"
            )
        folder = ImageFolder.open(root / settings.train_images).need_images("data.train_images")
        self.notes = unread_notes(folder)
        listed = self._read_truth("train", self.csv, folder)
        train = {**listed, **self._unlisted(listed, folder)}
        self.truth_ids = {("train", image_id): image_id for image_id in listed}
        groups = self._read_groups(settings)
        self.samples = [Sample(i, train[i], "train", groups.get(i, "")) for i in sorted(train)]
        test = self._open_test(root, settings, have_suffixes(listed))
        self.samples += [Sample(i, test[i], "test") for i in sorted(test)]
        if lone := [i for i in sorted(train) if settings.group_column and not groups.get(i)]:
            what = f"{len(lone)} training images have no {settings.group_column!r}: each is a group of its own"
            self.notes.append(f"{what}: {some(lone, 3)}")
        submission_template(settings, list(test))  # better refused now than after all the training

    def _open_test(self, root: Path, settings: KaggleData, with_suffix: bool) -> dict[str, Path]:
        """Image file of every test id: of those that the sample submission lists, or else of all images."""
        if settings.test_images is None:
            folder = ImageFolder(root, {})
        else:
            folder = ImageFolder.open(root / settings.test_images).need_images("data.test_images")
        self.notes += unread_notes(folder)
        if settings.sample_submission:
            sample = root / settings.sample_submission
            ids = image_ids(read_sample_submission(sample, settings)[1], self.classes)
            if not ids or settings.test_images is None:
                problem = "data.test_images is null" if ids else "has no rows, and so names no image"
                raise DataError(f"{sample}: {problem}; set data.sample_submission to null, too, if there is none")
            test = pair_ids(ids, folder, sample)
            if left := left_over(folder, test):
                self.notes.append(
                    f"{sample.name} lists {len(test)} of the {len(folder.files)} images in {folder.path}: "
                    f"{len(left)} are left out: {some([shown(name) for name in left], 3)}"
                )
        else:
            test = ids_of(folder.files.values(), with_suffix)
            self.notes += copy_notes(folder)
        if self.test_csv:
            id_of = {path: i for i, path in self._read_truth("test", self.test_csv, folder).items()}
            if lacking := [i for i, path in test.items() if path not in id_of]:
                raise DataError(f"{self.test_csv}: {len(lacking)} of the images have no row: {some(lacking)}")
            self.truth_ids |= {("test", i): id_of[path] for i, path in test.items()}
        return test

    def _unlisted(self, listed: dict[str, Path], folder: ImageFolder) -> dict[str, Path]:
        """Training images without a row in the CSV that are taken nevertheless, as ``data.unlisted`` says."""
        left = left_over(folder, listed)
        if not left:
            return {}
        ids = ids_of([folder.files[name] for name in left], have_suffixes(listed))
        named = some([shown(image_id) for image_id in ids])
        if self.settings.unlisted == "refuse":
            why = explain_copies(left, listed)
            raise DataError(
                f"{self.csv}: {len(left)} of the images have no row: {named}{why} (data.unlisted says what becomes of "
                "them)"
            )
        if self.settings.unlisted == "leave-out":
            self.notes.append(f"{len(left)} training images without a row in {self.csv.name} are left out: {named}")
            return {}
        if copies := find_copies(left, folder):
            raise DataError(f"{folder.path}: {len(copies)} images are copies of others, delete them: {some(copies)}")
        self.notes.append(f"{len(left)} training images without a row in {self.csv.name} have empty masks: {named}")
        return ids

    def _read_truth(self, subset: Subset, csv: Path, folder: ImageFolder) -> dict[str, Path]:
        """Read a CSV of masks, and give the image file of every id in it."""
        settings = self.settings
        columns = {"columns": settings.columns, "class_column": settings.class_column_of_csvs}
        in_file_order = replace(get_format(settings.format), order="F")  # turned when the image's size is known
        try:
            table = read_csv(csv, in_file_order, **columns, unite=settings.unite_rows)
        except RepeatedIdsError as error:
            raise DataError(
                f"{error}: set data.unite_rows: true if an id's rows are parts of one mask, data.columns if the ids "
                "are in another column, data.classes if rows are of several classes"
            ) from None
        except RleError as error:
            if settings.columns is not None or NO_NUMBER not in str(error):
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
        self.tables[subset] = table
        self.rows |= {(subset, row_id): row for row, row_id in enumerate(table.ids)}
        images = image_ids(table.ids, self.classes)
        self._check_overlaps(subset, csv, images)
        return pair_ids(images, folder, csv)

    def _check_overlaps(self, subset: Subset, csv: Path, images: list[str]) -> None:
        """Refuse masks of several classes that have pixels in common: a network gives each pixel one class."""
        overlaps, table = Overlaps(), self.tables[subset]
        for image_id in images if len(self.classes) > 1 else ():
            rows = (self.rows.get((subset, mask_id(image_id, name))) for name in self.classes)
            overlaps.look(image_id, [table[row] for row in rows if row is not None])
        if overlaps.found:
            raise DataError(
                f"{csv}: {overlaps}; classes exclude each other here: give each pixel one class, or make an experiment "
                f"for each class (data.classes=[{self.classes[0]}], data.sample_submission=null)"
            )

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
        key = mask_id(self.truth_ids.get((sample.subset, sample.image_id), sample.image_id), name)
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
        return edges if get_format(self.settings.format).order == "F" else transpose(edges, (width, height))


class EasyPortraitSource:
    """``images/SPLIT/ID.jpg``, ``annotations/SPLIT/ID.png`` with class indices, and a table of user ids.

    The split folders are optional: without them the table's column ``set`` names each image's split.
    """

    def __init__(self, settings: EasyPortraitData, root: Path) -> None:
        self.root = root
        self.exif = settings.exif
        self.classes = ClassMaps(settings.class_indices, others=settings.known_indices)
        self.meta_path, self.meta = self._read_meta(root, settings.meta)
        self.samples: list[Sample] = []
        self.notes: list[str] = []
        self.masks: dict[tuple[Subset, str], Path] = {}
        for split in settings.train_splits:
            self._add_split(split, "train")
        if settings.test_split:
            self._add_split(settings.test_split, "test")
        self.notes = list(dict.fromkeys(self.notes))  # a folder may have the images of several splits
        unknown = [s.image_id for s in self.samples if s.subset == "train" and not s.group]
        if unknown:
            raise DataError(f"{self.meta_path}: {len(unknown)} training images have no user_id: {some(unknown)}")

    @staticmethod
    def _read_meta(root: Path, meta: str) -> tuple[Path, pd.DataFrame]:
        """The table by image id, and its file; a release has it as meta.csv or zipped."""
        path = root / meta
        if not path.exists():
            path = path.with_suffix(".zip")
        if not path.exists():
            raise DataError(f"{root / meta}: no such file; it tells which photographs show one person")
        frame = read_table(path, sep="\t", dtype=str, keep_default_na=False)
        id_columns = [name for name in ("image_name", "attachment_id") if name in frame]
        if "user_id" not in frame or not id_columns:
            raise DataError(f"{path}: needs the tab-separated columns image_name and user_id, it has {list(frame)}")
        return path, frame.set_index(frame[id_columns[0]].map(lambda name: without_suffix(one_form(name))))

    def _add_split(self, split: str, subset: Subset) -> None:
        folder, images = self._files_of("images", split)
        masks: dict[str, Path] = {}
        if subset == "train" or self._has_split(split):
            annotations, masks = self._files_of("annotations", split)
            self.notes += unread_notes(annotations)
            check_pairs(images, masks, "annotation", self.root / "annotations" / split, folder)
        users = self._users_of(split)
        self.samples += [Sample(i, path, subset, users.get(i, "")) for i, path in images.items()]
        self.masks |= {(subset, i): path for i, path in masks.items()}
        self.notes += unread_notes(folder)

    def _users_of(self, split: str) -> dict[str, str]:
        """Who is on the photographs of a split, by id; those of another split may be called the same."""
        table = self.meta
        if "set" in table and (table["set"] == split).any():
            table = table[table["set"] == split]
        users: dict[str, str] = {}
        torn = [i for i, user in table["user_id"].items() if users.setdefault(i, user) != user]
        if torn:
            raise DataError(f"{self.meta_path}: images with several user_ids: {some(torn)}")
        return users

    def _has_split(self, split: str) -> bool:
        return (self.root / "annotations" / split).is_dir()

    def _files_of(self, kind: str, split: str) -> tuple[ImageFolder, dict[str, Path]]:
        """The folder of a split's images or annotations, and those of the split by id."""
        path = self.root / kind
        if (path / split).is_dir() or "set" not in self.meta:
            folder = ImageFolder.open(path / split).need_images("data.train_splits or data.test_split")
            return folder, by_stem(folder.files)
        folder, members = ImageFolder.open(path), set(self.meta.index[self.meta["set"] == split])
        files, known = by_stem(folder.files), set(self.meta.index)
        if strangers := [path.name for stem, path in files.items() if stem not in known]:
            note = f"{path}: {len(strangers)} files without a row in {self.meta_path.name} are left out: "
            self.notes.append(note + some([shown(name) for name in strangers], 3))
        return folder, {stem: path for stem, path in files.items() if stem in members}

    def true_edges(self, sample: Sample, height: int, width: int) -> list[np.ndarray] | None:
        path = self.masks.get((sample.subset, sample.image_id))
        if path is None:
            return None
        values = _read_mask(path, sample, height, width, self.exif).values
        self.classes.check(values, path, "annotations of EasyPortrait have 0 (background) to 8 (teeth)")
        return self.classes.edges(values)


class FolderSource:
    """Images with mask files beside them."""

    def __init__(self, settings: FolderData, root: Path) -> None:
        self.rule, self.exif = settings.mask_values, settings.exif
        self.classes = None if settings.classes is None else ClassMaps(settings.classes)
        suffix = settings.mask_suffix
        folder = ImageFolder.open(root / settings.train_images).need_images("data.train_images")
        self.notes = unread_notes(folder)
        images = by_stem(folder.files)
        if settings.train_masks is not None:
            masks = ImageFolder.open(root / settings.train_masks).need_images("data.train_masks")
            self.notes += unread_notes(masks)
            files = by_stem(masks.files)
        elif suffix:
            files = {stem: path for stem, path in images.items() if stem.endswith(suffix)}
            images = {stem: path for stem, path in images.items() if not stem.endswith(suffix)}
        else:
            raise DataError("data.mask_suffix and data.train_masks are both unset: masks cannot be told from images")
        self.masks = {stem.removesuffix(suffix): path for stem, path in files.items() if stem.endswith(suffix)}
        if others := [path.name for stem, path in files.items() if not stem.endswith(suffix)]:
            note = f"{root / settings.train_masks}: {len(others)} files that do not end in {suffix!r} are no masks: "
            self.notes.append(note + some([shown(name) for name in others], 3))
        place = root / (settings.train_masks or settings.train_images)
        check_pairs(images, self.masks, "mask", f"{place} (data.mask_suffix: a mask is called ID{suffix})", folder)
        self.samples = [Sample(stem, path, "train") for stem, path in images.items()]
        if settings.test_images is not None:
            tests = ImageFolder.open(root / settings.test_images).need_images("data.test_images")
            self.notes += unread_notes(tests) + copy_notes(tests)
            self.samples += [Sample(stem, path, "test") for stem, path in by_stem(tests.files).items()]

    def true_edges(self, sample: Sample, height: int, width: int) -> list[np.ndarray] | None:
        if sample.subset == "test":
            return None
        path = self.masks[sample.image_id]
        mask = _read_mask(path, sample, height, width, self.exif)
        if self.classes is None:
            return [mask_edges(mask, self.rule, path, "data.mask_values")]
        self.classes.check(mask.values, path, "no class in data.classes has it")
        return self.classes.edges(mask.values)


class ClassMaps:
    """Masks out of maps of class indices.

    Args:
        indices: those of each class; an index of no class is background.
        others: indices that may occur although they are of no class.
    """

    def __init__(self, indices: dict[str, tuple[int, ...]], others: Iterable[int] = ()) -> None:
        self.count = len(indices)
        self.class_of = np.zeros(256, np.uint8)  # 0 is the background, classes count from 1
        for number, of_class in enumerate(indices.values(), 1):
            self.class_of[list(of_class)] = number
        self.known = {0, *others, *(index for of_class in indices.values() for index in of_class)}

    def check(self, values: np.ndarray, path: Path, expected: str) -> None:
        """Refuse a map, (H, W), with indices that no map can have.

        Args:
            expected: what there may be, for the message.

        Raises:
            DataError: naming the file and the indices.
        """
        strange = [value for value in distinct_values(values) if value not in self.known]
        if strange:
            found = f"the value{'s' * (len(strange) > 1)} {some(list(map(str, strange)))}"
            raise DataError(f"{path}: has {found}; {expected}")

    def edges(self, values: np.ndarray) -> list[np.ndarray]:
        """Indices (H, W) that ``check`` has passed -> edges of each class."""
        numbers = self.class_of[values]
        return [to_edges(numbers == number) for number in range(1, self.count + 1)]


def _read_mask(path: Path, sample: Sample, height: int, width: int, exif: Exif) -> ClassMap:
    mask = read_class_map(path, exif)
    found = mask.values.shape
    if found != (height, width):
        raise DataError(
            f"{path}: the mask is {found[0]} x {found[1]} (height x width), "
            f"the image {sample.path.name} is {height} x {width}"
        )
    return mask


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
        differing, more = sorted(set(ids) ^ set(expected)), ""
        if not differing:
            differing, more = sorted({i for i in ids if ids.count(i) > 1}), ", which have one row each"
        raise DataError(f"{path}: its ids are not those of the test images{more}: {some(differing)}")
    return columns, ids


def read_sample_submission(path: Path, settings: DataSettings) -> tuple[list[str], list[str]]:
    """Column names and ids, in the file's order, of a sample submission: id and RLE, or id, class and RLE.

    Raises:
        DataError: it does not exist, is no table, or has other columns.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file{beside(path)}; set data.sample_submission to null if the competition has none"
        )
    frame = read_table(path, dtype=str, keep_default_na=False)
    columns, class_column = list(frame), settings.class_column_of_csvs
    if class_column is None and len(columns) == 2:
        return columns, frame.iloc[:, 0].tolist()
    if class_column is not None and len(columns) == 3 and columns[1].strip() == class_column:
        return columns, [mask_id(*pair) for pair in zip(frame.iloc[:, 0], frame.iloc[:, 1], strict=True)]
    wanted = "two columns, id and RLE" if class_column is None else f"three columns, id, {class_column} and RLE"
    raise DataError(f"{path}: a sample submission has {wanted}; this has {columns}")
