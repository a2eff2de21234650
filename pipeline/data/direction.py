"""Find masks whose pixels are numbered along the other direction than ``data.format`` says.

Runs that are read along the wrong direction fall apart into stripes: the shape has many times as many runs across. Each
mask has one vote, and right masks must not be refused: thin upright shapes in high images, too, have fewer runs across
when they are read wrongly, but then most of their runs wrap around several lines, or are whole lines in the format.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.findings import FEWEST, STRIPES
from pipeline.rle import FORMATS, RleFormat, transpose

Size = tuple[int, int]

LOOKED_AT = 200
"""Masks that vote at most, if they have no more edges together than these:"""
MOST_EDGES = 5_000_000
WRAPS = 1
"""Line ends that most runs may run over in the better reading: one is usual for what lies around a shape."""
WHOLE = 0.5
"""Share of the runs that may begin or end with a line as the format says, which is no accident."""
AGREEING = 0.8
"""Share of the masks that must look turned."""
OBJECTING = 0.05
"""Share of the masks that may look right nevertheless."""

ALONG = {"F": "down the columns", "C": "along the rows"}


@dataclass(frozen=True)
class Votes:
    """Masks' votes on the direction of their format."""

    masks: int
    """Number of masks that can tell."""
    turned: int
    right: int
    times: float
    """Median of how many times as many runs across the masks have as along the other direction."""

    @classmethod
    def count(cls, masks: Iterable[tuple[np.ndarray, Size]], fmt: RleFormat) -> Votes:
        """Let masks vote, column-major edges with their images' (height, width); those of square images cannot."""
        ratios, turned, right, edges = [], 0, 0, 0
        for mask, (height, width) in masks:
            if mask.size < 4 or height == width:
                continue
            said, other = (height, width) if fmt.order == "F" else (width, height)
            in_file_order = mask if fmt.order == "F" else transpose(mask, (height, width))
            across = runs_across(in_file_order, said, other)
            across_turned = runs_across(in_file_order, other, said)
            ratios.append(across / across_turned)
            fits = _usual_wraps(in_file_order, other) <= WRAPS and _at_border(in_file_order, said) <= WHOLE
            turned += ratios[-1] >= STRIPES and fits
            right += ratios[-1] <= 1 / STRIPES
            edges += mask.size
            if len(ratios) == LOOKED_AT or (edges > MOST_EDGES and len(ratios) >= FEWEST):
                break
        return cls(len(ratios), turned, right, float(np.median(ratios)) if ratios else 1.0)

    @property
    def convict(self) -> bool:
        """True where so many masks look turned, and so few look right, that the format must be wrong."""
        return self.turned >= max(FEWEST, AGREEING * self.masks) and self.right <= OBJECTING * self.masks

    def evidence(self, fmt: RleFormat) -> str:
        other = "C" if fmt.order == "F" else "F"
        return (
            f"{self.turned} of {self.masks} masks looked at have more runs across if they are read {ALONG[fmt.order]}, "
            f"as {fmt.name} says, than {ALONG[other]}, the median mask {self.times:.1f} times as many"
        )


def fitting_format(fmt: RleFormat) -> str | None:
    """The preset that numbers pixels along the other direction and is the same otherwise; None without one."""
    found = [f for f in FORMATS.values() if (f.style, f.base) == (fmt.style, fmt.base) and f.order != fmt.order]
    found.sort(key=lambda each: each.empty != fmt.empty)
    return found[0].name if found else None


def runs_across(edges: np.ndarray, line: int, lines: int) -> int:
    """Runs of a mask across its lines, if these are so long and so many."""
    return transpose(edges, (line, lines)).size // 2


def _at_border(edges: np.ndarray, line: int) -> float:
    """Return the share of the runs that begin or end where lines of this length do."""
    starts, ends = (edges.reshape(-1, 2) % line).T
    return float(((starts == 0) | (ends == 0)).mean())


def _usual_wraps(edges: np.ndarray, line: int) -> float:
    """Return how many ends of lines the median run goes over."""
    starts, ends = edges.astype(np.int64).reshape(-1, 2).T
    return float(np.median((ends - 1) // line - starts // line))
