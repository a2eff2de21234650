"""The metric of a segmentation competition, as a single file for Kaggle.

``score`` compares run-length encoded masks: the solution has a column of ids, a column of masks and, better,
columns height and width; the submission the ids and the column of masks. Rows are joined by id. The rows of an
id in the solution are united; in the submission an id has one row. Where images have classes, each row needs an id
of its own, made of the image's and the class's.

A mask is a text of pairs "start length start length ...", sorted and without overlaps. Masks stay runs from the
text to the score, nothing is decoded to pixels, so that plain numpy is fast and numba is not needed. Pixels may
be numbered down the columns or along the rows, as long as both tables agree.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.metrics import METRICS, Counts, ParticipantVisibleError

# The settings that `python -m pipeline kaggle-metric` chooses.
METRIC = "dice"
BOTH_EMPTY = "1"  # what an image is worth where prediction and truth are empty: "1", "0", or "nan", left out
BASE = 1  # the first pixel's number
GAPS = False  # whether a start is counted from the end of the run before
EMPTY = ""  # how a mask without pixels is written

HEIGHTS = ("height", "image_height", "img_height", "height_pixels", "h")
WIDTHS = ("width", "image_width", "img_width", "width_pixels", "w")
MASKS = ("rle", "rle_mask", "encodedpixels", "encoded_pixels", "mask", "pixels", "predicted", "prediction")
MASKS += ("segmentation", "annotation")
CLASSES = ("class", "class_id", "classid", "category", "category_id", "label")
NO_LIMIT = 2**32 - 1  # pixels that an image can have

_DIGITS = b"0123456789 "


def score(solution: pd.DataFrame, submission: pd.DataFrame, row_id_column_name: str) -> float:
    """The score of a submission.

    Args:
        solution: ids, masks and, if it has them, heights and widths; the masks are in the column of a usual name, or in
            the first other one.
        submission: ids and masks, in columns of the same names.
        row_id_column_name: the column of ids.

    Raises:
        ParticipantVisibleError: the submission is wrong: columns, ids, or a mask, named by row (as in a file with
            a header), id and token.
        ValueError: the solution is wrong, or no image counts.
    """
    mask_column = _mask_column(solution, row_id_column_name)
    for column in (row_id_column_name, mask_column):
        if column not in submission.columns:
            raise ParticipantVisibleError(f"the submission has no column {column!r}")
    ids = _texts(solution[row_id_column_name])
    predicted_ids = _texts(submission[row_id_column_name])
    pixels = _pixels(solution, ids)
    _check_ids(predicted_ids, pixels)
    try:
        true = _edges(ids, _texts(solution[mask_column]), pixels)
    except ParticipantVisibleError as error:
        raise ValueError(f"solution: {error}") from None
    predicted = _edges(predicted_ids, _texts(submission[mask_column]), pixels)
    result = float(METRICS[METRIC](_counts(predicted, true, len(pixels)), float(BOTH_EMPTY)))
    if not np.isfinite(result):
        raise ValueError("no image counts: predictions and truths are all empty")
    return result


# --------------------------------------------------------------------------------------------------- the tables


def _mask_column(solution: pd.DataFrame, id_column: str) -> str:
    """The solution's column of a usual name, or the first that is no id, size, class, or Kaggle's public or private."""
    if id_column not in solution.columns:
        raise ValueError(f"solution: no column {id_column!r}; it has {', '.join(map(str, solution.columns))}")
    others = {"usage", *HEIGHTS, *WIDTHS, *CLASSES}
    names = [column for column in solution.columns if column != id_column]
    if solution[id_column].duplicated().any() and any(str(column).lower() in CLASSES for column in names):
        raise ValueError("solution: with a column of classes, each row needs an id of its own, not the image's")
    for usual in (lambda name: name in MASKS, lambda name: name not in others):
        for column in names:
            if usual(str(column).strip().lower()):
                return column
    raise ValueError(f"solution: no column of masks besides {id_column!r}")


def _texts(column: pd.Series) -> list[str]:
    """A column as texts, NaN as an empty one; whole numbers, as pandas reads -1 or an id, as the file had them."""
    return [
        "" if pd.isna(value) else str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for value in column
    ]


def _pixels(solution: pd.DataFrame, ids: list[str]) -> dict[str, int]:
    """Each image's number of pixels, by id; without columns of sizes, what no image exceeds."""
    lower = {str(column).lower(): column for column in solution.columns}
    heights = next((lower[name] for name in HEIGHTS if name in lower), None)
    widths = next((lower[name] for name in WIDTHS if name in lower), None)
    if heights is None or widths is None:
        return dict.fromkeys(ids, NO_LIMIT)
    pixels: dict[str, int] = {}
    for image_id, height, width in zip(ids, solution[heights], solution[widths], strict=True):
        if pixels.setdefault(image_id, int(height) * int(width)) != int(height) * int(width):
            raise ValueError(f"solution: the rows of id {image_id} differ in their image's size")
    return pixels


