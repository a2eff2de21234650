"""The one reader of tables with pandas; masks are read by ``pipeline.rle``."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.errors import EmptyDataError, ParserWarning

from pipeline.errors import DataError
from pipeline.rle import RleError, check_first_line, check_rows, open_unpacked


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """A CSV file, packed or not, with the options of pandas; its first column is a column whatever follows it.

    Raises:
        DataError: the file is empty, damaged, no text in UTF-8, or has rows or quotes that are wrong.
    """
    separator = options.get("sep", ",")
    try:
        check_first_line(path, separator)
        with warnings.catch_warnings(), open_unpacked(path) as file:
            warnings.simplefilter("error", ParserWarning)  # all that says that fields are lost
            frame = pd.read_csv(file, index_col=False, **options)
        check_rows(path, separator)  # pandas fills up rows that are too short
        return frame
    except ParserWarning:
        reason = "its rows have more fields than the header, such as a comma at the end of each"
    except EmptyDataError:
        reason = "is empty; a table with a header is needed"
    except UnicodeDecodeError as error:
        reason = f"is no text in UTF-8: it has the byte {error.object[error.start]:#04x}; save it in that encoding"
    except RleError as error:
        raise DataError(str(error)) from None
    except ValueError as error:
        reason = _plainly(str(error))
    raise DataError(f"{path}: {reason}")


def _plainly(message: str) -> str:
    """What pandas says, in the words of the reader of masks; a row's number is the one that a spreadsheet shows."""
    if ragged := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message):
        return f"row {ragged[2]}: {ragged[3]} fields, but the header has {ragged[1]}"
    if quote := re.search(r"EOF inside string starting at row (\d+)", message):
        return f"row {int(quote[1]) + 1}: a quote is opened and never closed"
    return message.strip()
