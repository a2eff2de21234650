"""Zarr arrays of which nothing is read that is missing, damaged or foreign, here and in object stores.

Zarr fills in a chunk that is missing, takes whatever bytes decode for one, and runs any codec that the array names.
Here every chunk must be there and none beyond the array's shape, and only codecs that decode bytes are run. Of arrays
that this program has written, each file must be what its SHA-256 says, kept in the JSON file beside the array.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import zarr
from annotated_types import Ge, Gt, Len
from pydantic import BaseModel, ConfigDict
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from pipeline.errors import DataError, some
from pipeline.object_store import files_below, open_url
from pipeline.stored import validated

METADATA = "zarr.json"
CODECS = Literal["bytes", "zstd", "blosc", "gzip", "crc32c"]
CHUNK_NAME = re.compile(r"(c[/.])?\d+([/.]\d+)*")
LARGEST_CHUNK = 2**28
"""Bytes that a chunk may have, if it is larger than ours would be."""

Three = Annotated[tuple[Annotated[int, Ge(0)], ...], Len(3, 3)]


class Part(BaseModel):
    """Something that has a name in an array's metadata."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Codec(Part):
    """How a chunk becomes bytes."""

    name: CODECS
    configuration: dict[str, Any] = {}


class Grid(Part):
    """How an array is divided."""

    class Shape(Part):
        """Shape of a chunk."""

        chunk_shape: Annotated[tuple[Annotated[int, Gt(0)], ...], Len(3, 3)]

    name: Literal["regular"]
    configuration: Shape


class Names(Part):
    """Naming of chunks."""

    class Separator(Part):
        """Between the numbers."""

        separator: Literal["/", "."] | None = None

    name: Literal["default", "v2"]
    configuration: Separator = Separator()


class Attributes(BaseModel):
    """The user's part of the metadata."""

    model_config = ConfigDict(strict=True)

    image_ids: list[str]


