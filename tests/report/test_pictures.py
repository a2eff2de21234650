import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import DataError
from pipeline.geometry import restore
from pipeline.metrics import Counts, dice
from pipeline.postprocess import Postprocess, mask_edges
from pipeline.report.pictures import (
    BOTH,
    PREDICTED,
    TRUE,
    difference,
    draw_mask,
    encode,
    panel_item,
    shown_size,
    small_map,
)
from pipeline.rle import area, intersection


def decoded(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))).convert("RGB"))


def test_a_picture_is_worse_rather_than_too_long():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (240, 240, 3), np.uint8)
    free, limited = encode(noise, at_most=10**6), encode(noise, at_most=12_000)
    assert len(limited) < len(free)
    assert len(limited) * 3 / 4 < 12_000 + 100
    assert decoded(limited).shape == noise.shape


def test_colours_say_what_is_missed_extra_and_right():
    truth, predicted = np.zeros((2, 40, 40), bool)
    truth[:, :20], predicted[:, 10:30] = True, True
    picture = difference(np.full((40, 40, 3), 100, np.uint8), truth, predicted)
    for column, colour in ((5, TRUE), (15, BOTH), (25, PREDICTED)):
        assert np.argmax(picture[0, column]) == np.argmax(colour)
    assert len({tuple(picture[0, column]) for column in (5, 15, 25, 35)}) == 4
    assert picture[0, 35].tolist() == [50, 50, 50]


def test_photographs_are_looked_for_in_the_data_set(run):
    data = run.settings.data.model_copy(update={"root": None})
    without = replace(run, settings=run.settings.model_copy(update={"data": data}))
    with pytest.raises(DataError, match=r"data\.root is not set"):
        draw_mask(without, 0)


@pytest.mark.parametrize(("size", "shown"), [((1080, 1920), (90, 160)), ((50, 40), (50, 40)), ((9000, 3), (160, 1))])
def test_proportions_are_kept(size, shown):
    assert shown_size(*size, 160) == shown


def test_the_panel_has_exact_counts_at_every_threshold(run):
    item = panel_item(run, 3)
    restored = restore(run.map(3), *run.sizes[3], "stretch")
    for threshold in (0, 1, 100, 128, 201, 255):
        edges = mask_edges(restored, Postprocess(threshold=threshold))
        assert item["intersection"][threshold] == intersection(edges, run.truth[3])
        assert item["predicted"][threshold] == area(edges)
    assert item["true"] == area(run.truth[3])
    probability = np.frombuffer(base64.b64decode(item["probability"]), np.uint8)
    truth = np.unpackbits(np.frombuffer(base64.b64decode(item["truth"]), np.uint8))[: probability.size]
    assert probability.size == item["height"] * item["width"]
    small = Counts(*(np.array([int(part.sum())]) for part in (truth & (probability >= 128), probability >= 128, truth)))
    exact = Counts(*(np.array([each]) for each in (item["intersection"][128], item["predicted"][128], item["true"])))
    assert dice(small)[0] == pytest.approx(dice(exact)[0], abs=0.03)


def test_a_map_is_shown_without_the_border_that_the_network_saw(run):
    """Letterboxed or stretched: at the photograph's own size it is the map that masks are made of."""
    shown = []
    for fit in ("letterbox", "stretch"):
        image = run.settings.image.model_copy(update={"fit": fit})
        fitted = replace(run, settings=run.settings.model_copy(update={"image": image}))
        for row in (0, 7):
            shown.append(small_map(fitted, row, *run.sizes[row]))
            assert np.array_equal(shown[-1], restore(run.map(row), *run.sizes[row], fit))
    assert not np.array_equal(shown[0], shown[2])
