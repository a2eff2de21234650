"""What is in a bundle.

pipeline/                   the code
kfold/<experiment>/         settings without this machine's paths, weights, blend, post-processing, image_range.json
notebook.ipynb              test images -> submission.csv
requirements.txt            the packages that prediction imports, in these versions
README.md                   how to upload and run it
bundle.json                 options of the command ``segment``, packages by module, SHA-256 of the experiment's files
"""

from __future__ import annotations

import re
import shutil
from importlib.metadata import packages_distributions, version
from modulefinder import ModuleFinder
from pathlib import Path, PurePath

import nbformat

from pipeline import PROJECT
from pipeline.artifacts import Artifacts, copy_folder, fingerprint, write_json, write_text
from pipeline.bundling.notebook import make_notebook
from pipeline.bundling.plans import Plan
from pipeline.config import DataSettings, EasyPortraitData, Experiment
from pipeline.data.cache import ids_have_suffixes
from pipeline.data.image_range import read_range, write_range
from pipeline.learning.networks import stored_network
from pipeline.learning.predictor import stored_blend, used_models
from pipeline.next_step import shell_line
from pipeline.records import MADE_BY, record_of
from pipeline.stored import MANIFEST, Tuning, Weights, open_json
from pipeline.yaml_files import dump_yaml

NOTEBOOK = "notebook.ipynb"
ENTRY = "pipeline/stages/segment.py"
NOT_NEEDED = ("__pycache__", "experiments", "profiles")
ONLY_TYPES = ["pipeline.data.augmentation"]  # modules that prediction names in annotations and does not import
BY_OTHERS = ("onnxscript",)  # what torch.onnx imports when a network is exported, for the engine onnxruntime

README = """\
# {name}

Predicts by {plan}. No step on Kaggle needs the internet.

1. Wheels, if Kaggle lacks packages (the notebook's second step names them): in a Kaggle notebook with the internet on,
   `pip download -r requirements.txt -d wheels`; lines of packages that are there can go first, and so can large wheels
   afterwards. Put the folder `wheels` beside this file.
2. Upload this folder as a dataset: `kaggle datasets init -p .`, give it a name in `dataset-metadata.json`, and
   `kaggle datasets create -p . --dir-mode zip`.
3. Import `notebook.ipynb` into the competition; attach this dataset and the competition's data; turn the internet off.
4. Its first step looks for a folder {images} and for {sample}. Edit the paths where these are called otherwise.

Elsewhere: `IMAGES=... SAMPLE=... jupyter execute notebook.ipynb` in this folder, or without a notebook
{command}.
"""


def write_bundle(folder: Path, settings: Experiment, plan: Plan) -> None:
    """Write all of it.

    Args:
        folder: to be made.

    Raises:
        DataError: the experiment is not finished.
    """
    copy_folder(PROJECT / "pipeline", folder / "pipeline", leave_out=NOT_NEEDED)
    copy = Artifacts(folder, settings.name)
    write_experiment(copy, settings, plan)
    needs = needed_packages()
    options = plan.options(settings)
    images, sample = names_of_data(settings.data)
    experiment = copy.settings.relative_to(folder).as_posix()
    of_ids = ["--suffix"] if sample is None and ids_have_suffixes(Artifacts.of(settings)) else []
    nbformat.write(make_notebook(experiment, images, sample, options + of_ids, str(plan)), folder / NOTEBOOK)
    write_text(folder / "requirements.txt", "".join(f"{line}\n" for line in sorted(set(needs.values()), key=str.lower)))
    command = ["python", "-m", "pipeline", "segment", "--experiment", experiment, "IMAGES"]
    readme = README.format(
        name=settings.name,
        plan=plan,
        images=code_span(images),
        sample=code_span(sample or "SAMPLE"),
        command=code_span(shell_line([*command, "--csv", "submission.csv", "--sample", "SAMPLE", *options, *of_ids])),
    )
    write_text(folder / "README.md", readme)
    files = sorted(path for path in copy.folder.rglob("*") if path.is_file())
    prints = {path.relative_to(folder).as_posix(): fingerprint(path) for path in files}
    write_json(folder / MANIFEST, {"experiment": settings.name, "options": options, "needs": needs, "files": prints})


def code_span(text: str) -> str:
    """Return a text as code in Markdown, whatever is in it; what cannot be printed as Python writes it."""
    text = text if text.isprintable() else repr(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}"


def write_experiment(copy: Artifacts, settings: Experiment, plan: Plan) -> None:
    """Settings, weights, blend and post-processing."""
    artifacts = Artifacts.of(settings)
    write_settings(copy.settings, settings)
    tuning = open_json(Tuning, artifacts.tuning, "tune", artifacts.folder)
    blend = open_json(Weights, artifacts.ensemble_weights, "ensemble", artifacts.folder)
    write_range(copy.image_range, read_range(artifacts.image_range))
    for content, new in ((tuning, copy.tuning), (blend, copy.ensemble_weights)):
        write_json(new, {key: value for key, value in content.items() if key != MADE_BY})
    for model in used_models(settings, stored_blend(artifacts, settings.members)):
        for fold in range(plan.folds):
            weights, new = artifacts.fold(model, fold).weights, copy.fold(model, fold).weights
            new.parent.mkdir(parents=True)
            about = stored_network(weights)
            shutil.copyfile(weights, new)
            write_json(record_of(new), {"network": about["network"], "sha256": fingerprint(weights)})


def write_settings(path: Path, settings: Experiment) -> None:
    """Write them without paths of this machine and without start weights, which prediction has no use for.

    Without ``workspace`` artifacts are looked for where the code lies.
    """
    values = settings.model_dump(mode="json", exclude={"workspace", "weights_dir"})
    values["data"] = {name: values["data"][name] for name in ("source", *DataSettings.model_fields) if name != "root"}
    for model in values["models"].values():
        model |= {"weights": None, "frozen": []}
    write_text(path, dump_yaml(values))


def names_of_data(data: DataSettings) -> tuple[str, str | None]:
    """What the folder of the test images and the sample submission, if any, are called below the data's folder."""
    if isinstance(data, EasyPortraitData):
        return f"images/{data.test_split or 'test'}", None
    images, sample = getattr(data, "test_images", None), getattr(data, "sample_submission", None)
    return _name_below(images or "test"), sample and _name_below(sample)


def _name_below(place: str) -> str:
    """The whole path, since several folders may have its last name; that alone where it leads out of the data's."""
    path = PurePath(place)
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def needed_packages() -> dict[str, str]:
    """Modules that prediction imports, some only where they are there, and the package of each: ``name==version``."""
    finder = ModuleFinder([str(PROJECT)], excludes=ONLY_TYPES)
    finder.run_script(str(PROJECT / ENTRY))
    outside = {name.split(".")[0] for name in finder.badmodules} | {*BY_OTHERS}
    packages = {name: found[0] for name, found in packages_distributions().items() if name in outside}
    return {name: f"{package}=={version(package)}" for name, package in sorted(packages.items())}
