"""Write the submission CSV, read it back and check it; or a CSV of the same kind of the training images.

Reads   kfold/<experiment>/ensemble/test.zarr, tuning.json, images.csv; the sample submission where there is one;
        with --oof ensemble/oof.zarr and folds.csv in place of test.zarr
Writes  submissions/<experiment>.csv        id (and class) and RLE, in the sample submission's order and columns
        submissions/<experiment>.json       provenance: scores, settings, inputs, versions
        submissions/<experiment>-oof.csv    with --oof: the training images' masks in the same columns, sorted by id, as
                                            networks, weights and settings make them that have not seen their fold
        submissions/<experiment>-oof.json   likewise

    python -m pipeline submit --experiment pipeline/experiments/demo.yaml [--oof]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from pipeline.artifacts import Artifacts
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import one_row_a_mask, read_folds, read_images
from pipeline.data.classes import Overlaps
from pipeline.data.oof import check_ids
from pipeline.data.probabilities import chunks, read_probabilities
from pipeline.data.sources import submission_template
from pipeline.errors import DataError
from pipeline.geometry import Fit
from pipeline.next_step import next_stage, say_next_stage
from pipeline.postprocess import Postprocess, final_edges, stored_by_fold, stored_postprocess, stored_scores
from pipeline.records import Record, recorded
from pipeline.rle import RleFormat, edges_to_text, get_format, read_csv, split_class, write_csv
from pipeline.stored import Tuning, open_json
from pipeline.submitted import format_of_submission

OofOption = Annotated[
    bool, typer.Option("--oof", help="Write the training images' masks, each fold's made without it; for `vote`.")
]


def submit(
    experiment: ExperimentOption, overrides: OverridesOption = None, oof: OofOption = False, quiet: QuietOption = False
) -> None:
    """Write the submission CSV, read it back and check it.

    \b
    Example:
      python -m pipeline submit --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    tuning = open_json(Tuning, artifacts.tuning, "tune", artifacts.folder)
    wanted = out_of_fold_masks(settings, tuning) if oof else test_masks(settings, tuning)
    stored = read_probabilities(wanted.maps, "ensemble", artifacts.folder)
    check_ids(stored, list(wanted.sizes), wanted.maps)
    edges = track(wanted.edges(stored.maps, settings.image.fit), len(wanted.sizes), "submit", console)
    masks = dict(zip(wanted.sizes, edges, strict=True))
    fmt = wanted.fmt
    record = Record.of(settings, "submit", wanted.inputs)
    provenance = {
        "submission": wanted.output.name,
        "metric": tuning["metric"],
        "oof_score": stored_scores(tuning, artifacts.tuning),
        **wanted.chosen,
        "settings": settings.model_dump(mode="json"),
    }
    if not oof:
        artifacts.score.unlink(missing_ok=True)  # that of the submission before
    with recorded(wanted.output, record, place=wanted.output.with_suffix(".json"), **provenance) as path:
        texts = [edges_to_text(masks[mask_id], wanted.sizes[mask_id], fmt) for mask_id in wanted.order]
        write_csv(path, wanted.order, texts, columns=tuple(wanted.columns))
        check_written(path, fmt, wanted.columns, masks, wanted.order, wanted.sizes)
    empty = sum(each.size == 0 for each in masks.values())
    console.print(f"submit: {len(masks)} rows ({empty} empty masks) in {wanted.output}, read back and checked")
    if (overlaps := count_overlaps(masks, len(settings.data.class_names))).found:
        console.print(f"submit: {overlaps}: each class has a threshold and rules of its own")
    if not oof:
        say_next_stage(console, next_stage("submit", settings), experiment, overrides)


@dataclass(frozen=True)
class Wanted:
    """The masks that a CSV is to have."""

    output: Path
    columns: list[str]
    order: list[str]
    """Their ids as the CSV has them."""
    sizes: dict[str, tuple[int, int]]
    """Height and width of each by id, in the order of the maps."""
    maps: Path
    """What they are made of, the ensemble's probabilities."""
    postprocess: list[Postprocess]
    """Of each, in the order of the maps."""
    chosen: dict[str, Any]
    """The same for the provenance."""
    inputs: list[Path]
    """All that they are made by."""
    fmt: RleFormat
    """How they are written."""

    def edges(self, maps: Any, fit: Fit) -> Iterator[np.ndarray]:
        """Masks in the order of the maps, uint8 (N, H, W), of which a chunk is in memory at a time."""
        of_each = zip(self.sizes.values(), self.postprocess, strict=True)
        for rows in chunks(len(self.sizes)):
            for prob_hw in maps[rows]:
                size, settings = next(of_each)
                yield final_edges(prob_hw, *size, fit, settings)


