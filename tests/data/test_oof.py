from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.artifacts import Artifacts
from pipeline.config import UNNAMED
from pipeline.data.cache import COLUMNS, read_folds
from pipeline.data.oof import OutOfFold, open_test_maps, read_out_of_fold
from pipeline.data.probabilities import write_probabilities
from pipeline.errors import DataError

SIZE = (4, 3)
FOLDS = [2, 0, 1, 0, 0, 2, 0, 1, 0, 0, 0, 2]
IDS = [f"a{number}" for number in range(len(FOLDS))]


def map_of(number):
    return np.full(SIZE, 10 * number + 1, np.uint8)


@pytest.fixture
def artifacts(tmp_path):
    """Uneven folds, and for every fold the maps of its images, which tell their number."""
    artifacts = Artifacts(tmp_path, "tiny")
    artifacts.folder.mkdir(parents=True)
    images = pd.DataFrame({"image_id": [*IDS, "b0"], "subset": [*["train"] * len(IDS), "test"]}).reindex(
        columns=COLUMNS
    )
    images.assign(height=9, width=9).to_csv(artifacts.images, index=False)
    folds = pd.DataFrame({"image_id": IDS, "fold": FOLDS, "group": range(len(IDS)), "stratum": 0})
    folds.to_csv(artifacts.folds, index=False)
    for fold in range(3):
        store(artifacts, fold, [number for number, own in enumerate(FOLDS) if own == fold])
    return artifacts


def store(artifacts, fold, numbers):
    batch = np.stack([map_of(number) for number in numbers])
    write_probabilities(artifacts.fold("unet", fold).oof, [IDS[number] for number in numbers], SIZE, [batch])


def test_every_slice_comes_in_the_images_order(artifacts):
    oof = read_out_of_fold(artifacts, "unet", 3, [UNNAMED])
    assert oof.fold.tolist() == FOLDS
    for start in range(len(IDS)):
        for stop in range(start, len(IDS) + 1):
            expected = [map_of(number) for number in range(start, stop)]
            assert np.array_equal(oof[start:stop], np.reshape(expected, (stop - start, *SIZE)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.data())
def test_any_folds_and_any_slice(folds, data):
    fold = np.array(folds)
    maps = [np.flatnonzero(fold == number).astype(np.uint8).reshape(-1, 1, 1) for number in range(4)]
    position = np.array([int((fold[:row] == own).sum()) for row, own in enumerate(fold)])
    start = data.draw(st.integers(0, len(folds)))
    stop = data.draw(st.integers(start, len(folds)))
    assert OutOfFold(fold, position, maps)[start:stop].ravel().tolist() == list(range(start, stop))


def test_a_split_of_another_number_of_folds_is_refused(artifacts):
    """Else the maps of a fold that nobody reads would be whatever the memory holds."""
    for count in (2, 4):
        with pytest.raises(DataError, match=r"folds\.csv has the folds 0, 1, 2, not 0, 1"):
            read_out_of_fold(artifacts, "unet", count, [UNNAMED])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"fold": [*FOLDS[:-1], -1]}, "has the folds -1, 0, 1, 2, not 0, 1, 2, 3"),
        ({"fold": [fold + 1 for fold in FOLDS]}, "has the folds 1, 2, 3, not 0, 1, 2"),
        ({"fold": [fold / 2 for fold in FOLDS]}, "has the folds 0.0, 0.5, 1.0, not"),
        ({"stratum": "large"}, "a stratum is a whole number"),
        ({"group": None}, "has no column 'group'"),
        ({"fold": None}, "has no column 'fold'"),
    ],
)
def test_folds_of_ones_own_are_checked(artifacts, change, problem):
    table = pd.read_csv(artifacts.folds).assign(**change).dropna(axis="columns")
    table.to_csv(artifacts.folds, index=False)
    with pytest.raises(DataError, match=f"folds\\.csv:? {problem}"):
        read_folds(artifacts)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("folds", lambda text: b"", ": is empty; a table with a header is needed"),
        ("folds", lambda text: text + b"a0,0,0,0,0\n", ": row 14: 5 fields, but the header has 4"),
        ("folds", lambda text: text + b'"a0,0,0,0\n', ": row 14: a quote is opened and never closed"),
        ("folds", lambda text: text + b"\xe9,0,0,0\n", ": is no text in UTF-8: it has the byte 0xe9"),
        ("images", lambda text: text[:20], ": Usecols do not match columns"),
        ("images", lambda text: text + b"b1,test\n", " row 15: 2 fields, but the header has 8"),
        (
            "images",
            lambda text: text + b"b1,test,b1.png,0x9,9,,,\n",
            ": a height or width is that of no image: run the stage",
        ),
    ],
)
def test_tables_that_are_damaged_are_named(artifacts, name, change, problem):
    path = getattr(artifacts, name)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError) as caught:
        read_folds(artifacts)
    assert str(caught.value).startswith(f"{path}{problem}")


