"""What the commands on CSV files of masks share: their options, and where the sizes of the images come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer

from pipeline.errors import DataError, some
from pipeline.metrics import METRICS
from pipeline.rle import (
    RepeatedIdsError,
    RleFormat,
    RleTable,
    SizeNeededError,
    find_class_column,
    read_csv,
    split_class,
)

if TYPE_CHECKING:
    from pipeline.data.folders import ImageSizes  # with Pillow, which takes a tenth of a second

FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="PRESET",
        help="RLE convention: kaggle, carvana, siim, coco, ...; kaggle:-1 is kaggle with -1 for an empty mask.",
    ),
]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", metavar="ID,RLE", help="The file's columns; else found by their usual names.")
]
ClassColumnOption = Annotated[
    str | None,
    typer.Option(
        "--class-column",
        metavar="NAME",
        help="Column of classes, each with a mask of its own; else found by its usual names; none: there are none.",
    ),
]
ShapeOption = Annotated[
    tuple[int, int] | None, typer.Option("--shape", metavar="H W", help="Height and width of every image.")
]
SizeColumnsOption = Annotated[
    str | None,
    typer.Option("--size-columns", metavar="H,W", help="Columns of height and width; else found by their usual names."),
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Folder of the images, to read their sizes from.")
]
ExifOption = Annotated[
    Literal["apply", "ignore"],
    typer.Option("--exif", help="Turn images as their EXIF orientation says, or not; as data.exif does."),
]
UniteOption = Annotated[
    bool, typer.Option("--unite", help="Rows of one id are parts of one mask: unite them; else they are refused.")
]

MetricOption = Annotated[Literal[tuple(METRICS)], typer.Option("--metric", help="The score that counts.")]
BothEmptyOption = Annotated[
    Literal["1", "0", "nan"],
    typer.Option("--both-empty", help="An image's score where prediction and truth are empty; nan leaves it out."),
]
BetaOption = Annotated[
    float, typer.Option("--beta", min=0, max=1000, help="Of fbeta: recall's weight beside precision's.")
]


def column_pair(text: str | None, option: str) -> tuple[str, str] | None:
    """Two column names out of ``A,B``.

    Raises:
        typer.BadParameter: not two names.
    """
    if text is None:
        return None
    names = text.split(",")
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise typer.BadParameter(f"{option} takes two column names with a comma between them", param_hint=option)
    return names[0], names[1]


def class_columns(option: str | None, *paths: Path, others: tuple[str | None, ...] = ()) -> list[str | None]:
    """Each file's column of classes, by the name that --class-column gives or a usual one.

    Args:
        others: what --columns and the like give, ``ID,RLE``, which are no classes whatever their names.

    Raises:
        DataError: no such file, or only some of the files have one.
        RleError: a file has no header.
    """
    if option == "none":
        return [None] * len(paths)
    named = ",".join(filter(None, others)).split(",")
    found = [find_class_column(existing(path), option, named) for path in paths]
    if option is not None and option not in found:
        raise DataError(f"--class-column {option}: no such column in {some([str(path) for path in paths])}")
    with_one = next((i for i, name in enumerate(found) if name is not None), None)
    if with_one is not None and None in found:
        raise DataError(
            f"{paths[found.index(None)]}: has no column of classes, {paths[with_one].name} has {found[with_one]!r}: "
            "write a row for each image and class, or give --class-column none"
        )
    return found


def existing(path: Path) -> Path:
    """The path of a file that is there.

    Raises:
        DataError: it is not, or is a folder or a pipe.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'no plain file'}; a CSV file is needed")
    return path


def read_masks(
    path: Path,
    fmt: str | RleFormat,
    *,
    columns: str | None = None,
    columns_option: str = "--columns",
    class_column: str | None = None,
    size_columns: str | None = None,
    shape: tuple[int, int] | None = None,
    images: Path | None = None,
    exif: Literal["apply", "ignore"] = "apply",
    sizes: Mapping[str, tuple[int, int]] | None = None,
    unite: bool = False,
) -> RleTable:
    """The masks of a CSV file, as the options above describe it.

    Args:
        columns: ``ID,RLE``, given by ``columns_option``.
        class_column: of ``class_columns``; ids are "image/class" then.
        size_columns: ``H,W``.
        exif: whether the images of ``images`` are turned as EXIF says.
        images: a folder; an id is the name of a file in it, with or without the suffix.
        sizes: (height, width) by the image's id where they are known already, as the truth's are; instead of the above.
        unite: an id's rows are parts of one mask.

    Raises:
        DataError: no such file, two sources of sizes or none where one is needed, an id without an image, or one with
            several rows that are not to be united.
        RleError: the file is not what its format says.
    """
    given = [
        name for name, value in (("--shape", shape), ("--size-columns", size_columns), ("--images", images)) if value
    ]
    if len(given) > 1:
        raise DataError(f"sizes can come from one place only, not from {' and '.join(given)}")
    if images:
        sizes = image_sizes(images, exif)
    try:
        table = read_csv(
            existing(path),
            fmt,
            columns=column_pair(columns, columns_option),
            class_column=class_column,
            size_columns=column_pair(size_columns, "--size-columns"),
            shape=shape,
            sizes=sizes,
            unite=unite,
        )
    except SizeNeededError as error:
        raise DataError(f"{error}: give --shape, --size-columns or --images") from None
    except RepeatedIdsError as error:
        raise DataError(
            f"{error}: give --unite if an id's rows are parts of one mask, {columns_option} if the ids are in another "
            "column, --class-column if rows are of several classes"
        ) from None
    if images and (unknown := [table.ids[row] for row in np.flatnonzero(table.heights == 0)]):
        from pipeline.data.pairs import explain

        named = unknown if class_column is None else [split_class(row_id)[0] for row_id in unknown]
        why = explain(named, list(sizes.folder.files), sizes.folder)
        raise DataError(f"{path}: {len(unknown)} ids have no image in {images}: {some(unknown)}{why}")
    return table


def image_sizes(path: Path, exif: Literal["apply", "ignore"] = "apply") -> ImageSizes:
    """Height and width of the images of a folder, by file name and by file name without suffix.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    from pipeline.data.folders import ImageFolder, ImageSizes

    folder = ImageFolder.open(path).need_images("--images")
    if not folder.files:
        raise DataError(f"{path}: no images in this folder; --images names the one that the ids are of")
    return ImageSizes(folder, exif)


def align(table: RleTable, ids: list[str], path: Path, reference: Path) -> RleTable:
    """The rows of a file in the order of another one's ids.

    Args:
        table: what ``path`` holds.
        ids: the ids of ``reference``.

    Raises:
        DataError: the files' ids differ.
    """
    if table.ids == ids:
        return table
    row_of = {row_id: row for row, row_id in enumerate(table.ids)}
    known = set(ids)
    missing = [row_id for row_id in ids if row_id not in row_of]
    extra = [row_id for row_id in table.ids if row_id not in known]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of the {len(ids)} ids of {reference.name} are missing: {some(missing)}")
    if extra:
        problems.append(f"{len(extra)} ids are not in {reference.name}: {some(extra)}")
    if problems:
        from pipeline.linting.sample import other_spellings  # lint's, seldom needed here

        if spellings := other_spellings(extra, missing):
            examples = some([f"{spelt!a} for {right!a}" for spelt, right in spellings.items()], most=2)
            problems.append(f"{len(spellings)} ids are spelt otherwise only: {examples}")
        raise DataError(f"{path}: {'; '.join(problems)}")
    return table.take(np.array([row_of[row_id] for row_id in ids], np.int64))
