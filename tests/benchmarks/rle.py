"""Microseconds a mask for the RLE operations, beside the usual numpy idiom and pycocotools in the same process.

    python tests/benchmarks/rle.py [--seconds 0.3]

The masks are portrait-like: a head, shoulders, and a ragged outline of hair, at 320x240 and 1920x1080 (width x
height). Each figure is the best of several rounds on one core; "12x" means that the peer takes 12 times as long.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from pycocotools import mask as coco

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
    hair = 0.01 * np.sin(61 * angle + 9 * shift[2]) * (y < 0.05)
    head = np.hypot(x + shift[0], (y + shift[1]) / 1.3) < 0.25 + hair
    shoulders = (y > 0.4) & (np.abs(x) < 0.45 + 0.1 * np.sin(3 * y))
    glasses = np.hypot(np.abs(x) - 0.09, y + 0.03) < 0.035 + shift[3]
    return ((head | shoulders) & ~glasses).astype(np.uint8)


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


def best_microseconds(calls: list[Callable[[], object] | None], seconds: float) -> list[float]:
    """The shortest mean time of each call (infinity for None) over several rounds, `seconds` a call in all.

    The calls take turns, so that a machine that is busy for a while is so for all of them.
    """
    best = [float("inf")] * len(calls)
    for call in calls:
        if call:
            call()  # compiles
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            begin = perf_counter()
            repeats = 0
            while call and (perf_counter() - begin) * ROUNDS < seconds:
                for _ in range(CALLS):
                    call()
                repeats += CALLS
            if call:
                best[i] = min(best[i], (perf_counter() - begin) / repeats * 1e6)
    return best


def cases(height: int, width: int) -> dict[str, tuple[Callable, Callable | None, Callable | None]]:
    """Operation -> (ours, the numpy idiom, pycocotools)."""
    rng = np.random.default_rng(0)
    shape = (height, width)
    masks = [portrait(height, width, rng) for _ in range(VOTERS)]
    a = masks[0]
    prob = np.clip(a * 200 + rng.integers(0, 20, shape), 0, 255).astype(np.uint8)
    edges = [rle.to_edges(mask) for mask in masks]
    texts = [rle.encode(mask) for mask in masks]
    cocos = [coco_encode(mask) for mask in masks]
    out = np.empty(shape, np.uint8)
    columns = np.asfortranarray(a)
    return {
        "mask -> text": (lambda: rle.encode(a), lambda: numpy_encode(a), lambda: coco_encode(a)),
        "mask -> edges": (lambda: rle.to_edges(a), None, lambda: coco_encode(a)),
        "F-order mask -> edges": (lambda: rle.to_edges(columns), None, lambda: coco.encode(columns)),
        "probability -> edges": (lambda: rle.to_edges(prob, 128), None, lambda: coco_encode(prob >= 128)),
        "text -> mask": (
            lambda: rle.decode(texts[0], shape),
            lambda: numpy_decode(texts[0], shape),
            lambda: coco.decode(cocos[0]),
        ),
        "text -> edges": (lambda: rle.text_to_edges(texts[0], shape), None, None),
        "edges -> mask": (lambda: rle.from_edges(edges[0], shape, out), None, lambda: coco.decode(cocos[0])),
        "IoU of edges": (
            lambda: rle.iou(edges[0], edges[1]),
            None,
            lambda: coco.iou(cocos[:1], cocos[1:2], [0]),
        ),
        "Dice of texts": (
            lambda: text_dice(texts[0], texts[1], shape),
            lambda: numpy_dice(texts[0], texts[1], shape),
            None,
        ),
        "vote of 5": (lambda: rle.vote(edges), lambda: np.sum(masks, axis=0) * 2 > VOTERS, None),
        "union of 5": (lambda: rle.union(edges), None, lambda: coco.merge(cocos)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each figure")
    seconds = parser.parse_args().seconds
    for height, width in SIZES:
        runs = rle.to_edges(portrait(height, width, np.random.default_rng(0))).size // 2
        print(f"{width}x{height}, {runs} runs{'ours µs':>22}{'numpy idiom':>14}{'pycocotools':>14}")
        for name, calls in cases(height, width).items():
            ours, *peers = best_microseconds(calls, seconds)
            ratios = [f"{peer / ours:.1f}x" if peer < float("inf") else "-" for peer in peers]
            print(f"{name:24}{ours:12.1f}{ratios[0]:>14}{ratios[1]:>14}")


if __name__ == "__main__":
    main()
