"""The notebook of a bundle: it reads a folder of test images and writes ``submission.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PLACES = Template('''\
import glob
import os
from pathlib import Path


def find(variable, name):
    """The path in an environment variable, or the first one of that name here or among Kaggle's inputs."""
    levels = ["", *("/kaggle/input/" + depth * "*/" for depth in range(1, 5))]
    pattern = glob.escape(name)
    found = [os.environ.get(variable), *(path for level in levels for path in sorted(glob.glob(level + pattern)))]
    path = next(filter(None, found), None)
    if path is None:
        raise FileNotFoundError(f"{name} is not among the inputs: attach it, or write its path here as {variable}")
    return Path(path).resolve()


EXPERIMENT = find("EXPERIMENT", $settings)
IMAGES = find("IMAGES", $images)
SAMPLE = $sample
BUNDLE = EXPERIMENT.parents[2]
print(EXPERIMENT, IMAGES, SAMPLE, sep="\\n")''')

PACKAGES = """\
import importlib.util
import json
import subprocess
import sys

for module, requirement in json.loads((BUNDLE / "bundle.json").read_text())["needs"].items():
    if importlib.util.find_spec(module) is None:
        print("installing", requirement)
        pip = [sys.executable, "-Pm", "pip", "install", "--quiet", "--no-index", "--find-links", BUNDLE / "wheels"]
        subprocess.run([*pip, requirement])"""

PREDICTION = Template("""\
OPTIONS = $options

output = Path("submission.csv")
output.unlink(missing_ok=True)
command = [sys.executable, "-P", "-m", "pipeline", "segment", "--experiment", EXPERIMENT, IMAGES, "--csv", output]
command += ["--sample", SAMPLE] if SAMPLE else []
environment = {**os.environ, "PYTHONPATH": str(BUNDLE), "FORCE_COLOR": ""}
done = subprocess.run(
    [*command, *OPTIONS], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)
print(done.stdout)
if not output.exists():
    raise RuntimeError(done.stdout)""")

ROWS = """\
import pandas as pd

pd.read_csv(output).head()"""


def make_notebook(
    settings_file: str, images: str, sample: str | None, options: Sequence[str], plan: str
) -> nbformat.NotebookNode:
    """A valid notebook, the same for equal arguments.

    Args:
        settings_file: the experiment's settings, relative to the bundle.
        images: path of the folder of the test images in the competition's data.
        sample: likewise its sample submission; None where it has none.
        options: further ones of the command ``segment``.
        plan: what these amount to, in words.
    """
    find_sample = 'os.environ.get("SAMPLE")' if sample is None else f'find("SAMPLE", {sample!r})'
    places = PLACES.substitute(settings=repr(settings_file), images=repr(images), sample=find_sample)
    cells = [
        new_markdown_cell(
            f"# {Path(settings_file).parent.name}\n\nMasks of the test images by {plan}. No step needs the internet."
        ),
        new_markdown_cell("## Places\n\nFound by name; edit them if something else is called the same."),
        new_code_cell(places),
        new_markdown_cell("## Packages\n\nThose that are missing here come from the bundle's folder `wheels`."),
        new_code_cell(PACKAGES),
        new_markdown_cell(
            "## Masks\n\nA batch of images in memory at a time. A broken image is named, and has an empty mask."
        ),
        new_code_cell(PREDICTION.substitute(options=list(options))),
        new_markdown_cell("## The first rows"),
        new_code_cell(ROWS),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # random otherwise
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    nbformat.validate(notebook)
    return notebook
