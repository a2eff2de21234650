"""A segmentation competition pipeline: from photographs to a scored RLE submission."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