def test_masks(settings: Experiment, tuning: Any) -> Wanted:
    """The test images' masks, in the order of the sample submission."""
    artifacts, classes = Artifacts.of(settings), settings.data.class_names
    postprocess = stored_postprocess(tuning, artifacts.tuning)
    check_count(postprocess, len(classes), "classes", artifacts.tuning)
    images = read_images(artifacts, "test")
    columns, order = submission_template(settings.data, images["image_id"].tolist())
    return Wanted(
        output=artifacts.submission,
        columns=columns,
        order=order,
        sizes=mask_sizes(images, classes),
        maps=artifacts.ensemble_test,
        postprocess=postprocess * len(images),
        chosen={"postprocess": tuning["postprocess"]},
        inputs=[artifacts.images, artifacts.ensemble_test, artifacts.tuning],
        fmt=format_of_submission(settings.data),
    )


def out_of_fold_masks(settings: Experiment, tuning: Any) -> Wanted:
    """The training images' masks, sorted by id, each fold's by the settings that are chosen on the others."""
    artifacts, classes = Artifacts.of(settings), settings.data.class_names
    fold, by_fold = read_folds(artifacts)["fold"], stored_by_fold(tuning, artifacts.tuning)
    check_count(by_fold, int(fold.max()) + 1, "folds", artifacts.tuning)
    check_count(by_fold[0], len(classes), "classes", artifacts.tuning)
    sizes = mask_sizes(read_images(artifacts, "train"), classes)
    return Wanted(
        output=artifacts.oof_masks,
        columns=submission_template(settings.data, read_images(artifacts, "test")["image_id"].tolist())[0],
        order=list(sizes),
        sizes=sizes,
        maps=artifacts.ensemble_oof,
        postprocess=[of_class for own in fold for of_class in by_fold[own]],
        chosen={"postprocess_by_fold": [[asdict(of_class) for of_class in of_fold] for of_fold in by_fold]},
        inputs=[artifacts.images, artifacts.folds, artifacts.ensemble_oof, artifacts.tuning],
        fmt=get_format(settings.data.submission_format),
    )


def mask_sizes(images: pd.DataFrame, classes: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Height and width of each mask of some images, by id, in the order of the maps."""
    table = one_row_a_mask(images, classes)
    sizes = zip(table["height"].tolist(), table["width"].tolist(), strict=True)
    return dict(zip(table["mask_id"].tolist(), sizes, strict=True))


def check_count(found: Sequence[Any], expected: int, what: str, path: Path) -> None:
    """Refuse settings of another number of folds or classes than there are.

    Raises:
        DataError: they are out of date.
    """
    if len(found) != expected:
        raise DataError(f"{path} has settings of {len(found)} {what}, not of {expected}: run the stage 'tune' again")


def count_overlaps(masks: dict[str, np.ndarray], classes: int) -> Overlaps:
    """Count pixels in several classes; masks are edges by id, those of an image's classes next to each other."""
    overlaps, ids = Overlaps(), list(masks)
    for start in range(0, len(ids) if classes > 1 else 0, classes):
        of_image = ids[start : start + classes]
        overlaps.look(split_class(of_image[0])[0], [masks[mask_id] for mask_id in of_image])
    return overlaps


def check_written(
    path: Path,
    fmt: RleFormat,
    columns: list[str],
    masks: dict[str, np.ndarray],
    order: list[str],
    sizes: dict[str, tuple[int, int]],
) -> None:
    """Read the CSV as a competition would, and compare ids, order, sizes and every mask.

    Args:
        masks, sizes: by the mask's id, in which the class follows the image where there are several.

    Raises:
        RleError: a mask is none of an image of its size, which is a bug in what has made it.
        RuntimeError: something differs, which is a bug in the writer.
    """
    id_column, *class_column, rle_column = (name.strip() for name in columns)  # as headers are read
    table = read_csv(
        path,
        fmt,
        columns=(id_column, rle_column),
        class_column=class_column[0] if class_column else None,
        sizes={split_class(mask_id)[0] if class_column else mask_id: size for mask_id, size in sizes.items()},
        own=True,
    )
    if table.ids != order:
        raise RuntimeError(f"{path} has other ids than were written")
    for row, mask_id in enumerate(order):
        if (table.heights[row], table.widths[row]) != sizes[mask_id]:
            raise RuntimeError(f"{path}: the mask of {mask_id} was read without its image's size")
        if not np.array_equal(table[row], masks[mask_id]):
            raise RuntimeError(f"{path}: the mask of {mask_id} is not what was written")


if __name__ == "__main__":
    run_command(submit)
