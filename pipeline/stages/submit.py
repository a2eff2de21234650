"""Write the submission CSV, read it back and check it.

Reads   kfold/<experiment>/ensemble/test.zarr, tuning.json, images.csv; the sample submission where there is one
Writes  submissions/<experiment>.csv    id (and class) and RLE, in the sample submission's order and columns
        submissions/<experiment>.json   provenance: scores, settings, inputs, versions

    python -m pipeline submit --experiment pipeline/experiments/demo.yaml
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.artifacts import Artifacts, need, read_json, whole_or_absent, write_json
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command, track
from pipeline.config import load_experiment
from pipeline.data.cache import one_row_a_mask, read_images
from pipeline.data.oof import check_ids
from pipeline.data.probabilities import CHUNK, read_probabilities
from pipeline.data.sources import submission_template
from pipeline.postprocess import final_edges, stored_postprocess
from pipeline.records import MADE_BY, Record
from pipeline.rle import edges_to_text, read_csv, write_csv


def submit(experiment: ExperimentOption, overrides: OverridesOption = None, quiet: QuietOption = False) -> None:
    """Write the submission CSV, read it back and check it.

    \b
    Example:
      python -m pipeline submit --experiment pipeline/experiments/demo.yaml
    """
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    artifacts = Artifacts.of(settings)
    tuning = read_json(need(artifacts.tuning, "tune"))
    postprocess = stored_postprocess(tuning, artifacts.tuning)
    images = read_images(artifacts, "test")
    table = one_row_a_mask(images, settings.data.class_names)
    ids = table["mask_id"].tolist()
    stored = read_probabilities(artifacts.ensemble_test, "ensemble")
    check_ids(stored, ids, artifacts.ensemble_test)
    columns, order = submission_template(settings.data, images["image_id"].tolist())
    fmt = settings.data.submission_format
    sizes = dict(zip(ids, zip(table["height"].tolist(), table["width"].tolist(), strict=True), strict=True))
    masks: dict[str, np.ndarray] = {}
    for row, mask_id in enumerate(track(ids, len(ids), "submit", console)):
        if row % CHUNK == 0:
            chunk = stored.maps[row : min(row + CHUNK, len(ids))]
        of_class = postprocess[row % len(postprocess)]
        masks[mask_id] = final_edges(chunk[row % CHUNK], *sizes[mask_id], settings.image.fit, of_class)
    record = Record.of(settings, "submit", [artifacts.images, artifacts.ensemble_test, artifacts.tuning])
    with whole_or_absent(artifacts.submission) as path:
        texts = [edges_to_text(masks[mask_id], sizes[mask_id], fmt) for mask_id in order]
        write_csv(path, order, texts, columns=tuple(columns))
        check_written(path, fmt, columns, masks, order, sizes)
        artifacts.submission_record.unlink(missing_ok=True)
    oof = tuning["sets"]["ensemble"]
    provenance = {
        "submission": artifacts.submission.name,
        "metric": tuning["metric"],
        "oof_score": {name: oof[name] for name in ("at_half", "cross_fitted", "cross_fitted_ci95", "tuned")},
        "postprocess": tuning["postprocess"],
        "settings": settings.model_dump(mode="json"),
        MADE_BY: record.stored(artifacts.submission),
    }
    write_json(artifacts.submission_record, provenance)
    empty = sum(edges.size == 0 for edges in masks.values())
    console.print(f"submit: {len(order)} rows ({empty} empty masks) in {artifacts.submission}, read back and checked")


def check_written(
    path: Path,
    fmt: str,
    columns: list[str],
    masks: dict[str, np.ndarray],
    order: list[str],
    sizes: dict[str, tuple[int, int]],
) -> None:
    """Read the CSV as a competition would, and compare ids, order and every mask.

    Raises:
        RuntimeError: something differs, which is a bug in the writer.
    """
    id_column, *class_column, rle_column = columns
    table = read_csv(
        path,
        fmt,
        columns=(id_column, rle_column),
        class_column=class_column[0] if class_column else None,
        sizes=sizes,
        unique=True,
    )
    if table.ids != order:
        raise RuntimeError(f"{path} has other ids than were written")
    for row, mask_id in enumerate(order):
        if not np.array_equal(table[row], masks[mask_id]):
            raise RuntimeError(f"{path}: the mask of {mask_id} is not what was written")


if __name__ == "__main__":
    run_command(submit)
