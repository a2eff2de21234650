"""`python -m pipeline`: all commands, listed in running order.

A command's module is imported when it is called, not before: `score` starts without torch, and `--help` reads
the one sentence for each command from its module's docstring.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import typer
import typer.core

from pipeline.command import run_command
from pipeline.interrupts import raise_once

COMMANDS = (
    *("run", "prepare", "split", "pseudo", "train", "predict", "ensemble", "tune", "submit", "score", "report"),
    *("segment", "export", "bundle", "vote", "lint", "convert", "kaggle-metric"),
)
STAGES = Path(__file__).parent / "stages"


class LazyCommands(typer.core.TyperGroup):
    """Commands by the name of their module in ``pipeline.stages``, a dash for an underscore."""

    def list_commands(self, _: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: Any, name: str) -> typer.core.TyperCommand | None:
        """What ``--help`` needs to list a command."""
        if name not in COMMANDS:
            return None
        docstring = ast.get_docstring(ast.parse((STAGES / f"{_module(name)}.py").read_text(encoding="utf-8")))
        return typer.core.TyperCommand(name, short_help=docstring.splitlines()[0])  # ``help`` would be cut off

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command itself, to be run."""
        name, stub, rest = super().resolve_command(ctx, args)
        if stub is None:
            return name, stub, rest
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        module = _module(name)
        app.command(name)(getattr(importlib.import_module(f"pipeline.stages.{module}"), module))
        raise_once()
        return name, typer.main.get_command(app), rest


def _module(command: str) -> str:
    return command.replace("-", "_")


app = typer.Typer(cls=LazyCommands, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """From photographs to a scored RLE submission, one stage at a time or all with `run`."""


if __name__ == "__main__":
    run_command(app)
