"""A segmentation competition pipeline: from photographs to a scored RLE submission."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m pipeline`, which imports this before anything else
    from pipeline.startup import begin

    begin()

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