def test_a_fold_that_is_missing_names_its_command(artifacts):
    with pytest.raises(DataError, match=r"run the stage 'predict --model fpn --fold 0' first"):
        read_out_of_fold(artifacts, "fpn", 3, [UNNAMED])


def test_maps_of_another_image_are_named(artifacts):
    store(artifacts, 1, [2, 8])
    with pytest.raises(DataError, match=r"fold1/oof\.zarr does not belong .* map 1 is of 'a8', not of 'a7'"):
        read_out_of_fold(artifacts, "unet", 3, [UNNAMED])


def test_maps_in_another_order_are_refused(artifacts):
    store(artifacts, 2, [0, 11, 5])
    with pytest.raises(DataError, match=r"map 1 is of 'a11', not of 'a5'"):
        read_out_of_fold(artifacts, "unet", 3, [UNNAMED])


def test_another_number_of_maps_is_named(artifacts):
    store(artifacts, 2, [0, 5])
    with pytest.raises(DataError, match=r"2 maps for 3 images"):
        read_out_of_fold(artifacts, "unet", 3, [UNNAMED])


def test_folds_of_other_images_are_refused(artifacts):
    folds = pd.read_csv(artifacts.folds)
    folds[::-1].to_csv(artifacts.folds, index=False)
    with pytest.raises(DataError, match=r"folds\.csv was made for other images than .* run the stage 'split' again"):
        read_out_of_fold(artifacts, "unet", 3, [UNNAMED])


def test_test_maps_in_parts_are_checked_together(artifacts):
    artifacts = replace(artifacts, parts=2)
    whole, parts = np.stack([map_of(number) for number in range(17)]), artifacts.fold("unet", 0).tests
    ids = [f"b{number}" for number in range(17)]
    write_probabilities(parts[0], ids[:16], SIZE, [whole[:16]])
    command = "predict --model unet --fold 0 --part 2/2"
    with pytest.raises(DataError, match=rf"test-2of2\.zarr is missing: run the stage '{command}' first"):
        open_test_maps(artifacts, "unet", 0, ids)
    write_probabilities(parts[1], ids[16:], SIZE, [whole[16:]])
    maps = open_test_maps(artifacts, "unet", 0, ids)
    assert np.array_equal(maps[14:17], whole[14:])
    with pytest.raises(DataError, match=r"test-1of2\.zarr, test-2of2\.zarr does not belong .* with b16; run"):
        open_test_maps(artifacts, "unet", 0, ids[:16])
    write_probabilities(parts[1], ids[16:], (4, 4), [np.zeros((1, 4, 4), np.uint8)])
    with pytest.raises(DataError, match=r"test-2of2\.zarr has maps of 4 x 4, .*test-1of2\.zarr of"):
        open_test_maps(artifacts, "unet", 0, ids)


def test_test_maps_are_checked_against_the_test_ids(artifacts):
    write_probabilities(artifacts.fold("unet", 0).tests[0], ["b0"], SIZE, [map_of(7)[None]])
    assert np.array_equal(open_test_maps(artifacts, "unet", 0, ["b0"])[:], [map_of(7)])
    with pytest.raises(DataError, match=r"test\.zarr does not belong .* map 0 is of 'b0', not of 'b1'"):
        open_test_maps(artifacts, "unet", 0, ["b1"])
