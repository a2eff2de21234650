"""Convert masks between RLE formats, and from or to PNG files.

Reads   a CSV of id and RLE, or a folder of mask images
Writes  a CSV in another format, or a folder of PNG masks of 0 and 255

    python -m pipeline convert train.csv -o masks --format carvana --shape 1280 1918

Several rows of an id are refused, or with --unite make one mask. Where a CSV has a column of classes, the masks of each
class are in a folder of their own, named after it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from pipeline.artifacts import whole_or_absent
from pipeline.command import QuietOption, make_console, run_command
from pipeline.csv_options import (
    ClassColumnOption,
    ColumnsOption,
    ExifOption,
    FormatOption,
    ImagesOption,
    ShapeOption,
    SizeColumnsOption,
    UniteOption,
    class_columns,
    column_pair,
    read_masks,
)
from pipeline.errors import DataError, some
from pipeline.rle import (
    CLASS_SEPARATOR,
    RleFormat,
    RleTable,
    edges_to_text,
    from_edges,
    get_format,
    read_column_names,
    read_csv,
    shown,
    split_class,
    write_csv,
)

if TYPE_CHECKING:
    from pipeline.data.folders import ImageFolder  # with Pillow, which takes a tenth of a second

LONGEST_SIDE = 2**20
"""Pixels of a PNG that is written."""

COLUMNS = ("image_id", "rle")
CLASS_COLUMN = "class"


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A CSV, or a folder of mask images.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="A .csv file, or a folder for PNG masks.")
    ],
    fmt: FormatOption = "kaggle",
    to: Annotated[
        str, typer.Option("--to", metavar="PRESET", help="RLE convention of a CSV that is written.")
    ] = "kaggle",
    columns: ColumnsOption = None,
    class_column: ClassColumnOption = None,
    size_columns: SizeColumnsOption = None,
    shape: ShapeOption = None,
    images: ImagesOption = None,
    exif: ExifOption = "apply",
    unite: UniteOption = False,
    threshold: Annotated[
        int | None, typer.Option(min=1, max=255, help="Least foreground value of mask images; else 0/1 or 0/255.")
    ] = None,
    with_sizes: Annotated[bool, typer.Option("--with-sizes", help="Add the columns height and width.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Convert masks between RLE formats, and from or to PNG files.

    \b
    Example:
      python -m pipeline convert train.csv -o train_rows.csv --format kaggle --to carvana
    """
    if output.suffix.lower() not in (".csv", ""):
        raise typer.BadParameter("must be a .csv file, or a folder, whose name has no suffix", param_hint="--output")
    reads, writes = get_format(fmt), get_format(to)
    if source.is_dir():
        table, names = read_folders(source, threshold, exif)
    else:
        if output.suffix and alike(reads, writes):
            # The texts count pixels alike, whichever way that is: there is nothing to turn, and no size is needed.
            reads, writes = replace(reads, order="F"), replace(writes, order="F")
        sizes = {"size_columns": size_columns, "shape": shape, "images": images, "exif": exif}
        (class_name,) = class_columns(class_column, source, others=(columns,))
        table = read_masks(source, reads, columns=columns, class_column=class_name, unite=unite, **sizes)
        names = read_column_names(source, column_pair(columns, "--columns"), class_name)
    needs_sizes = not output.suffix or with_sizes or writes.order == "C" or writes.style not in ("pairs", "gaps")
    unknown = [table.ids[row] for row in np.flatnonzero(table.heights == 0)]
    if needs_sizes and unknown:
        raise DataError(
            f"{source}: the sizes of {len(unknown)} images are not known ({some(unknown)}): "
            "give --shape, --size-columns or --images"
        )
    if output.suffix:
        write_texts(table, output, writes, names, with_sizes)
    else:
        write_folder(table, output, with_classes=len(names) == 3)
    empty = int((np.diff(table.offsets) == 0).sum())
    console = make_console(quiet)
    for note in not_read(source) if source.is_dir() else ():
        console.print(f"convert: {note}")
    console.print(f"convert: {len(table)} masks ({empty} empty) in {output}")


def alike(a: RleFormat, b: RleFormat) -> bool:
    """Whether texts of both formats name runs in the same order of pixels, and by starts, not by all counts."""
    return a.order == b.order and all(fmt.style in ("pairs", "gaps") for fmt in (a, b))


def class_folders(folder: ImageFolder) -> list[Path]:
    """The folders of a folder that has no image itself, each of a class; nothing where it has images."""
    from pipeline.data.folders import FOLDERS

    names = [] if folder.files else folder.unread.get(FOLDERS, [])
    return [folder.path / name for name in names if not name.startswith(".")]


def not_read(folder: Path) -> list[str]:
    """Describe what is no mask in a folder of masks, or in its folders of classes."""
    from pipeline.data.folders import FOLDERS, ImageFolder

    top = ImageFolder.open(folder)
    classes = class_folders(top)
    others = [name for name in top.unread.pop(FOLDERS, []) if folder / name not in classes]
    top.unread.update({FOLDERS: others} if others else {})
    listed = [top, *map(ImageFolder.open, classes)]
    return [f"{each.path}: not read: {each.describe_unread()}" for each in listed if each.unread]


