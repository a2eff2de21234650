"""The table that a run ends with."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def results_table(results: dict[str, Any]) -> Table:
    """One row for each model and one for the ensemble.

    Args:
        results: the content of ``results.json``.
    """
    table = Table(title=f"{results['experiment']}: mean Dice per image", title_justify="left")
    table.add_column("model")
    folds = len(results["rows"][0]["folds"])
    for heading in [*(f"fold {fold}" for fold in range(folds)), "mean OOF", "tuned OOF*", "test"]:
        table.add_column(heading, justify="right")
    for row in results["rows"]:
        test = "" if row["test"] is None else f"{row['test']:.4f}"
        scores = [*row["folds"], row["mean_oof"], row["tuned_oof"]]
        table.add_row(row["model"], *(f"{score:.4f}" for score in scores), test)
    threshold = results["threshold"]
    table.caption = f"* each fold at the threshold chosen on the others; the submission uses {threshold}/255"
    table.caption_justify = "left"
    return table
