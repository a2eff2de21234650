"""Microseconds a mask for the RLE operations, beside the usual numpy idiom and other packages in the same process.

    python tests/benchmarks/rle.py [--seconds 0.3] [--masks train.csv]

The masks are portrait-like: a head, shoulders, an outline of hair, at 320x240 and 1920x1080 (width x height); or, with
--masks, those of a CSV with sizes that have about as many runs as its median one, as they are and enlarged. Each
figure is the best of several rounds on one core; "12x" means that the peer takes 12 times as long, and "limit" is
the share of the speed at which numpy reads (a sum of uint64) or writes (a fill) as many bytes as the mask has.
Where packages take COCO's compressed counts, which are not text in a CSV, they need not parse decimal numbers.
The last lines read and write the texts of 1600 different masks, as a CSV has them.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from hotcoco import mask as hotcoco
from pycocotools import mask as coco
from rlemasklib import RLEMask

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipeline import rle

SIZES = ((240, 320), (1080, 1920))
VOTERS = 5
ROUNDS = 7
CALLS = 4  # between two looks at the clock


def portrait(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W) uint8 of 0 and 1: a head with hair strands over shoulders, a hole for glasses."""
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y / height - 0.42) * 1.1, (x / width - 0.5) * width / height
    shift = rng.normal(0, 0.01, 4)
    angle = np.arctan2(y, x)
    hair = 0.004 * np.sin(31 * angle + 9 * shift[2]) * (y < 0.05)
    head = np.hypot(x + shift[0], (y + shift[1]) / 1.3) < 0.25 + hair
    shoulders = (y > 0.31) & (np.abs(x) < 0.45 + 0.1 * np.sin(3 * y))
    glasses = np.hypot(np.abs(x) - 0.09, y + 0.03) < 0.035 + shift[3]
    return ((head | shoulders) & ~glasses).astype(np.uint8)


