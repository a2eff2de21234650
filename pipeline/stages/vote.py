"""Blend finished submissions: every pixel by majority or by weights.

Reads   CSVs of id and RLE with the same ids, and the same classes where they have a column of them
Writes  one such CSV, in the order and with the column names of the first

    python -m pipeline vote a.csv b.csv c.csv -o blend.csv

The masks are never decoded to pixels, and need no sizes: all files number their pixels alike.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline.artifacts import whole_or_absent
from pipeline.command import QuietOption, make_console, run_command
from pipeline.csv_options import (
    ClassColumnOption,
    ColumnsOption,
    FormatOption,
    align,
    class_columns,
    column_pair,
    read_masks,
)
from pipeline.errors import DataError
from pipeline.rle import (
    RleTable,
    areas,
    edges_to_text,
    get_format,
    read_column_names,
    read_csv,
    votes,
    write_csv,
)

WeightsOption = Annotated[
    str | None, typer.Option("--weights", metavar="W,W,...", help="A weight for each file; else all weigh the same.")
]


def vote(
    files: Annotated[list[Path], typer.Argument(metavar="CSV...", help="Two or more submissions.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the blend.")],
    weights: WeightsOption = None,
    min_area: Annotated[int, typer.Option(min=0, help="Masks of fewer pixels than this become empty.")] = 0,
    fmt: FormatOption = "kaggle",
    columns: ColumnsOption = None,
    class_column: ClassColumnOption = None,
    quiet: QuietOption = False,
) -> None:
    """Blend finished submissions: every pixel by majority or by weights.

    A pixel is foreground where files of more than half of the weight say so; a tie is background.

    \b
    Example:
      python -m pipeline vote a.csv b.csv c.csv -o blend.csv --weights 0.5,0.3,0.2
    """
    console = make_console(quiet)
    if len(files) < 2:
        raise typer.BadParameter("a vote takes two files or more", param_hint="CSV")
    shares = _numbers(weights, len(files))
    rle_format = get_format(fmt)
    if rle_format.style not in ("pairs", "gaps"):
        raise DataError(f"--format {fmt}: vote reads starts and lengths; `convert` turns COCO's counts into them")
    # Runs are compared in the order in which the files number pixels, whichever it is.
    in_file_order = replace(rle_format, order="F")
    class_of = class_columns(class_column, *files)
    tables = [
        read_masks(path, in_file_order, columns=columns, class_column=name, unique=True)
        for path, name in zip(files, class_of, strict=True)
    ]
    first = tables[0]
    aligned = [align(table, first.ids, path, files[0]) for table, path in zip(tables, files, strict=True)]
    voted = votes(aligned, shares)
    masks = [voted[row] if pixels >= min_area else voted[row][:0] for row, pixels in enumerate(areas(voted))]
    names = read_column_names(files[0], column_pair(columns, "--columns"), class_of[0])
    with whole_or_absent(output) as path:
        write_csv(path, first.ids, [edges_to_text(mask, None, in_file_order) for mask in masks], names)
        again = read_csv(path, in_file_order, columns=(names[0], names[-1]), class_column=class_of[0])
        check_written(again, masks)
    changed = sum(not np.array_equal(mask, first[row]) for row, mask in enumerate(masks))
    empty = sum(mask.size == 0 for mask in masks)
    console.print(
        f"vote: {len(masks)} rows of {len(files)} files in {output}; {changed} differ from {files[0].name}, "
        f"{empty} are empty"
    )


def check_written(table: RleTable, masks: list[np.ndarray]) -> None:
    """Raises RuntimeError, for a bug, unless the file that was read back has these masks."""
    if not np.array_equal(table.edges, np.concatenate([np.empty(0, np.uint32), *masks])):
        raise RuntimeError("the masks that were read back are not those that were written")


def _numbers(weights: str | None, count: int) -> list[float] | None:
    if weights is None:
        return None
    try:
        numbers = [float(weight) for weight in weights.split(",")]
    except ValueError:
        raise typer.BadParameter("takes numbers with commas between them", param_hint="--weights") from None
    if len(numbers) != count:
        raise typer.BadParameter(f"has {len(numbers)} weights for {count} files", param_hint="--weights")
    return numbers


if __name__ == "__main__":
    run_command(vote)
