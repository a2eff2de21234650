"""Segment photographs with a finished experiment.

Reads   images, or folders of them; kfold/<experiment>/ weights, ensemble/weights.json, tuning.json
Writes  DIR/masks/<name>.png      uint8 at the photograph's size: 255 in the mask; with several classes their number,
                                  counted from 1, the later one where two meet
        DIR/overlays/<name>.jpg   the photograph with the masks on it, unless --no-overlays
        a CSV with --csv          ids (file names without suffix) and RLE; with --sample in the order and the columns of
                                  a sample submission, and an empty mask for a photograph that cannot be read

All folds of all models are averaged, blended and post-processed as for the submission; --folds 1 and
--set prediction.flip=false take a part of the time. kfold/<experiment>/experiment.yaml will do as --experiment.

    python -m pipeline segment --experiment pipeline/experiments/demo.yaml holiday/ -o out/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from PIL import Image

from pipeline.artifacts import whole_or_absent
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import Experiment, load_experiment
from pipeline.data.classes import image_ids, mask_id, mask_ids, row_columns
from pipeline.data.images import IMAGE_SUFFIXES, Photograph, read_image
from pipeline.data.sources import read_sample_submission
from pipeline.errors import DataError, some
from pipeline.learning.predictor import Predictor, to_network_size
from pipeline.rle import edges_to_text, from_edges, split_class, write_csv

COLOURS = ((255, 61, 127), (53, 224, 255), (255, 200, 40), (120, 220, 90), (170, 120, 255), (255, 130, 60))
TINT = 0.35
SAMPLE = 8  # photographs on which engines are compared


def segment(
    experiment: ExperimentOption,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs, or folders of them.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder for masks and overlays.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the masks as RLE.")] = None,
    sample: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sample submission, for the CSV's rows and columns.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=1, help="Use so many folds of each model; all when not given.")
    ] = None,
    overlays: Annotated[bool, typer.Option(help="Draw the masks on the photographs.")] = True,
    overrides: OverridesOption = None,
    quiet: QuietOption = False,
) -> None:
    """Segment photographs with a finished experiment.

    \b
    Example:
      python -m pipeline segment --experiment pipeline/experiments/demo.yaml holiday/ -o out/
    """
    if output is None and csv is None:
        raise typer.BadParameter("say where to: --output DIR, --csv FILE or both")
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    paths = find_images(images)
    rows = Rows(settings, sample)
    paths = [path for path in paths if rows.wants(path.stem)]
    rows.check({path.stem for path in paths})
    written = " and ".join(str(place) for place in (output, csv) if place is not None)
    networks = f"{', '.join(settings.models)} (folds of each: {folds or settings.folds.count})"
    console.print(f"segment: {len(paths)} photographs by {networks}, to {written}")
    first, _ = read_all(paths[:SAMPLE], settings.image.size)
    if not first:
        raise DataError(f"none of {some([str(path) for path in paths[:SAMPLE]])} is an image")
    predictor = Predictor.load(
        settings, np.stack([to_network_size(each.photograph, settings) for each in first]), len(paths), folds
    )
    broken: list[str] = []
    done = segmented(predictor, paths, broken, settings.prediction.batch_size)
    for each, edges in track(done, len(paths), "segment", console):
        rows.add(each, edges)
        if output is not None:
            write_pictures(output, each, edges, overlays)
    if csv is not None:
        rows.write(csv)
    console.print(f"segment: {len(paths) - len(broken)} photographs, in {written}")
    if broken:
        raise DataError("\n".join(broken))


@dataclass(frozen=True)
class Named:
    """A photograph, decoded as small as the network permits, as ``prepare`` does, and its file."""

    path: Path
    photograph: Photograph

    @property
    def name(self) -> str:
        """What its mask is called."""
        return self.path.stem


def find_images(given: Sequence[Path]) -> list[Path]:
    """The files among ``given``, and the image files in its folders, in the order of their names.

    Raises:
        DataError: something is missing, there is no image at all, or two would have one mask file.
    """
    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            paths += sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        elif path.exists():
            paths.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    if not paths:
        raise DataError(f"no images in {some([str(path) for path in given])}")
    by_name: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_name:
            raise DataError(f"{by_name[path.stem]} and {path} have the same name: segment them into different folders")
        by_name[path.stem] = path
    return paths


def read_all(paths: Sequence[Path], size: tuple[int, int]) -> tuple[list[Named], list[str]]:
    """Decode photographs side by side: those that can be read, and what is wrong with the others."""

    def read(path: Path) -> Named | str:
        try:
            return Named(path, read_image(path, at_least=size))
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(read, paths))
    return [each for each in found if isinstance(each, Named)], [each for each in found if isinstance(each, str)]


def segmented(
    predictor: Predictor, paths: Sequence[Path], broken: list[str], batch_size: int
) -> Iterator[tuple[Named, list[np.ndarray]]]:
    """Photographs with the edges of each class; the next batch is decoded while one is computed."""
    size = predictor.settings.image.size
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(read_all, batches[0], size)
        for following in [*batches[1:], None]:
            readable, unreadable = waiting.result()
            if following is not None:
                waiting = ahead.submit(read_all, following, size)
            broken += unreadable
            if readable:
                yield from zip(readable, predictor.masks([each.photograph for each in readable]), strict=True)


def write_pictures(folder: Path, named: Named, edges: Sequence[np.ndarray], overlays: bool) -> None:
    """The mask and, if wanted, the overlay of a photograph."""
    shape = (named.photograph.height, named.photograph.width)
    masks = [from_edges(each, shape).astype(bool) for each in edges]
    indices = np.zeros(shape, np.uint8)
    for number, mask in enumerate(masks, 1):
        indices[mask] = 255 if len(masks) == 1 else number
    with whole_or_absent(folder / "masks" / f"{named.name}.png") as path:
        Image.fromarray(indices).save(path)
    if overlays:
        with whole_or_absent(folder / "overlays" / f"{named.name}.jpg") as path:
            Image.fromarray(overlay(read_image(named.path).pixels, masks)).save(path, quality=92)


def overlay(pixels: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """The photograph, uint8 (H, W, 3), each mask tinted and outlined in a colour of its own."""
    picture = pixels.copy()
    width = max(1, round(max(pixels.shape[:2]) / 400))
    for number, mask in enumerate(masks):
        colour = COLOURS[number % len(COLOURS)]
        picture[mask] = ((1 - TINT) * picture[mask] + TINT * np.array(colour)).astype(np.uint8)
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour, width)
    return picture


class Rows:
    """The rows of the CSV: text, which is small, is all that is kept of a photograph."""

    def __init__(self, settings: Experiment, sample: Path | None) -> None:
        self.data = settings.data
        self.texts: dict[str, str] = {}
        self.sample = sample
        if sample is None:
            self.columns = row_columns(self.data.class_column_of_csvs, self.data.submission_columns)
            self.ids, self.names = [], []
        else:
            self.columns, self.ids = read_sample_submission(sample, self.data)
            self.names = [without_suffix(each) for each in image_ids(self.ids, self.data.class_names)]

    def wants(self, name: str) -> bool:
        """Whether a photograph is asked for."""
        return self.sample is None or name in self._wanted

    @cached_property
    def _wanted(self) -> set[str]:
        return set(self.names)

    def check(self, there: set[str]) -> None:
        """Refuse to begin where a photograph of the sample submission is missing."""
        missing = [name for name in self.names if name not in there]
        if missing:
            raise DataError(f"{self.sample}: {len(missing)} of its images are not there: {some(missing)}")

    def add(self, named: Named, edges: Sequence[np.ndarray]) -> None:
        shape = (named.photograph.height, named.photograph.width)
        texts = [edges_to_text(each, shape, self.data.submission_format) for each in edges]
        self.texts.update(zip(mask_ids([named.name], self.data.class_names), texts, strict=True))

    def write(self, path: Path) -> None:
        ids = self.ids or list(self.texts)
        nothing = edges_to_text(np.empty(0, np.uint32), (1, 1), self.data.submission_format)
        texts = [self.texts.get(self._key(each), nothing) for each in ids]
        with whole_or_absent(path) as new:
            write_csv(new, ids, texts, columns=tuple(self.columns))

    def _key(self, id: str) -> str:
        """The id of a row, an image's file suffix left out."""
        if self.data.class_column_of_csvs is None:
            return without_suffix(id)
        image, name = split_class(id)
        return mask_id(without_suffix(image), name)


def without_suffix(image_id: str) -> str:
    """Ids may have the files' suffixes or not."""
    return image_id.removesuffix(Path(image_id).suffix) if Path(image_id).suffix.lower() in IMAGE_SUFFIXES else image_id


if __name__ == "__main__":
    run_command(segment)
