"""Images a second out of a folder of FullHD JPEGs: decoded in every epoch, as in a notebook, against ours.

    python tests/benchmarks/loading.py [--images 40] [--size 384 384] [--copies 2000]

"prepare" is what reading costs once, at reduced size and in one process; "an epoch" is what every epoch then
costs, from the memory-mapped copies. Neither has augmentation in it, which is the same for all.

The last line is an epoch of training on many copies, in random order and augmented, and how much memory of its own
the process has gained by it: what it maps of the files is the page cache's, which the system takes back when it must.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline.config import AugmentationSettings
from pipeline.data.augmentation import Augmentation
from pipeline.data.cache import open_small
from pipeline.data.dataset import HeldOutImages, TrainingImages
from pipeline.data.images import read_image
from pipeline.data.portraits import draw_portrait
from pipeline.geometry import shrink

ROUNDS = 3
FULL_HD = (1080, 1920)
DRAWN = (540, 960)  # the largest that is drawn in reasonable time; enlarged to FullHD


def write_photographs(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        image, _ = draw_portrait(0, number, 0, DRAWN)
        large = cv2.resize(image, FULL_HD[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(path), cv2.cvtColor(large, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return paths


def images_per_second(read: Callable[[int], object], count: int) -> float:
    """The best of several epochs."""
    seconds = []
    for _ in range(ROUNDS):
        begin = perf_counter()
        for row in range(count):
            read(row)
        seconds.append(perf_counter() - begin)
    return count / min(seconds)


def own_memory() -> float:
    """MiB of this process, pages of mapped files left out (Linux)."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def write_copies(path: Path, count: int, like: np.ndarray) -> float:
    """A file of so many arrays, which repeats the few that there are; returns its size in GB."""
    copies = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *like.shape[1:]))
    for first in range(0, count, len(like)):
        copies[first : first + len(like)] = like[: count - first]
    return copies.nbytes / 1e9


def train_on_copies(folder: Path, images: np.ndarray, count: int) -> str:
    """What an epoch of training on so many copies is like."""
    paths = folder / "copies.npy", folder / "masks.npy"
    as_masks = images[..., :1]
    size = write_copies(paths[0], count, images) + write_copies(paths[1], count, as_masks)
    rows = np.random.default_rng(0).permutation(count)
    data = TrainingImages(*map(open_small, paths), rows, Augmentation(AugmentationSettings(), 0, [0]), epoch=0)
    for index in range(min(count, 100)):  # what is loaded and set up once
        data[index]
    before, begin = own_memory(), perf_counter()
    for index in range(count):
        data[index]
    rate, grown = count / (perf_counter() - begin), own_memory() - before
    return f"a training epoch of {count} copies ({size:.1f} GB): {rate:.0f} images/s, {grown:+.0f} MiB of memory"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", nargs=2, type=int, default=(384, 384), metavar=("H", "W"))
    parser.add_argument("--copies", type=int, default=2000)
    arguments = parser.parse_args()
    height, width = arguments.size
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), arguments.images)

        def notebook(row: int) -> np.ndarray:
            image = cv2.cvtColor(cv2.imread(str(paths[row])), cv2.COLOR_BGR2RGB)
            return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

        def prepare(row: int) -> np.ndarray:
            photograph = read_image(paths[row], at_least=(height, width))
            full = {"height": photograph.height, "width": photograph.width}
            return shrink(photograph.pixels, (height, width), "stretch", **full)

        small = np.stack([prepare(row) for row in range(len(paths))])
        apart = np.mean([np.abs(copy.astype(int) - notebook(row)).mean() for row, copy in enumerate(small)])
        cache = Path(folder) / "images.npy"
        np.save(cache, small)
        data = HeldOutImages(open_small(cache), None, np.arange(len(paths)))
        rates = {
            "notebook, every epoch": images_per_second(notebook, len(paths)),
            "prepare, once": images_per_second(prepare, len(paths)),
            "ours, an epoch": images_per_second(data.__getitem__, len(paths)),
        }
        training = train_on_copies(Path(folder), small, arguments.copies)
    slowest = rates["notebook, every epoch"]
    print(f"{len(paths)} JPEGs of 1920x1080 to {height}x{width}, one core; copies differ by {apart:.2f} grey levels")
    for name, rate in rates.items():
        print(f"  {name:24}{rate:10.1f} images/s{rate / slowest:8.1f}x")
    print(f"  {training}")


if __name__ == "__main__":
    main()
