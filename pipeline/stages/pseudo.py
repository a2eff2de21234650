"""Take test images with the masks that another experiment predicts for them into the training.

Reads   kfold/<other>/<model>/fold<k>/test.zarr of all models of the experiment ``pseudo.experiment``, and of
        their views where it stores them apart
        images.csv and folds.csv of both experiments
Writes  kfold/<experiment>/pseudo/fold<k>.csv   image_id, rle, height, width; the surest first (with a class column
                                                where there are several)

Fold k's masks come from the other experiment's networks of fold k alone, which have not seen the images that fold k
holds out: the out-of-fold score stays honest, and `tune` says whether the test images have helped. Pseudo-labelled
images join the training only, never the validation.

    python -m pipeline pseudo --experiment mine.yaml --set name=second --set pseudo.experiment=mine
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.artifacts import Artifacts
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import one_row_a_mask, read_images
from pipeline.data.classes import mask_rows, row_columns
from pipeline.data.oof import open_test_maps
from pipeline.data.probabilities import CHUNK
from pipeline.data.pseudo import check_same_folds, labelling_experiment
from pipeline.errors import DataError, some
from pipeline.geometry import restore
from pipeline.next_step import next_stage, say_next_stage
from pipeline.postprocess import UNTUNED, expected_dice, mask_edges
from pipeline.records import Record, recorded
from pipeline.rle import edges_to_text, write_csv


def pseudo(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Choose the test images whose predicted masks join the training of a second experiment.

    \b
    Example:
      python -m pipeline pseudo --experiment mine.yaml --set name=second --set pseudo.experiment=mine
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    source, source_artifacts = labelling_experiment(settings)
    check_same_folds(artifacts, source_artifacts)
    classes = settings.data.class_names
    if source.data.class_names != classes:
        raise DataError(f"pseudo.experiment {source.name!r} has other classes: {some(source.data.class_names)}")
    if source.data.exif != settings.data.exif:
        raise DataError(
            f"pseudo.experiment {source.name!r} has data.exif: {source.data.exif}, this experiment "
            f"{settings.data.exif}: masks would lie on other pixels; set both alike"
        )
    masks = one_row_a_mask(read_images(artifacts, "test"), classes)
    if masks.empty:
        raise DataError(f"{artifacts.images}: no test images that could be given masks: set pseudo.experiment to null")
    ids = masks["mask_id"].tolist()
    sizes = list(zip(masks["height"].tolist(), masks["width"].tolist(), strict=True))
    images = len(ids) // len(classes)
    count = round(settings.pseudo.share * images)
    for fold in range(settings.folds.count):
        texts, confidence = [], np.empty(len(ids))
        maps = track(_fold_maps(source, fold, ids), len(ids), f"pseudo fold {fold}", console)
        for row, (probability, size) in enumerate(zip(maps, sizes, strict=True)):
            restored = restore(probability, *size, source.image.fit)
            edges = mask_edges(restored, UNTUNED)
            texts.append(edges_to_text(edges, size))
            confidence[row] = expected_dice(restored, UNTUNED.threshold)
        of_images = confidence.reshape(images, -1).mean(axis=1)
        surest = np.argsort(-of_images, kind="stable")[:count]
        rows = mask_rows(surest, len(classes))
        of_members = [source_artifacts.fold(member, fold) for member in source.members]
        inputs = [artifacts.folds, *(path for of_member in of_members for path in of_member.tests)]
        with recorded(artifacts.pseudo(fold), Record.of(settings, "pseudo", inputs)) as path:
            write_csv(
                path,
                [ids[row] for row in rows],
                [texts[row] for row in rows],
                row_columns(settings.data.class_column_of_csvs),
                [sizes[row] for row in rows],
            )
        least = f", expected Dice {of_images[surest[-1]]:.4f} or more" if count else ""
        console.print(f"pseudo: fold {fold}: {count} of {images} test images{least}")
    say_next_stage(console, next_stage("pseudo", settings), experiment, overrides)


def _fold_maps(source: Experiment, fold: int, ids: list[str]) -> Iterator[np.ndarray]:
    """The mean of a fold's members for each test mask, uint8 (H, W)."""
    artifacts = Artifacts.of(source)
    maps = [open_test_maps(artifacts, member, fold, ids) for member in source.members]
    for start in range(0, len(ids), CHUNK):
        rows = slice(start, min(start + CHUNK, len(ids)))
        yield from np.rint(np.mean([of_member[rows] for of_member in maps], axis=0)).astype(np.uint8)


if __name__ == "__main__":
    run_command(pseudo)
