"""Scoring a CSV: whole processes beside the usual idioms, and the reader's speed in process.

    python tests/benchmarks/score_csv.py [--rows 10000] [--size 240 320] [--no-peers]

"pandas + numpy" decodes every mask to pixels, as most notebooks do; "pandas + pycocotools" converts texts to
COCO's counts. All compute the mean Dice of the same two files, from the start of Python to its end. In process,
one pass reads both files and counts, warm, on one core and on all. Peak memory is that of our whole process.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline import rle
from tests.benchmarks.rle import portrait

PROJECT = Path(__file__).parents[2]
BASES = 12  # drawn masks; the rest are moved copies of them
FEW = 145

IDIOM = """
import sys, numpy as np, pandas as pd
def decode(text, shape):
    mask = np.zeros(shape[0] * shape[1], np.uint8)
    numbers = np.asarray(text.split(), dtype=int)
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    for start, end in zip(starts, starts + lengths):
        mask[start:end] = 1
    return mask.reshape(shape[::-1]).T
a, b = (pd.read_csv(path, dtype={"image_id": str}, keep_default_na=False) for path in sys.argv[1:3])
both = b.merge(a, on="image_id")
scores = []
for row in both.itertuples():
    p, t = decode(row.rle_y, (row.height, row.width)), decode(row.rle_x, (row.height, row.width))
    total = p.sum(dtype=int) + t.sum(dtype=int)
    scores.append(2 * (p & t).sum(dtype=int) / total if total else 1.0)
print(np.mean(scores))
"""
COCO = """
import sys, numpy as np, pandas as pd
from pycocotools import mask as coco
def convert(text, shape):
    numbers = np.array(text.split(), dtype=np.int64)
    starts, ends = numbers[::2] - 1, numbers[::2] - 1 + numbers[1::2]
    edges = np.concatenate([[0], np.stack([starts, ends], 1).ravel(), [shape[0] * shape[1]]])
    return coco.frPyObjects({"size": list(shape), "counts": np.diff(edges).tolist()}, *shape)
a, b = (pd.read_csv(path, dtype={"image_id": str}, keep_default_na=False) for path in sys.argv[1:3])
both = b.merge(a, on="image_id")
scores = []
for row in both.itertuples():
    p, t = (convert(text, (row.height, row.width)) for text in (row.rle_y, row.rle_x))
    total = int(coco.area(p)) + int(coco.area(t))
    scores.append(2 * int(coco.area(coco.merge([p, t], True))) / total if total else 1.0)
print(np.mean(scores))
"""
PEERS = {"pandas + numpy": IDIOM, "pandas + pycocotools": COCO}


def write_files(folder: Path, rows: int, height: int, width: int) -> tuple[Path, Path]:
    """A submission and its truth, of different masks in every row."""
    rng = np.random.default_rng(0)
    bases = [rle.to_edges(portrait(height, width, rng)) for _ in range(BASES)]
    shape = (height, width)
    files = folder / "submission.csv", folder / "truth.csv"
    for path, turn in zip(files, (0, 1), strict=True):
        texts = []
        for row in range(rows):
            # Moved by a few pixels in both directions, so that no two rows are equal.
            top, left = row % 17 - 8 + turn, row // 17 % 17 - 8
            moved = rle.crop(bases[row % BASES], shape, top, left, shape)
            texts.append(rle.edges_to_text(moved, shape))
        sizes = [shape] * rows if turn else None
        rle.write_csv(path, [f"image_{row:06d}" for row in range(rows)], texts, sizes=sizes)
    return files


def process_seconds(command: list[str], repeats: int = 3) -> tuple[float, float]:
    """The shortest time of a process, and its peak memory in bytes."""
    best = float("inf")
    for _ in range(repeats):
        begin = perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(PROJECT)})
        _, status, usage = os.wait4(process.pid, 0)
        best = min(best, perf_counter() - begin)
        if status:
            raise RuntimeError(f"{command[:4]} failed")
    return best, usage.ru_maxrss * 1024


def whole_processes(files: tuple[Path, Path], peers: bool) -> None:
    size = sum(path.stat().st_size for path in files)
    arguments = list(map(str, files))
    ours, peak = process_seconds([sys.executable, "-m", "pipeline", "score", *arguments, "--json"])
    print(f"  pipeline score        {ours:8.3f} s   peak memory {peak / 1e6:.0f} MB, {peak / size:.1f}x the files")
    for name, code in PEERS.items() if peers else ():
        seconds, _ = process_seconds([sys.executable, "-c", code, *arguments], repeats=2)
        print(f"  {name:22}{seconds:8.3f} s   {seconds / ours:.1f}x")


def in_process(files: tuple[Path, Path], cores: set[int]) -> None:
    """Speed of reading and counting, warm, on the given cores."""
    size = sum(path.stat().st_size for path in files)
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    best = float("inf")
    for _ in range(5):
        begin = perf_counter()
        submission, truth = (rle.read_csv(path) for path in files)
        read = perf_counter() - begin
        rle.intersections(submission, truth), rle.areas(submission), rle.areas(truth)
        if perf_counter() - begin < best:
            best, reading = perf_counter() - begin, read
    os.sched_setaffinity(0, own)
    print(
        f"  in process, {len(cores)} core{'s' * (len(cores) > 1):2} {best:.4f} s, {size / best / 1e9:.2f} GB/s", end=""
    )
    print(f" (reading {reading:.4f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--size", nargs=2, type=int, default=(320, 240), metavar=("H", "W"))
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="ours only")
    arguments = parser.parse_args()
    height, width = arguments.size
    for rows in (FEW, arguments.rows):
        with tempfile.TemporaryDirectory() as folder:
            files = write_files(Path(folder), rows, height, width)
            size = sum(path.stat().st_size for path in files)
            print(f"{rows} rows of {width}x{height}, both files {size / 1e6:.1f} MB")
            whole_processes(files, arguments.peers)
            cores = os.sched_getaffinity(0)
            for some in (set(sorted(cores)[:1]), cores):
                in_process(files, some)


if __name__ == "__main__":
    main()
