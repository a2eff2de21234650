"""The table that a run ends with."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from pipeline.metrics import METRICS


def results_table(results: dict[str, Any]) -> Table:
    """One row for each model and one for the ensemble.

    Args:
        results: the content of ``results.json``.
    """
    table = Table(title=f"{results['experiment']}: {METRICS[results['metric']].title}", title_justify="left")
    table.add_column("model", no_wrap=True)
    folds = len(results["rows"][0]["folds"])
    headings = [*(f"fold {fold}" for fold in range(folds)), "mean OOF", "tuned OOF*", "submitted"]
    knows_test = any(row["test"] is not None for row in results["rows"])
    for heading in [*headings, "test"] if knows_test else headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results["rows"]:
        submitted = row.get("submitted_oof", row["tuned_oof"])  # once tuned settings were submitted in any case
        scores = [*row["folds"], row["mean_oof"], row["tuned_oof"], submitted, row["test"]][: len(table.columns) - 1]
        table.add_row(row["model"], *("" if score is None else f"{score:.4f}" for score in scores))
    of_classes = results["postprocess"].items()
    settings = "; ".join(f"{name}: {text}" if len(of_classes) > 1 else text for name, text in of_classes)
    table.caption = (
        f"* each fold at settings chosen on the others; {results['verdict']}\nthe submission's settings: {settings}"
    )
    if against := results.get("against"):
        table.caption += f"\nat 1/2, {against}"
    table.caption_justify = "left"
    return table
