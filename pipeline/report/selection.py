"""Which masks are shown. Their number has a limit, whatever the size of the data set, and so has the page."""

from __future__ import annotations

import numpy as np

from pipeline.data.held_out import spread

EXTREMES = 6
"""Masks shown as worst, as median and as best, each."""
IN_PANEL = 48
"""Masks with an embedded probability map."""
WORST_ROWS, SPREAD_ROWS = 1000, 1000
"""Of the table."""


def extremes(worst_first: np.ndarray, each: int = EXTREMES) -> dict[str, np.ndarray]:
    """Rows with the worst, the middle and the best scores; of few masks fewer of each, and of three or more none twice.

    Args:
        worst_first: int (N,), all rows by rising score, N > 0.
    """
    shown = min(each, max(1, len(worst_first) // 3))
    middle = (len(worst_first) - shown) // 2
    return {
        "worst": worst_first[:shown],
        "median": worst_first[middle : middle + shown],
        "best": worst_first[-shown:][::-1],
    }


def panel_rows(worst_first: np.ndarray, most: int = IN_PANEL, each: int = EXTREMES) -> np.ndarray:
    """The extremes and, up to ``most``, rows at equal steps between them, by rising score."""
    picked = np.unique(np.concatenate(list(extremes(worst_first, each).values())))
    others = worst_first[~np.isin(worst_first, picked)]
    chosen = np.concatenate([picked, spread(others, max(0, most - len(picked)))])
    return worst_first[np.isin(worst_first, chosen)]


def table_rows(worst_first: np.ndarray, worst: int = WORST_ROWS, rest: int = SPREAD_ROWS) -> np.ndarray:
    """All rows if they are few, else the worst ones and a spread of the rest; by rising score."""
    return np.concatenate([worst_first[:worst], spread(worst_first[worst:], rest)])
