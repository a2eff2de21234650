"""Check every image and mask, and cache small copies.

Reads   the data source
Writes  kfold/<experiment>/images.csv   image_id, subset, path, height, width, group, sha256, phash, rle
        kfold/<experiment>/truth.csv    the same for the test images, where their masks are known
        kfold/<experiment>/cache/       train_images.npy, test_images.npy  uint8 (N, H, W, 3), RGB
                                        train_masks.npy                    uint8 (N, H, W), 255 = all mask

    python -m pipeline prepare --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pipeline.artifacts import Artifacts, save_settings, whole_or_absent, write_record
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import ImageSettings, load_experiment
from pipeline.data.cache import COLUMNS, CachePaths, small_mask
from pipeline.data.images import perceptual_hash, read_image
from pipeline.data.sources import Sample, Source, open_source
from pipeline.errors import DataError
from pipeline.geometry import shrink
from pipeline.rle import edges_to_text


def prepare(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Read every image and mask once, check them, and cache small copies.

    \b
    Example:
      python -m pipeline prepare --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    source = open_source(settings.data, settings.seed)
    save_settings(settings)
    artifacts = Artifacts.of(settings)
    with whole_or_absent(artifacts.images) as table:
        with whole_or_absent(artifacts.cache) as folder:
            counts = _prepare(source, settings.data.root, settings.image, table, folder, console)
            # From here to the end nothing fails but the process itself; the old table must not outlive its cache.
            artifacts.images.unlink(missing_ok=True)
        if settings.data.knows_test_truth:
            with whole_or_absent(artifacts.truth) as truth:
                _copy_test_rows(table, truth)
    write_record(artifacts.images, settings.model_dump(mode="json", include={"data", "image", "seed"}), [])
    console.print(
        f"prepare: {counts['train']} training images ({counts['empty']} with an empty mask), {counts['test']} test "
        f"images; small copies of {settings.image.size[0]} x {settings.image.size[1]} in {artifacts.cache}"
    )


@dataclass(frozen=True)
class SmallCopies:
    """Memory maps that the workers fill, each its own rows."""

    images: dict[str, np.ndarray]
    masks: np.ndarray

    @classmethod
    def create(cls, folder: Path, counts: Counter[str], size: tuple[int, int]) -> SmallCopies:
        folder.mkdir()
        paths = CachePaths(folder)
        images = {
            subset: _create_array(paths.images(subset), (counts[subset], *size, 3)) for subset in ("train", "test")
        }
        return cls(images, _create_array(paths.masks, (counts["train"], *size)))


def _create_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if 0 in shape:
        np.save(path, np.zeros(shape, np.uint8))
        return np.load(path)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # A hole in the file that the disk has no room for would kill the process when it is written to.
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _prepare(
    source: Source, root: Path, image: ImageSettings, table: Path, folder: Path, console: Console
) -> Counter[str]:
    """Examine all samples in parallel, write their rows in order, and count them."""
    counts = Counter(sample.subset for sample in source.samples)
    copies = SmallCopies.create(folder, counts, image.size)
    rows_before = {"train": 0, "test": counts["train"]}

    def examine(position: int, sample: Sample) -> dict[str, Any] | DataError:
        try:
            return _examine(source, sample, position - rows_before[sample.subset], root, image, copies)
        except DataError as error:
            return error

    problems = []
    with table.open("w", newline="", encoding="utf-8") as file, ThreadPoolExecutor() as pool:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        results = pool.map(examine, range(len(source.samples)), source.samples)
        for result in track(results, len(source.samples), "prepare", console):
            if isinstance(result, DataError):
                problems.append(str(result))
            else:
                counts["empty"] += result["subset"] == "train" and not result["rle"]
                writer.writerow(result)
    if problems:
        raise DataError("\n".join(problems))
    return counts


def _examine(
    source: Source, sample: Sample, row: int, root: Path, image: ImageSettings, copies: SmallCopies
) -> dict[str, Any]:
    """Decode one image, check its mask against it, fill its small copies, and return its row of the table."""
    photograph = read_image(sample.path, at_least=image.size)
    height, width = photograph.height, photograph.width
    edges = source.true_edges(sample, height, width)
    small = shrink(photograph.pixels, image.size, image.fit, height=height, width=width)
    copies.images[sample.subset][row] = small
    if sample.subset == "train":
        copies.masks[row] = small_mask(edges, height, width, image.size, image.fit)
    with sample.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "image_id": sample.image_id,
        "subset": sample.subset,
        "path": sample.path.relative_to(root).as_posix(),
        "height": height,
        "width": width,
        "group": sample.group,
        "sha256": sha256,
        "phash": f"{perceptual_hash(photograph.pixels):016x}",
        "rle": "" if edges is None else edges_to_text(edges, (height, width)),
    }


def _copy_test_rows(table: Path, truth: Path) -> None:
    """The test images' rows alone, which ``score`` takes as the truth."""

    def test_rows() -> Iterator[dict[str, str]]:
        csv.field_size_limit(2**31 - 1)
        with table.open(newline="", encoding="utf-8") as file:
            yield from (row for row in csv.DictReader(file) if row["subset"] == "test")

    with truth.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, ["image_id", "rle", "height", "width"], extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(test_rows())


if __name__ == "__main__":
    run_command(prepare)