def drawn_masks(height: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [portrait(height, width, rng) for _ in range(VOTERS)]


def csv_masks(path: Path) -> list[list[np.ndarray]]:
    """Typical masks of one size out of a CSV, and the same enlarged to FullHD."""
    table = rle.read_csv(path)
    usual = np.flatnonzero((table.heights == table.heights[0]) & (table.widths == table.widths[0]))
    runs = np.diff(table.offsets)[usual]
    rows = usual[np.argsort(np.abs(runs - np.median(runs)), kind="stable")[:VOTERS]]
    shape = (int(table.heights[0]), int(table.widths[0]))
    masks = [rle.from_edges(table[row], shape) for row in rows]
    larger = (1920, 1080) if shape[0] > shape[1] else (1080, 1920)
    enlarged = [cv2.resize(mask, larger[::-1], interpolation=cv2.INTER_NEAREST) for mask in masks]
    return [masks, enlarged]


def numpy_encode(mask: np.ndarray) -> str:
    """The idiom of most Kaggle notebooks."""
    pixels = np.concatenate([[0], mask.T.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def numpy_decode(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Its inverse."""
    numbers = np.asarray(text.split(), dtype=int)
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    mask = np.zeros(shape[0] * shape[1], np.uint8)
    for start, end in zip(starts, starts + lengths, strict=True):
        mask[start:end] = 1
    return mask.reshape(shape[::-1]).T


def numpy_dice(text_a: str, text_b: str, shape: tuple[int, int]) -> float:
    a, b = numpy_decode(text_a, shape), numpy_decode(text_b, shape)
    return 2 * (a * b).sum() / (a.sum() + b.sum())


def coco_encode(mask: np.ndarray) -> dict:
    return coco.encode(np.asfortranarray(mask))


def text_dice(text_a: str, text_b: str, shape: tuple[int, int]) -> float:
    return rle.dice(rle.text_to_edges(text_a, shape), rle.text_to_edges(text_b, shape))


def best_microseconds(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    """The shortest mean time of each call over several rounds, `seconds` a call in all.

    The calls take turns, so that a machine that is busy for a while is so for all of them.
    """
    best = [float("inf")] * len(calls)
    for call in calls:
        call()  # compiles
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            begin = perf_counter()
            repeats = 0
            while (perf_counter() - begin) * ROUNDS < seconds:
                for _ in range(CALLS):
                    call()
                repeats += CALLS
            best[i] = min(best[i], (perf_counter() - begin) / repeats * 1e6)
    return best


PEERS = ("numpy idiom", "pycocotools", "rlemasklib", "hotcoco")


def cases(masks: list[np.ndarray]) -> dict[str, dict[str, Callable]]:
    """Operation -> whose ("ours", a peer, or the limit "read" or "write") -> the call."""
    a, shape = masks[0], masks[0].shape
    prob = np.clip(a * 200 + np.random.default_rng(0).integers(0, 20, shape), 0, 255).astype(np.uint8)
    edges = [rle.to_edges(mask) for mask in masks]
    texts = [rle.encode(mask) for mask in masks]
    cocos = [coco_encode(mask) for mask in masks]
    hots = [hotcoco.encode(mask) for mask in masks]
    lib = [RLEMask.from_array(mask) for mask in masks]
    out = np.empty(shape, np.uint8)
    columns = np.asfortranarray(a)
    words = a.reshape(-1).view(np.uint64)
    read = {"read": words.sum}
    write = {"write": lambda: out.fill(1)}
    majority = RLEMask.make_merge_function(lambda *votes: sum(votes) * 2 > VOTERS, VOTERS)
    return {
        "mask -> text": {
            "ours": lambda: rle.encode(a),
            "numpy idiom": lambda: numpy_encode(a),
            "pycocotools": lambda: coco_encode(a),
            "hotcoco": lambda: hotcoco.encode(a),
            **read,
        },
        "mask -> edges": {
            "ours": lambda: rle.to_edges(a),
            "pycocotools": lambda: coco_encode(a),
            "rlemasklib": lambda: RLEMask.from_array(a),
            "hotcoco": lambda: hotcoco.encode(a),
            **read,
        },
        "F-order mask -> edges": {
            "ours": lambda: rle.to_edges(columns),
            "pycocotools": lambda: coco.encode(columns),
            "rlemasklib": lambda: RLEMask.from_array(columns),
            "hotcoco": lambda: hotcoco.encode(columns),
            **read,
        },
        "probability -> edges": {
            "ours": lambda: rle.to_edges(prob, 128),
            "pycocotools": lambda: coco_encode(prob >= 128),
            "rlemasklib": lambda: RLEMask.from_array(prob, threshold=128),
            "hotcoco": lambda: hotcoco.encode(prob >= 128),
            **read,
        },
        "text -> mask": {
            "ours": lambda: rle.decode(texts[0], shape),
            "numpy idiom": lambda: numpy_decode(texts[0], shape),
            "pycocotools": lambda: coco.decode(cocos[0]),
            "hotcoco": lambda: hotcoco.decode(hots[0]),
            **write,
        },
        "edges -> mask": {
            "ours": lambda: rle.from_edges(edges[0], shape, out),
            "pycocotools": lambda: coco.decode(cocos[0]),
            "rlemasklib": lambda: lib[0].decode_into(out, 1, 0),
            "hotcoco": lambda: hotcoco.decode(hots[0]),
            **write,
        },
        "IoU of edges": {
            "ours": lambda: rle.iou(edges[0], edges[1]),
            "pycocotools": lambda: coco.iou(cocos[:1], cocos[1:2], [0]),
            "rlemasklib": lambda: lib[0].iou(lib[1]),
            "hotcoco": lambda: hotcoco.iou(hots[:1], hots[1:2], [0]),
        },
        "Dice of texts": {
            "ours": lambda: text_dice(texts[0], texts[1], shape),
            "numpy idiom": lambda: numpy_dice(texts[0], texts[1], shape),
        },
        "vote of 5": {
            "ours": lambda: rle.vote(edges),
            "numpy idiom": lambda: np.sum([numpy_decode(text, shape) for text in texts], axis=0) * 2 > VOTERS,
            "rlemasklib": lambda: majority(*lib),
        },
        "union of 5": {
            "ours": lambda: rle.union(edges),
            "pycocotools": lambda: coco.merge(cocos),
            "rlemasklib": lambda: RLEMask.union(lib),
            "hotcoco": lambda: hotcoco.merge(hots),
        },
    }


def print_operations(masks: list[np.ndarray], seconds: float) -> None:
    height, width = masks[0].shape
    head = f"{width}x{height}, {rle.to_edges(masks[0]).size // 2} runs"
    print(f"{head:24}{'ours µs':>9}" + "".join(f"{name:>13}" for name in PEERS) + f"{'limit':>12}")
    for name, calls in cases(masks).items():
        times = dict(zip(calls, best_microseconds(list(calls.values()), seconds), strict=True))
        ours = times["ours"]
        ratios = [f"{times[peer] / ours:.1f}x" if peer in times else "" for peer in PEERS]
        limits = [f"{times[limit] / ours:.0%} {limit}" for limit in ("read", "write") if limit in times]
        print(f"{name:24}{ours:9.1f}" + "".join(f"{ratio:>13}" for ratio in ratios) + f"{''.join(limits):>12}")


def print_throughput(mask: np.ndarray, seconds: float) -> None:
    """Reading and writing texts, all different, in turn."""
    shape = mask.shape
    base = rle.to_edges(mask)
    masks = [rle.crop(base, shape, top, left, shape) for top in range(-20, 20, 2) for left in range(-40, 40)]
    texts = [rle.edges_to_text(mask, shape) for mask in masks]
    size = sum(map(len, texts))
    numbers = sum(mask.size for mask in masks)
    read, write, unchecked = best_microseconds(
        [
            lambda: [rle.text_to_edges(text, shape) for text in texts],
            lambda: [rle.edges_to_text(mask, shape) for mask in masks],
            lambda: [np.fromstring(text, np.uint32, sep=" ") for text in texts],
        ],
        8 * seconds,
    )
    print(f"{len(texts)} texts of {shape[1]}x{shape[0]}, {size / 1e6:.0f} MB: read and checked", end=" ")
    print(f"{size / read / 1e3:.2f} GB/s, {read / numbers * 1e3:.1f} ns a number", end=" ")
    print(f"(np.fromstring, unchecked, {unchecked / read:.1f}x); written {size / write / 1e3:.2f} GB/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each figure")
    parser.add_argument("--masks", type=Path, metavar="CSV", help="with columns of height and width")
    arguments = parser.parse_args()
    sets = csv_masks(arguments.masks) if arguments.masks else [drawn_masks(*size) for size in SIZES]
    for masks in sets:
        print_operations(masks, arguments.seconds)
    for masks in sets:
        print_throughput(masks[0], arguments.seconds)


if __name__ == "__main__":
    main()
