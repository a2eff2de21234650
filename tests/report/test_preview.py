import numpy as np
import pandas as pd
import pytest
import zarr
from matplotlib import mathtext
from PIL import Image

from pipeline.geometry import restore
from pipeline.report import preview
from pipeline.report.pictures import Sight
from pipeline.report.poster import LINES, Column, draw_grid
from pipeline.report.preview import draw_preview
from pipeline.rle import from_edges


@pytest.fixture
def drawn(monkeypatch):
    """The columns of the grids that are drawn."""
    columns = []

    def remember(of_grid, title, path):
        columns.extend(of_grid)
        draw_grid(of_grid, title, path)

    monkeypatch.setattr(preview, "draw_grid", remember)
    return columns


def test_a_preview_has_images_of_the_fold_alone_and_their_own_dice(run, drawn, tmp_path):
    draw_preview(run.settings, "unet", 1, tmp_path / "preview.png")
    maps = zarr.open_array(run.artifacts.fold("unet", 1).oof)
    folds = pd.read_csv(run.artifacts.folds).set_index("image_id")["fold"]
    rows = {image_id: row for row, image_id in enumerate(run.held_out.ids)}
    assert len(drawn) == 6
    for column in drawn:
        image_id, score = column.title.split(": ")
        assert folds[image_id] == 1
        size = run.sizes[rows[image_id]]
        predicted = restore(maps[maps.attrs["image_ids"].index(image_id)], *size, "stretch") >= 128
        true = from_edges(run.truth[rows[image_id]], size)
        both, total = (predicted & (true > 0)).sum(), predicted.sum() + true.sum()
        assert float(score) == pytest.approx(2 * both / total if total else 1, abs=5e-4)
        assert np.array_equal(column.predicted, predicted)  # so small a photograph is shown at its own size
        assert np.array_equal(column.sight.truth, true > 0)
        assert [picture.shape for picture in column.pictures] == [(*size, 3)] * len(LINES)
    assert len({column.title for column in drawn}) == 6
    with Image.open(tmp_path / "preview.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize("title", ["$", "a$\\frac{$b", "$x_1$", "{}", "a\\nb\n"])
def test_a_title_is_not_taken_for_a_formula(tmp_path, title, monkeypatch):
    shown = []
    monkeypatch.setattr(mathtext.MathTextParser, "parse", lambda *_, **__: shown.append(1))
    sight = Sight(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), (8, 8))
    draw_grid([Column(title, sight, np.zeros((8, 8), bool))], title, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").exists()
    assert shown == []


def test_pictures_do_not_depend_on_a_file_in_the_working_directory(tmp_path, monkeypatch, python):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfigure.facecolor: red\n")
    monkeypatch.chdir(tmp_path)
    code = "from pipeline.report.poster import mpl; print(*map(mpl.rcParams.get, ['text.usetex', 'figure.facecolor']))"
    assert python("-P", "-c", code).stdout == "False white\n"
