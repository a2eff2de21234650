"""What the commands share: their common options, how they print, and how they fail."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from numba.np import linalg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline import interrupts
from pipeline.errors import DataError, clipped
from pipeline.locks import wait_for_lock
from pipeline.rle import RleError

if TYPE_CHECKING:
    from pipeline.config import Experiment, ModelSettings  # a fifth of a second, which `score` does without

Item = TypeVar("Item")

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
LOG_WIDTH = 120  # of tables in a file or a pipe
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h

ExperimentOption = Annotated[Path, typer.Option("--experiment", "-e", metavar="FILE", help="Experiment file (YAML).")]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one setting; may be repeated for others."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
ModelOption = Annotated[str, typer.Option("--model", "-m", help="A model's name in the experiment file.")]
FoldOption = Annotated[int, typer.Option("--fold", "-k", min=0, help="The fold that is held out.")]


PARENT = "PIPELINE_PARENT"
"""In the environment of a run's jobs the number of the process that has started them: they must not outlive it, and
meet those of the next run."""


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends, however that happens (Linux).

    Args:
        parent: the parent's process number; it may have ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def join_run(parent: int) -> None:
    """Be a job of a run: end with it, and hold the log, since a cluster may go on with a job of a run that was killed.

    Args:
        parent: the number of the process that has started this one.
    """
    die_with(parent)
    os.environ[PARENT] = str(os.getpid())  # of the processes of a training on several devices
    wait_for_lock(sys.stdout)


def make_console(quiet: bool) -> Console:
    """A console that prints texts as they are, and unwrapped wherever it is not a terminal."""
    console = Console(quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    return console


def track(items: Iterable[Item], total: int, what: str, console: Console) -> Iterator[Item]:
    """Iterate with a progress bar, on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disabled = console.quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disabled) as progress:
        yield from progress.track(items, total=total, description=what)


def run_command(command: Callable[..., Any]) -> None:
    """Run a Typer app, or one stage's function as a script of its own.

    Wrong data ends in one message on stderr and status 1, wrong usage in status 2, Ctrl-C in status 130; a traceback
    is a bug.
    """
    if PARENT in os.environ:
        join_run(int(os.environ[PARENT]))
    sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: of names that are no UTF-8 text
    linalg.ensure_blas = _no_blas
    atexit.register(gc.freeze)  # else Python spends a quarter of a second on collecting numba's cycles before it ends
    app = command
    if not isinstance(command, typer.Typer):
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command()(command)
    try:
        with interrupts.as_before():
            if app is not command:
                interrupts.raise_once()
            _run(app)
    except BaseException:  # an interrupted library may raise whatever it likes
        if not interrupts.was_received():
            raise
        print(interrupts.MESSAGE, file=sys.stderr)
        sys.exit(interrupts.STATUS)


def _run(app: typer.Typer) -> None:
    try:
        app()
    except (DataError, RleError) as error:
        _fail(str(error))
    except MemoryError as error:
        _fail(f"this does not fit into the memory: {str(error) or 'the system gave no more'}")
    except OSError as error:
        if error.errno is None:
            raise
        file = error.filename2 or error.filename  # of two, what was written to
        _fail(f"{error.strerror}: {file}" if file else str(error.strerror))


def _no_blas() -> None:
    """Numba's first call imports all of SciPy's linear algebra to see whether it can compile dot products.

    No kernel here has any, and without the search `score` starts in two thirds of the time.
    """
    raise ImportError


def _fail(message: str) -> None:
    if not interrupts.was_received():
        for line in map(clipped, message.splitlines()):
            # A name's control characters would be obeyed by the terminal.
            print(f"error: {_CONTROL.sub(lambda found: repr(found[0])[1:-1], line)}", file=sys.stderr)
    sys.exit(1)


def check_model(settings: Experiment, name: str) -> ModelSettings:
    """The settings of the named model.

    Raises:
        DataError: the experiment has no such model.
    """
    if name not in settings.models:
        raise DataError(f"--model {name}: the experiment {settings.name!r} has the models {', '.join(settings.models)}")
    return settings.models[name]


def check_fold(settings: Experiment, fold: int) -> None:
    """Refuse a fold that the experiment does not have."""
    if fold >= settings.folds.count:
        raise DataError(
            f"--fold {fold}: the experiment {settings.name!r} has the folds 0 to {settings.folds.count - 1}"
        )
