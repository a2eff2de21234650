"""Check every image and mask, and cache small copies.

Reads   the data source; where it is elsewhere (``data.url``), what ``data.root`` lacks of it is copied there first
Writes  kfold/<experiment>/images.csv   image_id, subset, path, height, width, group, sha256, phash, rle;
                                        rle_<class> for each class in place of rle where there are several
        kfold/<experiment>/truth.csv    the masks of the test images, where they are known: image_id, rle, height, width
        kfold/<experiment>/cache/       train_images.npy, test_images.npy  uint8 (N, H, W, 3), RGB
                                        train_masks.npy                    uint8 (N, H, W, C), 255 = all mask
        kfold/<experiment>/cache.json   SHA-256 of each 32 MiB of them, and the images.csv that they belong to
        kfold/<experiment>/image_range.json  the values that become 0 and 255 where images have more than 8 bits a
                                             channel; null where they have not

    python -m pipeline prepare --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pipeline.artifacts import Artifacts, save_settings, whole_or_absent
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import DataSettings, ImageSettings, KaggleData, load_experiment
from pipeline.data.cache import COLUMNS, CachePaths, record_cache, small_masks
from pipeline.data.classes import mask_ids, rle_column, row_columns
from pipeline.data.direction import Votes, fitting_format
from pipeline.data.image_files import Header
from pipeline.data.image_range import deep_images, kinds_of, write_range
from pipeline.data.images import (
    Reading,
    ValueRange,
    decoding_memory,
    perceptual_hash,
    read_header,
    read_image,
    value_extremes,
)
from pipeline.data.orientation import Fit, Fits, FitsOtherwise, describe_orientations, fit_of_runs, true_edges
from pipeline.data.sources import Sample, Source, open_source
from pipeline.errors import DataError, some
from pipeline.geometry import shrink
from pipeline.locks import one_at_a_time
from pipeline.memory import DECODING
from pipeline.next_step import next_stage, say_next_stage
from pipeline.object_store import fetch, files_to_fetch
from pipeline.records import Record, record_of, recorded
from pipeline.rle import edges_to_text, get_format, write_csv

FEW = 5  # files with a line each, although the same is wrong with them


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
    headers = read_headers(source.samples, console)
    reading = Reading(settings.data.exif, find_range(headers, artifacts.image_range, console))
    if turned := describe_orientations(source.samples, headers, reading.exif):
        console.print(f"prepare: {turned}")
    record = Record.of(settings, "prepare", settings.data.found_places)
    with recorded(artifacts.images, record) as table:
        with whole_or_absent(artifacts.cache) as folder:
            examiner = Examiner(source, settings.data, settings.image, headers, reading)
            counts, fits = _prepare(examiner, table, folder, console)
            if settings.data.source == "kaggle":
                source.notes += check_direction(source, settings.data, headers)
            # From here to the end nothing fails but the process itself; the old table must not outlive its cache.
            record_of(artifacts.cache).unlink(missing_ok=True)
            artifacts.images.unlink(missing_ok=True)
        if settings.data.knows_test_truth:
            with recorded(artifacts.truth, record) as truth:
                _copy_test_masks(table, truth, settings.data)
    with_table = record.reading(artifacts.images)
    record_cache(artifacts.cache, with_table)
    write_range(artifacts.image_range, reading.values, with_table)
    for note in source.notes:
        console.print(f"prepare: {note}")
    console.print(
        f"prepare: {counts['train']} training images ({counts['empty']} with an empty mask), {counts['test']} test "
        f"images; small copies of {settings.image.size[0]} x {settings.image.size[1]} in {artifacts.cache}"
    )
    if doubt := fits.doubt():
        console.print(f"prepare: warning: {doubt}; see data.exif")
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


def check_direction(source: Source, data: KaggleData, headers: Mapping[Path, Header]) -> list[str]:
    """Refuse masks that look written along the other direction than ``data.format`` says.

    Args:
        headers: of the images' files.

    Returns:
        What is to be said where ``data.format_checked`` lets them pass.

    Raises:
        DataError: naming the format that fits.
    """

    def size_of(sample: Sample) -> tuple[int, int]:
        return (headers.get(sample.path) or read_header(sample.path)).size(data.exif)

    fmt, said = get_format(data.format), []
    for subset, csv_name in (("train", data.train_csv), ("test", data.test_truth)):
        samples = [sample for sample in source.samples if sample.subset == subset and csv_name]
        in_any_order = np.random.default_rng(0).permutation(len(samples))  # masks from all over the CSV
        sized = ((samples[number], size_of(samples[number])) for number in in_any_order)
        able = ((each, size) for each, size in sized if size[0] != size[1])  # of square images no mask can tell
        votes = Votes.count(((edges, size) for each, size in able for edges in source.true_edges(each, *size)), fmt)
        if not votes.convict:
            continue
        problem = f"{data.root / csv_name}: masks look turned: {votes.evidence(fmt)}"
        if not data.format_checked:
            fits = fitting_format(fmt)
            advice = f"data.format: {fits} fits" if fits else "no format is the same along the other direction"
            if fits and get_format(fits).empty != fmt.empty:
                advice += f", but for empty masks, which are {get_format(fits).empty!r} there"
            raise DataError(
                f"{problem}. {advice}, unless heights and widths are exchanged; if the masks are right as they are, "
                "set data.format_checked: true"
            )
        said.append(f"{problem}; data.format_checked lets them pass")
    return said


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


def read_headers(samples: Sequence[Sample], console: Console) -> dict[Path, Header]:
    """Read the headers of the images' files; those that cannot be read are left for the examination to name."""

    def read(sample: Sample) -> Header | None:
        try:
            return read_header(sample.path)
        except DataError:
            return None

    with ThreadPoolExecutor() as pool:
        found = list(track(pool.map(read, samples), len(samples), "prepare: headers", console))
    return {sample.path: header for sample, header in zip(samples, found, strict=True) if header is not None}


