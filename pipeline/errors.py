"""The one exception that stands for "your data or your settings are wrong", never for a bug."""

from pipeline.rle import shown

LONGEST_LINE = 3000
"""Characters of a message's line; texts from files are shortened before, one by one."""


class DataError(Exception):
    """Input that the pipeline cannot use.

    The message is written for the person at the command line: it names the file, the row or the key, what
    was found, and what to do. The command line prints it without a traceback and exits with status 1.
    """


def some(names: list[str], most: int = 5) -> str:
    """A readable excerpt of a long list of texts, long ones shortened: ``a, b, c and 12 more``."""
    first = ", ".join(map(shown, names[:most]))
    return first if len(names) <= most else f"{first} and {len(names) - most} more"


def clipped(line: str) -> str:
    """A line of a message without its middle, where it is longer than anybody reads."""
    if len(line) <= LONGEST_LINE:
        return line
    begin, end = line[: LONGEST_LINE * 2 // 3], line[-LONGEST_LINE // 4 :]
    return f"{begin} [... {len(line) - len(begin) - len(end)} characters left out ...] {end}"