def _check_ids(predicted: list[str], known: dict[str, int]) -> None:
    """ParticipantVisibleError unless the submission has every id of the solution, once, and no other."""
    row_of: dict[str, int] = {}
    for row, image_id in enumerate(predicted, 2):
        if image_id == "":
            raise ParticipantVisibleError(f"row {row}: the id is empty")
        if image_id in row_of:
            raise ParticipantVisibleError(f"row {row} (id {image_id}): the id is in row {row_of[image_id]} already")
        row_of[image_id] = row
    missing = [image_id for image_id in known if image_id not in row_of]
    extra = [image_id for image_id in predicted if image_id not in known]
    if missing:
        raise ParticipantVisibleError(f"{len(missing)} of the {len(known)} ids are missing: {_some(missing)}")
    if extra:
        raise ParticipantVisibleError(f"{len(extra)} ids are unknown: {_some(extra)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# ---------------------------------------------------------------------------------------------- texts into runs


def _edges(ids: list[str], texts: list[str], pixels: dict[str, int]) -> np.ndarray:
    """All masks as one: int64 (2, R), the starts and ends of its runs, which are sorted and do not touch.

    The pixels of image p, in the order of ``pixels``, are numbered from p * 2**32 on: no run reaches the next one.
    """
    position_of = {image_id: position for position, image_id in enumerate(pixels)}
    runs = [np.empty((2, 0), np.int64)]
    for row, (image_id, text) in enumerate(zip(ids, texts, strict=True), 2):
        try:
            runs.append(_runs(text, pixels[image_id]) + (position_of[image_id] << 32))
        except ValueError as error:
            raise ParticipantVisibleError(f"row {row} (id {image_id}): {error}") from None
    starts, ends = np.concatenate(runs, axis=1)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    first = np.ones(starts.size, bool)  # of the runs that overlap or touch: rows of one id are united
    first[1:] = starts[1:] > ends[:-1]
    return np.stack([starts[first], ends[np.roll(first, -1)]])


def _runs(text: str, pixels: int) -> np.ndarray:
    """The starts and ends of a text's runs, int64 (2, R), numbered from 0. ValueError names the first wrong token."""
    text = text.strip(" ")
    if text in ("nan", "NaN"):
        text = ""
    if text == EMPTY:
        return np.empty((2, 0), np.int64)
    if text == "":
        raise ValueError(f"a blank field; an empty mask is written as {EMPTY!r}")
    if text.isascii() and not text.encode().translate(None, delete=_DIGITS):
        numbers = np.fromstring(text, np.int64, sep=" ")
        if numbers.size % 2 == 0 and numbers.max() <= NO_LIMIT:
            gaps, lengths = numbers.reshape(-1, 2).T
            ends = np.cumsum(numbers)[1::2] if GAPS else gaps - BASE + lengths
            starts = ends - lengths
            inside = starts[0] >= 0 and ends[-1] <= pixels
            if inside and lengths.min() > 0 and (starts[1:] >= ends[:-1]).all():
                return np.stack([starts, ends])
    return _runs_one_by_one(text, pixels)


def _runs_one_by_one(text: str, pixels: int) -> np.ndarray:
    """What ``_runs`` accepts, token by token: slower, and says what is wrong."""
    tokens = [token for token in text.split(" ") if token]
    starts, ends = [], [0]
    for i in range(0, len(tokens), 2):
        start = _number(i + 1, tokens[i]) + (ends[-1] if GAPS else -BASE)
        if i + 1 == len(tokens):
            raise _wrong(i + 1, tokens[i], "a start without a length (odd number of tokens)")
        length = _number(i + 2, tokens[i + 1])
        if start < 0:
            raise _wrong(i + 1, tokens[i], f"start below {BASE}, the first pixel's number")
        if starts and start < starts[-1]:
            raise _wrong(i + 1, tokens[i], "run starts before the one in front of it (runs must be sorted)")
        if start < ends[-1]:
            raise _wrong(i + 1, tokens[i], f"run overlaps the one in front of it, which ends at pixel {ends[-1]}")
        if length == 0:
            raise _wrong(i + 2, tokens[i + 1], "a run's length must be at least 1")
        if start + length > pixels:
            raise _wrong(i + 2, tokens[i + 1], f"run ends at pixel {start + length}, past the image's {pixels} pixels")
        starts.append(start)
        ends.append(start + length)
    return np.array([starts, ends[1:]], np.int64)


def _number(position: int, token: str) -> int:
    """The token's value; not by ``int`` alone, which also takes '+1', '1_0' and other scripts' digits."""
    if token[:1] == "-" and token[1:].isascii() and token[1:].isdigit():
        raise _wrong(position, token, "negative")
    if not (token.isascii() and token.isdigit()):
        raise _wrong(position, token, "not a whole number")
    digits = token.lstrip("0") or "0"  # Python refuses thousands of digits, leading zeros among them
    if len(digits) > 10 or int(digits) > NO_LIMIT:
        raise _wrong(position, token, f"too large, no image has more than {NO_LIMIT} pixels")
    return int(digits)


def _wrong(position: int, token: str, reason: str) -> ValueError:
    shown = token if len(token) <= 40 else token[:37] + "..."
    return ValueError(f"token {position} {shown!r}: {reason}")


# --------------------------------------------------------------------------------------------- runs into counts


def _counts(predicted: np.ndarray, true: np.ndarray, images: int) -> Counts:
    """Counts of each image, int64 (images,), from the runs of all."""
    # Foreground pixels of the truth up to any place: a line that rises along its runs. Exact, below 2**53.
    places = true.T.ravel()
    pixels = np.repeat(np.concatenate([[0], np.cumsum(true[1] - true[0])]), 2)[1:-1]
    starts, ends = np.interp(predicted, places, pixels) if places.size else np.zeros(predicted.shape)
    return Counts(
        _sums(predicted[0], ends - starts, images),
        _sums(predicted[0], predicted[1] - predicted[0], images),
        _sums(true[0], true[1] - true[0], images),
    )


def _sums(starts: np.ndarray, amounts: np.ndarray, images: int) -> np.ndarray:
    """The runs' amounts added up by image."""
    return np.bincount(starts >> 32, amounts, minlength=images).astype(np.int64)
