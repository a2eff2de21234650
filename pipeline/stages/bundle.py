"""Make a folder that predicts a hidden test set on Kaggle, with the internet off.

Reads   kfold/<experiment>/ weights, ensemble/weights.json, tuning.json, image_range.json; with --time-limit also
        test images and held-out ones; with --check test images, and the submission
Writes  DIR/notebook.ipynb        test images -> submission.csv, a batch in memory at a time
        DIR/pipeline/             the code
        DIR/kfold/<experiment>/   weights, blend, post-processing; settings without this machine's paths
        DIR/requirements.txt      packages that prediction imports
        DIR/README.md             how to upload it
        DIR/bundle.json           options of the command `segment`, packages by module, SHA-256 of weights and settings

The notebook makes a submission as `segment` does. With --time-limit it has as many folds and views as fit, and the
table says what each choice takes on this machine and what it costs. --check makes nothing: it runs the notebook of a
bundle on some test images, in an empty environment without a network, and compares its rows with the submission's.

    python -m pipeline bundle --experiment pipeline/experiments/demo.yaml -o upload/
    python -m pipeline bundle --experiment pipeline/experiments/demo.yaml -o upload/ --check
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.artifacts import Artifacts, whole_or_absent
from pipeline.bundling.checking import check_bundle
from pipeline.bundling.contents import write_bundle
from pipeline.bundling.plans import Plan, choose_plan
from pipeline.command import ExperimentOption, OverridesOption, QuietOption, make_console, run_command
from pipeline.config import load_experiment
from pipeline.data.cache import read_images
from pipeline.errors import DataError
from pipeline.next_step import say_next_stage


def bundle(
    experiment: ExperimentOption,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the bundle.")],
    time_limit: Annotated[
        float | None, typer.Option(min=0, metavar="MINUTES", help="Leave out folds and views until it fits.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="Images of the hidden test set; as many as the experiment's if not given.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Run the bundle that is there, and make none.")] = False,
    overrides: OverridesOption = None,
    quiet: QuietOption = False,
) -> None:
    """Make a folder that predicts a hidden test set on Kaggle, with the internet off.

    \b
    Examples:
      python -m pipeline bundle --experiment pipeline/experiments/demo.yaml -o upload/ --time-limit 60 --images 5000
      python -m pipeline bundle --experiment pipeline/experiments/demo.yaml -o upload/ --check
    """
    if images is not None and time_limit is None:
        raise typer.BadParameter("--images goes with --time-limit")
    settings = load_experiment(experiment, overrides)
    console = make_console(quiet)
    if check:
        check_bundle(output, settings, console)
        return
    if output.exists() and any(output.iterdir()):
        raise DataError(f"{output} is not empty: give a new folder")
    plan = Plan.whole(settings)
    if time_limit is not None:
        count = images or len(read_images(Artifacts.of(settings), "test"))
        plan = choose_plan(settings, count, time_limit, console)
    with whole_or_absent(output) as new:
        write_bundle(new, settings, plan)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    console.print(f"bundle: {plan}: {size / 1e6:.0f} MB in {output}; its README.md says how to upload it")
    say_next_stage(console, ["bundle", "--output", str(output), "--check"], experiment, overrides)


if __name__ == "__main__":
    run_command(bundle)
