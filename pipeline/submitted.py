"""The format of a submission's masks: the settings', with the sample submission's text for an empty mask."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import DataSettings
from pipeline.data.tables import read_table
from pipeline.linting.sample import empties_of
from pipeline.rle import RleFormat, get_format


def format_of_submission(data: DataSettings, sample: Path | None = None) -> RleFormat:
    """The format of ``data.submission_format``, with the sample submission's text for an empty mask.

    Args:
        sample: another sample submission than the data set's.
    """
    fmt = get_format(data.submission_format)
    if sample is None and getattr(data, "sample_submission", None) is not None:
        sample = data.root / data.sample_submission
    if sample is None or not sample.is_file():
        return fmt
    texts = read_table(sample, dtype=str, keep_default_na=False).iloc[:, -1]
    empties = empties_of(texts.str.strip(" ").tolist(), fmt)
    return fmt if empties.accept(fmt.empty) else get_format(f"{fmt.name.partition(':')[0]}:{empties.written}")
