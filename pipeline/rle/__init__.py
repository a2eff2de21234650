"""Masks as run lengths.

>>> import numpy as np
>>> from pipeline import rle
>>> mask = np.array([[0, 1, 1],
...                  [0, 1, 0]], np.uint8)
>>> rle.encode(mask)  # pixels are numbered down the columns, from 1
'3 3'
>>> rle.encode(mask, "carvana")  # along the rows
'2 2 5 1'
>>> edges = rle.text_to_edges("1 3 10 5", shape=(4, 5))
>>> edges.tolist()
[0, 3, 9, 14]
>>> rle.area(edges), rle.intersection(edges, rle.to_edges(np.ones((4, 5), bool)))
(8, 8)
>>> rle.from_edges(edges, (4, 5))
array([[1, 0, 0, 1, 0],
       [1, 0, 1, 1, 0],
       [1, 0, 1, 0, 0],
       [0, 0, 1, 0, 0]], dtype=uint8)

Inside the project a mask is its *edges*: one uint32 array `[s0, e0, s1, e1, ...]` of half-open runs of
foreground pixels, numbered from 0 down the columns, sorted and not touching (s0 < e0 < s1 < e1 ...). So an
empty mask is an empty array and a full one `[0, H * W]`, neither a special case, and equal masks have equal
edges. Images of more than 2**32 - 1 pixels are refused. Areas, overlaps, unions and votes are computed on
edges, in time proportional to the number of runs; a `RleTable` holds the edges of many masks in one array. Names in
the plural take tables, and `RleTable.apply` takes any of the others to every row.

"start length" and the competitions' other conventions (`RleFormat`, `FORMATS`) exist only in texts. Reading
is strict: a text that a competition's metric might refuse, or read otherwise than was meant, is an `RleError`.
"""

from .algebra import (
    area,
    areas,
    common,
    dice,
    dices,
    difference,
    differences,
    intersection,
    intersections,
    iou,
    ious,
    pixels_by_set,
    union,
    unions,
    vote,
    votes,
)
from .codec import decode, edges_to_text, encode, text_to_edges
from .columns import check_first_line, find_class_column, find_size_columns, read_column_names
from .csv_files import read_csv, read_fields, write_csv
from .fields import check_rows
from .formats import FORMATS, RepeatedIdsError, RleError, RleFormat, SizeNeededError, get_format, shown
from .leftovers import cut_off, explain_text
from .masks import from_edges, to_edges
from .shapes import (
    Components,
    bounding_box,
    bounding_boxes,
    complement,
    components,
    crop,
    fill_holes,
    flip_horizontal,
    flip_vertical,
    keep_largest,
    remove_small,
    transpose,
)
from .table import CLASS_SEPARATOR, RleTable, split_class
from .unpacking import open_unpacked

__all__ = [
    "CLASS_SEPARATOR",
    "FORMATS",
    "Components",
    "RepeatedIdsError",
    "RleError",
    "RleFormat",
    "RleTable",
    "SizeNeededError",
    "area",
    "areas",
    "bounding_box",
    "bounding_boxes",
    "check_first_line",
    "check_rows",
    "common",
    "complement",
    "components",
    "crop",
    "cut_off",
    "decode",
    "dice",
    "dices",
    "difference",
    "differences",
    "edges_to_text",
    "encode",
    "explain_text",
    "fill_holes",
    "find_class_column",
    "find_size_columns",
    "flip_horizontal",
    "flip_vertical",
    "from_edges",
    "get_format",
    "intersection",
    "intersections",
    "iou",
    "ious",
    "keep_largest",
    "open_unpacked",
    "pixels_by_set",
    "read_column_names",
    "read_csv",
    "read_fields",
    "remove_small",
    "shown",
    "split_class",
    "text_to_edges",
    "to_edges",
    "transpose",
    "union",
    "unions",
    "vote",
    "votes",
    "write_csv",
]
