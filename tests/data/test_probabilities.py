import json
import shutil

import fsspec
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec

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
from pipeline.records import Record

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
    with pytest.raises(DataError, match=r"oof\.zarr: .*(: run 'predict' again|, and run its stage again)$"):
        read_probabilities(tmp_path / "oof.zarr", "predict")


def test_maps_of_zeros_are_stored_as_others_are(tmp_path):
    write_probabilities(tmp_path / "oof.zarr", IDS, (8, 6), [np.zeros((37, 8, 6), np.uint8)])
    chunks = sorted(path.relative_to(tmp_path / "oof.zarr").as_posix() for path in tmp_path.rglob("c/*/*/*"))
    assert chunks == ["c/0/0/0", "c/1/0/0", "c/2/0/0"]
    assert not read_probabilities(tmp_path / "oof.zarr", "predict").maps[:].any()


@pytest.fixture(params=["here", "memory"])
def place(request, tmp_path):
    """A file system and the root of the array ``tmp_path / "oof.zarr"`` on it, and its URL."""
    if request.param == "here":
        yield fsspec.filesystem("file"), str(tmp_path / "oof.zarr"), None
    else:
        system = fsspec.filesystem("memory")
        yield system, "/bucket/oof.zarr", "memory://bucket/oof.zarr"
        system.rm("/", recursive=True)


def record(folder):
    return Record(folder, "predict", None, {}, {}, {})


def remove(system, root):
    system.rm(f"{root}/c/1/0/0")
    return r"of 3 chunks 1 or more are missing, c/1/0/0 the first"


def shorten(system, root):
    content = system.cat_file(f"{root}/c/1/0/0")
    system.pipe_file(f"{root}/c/1/0/0", content[:-7])
    return r"c/1/0/0 is damaged, or another one than was written|a chunk cannot be decoded"


def empty(system, root):
    system.pipe_file(f"{root}/c/1/0/0", b"")
    return r"c/1/0/0 is damaged, or another one than was written|a chunk cannot be decoded"


def add(system, root):
    system.makedirs(f"{root}/c/3/0", exist_ok=True)
    system.pipe_file(f"{root}/c/3/0/0", system.cat_file(f"{root}/c/1/0/0"))
    return r"has files that are not its own: c/3/0/0"


@pytest.mark.parametrize("known", [True, False], ids=["written here", "by hand"])
@pytest.mark.parametrize("damage", [remove, shorten, empty, add])
def test_an_array_that_is_not_whole_is_refused(tmp_path, place, damage, known):
    system, root, url = place
    path = tmp_path / "oof.zarr"
    write_probabilities(path, IDS, (8, 6), [maps()], record(tmp_path) if known else None, url)
    assert np.array_equal(read_probabilities(path, "predict").maps[:], maps())
    why = damage(system, root)
    with pytest.raises(DataError, match=rf"oof\.zarr: ({why}).*run 'predict' again"):
        read_probabilities(path, "predict").maps[:]


def test_a_chunk_of_another_array_is_refused(tmp_path, place):
    system, root, url = place
    path, other = tmp_path / "oof.zarr", tmp_path / "test.zarr"
    write_probabilities(path, IDS, (8, 6), [maps()], record(tmp_path), url)
    write_probabilities(other, IDS, (8, 6), [255 - maps()], record(tmp_path))
    system.pipe_file(f"{root}/c/0/0/0", (other / "c" / "0" / "0" / "0").read_bytes())
    stored = read_probabilities(path, "predict")
    assert np.array_equal(stored.maps[16:32], maps()[16:32])
    with pytest.raises(DataError, match=r"c/0/0/0 is damaged, or another one than was written"):
        stored.maps[:16]


def test_a_whole_array_of_another_place_is_refused(tmp_path):
    for name, values in (("oof.zarr", maps()), ("test.zarr", 255 - maps())):
        write_probabilities(tmp_path / name, IDS, (8, 6), [values], record(tmp_path))
    shutil.rmtree(tmp_path / "oof.zarr")
    shutil.copytree(tmp_path / "test.zarr", tmp_path / "oof.zarr")
    with pytest.raises(DataError, match=r"oof\.zarr: c/./0/0 is damaged"):
        read_probabilities(tmp_path / "oof.zarr", "predict", tmp_path).maps[:]
    shutil.copy(tmp_path / "test.zarr.json", tmp_path / "oof.zarr.json")
    with pytest.raises(DataError, match=r"oof\.zarr\.json is damaged: it was written as test\.zarr\.json"):
        read_probabilities(tmp_path / "oof.zarr", "predict", tmp_path)