def find_range(headers: Mapping[Path, Header], place: Path, console: Console) -> ValueRange | None:
    """The values from the least to the greatest in all images, where these have more than 8 bits a channel.

    Args:
        place: where it is to be stored, for the message.

    Raises:
        DataError: only some have.
    """
    paths = deep_images(headers)
    if not paths:
        return None

    def extremes(path: Path) -> ValueRange | None:
        try:
            return value_extremes(path)
        except DataError:
            return None  # left for the examination to name

    with ThreadPoolExecutor() as pool:
        found = list(track(pool.map(extremes, paths), len(paths), "prepare: values", console))
    known = [each for each in found if each is not None]
    values = ValueRange(min((each.low for each in known), default=0), max((each.high for each in known), default=0))
    console.print(
        f"prepare: {len(paths)} images have {kinds_of(headers[path] for path in paths)} values, from {values.low:.10g} "
        f"to {values.high:.10g} in all of them: these become 0 and 255 in every image ({place})"
    )
    return values


@dataclass
class Examined:
    """Findings about one image."""

    row: dict[str, Any]
    """Row of ``images.csv``."""
    sideways: bool
    """Whether EXIF lays the image on its side."""
    sized: bool
    """Whether it then has a mask, and sides of two lengths."""
    fit: Fit | None
    """How its runs read."""


