"""Which post-processing settings are best on the held-out images, and what that choice is honestly worth.

``tune_masks`` does it all, class by class, and ``tune_classes`` looks at them together; the parts:

- ``noise``      how sure a difference of two scores is
- ``grid``       every threshold, minimum area and triplet, exactly, from the counts at all thresholds
- ``plateau``    the settings that noise cannot tell from the best, and their middle
- ``components`` the rules on holes and components, counted on the masks' runs for the few settings that remain
- ``crossfit``   which rules earn their place, and every fold scored at settings chosen without it

Everything works on rows of images (a map, its size, its true mask, its fold and group), of one class: each class has
settings of its own.
"""

from pipeline.search.components import rule_grid
from pipeline.search.crossfit import Outcome, Rows, Search, Tuning, Worth, tune_classes, tune_masks
from pipeline.search.grid import FAMILIES, counts_at, minimum_areas

__all__ = [
    "FAMILIES",
    "Outcome",
    "Rows",
    "Search",
    "Tuning",
    "Worth",
    "counts_at",
    "minimum_areas",
    "rule_grid",
    "tune_classes",
    "tune_masks",
]
