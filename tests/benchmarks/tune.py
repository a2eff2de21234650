"""What the search for post-processing costs: thresholds, triplets, and memory.

    python tests/benchmarks/tune.py [--seconds 0.3] [--images 100 1000 10000]

First all 256 thresholds of one image, exactly, beside the usual loop over 100 thresholds in numpy, in one process.
Then what follows the pass over the images, for 1315 portraits in 5 folds: every triplet of 256 top thresholds, 40
minimum areas and 256 bottom thresholds, on all images and without each one and each two of the folds, and the plateau
around the best one. Last the memory of whole searches, each in a process of its own, of maps that are made as they
are read.
"""

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline.metrics import METRICS, Counts, Objective, dice
from pipeline.postprocess import Held, counts_by_threshold, joint_histogram, threshold_counts
from pipeline.rle import from_edges, to_edges
from pipeline.search import Rows, Search, minimum_areas, tune_masks
from pipeline.search.grid import TRIPLET, Grid
from pipeline.search.plateau import find_plateau

SIZES = ((240, 320), (1080, 1920))
ROUNDS = 5
PORTRAITS, FOLDS, AREAS = 1315, 5, 40
BASES = 8  # different maps


def portrait(height: int, width: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A map, uint8 (H, W), of a head with a soft outline, and the edges of its truth."""
    y, x = np.mgrid[0:height, 0:width]
    radius = np.hypot((y / height - rng.uniform(0.4, 0.6)) * 1.4, x / width - rng.uniform(0.4, 0.6))
    prob = np.clip(255 * (0.5 + 8 * (rng.uniform(0.2, 0.35) - radius)) + rng.normal(0, 8, (height, width)), 0, 255)
    return prob.astype(np.uint8), to_edges(radius < 0.27)


def all_thresholds(prob: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Dice at 256 thresholds, from the map and the runs of the truth."""
    histogram = joint_histogram(prob.ravel(), from_edges(edges, prob.shape).ravel())
    return dice(Counts(*counts_by_threshold(histogram), histogram[1].sum()))


def usual_loop(prob: np.ndarray, mask: np.ndarray) -> list[float]:
    """Dice at 100 thresholds, as most notebooks compute it, from a map of floats and a decoded truth."""
    scores = []
    for threshold in np.linspace(0.01, 0.99, 100):
        predicted = prob > threshold
        scores.append(2 * (predicted * mask).sum() / (predicted.sum() + mask.sum()))
    return scores


def thresholds_of_an_image(seconds: float) -> None:
    for height, width in SIZES:
        prob, edges = portrait(height, width, np.random.default_rng(0))
        mask, floats = from_edges(edges, prob.shape), (prob / 255).astype(np.float32)
        best = [float("inf")] * 2
        calls = (lambda p=prob, e=edges: all_thresholds(p, e)), (lambda f=floats, m=mask: usual_loop(f, m))
        for call in calls:
            call()  # compiles
        for _ in range(ROUNDS):  # in turns, so that a busy machine is so for both
            for number, call in enumerate(calls):
                begin, repeats = process_time(), 0
                while repeats == 0 or (process_time() - begin) * ROUNDS < seconds:
                    call()
                    repeats += 1
                best[number] = min(best[number], (process_time() - begin) / repeats)
        ours, loop = best
        times = f"256 thresholds {ours * 1e6:.0f} us; loop over 100 {loop * 1e3:.1f} ms"
        print(f"  {width}x{height}: {times}, {loop / ours:.0f}x")


def portraits(count: int) -> Iterator[Held]:
    """Maps of 96 x 96 for images of 320 x 240, made one by one."""
    rng = np.random.default_rng(0)
    bases = [(portrait(96, 96, rng)[0], portrait(320, 240, rng)[1]) for _ in range(BASES)]
    for number in range(count):
        prob, edges = bases[number % BASES]
        noise = np.random.default_rng(number).integers(0, 30, prob.shape, dtype=np.uint8)
        yield Held(np.minimum(prob, 225) + noise, 320, 240, edges if number % 5 else edges[:0])


def triplets(metric: str) -> None:
    counts = threshold_counts(portraits(PORTRAITS), PORTRAITS, "stretch")
    fold, areas = np.arange(PORTRAITS) % FOLDS, minimum_areas(320 * 240, AREAS)
    left_out = [frozenset(some) for number in range(3) for some in combinations(range(FOLDS), number)]
    times = []
    for _ in range(ROUNDS):
        begins = perf_counter(), process_time()
        grid = Grid(counts, fold, Objective(METRICS[metric]), areas)
        cells = grid.best(left_out)
        middle = perf_counter(), process_time()
        find_plateau(grid, counts, np.arange(PORTRAITS), TRIPLET, cells[frozenset()][TRIPLET])
        ends = perf_counter(), process_time()
        times.append([*np.subtract(middle, begins), *np.subtract(ends, middle)])
    search, search_cpu, plateau, plateau_cpu = np.min(times, axis=0)
    print(
        f"  {metric}: {256 * 256 * len(areas):,} triplets on {len(left_out)} sets of folds {search:.3f} s "
        f"({search_cpu:.3f} s of processor time), plateau {plateau:.3f} s ({plateau_cpu:.3f} s)"
    )


def search_memory(count: int, result: multiprocessing.SimpleQueue) -> None:
    """Peak memory that a whole search adds to what the process has had for a few images."""
    objective, search = Objective(METRICS["dice"]), Search(minimum_areas(320 * 240, AREAS))

    def run(number: int) -> None:
        counts = threshold_counts(portraits(number), number, "stretch")
        fold = np.arange(number) % FOLDS
        tune_masks(Rows(counts, fold, np.arange(number), lambda: portraits(number), "stretch"), objective, search)

    run(20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(count)
    result.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="of processor time for each call that is timed")
    parser.add_argument("--images", nargs="+", type=int, default=[100, 1000, 10_000])
    arguments = parser.parse_args()
    print("all thresholds of one image, one core")
    thresholds_of_an_image(arguments.seconds)
    print(f"all triplets of {PORTRAITS} portraits, after the pass over them")
    for metric in ("dice", "global-dice"):
        triplets(metric)
    print(
        "memory of a search beyond that of 20 images; the tables alone take 4 kB an image, the maps 9 kB, unpacked 75"
    )
    context = multiprocessing.get_context("spawn")
    for count in arguments.images:
        result = context.SimpleQueue()
        process = context.Process(target=search_memory, args=(count, result))
        process.start()
        process.join()
        print(f"  {count:6d} images: {result.get():.0f} MB")


if __name__ == "__main__":
    main()