class Metadata(BaseModel):
    """All that may be in the ``zarr.json`` of an array of maps."""

    model_config = ConfigDict(strict=True)

    zarr_format: Literal[3]
    node_type: Literal["array"]
    data_type: Literal["uint8"]
    shape: Three
    chunk_grid: Grid
    chunk_key_encoding: Names
    codecs: list[Codec]
    storage_transformers: Annotated[list[Any], Len(0, 0)] = []
    attributes: Attributes

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return self.chunk_grid.configuration.chunk_shape

    @property
    def chunk_counts(self) -> tuple[int, ...]:
        """Number of chunks along each side."""
        return tuple(-(-side // step) for side, step in zip(self.shape, self.chunk_shape, strict=True))

    def chunk_names(self) -> Iterator[str]:
        """Names of all chunks, of which there may be any number, in their order."""
        _, rows, columns = self.chunk_counts
        encoding = self.chunk_key_encoding
        separator = encoding.configuration.separator or ("/" if encoding.name == "default" else ".")
        for number in range(math.prod(self.chunk_counts)):
            place = number // columns // rows, number // columns % rows, number % columns
            yield separator.join([*(["c"] if encoding.name == "default" else []), *map(str, place)])


class StoredArray:
    """An array of maps, uint8 (N, H, W), of which a slice is read at a time."""

    def __init__(self, path: Path, array: zarr.Array, again: str) -> None:
        self.path, self.array, self.again = path, array, again
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Maps of these rows.

        Raises:
            DataError: a chunk is missing or damaged.
        """
        try:
            return self.array[rows]
        except DataError:
            raise
        except Exception as error:  # each codec has its own
            why = str(error) or type(error).__name__
            raise DataError(f"{self.path}: a chunk cannot be decoded ({why}): {self.again}") from None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)


class NotingStore(WrapperStore):
    """A store that notes the SHA-256 of each file as it writes it."""

    def __init__(self, store: Any, sums: dict[str, str]) -> None:
        super().__init__(store)
        self.sums = sums

    def _with_store(self, store: Any) -> NotingStore:
        return type(self)(store, self.sums)

    async def set(self, key: str, value: Any) -> None:
        await super().set(key, value)
        self.sums[key] = sha256_of(value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        raise NotImplementedError

    async def _set_many(self, values: Iterable[tuple[str, Any]]) -> None:
        for key, value in values:
            await self.set(key, value)


class CheckingStore(WrapperStore):
    """A store that refuses files that are missing, or are not what was written.

    Args:
        store: read from.
        path: of the array, for messages.
        sums: SHA-256 of each file, if known.
        again: what to do.
    """

    def __init__(self, store: Any, path: Path, sums: dict[str, str] | None, again: str) -> None:
        super().__init__(store)
        self.path, self.sums, self.again = path, sums, again

    def _with_store(self, store: Any) -> CheckingStore:
        return type(self)(store, self.path, self.sums, self.again)

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if byte_range is not None:
            raise NotImplementedError
        value = await super().get(key, prototype)
        if value is None:
            raise DataError(f"{self.path}: {key} is missing: {self.again}")
        if self.sums is not None and sha256_of(value) != self.sums.get(key):
            raise DataError(f"{self.path}: {key} is damaged, or another one than was written: {self.again}")
        return value


def sha256_of(value: Any) -> str:
    """SHA-256 of one of Zarr's buffers."""
    return hashlib.sha256(value.as_numpy_array()).hexdigest()


def create_array(place: Path | str, ids: list[str], size: tuple[int, int], chunk: int, sums: dict[str, str]) -> Any:
    """An array of maps to be written, at a path or a URL.

    Args:
        chunk: so many maps are stored together; also where all of them are zero, since a chunk that is missing is
            one that has been lost.
        sums: gets the SHA-256 of each file.
    """
    store = LocalStore(place) if isinstance(place, Path) else FsspecStore.from_url(place)
    return zarr.create_array(
        NotingStore(store, sums),
        shape=(len(ids), *size),
        chunks=(chunk, *size),
        dtype="uint8",
        fill_value=0,
        attributes={"image_ids": ids},
        config={"write_empty_chunks": True},
        overwrite=True,
    )


def open_array(path: Path, url: str | None, sums: dict[str, str] | None, again: str) -> tuple[list[str], StoredArray]:
    """Ids and maps of an array.

    Args:
        path: of the array, or of the file that says where it is.
        url: where it is, if not at the path.
        sums: SHA-256 of each of its files, where this program has written it.
        again: what to do if it is not whole.

    Raises:
        DataError: it is no such array, a file is missing, or there is a chunk that is not the array's.
    """
    names = _file_names(path if url is None else url)
    metadata = _read_metadata(path, url, sums, again)
    _check_names(path, names, metadata, sums, again)
    store = LocalStore(path, read_only=True) if url is None else FsspecStore.from_url(url, read_only=True)
    try:
        array = zarr.open_array(CheckingStore(store, path, sums, again), mode="r", zarr_format=3)
    except DataError:
        raise
    except Exception as error:  # whatever a codec's configuration may be
        raise DataError(f"{path}: no readable array ({error}): {again}") from None
    return metadata.attributes.image_ids, StoredArray(path, array, again)


def _file_names(place: Path | str) -> set[str] | None:
    """The files of an array; None of a server that does not list them. Hidden ones, of other systems, are left out."""
    if isinstance(place, Path):
        found = [file.relative_to(place).as_posix() for file in place.rglob("*") if not file.is_dir()]
    else:
        found = list(files_below(place))
        if place.startswith(("http://", "https://")) and METADATA not in found:
            return None
    return {name for name in found if not name.split("/")[-1].startswith(".")}


def _read_metadata(path: Path, url: str | None, sums: dict[str, str] | None, again: str) -> Metadata:
    """``zarr.json``, checked before Zarr sees it, which would import and call the codecs that it names."""
    try:
        if url is None:
            content = (path / METADATA).read_bytes()
        else:
            system, root = open_url(url)
            content = system.cat_file(f"{root.rstrip('/')}/{METADATA}")
    except OSError:
        raise DataError(f"{path}: has no {METADATA}, as arrays of Zarr format 3 have: {again}") from None
    if sums is not None and hashlib.sha256(content).hexdigest() != sums.get(METADATA):
        raise DataError(f"{path}: {METADATA} is damaged, or another one than was written: {again}")
    found = validated(Metadata, content, f"{path}: {METADATA}", again)
    count, size = found.shape[0], found.shape[1:]
    if len(found.attributes.image_ids) != count:
        raise DataError(f"{path}: has {count} maps for {len(found.attributes.image_ids)} image_ids: {again}")
    most = max(LARGEST_CHUNK, min(found.chunk_shape[0], 16) * math.prod(size))
    if math.prod(found.chunk_shape) > most:
        shape = " x ".join(map(str, found.chunk_shape))
        raise DataError(f"{path}: has chunks of {shape}, more than {most} bytes: store fewer maps in a chunk; {again}")
    return found


def _check_names(
    path: Path, names: set[str] | None, metadata: Metadata, sums: dict[str, str] | None, again: str
) -> None:
    """Refuse an array that lacks a file, or has a chunk that is none of its own."""
    if names is None:
        return
    chunks = list(itertools.islice(metadata.chunk_names(), len(names) + 1))
    missing = [name for name in chunks if name not in names]
    if missing:
        hint = "" if sums else "; chunks without anything must be there, too (Zarr's write_empty_chunks)"
        count = math.prod(metadata.chunk_counts)
        raise DataError(
            f"{path}: of {count} chunks {len(missing)} or more are missing, {missing[0]} the first: {again}{hint}"
        )
    expected = {METADATA, *chunks}
    if foreign := sorted(name for name in names - expected if sums is not None or CHUNK_NAME.fullmatch(name)):
        raise DataError(f"{path}: has files that are not its own: {some(foreign)}: {again}")