def test_every_flipped_bit_is_refused_or_changes_nothing(tmp_path, place):
    """Flips bits of the array's files, and of the file with their checksums."""
    system, root, url = place
    path = tmp_path / "oof.zarr"
    write_probabilities(path, IDS, (8, 6), [maps()], record(tmp_path), url)
    disk = fsspec.filesystem("file")
    files = [(system, file) for file in system.find(root)] + [(disk, f"{path}.json")]
    rng, refused, harmless = np.random.default_rng(0), [], []
    for where, file in files:
        content = where.cat_file(file)
        for bit in rng.choice(8 * len(content), 80, replace=False):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << (bit % 8)
            where.pipe_file(file, bytes(changed))
            try:
                stored = read_probabilities(path, "predict", tmp_path)
                found = stored.image_ids, stored.maps[:]
            except DataError as error:
                refused.append(str(error))
            else:
                harmless.append(found[0] == IDS and np.array_equal(found[1], maps()))
        where.pipe_file(file, content)
    assert len(files) == 5
    assert all(harmless)
    assert len(refused) > 0.99 * 5 * 80
    assert all(len(message.splitlines()) == 1 for message in refused)


def test_maps_put_there_by_hand_need_every_chunk_and_no_checksum(tmp_path):
    path = tmp_path / "oof.zarr"
    layout = {"shape": (37, 8, 6), "chunks": (10, 8, 3), "dtype": "uint8", "attributes": {"image_ids": IDS}}
    values = maps()
    values[10:20] = 0
    for config in ({}, {"write_empty_chunks": True}):
        array = zarr.create_array(path, **layout, config=config, overwrite=True, compressors=BloscCodec())
        array[:] = values
        if not config:
            with pytest.raises(DataError, match=r"of 8 chunks 2 or more are missing, c/1/0/0 the.*write_empty_chunks"):
                read_probabilities(path, "predict")
    (path / ".DS_Store").write_text("of another system")
    (path / "README.txt").write_text("where they are from")
    stored = read_probabilities(path, "predict", tmp_path)
    assert stored.image_ids == IDS
    assert np.array_equal(stored.maps[:], values)


METADATA = {
    "a shape of another number of maps": (("shape", [36, 8, 6]), "has 36 maps for 37 image_ids"),
    "a negative shape": (("shape", [-1, 8, 6]), "shape"),
    "a shape of two sides": (("shape", [37, 48]), "shape"),
    "a shape of floats": (("shape", [37.5, 8, 6]), "shape"),
    "a huge shape": (("shape", [37, 10**12, 10**12]), "chunks .* missing|more than"),
    "another type": (("data_type", "float32"), "data_type"),
    "a type of an extension": (("data_type", {"name": "struct"}), "data_type"),
    "no chunk": (("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [0, 8, 6]}}), "chunk_grid"),
    "huge chunks": (("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [10**9] * 3}}), "more than"),
    "another grid": (("chunk_grid", {"name": "rectilinear", "configuration": {}}), "chunk_grid"),
    "a pickle": (("codecs", [{"name": "numcodecs.pickle", "configuration": {}}]), "codecs.0.name"),
    "a codec from nowhere": (("codecs", [{"name": "bytes"}, {"name": "planted"}]), "codecs.1.name"),
    "shards": (("codecs", [{"name": "sharding_indexed", "configuration": {}}]), "codecs.0.name"),
    "a codec's settings": (("codecs", [{"name": "bytes"}, {"name": "zstd", "configuration": {"x": 1}}]), "readable"),
    "no codec": (("codecs", []), "readable"),
    "a transformer": (("storage_transformers", [{"name": "planted"}]), "storage_transformers"),
    "ids that are none": (("attributes", {"image_ids": [1] * 37}), "image_ids"),
    "no list of ids": (("attributes", {"image_ids": {}}), "image_ids"),
    "no attributes": (("attributes", None), "attributes"),
    "another format": (("zarr_format", 2), "zarr_format"),
    "a group": (("node_type", "group"), "node_type"),
    "other names of chunks": (("chunk_key_encoding", {"name": "planted"}), "chunk_key_encoding"),
    "other separators": (("chunk_key_encoding", {"name": "v2"}), "chunks .* missing"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "why"), METADATA.values(), ids=METADATA.keys())
def test_metadata_that_we_would_not_write_are_refused(tmp_path, change, why, monkeypatch):
    path = tmp_path / "oof.zarr"
    write_probabilities(path, IDS, (8, 6), [maps()])
    file = path / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), change[0]: change[1]}))
    found = []
    get_codec_class = zarr.registry.get_codec_class
    monkeypatch.setattr(
        "zarr.core.metadata.v3.get_codec_class", lambda name: found.append(name) or get_codec_class(name)
    )
    with pytest.raises(DataError, match=rf"oof\.zarr: .*({why}).*run 'predict' again") as caught:
        read_probabilities(path, "predict").maps[:]
    assert len(str(caught.value).splitlines()) == 1
    assert set(found) <= {"bytes", "zstd"}


def test_probabilities_are_rounded_to_the_nearest_byte():
    values = np.array([0, 0.001, 0.002, 0.5, 0.998, 0.999, 1], np.float32)
    assert as_bytes(values).tolist() == [0, 0, 1, 128, 254, 255, 255]
    exact = np.arange(256) / np.float32(255)
    assert as_bytes(exact).tolist() == list(range(256))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match="not a number from 0 to 1"):
        as_bytes(np.array([[0.5, value]], np.float32))
