"""Segment photographs with a finished experiment.

Reads   images, or folders of them; kfold/<experiment>/ weights, ensemble/weights.json, tuning.json, image_range.json
Writes  DIR/masks/<name>.png      uint8 at the photograph's size: 255 in the mask; with several classes their number,
                                  counted from 1, the later one where two meet
        DIR/overlays/<name>.jpg   the photograph with the masks on it, unless --no-overlays
        a CSV with --csv          ids and RLE; with --sample in the order and the columns of a sample submission, and an
                                  empty mask for a photograph that cannot be read; without, ids are file names, with
                                  their suffix if the experiment's training CSV has it

All folds of all models are averaged, blended and post-processed as for the submission; --folds 1 and
--set prediction.flip=false take a part of the time. kfold/<experiment>/experiment.yaml will do as --experiment.

    python -m pipeline segment --experiment pipeline/experiments/demo.yaml holiday/ -o out/
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from PIL import Image

from pipeline.artifacts import Artifacts, whole_or_absent
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import DataSettings, Experiment, load_experiment
from pipeline.data.cache import ids_have_suffixes
from pipeline.data.classes import Overlaps, image_ids, mask_ids, row_columns
from pipeline.data.folders import ImageFolder, beside, ids_of
from pipeline.data.image_range import reading_of
from pipeline.data.images import MASK_BYTES, UPRIGHT, Reading, read_image
from pipeline.data.pairs import pair_ids
from pipeline.data.sources import read_sample_submission
from pipeline.errors import DataError, some
from pipeline.learning.predictor import Predictor, to_network_size
from pipeline.memory import DECODING
from pipeline.rle import RleFormat, edges_to_text, from_edges, get_format, shown, write_csv
from pipeline.rle.threads import available_cores
from pipeline.submitted import format_of_submission

COLOURS = ((255, 61, 127), (53, 224, 255), (255, 200, 40), (120, 220, 90), (170, 120, 255), (255, 130, 60))
TINT = 0.35
OVERLAY_BYTES = 12  # bytes that an overlay takes for each pixel of a photograph
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
    suffix: Annotated[
        bool | None,
        typer.Option(help="Ids in the CSV with the files' suffixes; if not given, as in the experiment."),
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
    folder = find_images(images)
    rows = Rows.open(settings, folder, sample, suffix)
    paths = list(rows.id_of)
    notes = [f"not read: {folder.describe_unread()}"] if folder.unread else []
    if left := len(folder.files) - len(paths):
        notes.append(f"{left} of {len(folder.files)} photographs are not in {sample}, and are left out")
    for note in notes:
        console.print(f"segment: {note}")
    written = " and ".join(str(place) for place in (output, csv) if place is not None)
    networks = f"{', '.join(settings.models)} (folds of each: {folds or settings.folds.count})"
    console.print(f"segment: {len(paths)} photographs by {networks}, to {written}")
    reading = reading_of(settings)
    first = first_readable(paths, settings, reading)
    predictor = Predictor.load(settings, small_copies(first), len(paths), folds) if first else None
    broken: list[str] = []
    done = segmented(predictor, paths, broken, settings, reading)
    overlaps = Overlaps()
    for each, edges in track(done, len(paths), "segment", console):
        rows.add(each, edges)
        overlaps.look(each.name, edges)
        if output is not None:
            try:
                write_pictures(output, each, edges, overlays, reading)
            except DataError as error:
                broken.append(str(error))
    if csv is not None:
        rows.write(csv)
    console.print(f"segment: {len(paths) - len(broken)} photographs, in {written}")
    if overlaps.found:
        console.print(f"segment: {overlaps}: each class has a threshold and rules of its own")
    if broken:
        raise DataError("\n".join(broken))


@dataclass(frozen=True)
class Named:
    """What is kept of a photograph: its file, its own size, and as much of its pixels as the network sees."""

    path: Path
    small: np.ndarray
    """uint8 (H, W, 3), of ``to_network_size``."""
    height: int
    width: int

    @property
    def name(self) -> str:
        """What its mask is called."""
        return self.path.stem

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


def find_images(given: Sequence[Path]) -> ImageFolder:
    """The files among ``given``, and the image files in its folders, in the order of their names.

    Raises:
        DataError: something is missing, there is no image at all, or two would have one mask file.
    """
    paths: list[Path] = []
    unread: dict[str, list[str]] = {}
    for path in given:
        if path.is_dir():
            folder = ImageFolder.open(path).need_images("IMAGE")
            paths += folder.files.values()
            for kind, names in folder.unread.items():
                unread.setdefault(kind, []).extend(names if len(given) == 1 else [f"{path}/{name}" for name in names])
        elif path.exists():
            paths.append(path)
        else:
            raise DataError(f"{path}: no such file or folder{beside(path)}")
    if not paths:
        raise DataError(f"no images in {some([str(path) for path in given])}")
    by_name: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_name:
            raise DataError(f"{by_name[path.stem]} and {path} have the same name: segment them into different folders")
        by_name[path.stem] = path
    place = given[0] if len(given) == 1 else Path(some([str(path) for path in given]))
    return ImageFolder(place, {path.name: path for path in paths}, unread)


def read_all(paths: Sequence[Path], settings: Experiment, reading: Reading) -> tuple[list[Named], list[str]]:
    """Decode and shrink photographs side by side: those that can be read, and what is wrong with the others."""

    def read(path: Path) -> Named | str:
        try:
            if not path.name.isprintable():
                raise DataError(f"{path.parent / shown(path.name)}: a name that is not UTF-8 text: rename the file")
            photograph = read_image(path, settings.image.size, reading)
            size = photograph.height, photograph.width
            DECODING.check(MASK_BYTES * math.prod(size), path, size, "for the mask")
        except DataError as error:
            return str(error)
        return Named(path, to_network_size(photograph, settings), photograph.height, photograph.width)

    with ThreadPoolExecutor(available_cores()) as pool:  # each holds a whole photograph
        found = list(pool.map(read, paths))
    return [each for each in found if isinstance(each, Named)], [each for each in found if isinstance(each, str)]


def first_readable(paths: Sequence[Path], settings: Experiment, reading: Reading) -> list[Named]:
    """The first photographs that can be read, at most ``SAMPLE``; none where none can."""
    found: list[Named] = []
    for start in range(0, len(paths), SAMPLE):
        found += read_all(paths[start : start + SAMPLE], settings, reading)[0]
        if len(found) >= SAMPLE:
            break
    return found[:SAMPLE]


def small_copies(photographs: Sequence[Named]) -> np.ndarray:
    """uint8 (N, H, W, 3), at network size."""
    return np.stack([each.small for each in photographs])


def segmented(
    predictor: Predictor | None, paths: Sequence[Path], broken: list[str], settings: Experiment, reading: Reading
) -> Iterator[tuple[Named, list[np.ndarray]]]:
    """Photographs with the edges of each class; the next batch is decoded while one is computed.

    Args:
        predictor: None where no photograph can be read.
        broken: gets what is wrong with those that cannot.
    """
    batch_size = settings.prediction.batch_size
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(read_all, batches[0], settings, reading)
        for following in [*batches[1:], None]:
            readable, unreadable = waiting.result()
            if following is not None:
                waiting = ahead.submit(read_all, following, settings, reading)
            broken += unreadable
            if readable:
                masks = predictor.masks(small_copies(readable), [each.size for each in readable])
                yield from zip(readable, masks, strict=True)


def write_pictures(
    folder: Path, named: Named, edges: Sequence[np.ndarray], overlays: bool, reading: Reading = UPRIGHT
) -> None:
    """Write the mask and, if wanted, the overlay of a photograph.

    Raises:
        DataError: they take more memory than there is, or the photograph is gone.
    """
    bytes_of_pixel = 1 + len(edges) + (OVERLAY_BYTES if overlays else 0)
    DECODING.check(bytes_of_pixel * math.prod(named.size), named.path, named.size, "for the pictures of its mask")
    masks = [from_edges(each, named.size).astype(bool) for each in edges]
    indices = np.zeros(named.size, np.uint8)
    for number, mask in enumerate(masks, 1):
        indices[mask] = 255 if len(masks) == 1 else number
    with whole_or_absent(folder / "masks" / f"{named.name}.png") as path:
        Image.fromarray(indices).save(path)
    if overlays:
        with whole_or_absent(folder / "overlays" / f"{named.name}.jpg") as path:
            Image.fromarray(overlay(read_image(named.path, reading=reading).pixels, masks)).save(path, quality=92)


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


@dataclass(frozen=True)
class Rows:
    """The rows of the CSV: text, which is small, is all that is kept of a photograph."""

    data: DataSettings
    columns: Sequence[str]
    id_of: dict[Path, str]
    """Id in the CSV of each photograph that is asked for."""
    ids: list[str] | None
    """Ids of the masks, in the order of the sample submission; None without one."""
    fmt: RleFormat
    """How masks are written."""
    texts: dict[str, str] = field(default_factory=dict)
    """By id."""

    @classmethod
    def open(cls, settings: Experiment, folder: ImageFolder, sample: Path | None, suffix: bool | None) -> Rows:
        """Begin with no texts.

        Args:
            folder: the photographs.
            suffix: whether ids have the files' suffixes where there is no sample submission; None: as the experiment's.

        Raises:
            DataError: the sample submission asks for nothing, or for a photograph that is missing.
        """
        data = settings.data
        if sample is None:
            with_suffix = ids_have_suffixes(Artifacts.of(settings)) if suffix is None else suffix
            columns, ids = row_columns(data.class_column_of_csvs, data.submission_columns), None
            paths = ids_of(folder.files.values(), with_suffix)
        else:
            columns, ids = read_sample_submission(sample, data)
            if not ids:
                raise DataError(f"{sample}: has no rows: it names no image to segment")
            paths = pair_ids(image_ids(ids, data.class_names), folder, sample)
        id_of = {path: image_id for image_id, path in paths.items()}
        in_order = {path: id_of[path] for path in folder.files.values() if path in id_of}
        fmt = get_format(data.submission_format) if sample is None else format_of_submission(data, sample)
        return cls(data, columns, in_order, ids, fmt)

    def add(self, named: Named, edges: Sequence[np.ndarray]) -> None:
        texts = [edges_to_text(each, named.size, self.fmt) for each in edges]
        self.texts.update(zip(mask_ids([self.id_of[named.path]], self.data.class_names), texts, strict=True))

    def write(self, path: Path) -> None:
        ids = list(self.texts) if self.ids is None else self.ids
        nothing = edges_to_text(np.empty(0, np.uint32), (1, 1), self.fmt)
        texts = [self.texts.get(each, nothing) for each in ids]
        with whole_or_absent(path) as new:
            write_csv(new, ids, texts, columns=tuple(self.columns))


if __name__ == "__main__":
    run_command(segment)
