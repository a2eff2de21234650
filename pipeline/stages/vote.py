"""Blend finished submissions: every pixel by majority or by weights.

Reads   CSVs of id and RLE with the same ids, and the same classes where they have a column of them; to learn weights,
        others of images whose truth is known, and the truth
Writes  one such CSV, in the order and with the column names of the first

    python -m pipeline vote a.csv b.csv c.csv -o blend.csv
    python -m pipeline vote a.csv b.csv c.csv -o blend.csv --learn a-oof.csv,b-oof.csv,c-oof.csv --truth train.csv

The masks are never decoded to pixels, and need no sizes: all files number their pixels alike.
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from pipeline.artifacts import whole_or_absent
from pipeline.blending.majorities import MOST_MASKS, Ballots, Learnt, learn_weights
from pipeline.command import QuietOption, make_console, run_command
from pipeline.csv_options import (
    BetaOption,
    BothEmptyOption,
    ClassColumnOption,
    ColumnsOption,
    FormatOption,
    MetricOption,
    UniteOption,
    align,
    class_columns,
    column_pair,
    existing,
    read_masks,
)
from pipeline.errors import DataError, some
from pipeline.metrics import BETA, Objective, optimism
from pipeline.next_step import say_next
from pipeline.rle import (
    RleFormat,
    RleTable,
    areas,
    edges_to_text,
    get_format,
    open_unpacked,
    read_column_names,
    read_csv,
    split_class,
    votes,
    write_csv,
)

WeightsOption = Annotated[
    str | None, typer.Option("--weights", metavar="W,W,...", help="A weight for each file; else all weigh the same.")
]


LearnOption = Annotated[
    str | None,
    typer.Option(
        "--learn", metavar="CSV,CSV,...", help="For each file one of images with known truth, which weighs it."
    ),
]
TruthOption = Annotated[Path | None, typer.Option("--truth", metavar="CSV", help="The true masks, for --learn.")]
FoldsOption = Annotated[
    Path | None,
    typer.Option("--folds", metavar="CSV", help="image_id, fold and, if any, group, for --learn; else 5 random parts."),
]

PARTS = 5  # that weights are cross-fitted on where no folds are given


def vote(
    files: Annotated[list[Path], typer.Argument(metavar="CSV...", help="Two or more submissions.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the blend.")],
    weights: WeightsOption = None,
    learn: LearnOption = None,
    truth: TruthOption = None,
    folds: FoldsOption = None,
    metric: MetricOption = "dice",
    both_empty: BothEmptyOption = "1",
    beta: BetaOption = BETA,
    min_area: Annotated[int, typer.Option(min=0, help="Masks of fewer pixels than this become empty.")] = 0,
    fmt: FormatOption = "kaggle",
    columns: ColumnsOption = None,
    class_column: ClassColumnOption = None,
    unite: UniteOption = False,
    quiet: QuietOption = False,
) -> None:
    """Blend finished submissions: every pixel by majority or by weights.

    A pixel is foreground where files of more than half of the weight say so; a tie is background. Weights that are
    learnt are used if their cross-fitted score beats equal weights beyond noise.

    \b
    Examples:
      python -m pipeline vote a.csv b.csv c.csv -o blend.csv --weights 0.5,0.3,0.2
      python -m pipeline vote a.csv b.csv -o blend.csv --learn a-oof.csv,b-oof.csv --truth train.csv
    """
    console = make_console(quiet)
    if len(files) < 2:
        raise typer.BadParameter("a vote takes two files or more", param_hint="CSV")
    shares = _numbers(weights, len(files))
    known = _known_files(learn, truth, weights, len(files))
    rle_format = get_format(fmt)
    if rle_format.style not in ("pairs", "gaps"):
        raise DataError(f"--format {fmt}: vote reads starts and lengths; `convert` turns COCO's counts into them")
    # Runs are compared in the order in which the files number pixels, whichever it is.
    in_file_order = replace(rle_format, order="F")
    if known and truth:
        objective = Objective.named(metric, beta, float(both_empty))
        learnt, *on = learn_from_files(known, truth, folds, in_file_order, columns, class_column, unite, objective)
        _say_learnt(learnt, files, metric, *on, console)
        shares = learnt.weights.tolist() if learnt.against_equal.is_gain else None
    class_of = class_columns(class_column, *files, others=(columns,))
    first, *others = (
        read_masks(path, in_file_order, columns=columns, class_column=name, unite=unite)
        for path, name in zip(files, class_of, strict=True)
    )
    aligned = [align(table, first.ids, path, files[0]) for table, path in zip(others, files[1:], strict=True)]
    voted = votes([first, *aligned], shares)
    masks = [voted[row] if pixels >= min_area else voted[row][:0] for row, pixels in enumerate(areas(voted))]
    names = read_column_names(files[0], column_pair(columns, "--columns"), class_of[0])
    with whole_or_absent(output) as path:
        write_csv(path, first.ids, [edges_to_text(mask, None, in_file_order) for mask in masks], names)
        columns_written = {"columns": (names[0], names[-1]), "class_column": class_of[0]}
        check_written(read_csv(path, in_file_order, **columns_written, own=True), masks)
    changed = sum(not np.array_equal(mask, first[row]) for row, mask in enumerate(masks))
    empty = sum(mask.size == 0 for mask in masks)
    console.print(
        f"vote: {len(masks)} rows of {len(files)} files in {output}; {changed} differ from {files[0].name}, "
        f"{empty} are empty"
    )
    options = {"--format": fmt, "--columns": columns, "--class-column": class_column}
    given = [word for option, value in options.items() if value for word in (option, value)]
    say_next(console, "lint", output, *given)


def learn_from_files(
    known: list[Path],
    truth: Path,
    folds: Path | None,
    fmt: RleFormat,
    columns: str | None,
    class_column: str | None,
    unite: bool,
    objective: Objective,
) -> tuple[Learnt, str, str]:
    """Weights by what files of images with known truth are worth, on how many masks, and what those are parted by.

    Raises:
        DataError: the ids of the known files and of the truth differ, or folds are missing.
    """
    true_class, *class_of = class_columns(class_column, truth, *known, others=(columns,))
    true = read_masks(truth, fmt, class_column=true_class, unite=unite)
    tables = [
        align(read_masks(path, fmt, columns=columns, class_column=name, unite=unite), true.ids, path, truth)
        for path, name in zip(known, class_of, strict=True)
    ]
    fold, groups = read_parts(folds, true.ids if true_class is None else [split_class(each)[0] for each in true.ids])
    parts = f"the folds of {folds.name}" if folds else f"{fold.max() + 1} random parts"
    learnt = learn_weights(Ballots.count(tables, true), fold, objective, groups)
    return learnt, f"{len(true)} {'images' if true_class is None else 'masks'}", parts


def _say_learnt(learnt: Learnt, files: list[Path], metric: str, masks: str, parts: str, console: Console) -> None:
    gain = learnt.against_equal
    kept = "the weights are used" if gain.is_gain else "all files weigh the same"
    shares = ", ".join(f"{path.name} {weight}" for path, weight in zip(files, learnt.weights, strict=True))
    console.print(
        f"vote: weights learnt on {masks} ({learnt.search}): {shares}\n"
        f"vote: {metric} {learnt.cross_fitted:.4f} cross-fitted over {parts}, {learnt.optimistic:.4f} "
        f"{optimism(learnt.optimistic, learnt.cross_fitted)}, {gain.score:.4f} with equal weights\n"
        f"vote: {gain.verdict('learning')}: {kept}"
    )


def read_parts(folds: Path | None, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The fold and the group of each mask, from 0: int (N,); random parts of the images without a file.

    Args:
        folds: CSV of image_id, fold and, if known, group; without groups, without one of its own in an empty cell, and
            without a file, an image is one.
        ids: the masks' images.

    Raises:
        DataError: there is no such file or column, a row is malformed, an id is missing, or all are in one fold.
    """
    if folds is None:
        images, groups = np.unique(ids, return_inverse=True)
        fold = np.random.default_rng(0).permutation(np.arange(len(images)) % PARTS)[groups]
    else:
        rows = {row.get("image_id"): row for row in _read_rows(existing(folds))}
        missing = [image_id for image_id in ids if image_id not in rows]
        if missing or not all("fold" in row for row in rows.values()):
            raise DataError(f"{folds}: needs the columns image_id and fold, with a row for {some(missing or ids)}")
        fold = np.unique([rows[image_id]["fold"] for image_id in ids], return_inverse=True)[1]
        named = [_group(rows[image_id]) for image_id in ids]
        numbers = {name: number for number, name in enumerate(sorted(set(named)))}
        groups = np.array([numbers[name] for name in named], np.int64)
    if not ids or fold.max() == 0:
        raise DataError(f"{folds or 'the truth'}: learning weights needs images in two folds or more")
    return fold, groups


