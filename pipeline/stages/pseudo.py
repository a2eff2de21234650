"""Take test images with the masks that another experiment predicts for them into the training.

Reads   kfold/<other>/<model>/fold<k>/test.zarr of all models of the experiment ``pseudo.experiment``
        images.csv and folds.csv of both experiments
Writes  kfold/<experiment>/pseudo/fold<k>.csv   image_id, rle, height, width; the surest first

Fold k's masks come from the other experiment's networks of fold k alone, which have not seen the images that fold k
holds out: the out-of-fold score stays honest, and `tune` says whether the test images have helped. Pseudo-labelled
images join the training only, never the validation.

    python -m pipeline pseudo --experiment mine.yaml --set name=second --set pseudo.experiment=mine
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.artifacts import Artifacts, whole_or_absent, write_record
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, load_experiment
from pipeline.data.cache import read_images
from pipeline.data.oof import open_test_maps
from pipeline.data.probabilities import CHUNK
from pipeline.data.pseudo import check_same_folds, labelling_experiment
from pipeline.geometry import restore
from pipeline.postprocess import HALF, expected_dice
from pipeline.rle import edges_to_text, to_edges, write_csv


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
    images = read_images(artifacts, "test")
    image_ids = images["image_id"].tolist()
    sizes = list(zip(images["height"].tolist(), images["width"].tolist(), strict=True))
    count = round(settings.pseudo.share * len(image_ids))
    for fold in range(settings.folds.count):
        texts, confidence = [], np.empty(len(image_ids))
        maps = track(_fold_maps(source, fold, image_ids), len(image_ids), f"pseudo fold {fold}", console)
        for row, (probability, size) in enumerate(zip(maps, sizes, strict=True)):
            restored = restore(probability, *size, source.image.fit)
            edges = to_edges(restored, threshold=HALF)
            texts.append(edges_to_text(edges, size))
            confidence[row] = expected_dice(restored, HALF)
        surest = np.argsort(-confidence, kind="stable")[:count]
        with whole_or_absent(artifacts.pseudo(fold)) as path:
            write_csv(
                path,
                [image_ids[row] for row in surest],
                [texts[row] for row in surest],
                sizes=[sizes[row] for row in surest],
            )
        inputs = [source_artifacts.fold(model, fold).test for model in source.models]
        write_record(artifacts.pseudo(fold), settings.pseudo.model_dump(mode="json"), inputs)
        least = f", expected Dice {confidence[surest[-1]]:.4f} or more" if count else ""
        console.print(f"pseudo: fold {fold}: {count} of {len(image_ids)} test images{least}")


def _fold_maps(source: Experiment, fold: int, image_ids: list[str]) -> Iterator[np.ndarray]:
    """The mean of a fold's models for each test image, uint8 (H, W)."""
    artifacts = Artifacts.of(source)
    maps = [open_test_maps(artifacts, model, fold, image_ids) for model in source.models]
    for start in range(0, len(image_ids), CHUNK):
        rows = slice(start, min(start + CHUNK, len(image_ids)))
        yield from np.rint(np.mean([of_model[rows] for of_model in maps], axis=0)).astype(np.uint8)


if __name__ == "__main__":
    run_command(pseudo)
