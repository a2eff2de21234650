import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.probabilities import (
    CHUNK,
    Concatenated,
    as_bytes,
    part_rows,
    read_probabilities,
    write_probabilities,
    write_several,
)
from pipeline.errors import DataError

IDS = [f"a{number}" for number in range(37)]  # more than two chunks


def maps(count=37, size=(8, 6)):
    return np.random.default_rng(0).integers(0, 256, (count, *size), dtype=np.uint8)


def batches(array, length):
    return (array[start : start + length] for start in range(0, len(array), length))


@pytest.mark.parametrize("length", [1, 5, 16, 64])
def test_maps_come_back_with_their_ids(tmp_path, length):
    write_probabilities(tmp_path / "oof.zarr", IDS, (8, 6), batches(maps(), length))
    stored = read_probabilities(tmp_path / "oof.zarr", "predict")
    assert stored.image_ids == IDS
    assert stored.maps.dtype == np.uint8
    assert np.array_equal(stored.maps[:], maps())
    assert [path.name for path in tmp_path.iterdir()] == ["oof.zarr"]


def test_no_maps_are_a_store_too(tmp_path):
    write_probabilities(tmp_path / "test.zarr", [], (8, 6), [])
    stored = read_probabilities(tmp_path / "test.zarr", "predict")
    assert (stored.image_ids, stored.maps.shape) == ([], (0, 8, 6))


@pytest.mark.parametrize("count", [36, 38])
def test_another_number_of_maps_than_ids_is_refused(tmp_path, count):
    write_probabilities(tmp_path / "oof.zarr", IDS[:1], (8, 6), [maps(1)])
    with pytest.raises(ValueError, match=r"37 images|could not be broadcast"):
        write_probabilities(tmp_path / "oof.zarr", IDS, (8, 6), batches(maps(count), 16))
    assert read_probabilities(tmp_path / "oof.zarr", "predict").image_ids == IDS[:1]
    assert [path.name for path in tmp_path.iterdir()] == ["oof.zarr"]


def test_several_arrays_are_written_side_by_side_or_not_at_all(tmp_path):
    paths = [tmp_path / name for name in ("oof.zarr", "oof@mirrored.zarr", "oof@0.5.zarr")]
    both = np.stack([maps(), maps()[::-1], 255 - maps()])
    write_several(paths, IDS, (8, 6), (both[:, start : start + 10] for start in range(0, 37, 10)))
    for path, expected in zip(paths, both, strict=True):
        stored = read_probabilities(path, "predict")
        assert stored.image_ids == IDS
        assert np.array_equal(stored.maps[:], expected)
    with pytest.raises(ValueError, match="30 maps for 37 images"):
        write_several(paths, IDS, (8, 6), [both[:, :30] // 2])
    assert np.array_equal(read_probabilities(paths[2], "predict").maps[:], both[2])
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.slices(12))
def test_parts_are_read_as_one_array(lengths, rows):
    rows = slice(rows.start, rows.stop)
    whole = np.arange(sum(lengths)).reshape(-1, 1, 1)
    joined = Concatenated(np.split(whole, np.cumsum(lengths)[:-1]))
    assert joined.shape == whole.shape
    assert np.array_equal(joined[rows], whole[rows])


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 40))
def test_parts_cut_neither_chunks_nor_batches(images, parts, batch_size):
    rows = part_rows(images, parts, batch_size)
    assert len(rows) == parts
    assert np.concatenate(rows).tolist() == list(range(images))
    assert all(part[0] % CHUNK == part[0] % batch_size == 0 for part in rows if len(part))


def test_parts_are_alike():
    assert [len(part) for part in part_rows(100, 3, batch_size=8)] == [32, 32, 36]


def test_missing_maps_name_the_stage(tmp_path):
    with pytest.raises(DataError, match=r"oof\.zarr is missing: run the stage 'predict --fold 1' first"):
        read_probabilities(tmp_path / "oof.zarr", "predict --fold 1")


def break_metadata(store):
    (store / "zarr.json").write_text("{")


def remove_metadata(store):
    (store / "zarr.json").unlink()


def remove_ids(store):
    text = (store / "zarr.json").read_text()
    (store / "zarr.json").write_text(text.replace("image_ids", "ids"))


def make_a_file(store):
    for path in sorted(store.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    store.rmdir()
    store.write_text("no array")


@pytest.mark.parametrize("damage", [break_metadata, remove_metadata, remove_ids, make_a_file])
def test_a_broken_store_is_named(tmp_path, damage):
    write_probabilities(tmp_path / "oof.zarr", IDS[:2], (8, 6), [maps(2)])
    damage(tmp_path / "oof.zarr")
    with pytest.raises(DataError, match=r"oof\.zarr is not a readable probability array .* run 'predict' again"):
        read_probabilities(tmp_path / "oof.zarr", "predict")


def test_probabilities_are_rounded_to_the_nearest_byte():
    values = np.array([0, 0.001, 0.002, 0.5, 0.998, 0.999, 1], np.float32)
    assert as_bytes(values).tolist() == [0, 0, 1, 128, 254, 255, 255]
    exact = np.arange(256) / np.float32(255)
    assert as_bytes(exact).tolist() == list(range(256))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match="not a number from 0 to 1"):
        as_bytes(np.array([[0.5, value]], np.float32))
