"""Print a metric to upload to Kaggle: one Python file that needs only numpy and pandas.

Reads   nothing
Writes  the file on stdout

    python -m pipeline kaggle-metric --metric dice --format kaggle > metric.py

The file is ``pipeline/host_metric.py`` with the chosen settings; instead of importing formulas from
``pipeline/metrics.py`` it holds their definitions, and what these need.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from pipeline import metrics
from pipeline.command import run_command
from pipeline.csv_options import BetaOption, BothEmptyOption, FormatOption, MetricOption
from pipeline.errors import DataError
from pipeline.rle import FORMATS, get_format

FORMULAS = Path(metrics.__file__)
TEMPLATE = FORMULAS.with_name("host_metric.py")


def kaggle_metric(
    metric: MetricOption = "dice",
    fmt: FormatOption = "kaggle",
    both_empty: BothEmptyOption = "1",
    beta: BetaOption = metrics.BETA,
) -> None:
    """Print a metric to upload to Kaggle: one Python file that needs only numpy and pandas.

    \b
    Example:
      python -m pipeline kaggle-metric --metric global-dice --format contrails > metric.py
    """
    rle = get_format(fmt)
    if rle.style not in ("pairs", "gaps"):
        known = ", ".join(name for name, preset in FORMATS.items() if preset.style in ("pairs", "gaps"))
        raise DataError(f"--format {fmt}: a metric file reads starts and lengths, not COCO's counts; choose of {known}")
    settings = {
        "METRIC": metric,
        "BETA": beta,
        "BOTH_EMPTY": both_empty,
        "BASE": rle.base,
        "GAPS": rle.style == "gaps",
        "EMPTY": rle.empty,
    }
    print(metric_file(settings), end="")


def metric_file(settings: dict[str, Any]) -> str:
    """The text of the file.

    Args:
        settings: values of the constants with these names.
    """
    template, formulas = (_with_settings(path.read_text(encoding="utf-8"), settings) for path in (TEMPLATE, FORMULAS))
    docstring, *body = ast.parse(template).body
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = next(node for node in imports if isinstance(node, ast.ImportFrom) and node.module == metrics.__name__)
    definitions, more_imports = _definitions(ast.parse(formulas).body, {alias.name for alias in ours.names})
    lines = template.splitlines()
    return "\n".join(
        [
            *lines[: docstring.end_lineno],
            "",
            *_import_lines([*(node for node in imports if node is not ours), *more_imports]),
            "",
            "\n\n\n".join(_source(formulas, node) for node in definitions),
            "",
            *lines[ours.end_lineno :],
            "",
        ]
    )


def _with_settings(source: str, settings: dict[str, Any]) -> str:
    """The source with other values in the assignments to these constants."""
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and (name := getattr(node.targets[0], "id", None)) in settings:
            line = lines[node.lineno - 1]
            begin, end = node.value.col_offset, node.value.end_col_offset
            lines[node.lineno - 1] = line[:begin] + repr(settings[name]) + line[end:]
    return "".join(lines)


def _definitions(body: list[ast.stmt], wanted: set[str]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """Those statements of a module that define what is wanted, or what these use; and their imports."""
    by_name: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            by_name[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            by_name |= {each.id: node for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            by_name |= {alias.asname or alias.name: _import_of(node, alias) for alias in node.names}
    found: dict[str, ast.stmt] = {}
    names = wanted
    while names:
        found |= {name: by_name[name] for name in names}
        used = {inner.id for name in names for inner in ast.walk(by_name[name]) if isinstance(inner, ast.Name)}
        names = (used & set(by_name)) - set(found)
    nodes = sorted(found.values(), key=lambda node: node.lineno)
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return [node for node in nodes if node not in imports], imports


def _import_of(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.stmt:
    """The import of one name alone."""
    alone = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], node.level)
    return ast.copy_location(alone, node)


def _import_lines(nodes: list[ast.stmt]) -> list[str]:
    """Each import once, that of ``__future__`` first."""
    lines = {ast.unparse(node) for node in nodes}
    return sorted(lines, key=lambda line: ("__future__" not in line, line.startswith("from"), line))


def _source(source: str, node: ast.stmt) -> str:
    """The text of a definition with its decorators."""
    begin = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    return "\n".join(source.splitlines()[begin - 1 : node.end_lineno])


if __name__ == "__main__":
    run_command(kaggle_metric)