def read_folders(folder: Path, threshold: int | None, exif: str) -> tuple[RleTable, tuple[str, ...]]:
    """The masks of a folder's images or, if it has none but folders, of those in each of them, a class.

    Returns:
        The masks and the names of the columns for them.
    """
    from pipeline.data.folders import ImageFolder

    folders = class_folders(ImageFolder.open(folder))
    if not folders:
        return read_folder(folder, threshold, exif), COLUMNS
    tables = []
    for each in folders:
        table = read_folder(each, threshold, exif)
        ids = [f"{image_id}{CLASS_SEPARATOR}{each.name}" for image_id in table.ids]
        tables.append(replace(table, ids=ids))
    table = RleTable.stacked(tables)
    by_image = sorted(range(len(table)), key=lambda row: split_class(table.ids[row])[0])
    return table.take(by_image), (COLUMNS[0], CLASS_COLUMN, COLUMNS[1])


def read_folder(folder: Path, threshold: int | None, exif: str) -> RleTable:
    """The masks of a folder's images, the ids being the files' names without suffix.

    Args:
        threshold: least value of the foreground; None: a file has 0 and 1, or 0 and 255, and nothing else.

    Raises:
        DataError: no images, one that is no mask, or with other values.
    """
    from pipeline.data.folders import by_stem, list_images
    from pipeline.data.images import mask_edges, read_class_map

    files = by_stem(list_images(folder))
    if not files:
        raise DataError(f"{folder}: has no images")
    masks, sizes, problems = [np.empty(0, np.uint32)], [], []
    for path in files.values():
        try:
            mask = read_class_map(path, exif)
            rule = threshold or ("0/1" if mask.values.max() <= 1 else "0/255")
            masks.append(mask_edges(mask, rule, path, "--threshold"))
            sizes.append(mask.values.shape)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    offsets = np.cumsum([mask.size for mask in masks], dtype=np.int64)
    heights, widths = np.array(sizes, np.int64).T
    return RleTable(list(files), offsets, np.concatenate(masks), heights, widths)


def write_texts(table: RleTable, output: Path, fmt: RleFormat, names: tuple[str, ...], with_sizes: bool) -> None:
    """Write a CSV and read it back."""
    sizes = list(zip(table.heights.tolist(), table.widths.tolist(), strict=True))
    texts = [edges_to_text(table[row], size if size[0] else None, fmt) for row, size in enumerate(sizes)]
    id_column, *class_column, rle_column = names
    images = [split_class(row_id)[0] for row_id in table.ids] if class_column else table.ids
    known = {image_id: size for image_id, size in zip(images, sizes, strict=True) if size[0]}
    with whole_or_absent(output) as path:
        write_csv(path, table.ids, texts, names, sizes if with_sizes else None)
        columns = {"columns": (id_column, rle_column), "class_column": next(iter(class_column), None)}
        again = read_csv(path, fmt, **columns, sizes=known or None, own=True)
        if again.ids != table.ids or not np.array_equal(again.edges, table.edges):
            raise RuntimeError(f"{output}: the masks that were read back are not those that were written")


def write_folder(table: RleTable, output: Path, with_classes: bool) -> None:
    """Write a PNG for each mask, 0 and 255; with classes, into a folder for each.

    Raises:
        DataError: an id or a class cannot be a file's name, or the folder has something in it already.
    """
    from PIL import Image

    from pipeline.data.folders import is_plain_id

    names = [split_class(row_id) if with_classes else (row_id,) for row_id in table.ids]
    unusable = [repr("/".join(parts)) for parts in names if not all(map(is_plain_id, parts))]
    if unusable:
        raise DataError(f"ids with path separators, '..' or control characters cannot be file names: {some(unusable)}")
    sides = np.maximum(table.heights, table.widths)
    if (sides > LONGEST_SIDE).any():
        row = int(sides.argmax())
        raise DataError(
            f"id {shown(table.ids[row])}: a PNG of {table.heights[row]} x {table.widths[row]} pixels is not written, a "
            f"side has {LONGEST_SIDE} at most; are these its height and width?"
        )
    if output.exists() and any(output.iterdir()):
        raise DataError(f"{output}: is not empty; name a new folder")
    with whole_or_absent(output) as folder:
        folder.mkdir()
        for row, (image_id, *class_name) in enumerate(names):
            inner = folder.joinpath(*class_name)
            inner.mkdir(exist_ok=True)
            file = inner / f"{image_id}.png"
            if file.exists():
                raise DataError(f"id {shown(image_id)}: to this file system, an id before has the same name")
            size = int(table.heights[row]), int(table.widths[row])
            try:
                mask = from_edges(table[row], size)
                mask *= 255  # in place: it may be large
                Image.fromarray(mask).save(file)
            except MemoryError:
                raise DataError(
                    f"id {shown(image_id)}: {size[0]} x {size[1]} pixels do not fit into the memory"
                ) from None


if __name__ == "__main__":
    run_command(convert)
