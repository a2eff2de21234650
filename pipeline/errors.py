"""The one exception that stands for "your data or your settings are wrong", never for a bug."""


class DataError(Exception):
    """Input that the pipeline cannot use.

    The message is written for the person at the command line: it names the file, the row or the key, what
    was found, and what to do. The command line prints it without a traceback and exits with status 1.
    """


def some(names: list[str], most: int = 5) -> str:
    """A readable excerpt of a long list: ``a, b, c and 12 more``."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
