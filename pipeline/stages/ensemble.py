"""Average the folds for the test images, and blend the models.

Reads   kfold/<experiment>/<model>/fold<k>/oof.zarr and test.zarr of every model and fold, folds.csv
Writes  kfold/<experiment>/ensemble/oof.zarr       uint8 (N, H, W), all training images' masks, as images.csv has them
        kfold/<experiment>/ensemble/test.zarr      uint8 (N, H, W), those of all test images
        kfold/<experiment>/ensemble/weights.json   the weight of each model; they sum to one

    python -m pipeline ensemble --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.artifacts import Artifacts, write_json, write_record
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import load_experiment
from pipeline.data.cache import read_images
from pipeline.data.classes import mask_ids
from pipeline.data.oof import open_test_maps, read_out_of_fold
from pipeline.data.probabilities import CHUNK, write_probabilities


def ensemble(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Average the folds for the test images, and blend the models with equal weights.

    \b
    Example:
      python -m pipeline ensemble --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    folds = range(settings.folds.count)
    weights = {name: 1 / len(settings.models) for name in settings.models}
    classes = settings.data.class_names
    train_ids = mask_ids(read_images(artifacts, "train")["image_id"], classes)
    test_ids = mask_ids(read_images(artifacts, "test")["image_id"], classes)
    held_out = {name: read_out_of_fold(artifacts, name, settings.folds.count, classes) for name in settings.models}
    tests = {name: [open_test_maps(artifacts, name, fold, test_ids) for fold in folds] for name in settings.models}

    def blended(count: int, of_models: dict[str, list]) -> Iterator[np.ndarray]:
        for start in range(0, count, CHUNK):
            rows = slice(start, min(start + CHUNK, count))
            yield weighted_mean(
                [maps[rows] for maps_of_folds in of_models.values() for maps in maps_of_folds],
                [
                    weights[name] / len(maps_of_folds)
                    for name, maps_of_folds in of_models.items()
                    for _ in maps_of_folds
                ],
            )

    size = settings.image.size
    oof_steps, test_steps = -(-len(train_ids) // CHUNK), -(-len(test_ids) // CHUNK)
    oof_batches = blended(len(train_ids), {name: [maps] for name, maps in held_out.items()})
    write_probabilities(artifacts.ensemble_oof, train_ids, size, track(oof_batches, oof_steps, "ensemble oof", console))
    test_batches = blended(len(test_ids), tests)
    write_probabilities(
        artifacts.ensemble_test, test_ids, size, track(test_batches, test_steps, "ensemble test", console)
    )
    inputs = [artifacts.fold(name, fold).oof for name in settings.models for fold in folds]
    write_json(artifacts.ensemble_weights, weights)
    write_record(artifacts.ensemble_oof, weights, inputs)
    write_record(artifacts.ensemble_test, weights, [path.with_name("test.zarr") for path in inputs])
    console.print(
        f"ensemble: {', '.join(f'{name} {weight:.3f}' for name, weight in weights.items())}; "
        f"{len(train_ids)} out-of-fold and {len(test_ids)} test maps, {settings.folds.count} folds averaged"
    )


def weighted_mean(maps: list[np.ndarray], weights: list[float]) -> np.ndarray:
    """Average of uint8 arrays of one shape, rounded once; ``weights`` sum to one."""
    total = np.zeros(maps[0].shape, np.float32)
    for array, weight in zip(maps, weights, strict=True):
        total += np.float32(weight) * array
    return np.rint(total).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    run_command(ensemble)
