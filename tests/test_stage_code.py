import ast
import json

import pytest

from pipeline import config
from pipeline.records import SECTIONS, settings_of
from pipeline.stage_code import LEFT_OUT, _module, _source, code_of


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of three modules, of which the stage imports one."""
    monkeypatch.setattr("pipeline.stage_code.PROJECT", tmp_path)
    (tmp_path / "pipeline" / "stages").mkdir(parents=True)
    (tmp_path / "pipeline" / "stages" / "draw.py").write_text('"""Draw."""\nfrom pipeline.lines import line\nline(1)\n')
    (tmp_path / "pipeline" / "lines.py").write_text("def line(x):\n    return x\n")
    (tmp_path / "pipeline" / "other.py").write_text("y = 1\n")

    def code():
        _module.cache_clear()
        return code_of("draw")

    yield tmp_path / "pipeline", code
    _module.cache_clear()


def test_code_is_what_a_stage_imports_without_its_comments(project):
    folder, code = project
    before = code()
    (folder / "other.py").write_text("y = 2\n")
    (folder / "lines.py").write_text('def line(x):\n    """A line."""\n    return x  # as it is\n')
    assert code() == before
    (folder / "lines.py").write_text("def line(x):\n    return -x\n")
    assert code() != before


@pytest.mark.parametrize("file", ["__init__.py", "round.py", "square.py", "deep/__init__.py", "deep/edges.py"])
def test_what_a_package_imports_of_itself_is_code_of_it(project, file):
    folder, code = project
    (folder / "lines.py").write_text("from pipeline.shapes import circle\n")
    texts = {
        "__init__.py": "from . import square\nfrom .round import circle\n",
        "round.py": "circle = 1\n",
        "square.py": "from .deep import edges\n",
        "deep/__init__.py": "",
        "deep/edges.py": "from .. import square\nfrom ..round import circle\n",
        "unused.py": "",
    }
    (folder / "shapes" / "deep").mkdir(parents=True)
    for name, text in texts.items():
        (folder / "shapes" / name).write_text(text)
    before = code()
    (folder / "shapes" / "unused.py").write_text("x = 1\n")
    assert code() == before
    (folder / "shapes" / file).write_text(f"{texts[file]}x = 1\n")
    assert code() != before


def test_every_stage_depends_on_how_masks_are_read():
    """The project's one package that imports itself by relative names."""
    assert "pipeline.rle.formats" in _module("pipeline.rle")[1]
    assert "pipeline.rle.kernels" in _module("pipeline.rle.algebra")[1]


def test_a_template_beside_a_module_is_code_of_it(project):
    folder, code = project
    (folder / "lines.html").write_text("<p>")
    before = code()
    (folder / "other.html").write_text("<p>")
    assert code() == before
    (folder / "lines.html").write_text("<b>")
    assert code() != before


def test_training_does_not_depend_on_what_comes_after_it():
    assert "stages.tune" in code_of("tune")
    assert not {"stages.tune", "search.grid"} & code_of("train").keys()


COMPUTING = {
    "numpy",
    "torch",
    "cv2",
    "pandas",
    "scipy",
    "sklearn",
    "PIL",
    "zarr",
    "albumentations",
    "lightning",
    "timm",
}


def imported_names(module):
    """Return what a module imports, as (module, name or None)."""
    tree = ast.parse(_source(f"pipeline.{module}").read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("module", sorted(LEFT_OUT.keys() - {"report.preview"}))
def test_what_is_left_out_computes_nothing(module):
    """A module that imports what computes is no module of paths, messages or settings."""
    assert not {name.partition(".")[0] for name, _ in imported_names(module)} & COMPUTING


def test_of_the_settings_stages_use_values_alone():
    """``config`` is left out since records have its values: its classes, and nothing that computes with them."""
    modules = {module for stage in SECTIONS for module in code_of(stage)}
    names = {name for each in modules for module, name in imported_names(each) if module == "pipeline.config"}
    sections = {name for name in names if isinstance(getattr(config, name), type)}
    assert all(issubclass(getattr(config, name), config.Settings) for name in sections)
    assert names - sections <= {"load_experiment", "data_root", "UNNAMED", "EngineName", "PrecisionName"}


@pytest.mark.parametrize("stage", sorted(SECTIONS))
def test_the_settings_of_a_stage_are_sections_and_settings_that_there_are(stage, tmp_path, write_experiment):
    settings = config.load_experiment(write_experiment(tmp_path))
    for section, left_out in SECTIONS[stage].items():
        value = getattr(settings, section)
        assert all(hasattr(value, name) or name in ("format",) for name in left_out)
    assert json.dumps(settings_of(settings, stage, "unet"))
