"""Check every image and mask, and cache small copies.

Reads   the data source; where it is elsewhere (``data.url``), what ``data.root`` lacks of it is copied there first
Writes  kfold/<experiment>/images.csv   image_id, subset, path, height, width, group, sha256, phash, rle;
                                        rle_<class> for each class in place of rle where there are several
        kfold/<experiment>/truth.csv    the masks of the test images, where they are known: image_id, rle, height, width
        kfold/<experiment>/cache/       train_images.npy, test_images.npy  uint8 (N, H, W, 3), RGB
                                        train_masks.npy                    uint8 (N, H, W, C), 255 = all mask
        kfold/<experiment>/cache.json   SHA-256 of each 32 MiB of them, and the images.csv that they belong to

    python -m pipeline prepare --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pipeline.artifacts import Artifacts, save_settings, whole_or_absent
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import DataSettings, ImageSettings, KaggleData, load_experiment
from pipeline.data.cache import COLUMNS, CachePaths, read_images, read_true_masks, record_cache, small_masks
from pipeline.data.classes import mask_ids, rle_column, row_columns
from pipeline.data.images import perceptual_hash, read_image
from pipeline.data.sources import Sample, Source, open_source
from pipeline.errors import DataError
from pipeline.findings import Mask, readings
from pipeline.geometry import shrink
from pipeline.locks import one_at_a_time
from pipeline.next_step import next_stage, say_next_stage
from pipeline.object_store import fetch, files_to_fetch
from pipeline.records import Record, record_of, recorded
from pipeline.rle import edges_to_text, get_format, transpose, write_csv


def prepare(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Read every image and mask once, check them, and cache small copies.

    \b
    Example:
      python -m pipeline prepare --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    if settings.data.url is not None:
        fetch_data(settings.data, console)
    source = open_source(settings.data)
    save_settings(settings)
    artifacts = Artifacts.of(settings)
    console.print(f"prepare: reading {len(source.samples)} images and their masks, to {artifacts.folder}")
    record = Record.of(settings, "prepare", settings.data.found_places)
    with recorded(artifacts.images, record) as table:
        with whole_or_absent(artifacts.cache) as folder:
            counts = _prepare(source, settings.data, settings.image, table, folder, console)
            # From here to the end nothing fails but the process itself; the old table must not outlive its cache.
            record_of(artifacts.cache).unlink(missing_ok=True)
            artifacts.images.unlink(missing_ok=True)
        if settings.data.knows_test_truth:
            with recorded(artifacts.truth, record) as truth:
                _copy_test_masks(table, truth, settings.data)
    record_cache(artifacts.cache, Record.of(settings, "prepare", [*settings.data.found_places, artifacts.images]))
    for note in source.notes:
        console.print(f"prepare: {note}")
    console.print(
        f"prepare: {counts['train']} training images ({counts['empty']} with an empty mask), {counts['test']} test "
        f"images; small copies of {settings.image.size[0]} x {settings.image.size[1]} in {artifacts.cache}"
    )
    if settings.data.source == "kaggle" and (evidence := other_direction(artifacts, settings.data)):
        console.print(f"prepare: warning: masks look written along the other direction: {evidence}; see data.format")
    say_next_stage(console, next_stage("prepare", settings), experiment, overrides)


def fetch_data(data: DataSettings, console: Console) -> None:
    """Copy what is not yet in ``data.root`` from ``data.url``."""
    wait = f"prepare: waiting for another process that copies to {data.root}"
    places = [place for place in data.places if place]
    names = files_to_fetch(data.url, places, data.root)
    if names:
        with one_at_a_time(data.root / ".pipeline-lock", lambda: console.print(wait)):
            names = files_to_fetch(data.url, places, data.root)  # without those that another process has copied
            for _ in track(fetch(data.url, names, data.root), len(names), "prepare: fetch", console):
                pass
    console.print(f"prepare: {len(names)} files copied from {data.url} to {data.root}")


def other_direction(artifacts: Artifacts, data: KaggleData) -> str | None:
    """What tells that the training CSV numbers pixels along the other direction than the settings say, if it does."""
    fmt = get_format(data.format)
    images = read_images(artifacts, "train")
    truth = read_true_masks(artifacts, images["image_id"].tolist(), data.class_names)
    sizes = zip(truth.heights.tolist(), truth.widths.tolist(), strict=True)
    masks = (
        Mask(truth[row] if fmt.order == "F" else transpose(truth[row], size), size) for row, size in enumerate(sizes)
    )
    return readings(masks, fmt).evidence(fmt)[0]


@dataclass(frozen=True)
class SmallCopies:
    """Memory maps that the workers fill, each its own rows."""

    images: dict[str, np.ndarray]
    masks: np.ndarray

    @classmethod
    def create(cls, folder: Path, counts: Counter[str], size: tuple[int, int], classes: int) -> SmallCopies:
        folder.mkdir()
        paths = CachePaths(folder)
        images = {
            subset: _create_array(paths.images(subset), (counts[subset], *size, 3)) for subset in ("train", "test")
        }
        return cls(images, _create_array(paths.masks, (counts["train"], *size, classes)))


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
    source: Source, data: DataSettings, image: ImageSettings, table: Path, folder: Path, console: Console
) -> Counter[str]:
    """Examine all samples in parallel, write their rows in order, and count them."""
    counts = Counter(sample.subset for sample in source.samples)
    copies = SmallCopies.create(folder, counts, image.size, len(data.class_names))
    rows_before = {"train": 0, "test": counts["train"]}

    def examine(position: int, sample: Sample) -> dict[str, Any] | DataError:
        try:
            return _examine(source, sample, position - rows_before[sample.subset], data, image, copies)
        except DataError as error:
            return error

    problems = []
    mask_columns = [rle_column(name) for name in data.class_names]
    with table.open("w", newline="", encoding="utf-8") as file, ThreadPoolExecutor() as pool:
        writer = csv.DictWriter(file, [*COLUMNS, *mask_columns], lineterminator="\n")
        writer.writeheader()
        results = pool.map(examine, range(len(source.samples)), source.samples)
        for result in track(results, len(source.samples), "prepare", console):
            if isinstance(result, DataError):
                problems.append(str(result))
            else:
                counts["empty"] += result["subset"] == "train" and not any(result[column] for column in mask_columns)
                writer.writerow(result)
    if problems:
        raise DataError("\n".join(problems))
    return counts


def _examine(
    source: Source, sample: Sample, row: int, data: DataSettings, image: ImageSettings, copies: SmallCopies
) -> dict[str, Any]:
    """Decode one image, check its masks against it, fill its small copies, and return its row of the table."""
    photograph = read_image(sample.path, at_least=image.size)
    height, width = photograph.height, photograph.width
    edges = source.true_edges(sample, height, width)
    small = shrink(photograph.pixels, image.size, image.fit, height=height, width=width)
    copies.images[sample.subset][row] = small
    if sample.subset == "train":
        copies.masks[row] = small_masks(edges, height, width, image.size, image.fit)
    with sample.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    texts = [""] * len(data.class_names) if edges is None else [edges_to_text(each, (height, width)) for each in edges]
    return {
        "image_id": sample.image_id,
        "subset": sample.subset,
        "path": Path(os.path.relpath(sample.path, data.root)).as_posix(),
        "height": height,
        "width": width,
        "group": sample.group,
        "sha256": sha256,
        "phash": f"{perceptual_hash(photograph.pixels):016x}",
        **{rle_column(name): text for name, text in zip(data.class_names, texts, strict=True)},
    }


def _copy_test_masks(table: Path, truth: Path, data: DataSettings) -> None:
    """The test images' masks alone, a row for each, which ``score`` takes as the truth."""
    csv.field_size_limit(2**31 - 1)
    ids, texts, sizes = [], [], []
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["subset"] == "test":
                ids += mask_ids([row["image_id"]], data.class_names)
                texts += [row[rle_column(name)] for name in data.class_names]
                sizes += [(int(row["height"]), int(row["width"]))] * len(data.class_names)
    write_csv(truth, ids, texts, row_columns(data.class_column_of_csvs), sizes)


if __name__ == "__main__":
    run_command(prepare)
