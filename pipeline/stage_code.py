"""The code that a stage consists of: hashes of its module and of all that it imports from the project."""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path

from pipeline import PROJECT

LEFT_OUT = {
    "artifacts": "where artifacts are, and that they are written whole or not at all",
    "command": "options and printing",
    "config": "the values that it resolves settings to are in the records themselves",
    "errors": "messages",
    "locks": "waiting",
    "next_step": "printing",
    "records": "provenance itself",
    "report.preview": "a picture that no stage reads",
    "stage_code": "provenance itself",
}
"""Modules whose code is in no record, with the reason. Any other that a stage imports is; tests/test_stage_code.py
holds what may be imported from these."""


def code_of(stage: str) -> dict[str, str]:
    """Hashes of a stage's module and of the project's that it imports, directly or not; no comments in them."""
    waiting, known = [f"pipeline.stages.{stage}"], {}
    while waiting:
        name = waiting.pop()
        if name not in known:
            known[name], imported = _module(name)
            waiting += imported
    return {name.removeprefix("pipeline."): known[name][:16] for name in sorted(known)}


@functools.cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """Hash of a module and of the files of its name beside it, a page's template; what it imports from the project."""
    source = _source(name)
    tree = ast.parse(source.read_bytes())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    package = name if source.name == "__init__.py" else name.rpartition(".")[0]
    imported = {each for node in ast.walk(tree) for each in _imports(node, package)}
    beside = [file.read_bytes() for file in sorted(source.parent.glob(f"{source.stem}.*")) if file != source]
    return hashlib.sha256(b"".join([ast.dump(tree).encode(), *beside])).hexdigest(), tuple(sorted(imported))


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is nothing but a text, such as a docstring."""
    value = getattr(statement, "value", None)
    return isinstance(statement, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str)


def _imports(node: ast.AST, package: str) -> list[str]:
    """The project's modules that a statement of one of the package's modules imports."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: 1 - node.level or None] if node.level else []  # a dot is the package itself
        module = ".".join(filter(None, [*above, node.module]))
        names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
    else:
        return []
    return [name for name in names if name.startswith("pipeline.") and _source(name) and not _is_left_out(name)]


def _is_left_out(name: str) -> bool:
    return name.removeprefix("pipeline.") in LEFT_OUT


def _source(name: str) -> Path | None:
    """The file of a module of the project, if there is such a module."""
    place = PROJECT.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