@dataclass(frozen=True)
class Examiner:
    """Examines images one by one, each in a thread of its own."""

    source: Source
    data: DataSettings
    image: ImageSettings
    headers: Mapping[Path, Header]
    reading: Reading

    def examine(self, sample: Sample, row: int, copies: SmallCopies) -> Examined | DataError:
        """Decode an image, check its masks against it, and fill its small copies, the ``row``th of its subset."""
        try:
            with DECODING.taking(decoding_memory(sample.path, self.image.size, self.reading.exif)):
                return self._examine(sample, row, copies)
        except DataError as error:
            return error

    def _examine(self, sample: Sample, row: int, copies: SmallCopies) -> Examined:
        image, data = self.image, self.data
        photograph = read_image(sample.path, image.size, self.reading)
        height, width = photograph.height, photograph.width
        header = self.headers.get(sample.path) or read_header(sample.path)
        edges = true_edges(self.source, sample, header, self.reading.exif)
        copies.images[sample.subset][row] = shrink(photograph.pixels, image.size, image.fit, height=height, width=width)
        if sample.subset == "train":
            copies.masks[row] = small_masks(edges, height, width, image.size, image.fit)
        with sample.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        names = data.class_names
        texts = [""] * len(names) if edges is None else [edges_to_text(each, (height, width)) for each in edges]
        columns = {
            "image_id": sample.image_id,
            "subset": sample.subset,
            "path": Path(os.path.relpath(sample.path, data.root)).as_posix(),
            "height": height,
            "width": width,
            "group": sample.group,
            "sha256": sha256,
            "phash": f"{perceptual_hash(photograph.pixels):016x}",
            **{rle_column(name): text for name, text in zip(names, texts, strict=True)},
        }
        sized = header.sideways and height != width and any(texts)
        return Examined(columns, header.sideways, sized, self._fit(sample, edges or [], (height, width)))

    def _fit(self, sample: Sample, edges: list[np.ndarray], size: tuple[int, int]) -> Fit | None:
        """How runs read that have no size of their own."""
        if not isinstance(self.data, KaggleData) or sample.subset != "train":
            return None
        return fit_of_runs(edges, size, get_format(self.data.format).order)


def _prepare(examiner: Examiner, table: Path, folder: Path, console: Console) -> tuple[Counter[str], Fits]:
    """Examine all samples in parallel, write their rows in order, and count them; how masks fit where EXIF turns.

    Raises:
        DataError: with a line for each image that something is wrong with.
    """
    samples, names = examiner.source.samples, examiner.data.class_names
    counts = Counter(sample.subset for sample in samples)
    copies = SmallCopies.create(folder, counts, examiner.image.size, len(names))
    rows_before = {"train": 0, "test": counts["train"]}
    problems: list[tuple[Path, str]] = []
    fits = Fits(examiner.reading.exif, checked=getattr(examiner.data, "format_checked", False))
    mask_columns = [rle_column(name) for name in names]

    def examine(position: int, sample: Sample) -> Examined | DataError:
        return examiner.examine(sample, position - rows_before[sample.subset], copies)

    with table.open("w", newline="", encoding="utf-8") as file, ThreadPoolExecutor() as pool:
        writer = csv.DictWriter(file, [*COLUMNS, *mask_columns], lineterminator="\n")
        writer.writeheader()
        results = track(pool.map(examine, range(len(samples)), samples), len(samples), "prepare", console)
        for sample, result in zip(samples, results, strict=True):
            if isinstance(result, FitsOtherwise):
                fits.otherwise.append(sample.path.name)
            elif isinstance(result, DataError):
                problems.append((sample.path, str(result)))
            else:
                counts["empty"] += sample.subset == "train" and not any(result.row[column] for column in mask_columns)
                writer.writerow(result.row)
                fits.add(sample.path.name, result.sideways, result.sized, result.fit)
    lines = [*grouped(problems), *filter(None, [fits.problem()])]
    if lines:
        raise DataError("\n".join(lines))
    return counts, fits


def grouped(problems: Sequence[tuple[Path, str]]) -> list[str]:
    """Lines of what is wrong with files, one for many files that the same is wrong with."""
    files: dict[str, list[str]] = {}
    for path, problem in problems:
        reason = problem.removeprefix(f"{path}: ")
        files.setdefault(reason, []).append("" if reason == problem else str(path))
    lines = []
    for reason, paths in files.items():
        if len(paths) > FEW:
            lines.append(f"{len(paths)} images: {some(paths)}: {reason}")
        else:
            lines += [f"{path}: {reason}" if path else reason for path in paths]
    return lines


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