def _group(row: dict[str, str]) -> tuple[str, str]:
    """An image's group; one that has none is its own, which no group can have the name of."""
    group = row.get("group", "")
    return ("group", group) if group.strip() else ("image", row["image_id"])


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file by its columns; a field may be of any length.

    Raises:
        DataError: it is no text in UTF-8, or a row has other fields than the header.
    """
    csv.field_size_limit(2**31 - 1)
    rows = []
    try:
        with open_unpacked(path) as file:
            reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
            for row in reader:
                if None in row or None in row.values():  # what csv calls fields in excess, and makes of missing ones
                    raise DataError(f"{path}: the row in line {reader.line_num} has other fields than the header")
                rows.append(row)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    except csv.Error as error:
        raise DataError(f"{path}: the quotes up to line {reader.reader.line_num} are wrong: {error}") from None
    return rows


def check_written(table: RleTable, masks: list[np.ndarray]) -> None:
    """Raises RuntimeError, for a bug, unless the file that was read back has these masks."""
    if not np.array_equal(table.edges, np.concatenate([np.empty(0, np.uint32), *masks])):
        raise RuntimeError("the masks that were read back are not those that were written")


def _known_files(learn: str | None, truth: Path | None, weights: str | None, count: int) -> list[Path] | None:
    if learn is None and truth is None:
        return None
    if learn is None or truth is None or weights is not None:
        raise typer.BadParameter("goes with --truth, and not with --weights", param_hint="--learn")
    known = [Path(name) for name in learn.split(",")]
    if len(known) != count:
        raise typer.BadParameter(f"has {len(known)} files for {count} files", param_hint="--learn")
    if count > MOST_MASKS:
        raise typer.BadParameter(f"learns weights of {MOST_MASKS} files at most", param_hint="--learn")
    return known


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
