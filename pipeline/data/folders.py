"""List folders of images, with what is not read in them, and find the file that an id in a CSV names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pipeline.data.images import IMAGE_SUFFIXES, Exif, read_size
from pipeline.errors import DataError, some
from pipeline.rle import shown

SYSTEM_FILES = {
    *(".ds_store", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", ".directory", "@eadir"),
    *("__macosx", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd", ".temporaryitems", "$recycle.bin"),
    *("system volume information", "lost+found", ".ipynb_checkpoints", ".gitkeep", ".gitignore", ".git", ".nomedia"),
    *("picasa.ini", ".picasa.ini", ".dropbox", ".sync"),
}
"""Names, in lower case, of what file managers, archives and editors leave in a folder."""
APPLE_DOUBLE = (b"\x00\x05\x16\x07", b"\x00\x05\x16\x00")
"""First bytes of the file ``._NAME`` in which macOS keeps what another file system cannot hold of the file ``NAME``."""
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".xz", ".zst")

SYSTEM, FOLDERS, NAMELESS = "left by the operating system or a program", "folders", "without a suffix"
NO_FILE, PADDED = "neither files nor folders, or links to nothing", "with a name that ends in a space or a dot"

MOST_NAMED = 3
"""Names of each kind in a message."""
MOST_WALKED = 50_000
"""Files in subfolders that are looked at for a message."""


@dataclass(frozen=True)
class ImageFolder:
    """The image files directly in a folder."""

    path: Path
    files: dict[str, Path]
    """By name, sorted."""
    unread: dict[str, list[str]] = field(default_factory=dict)
    """Names of everything else, by its kind, such as ``.heic``."""

    @classmethod
    def open(cls, path: Path) -> ImageFolder:
        """List a folder.

        Raises:
            DataError: there is no such folder.
        """
        if not path.is_dir():
            problem = (
                "is a file, not a folder of images" if path.exists() else f"no such folder of images{beside(path)}"
            )
            raise DataError(f"{path}: {problem}")
        with os.scandir(path) as entries:
            kinds = {entry.name: _kind(entry) for entry in entries}
        folder = cls(path, {name: path / name for name in sorted(kinds) if kinds[name] is None})
        for name in sorted(kinds):
            if kinds[name] is not None:
                folder.unread.setdefault(kinds[name], []).append(name)
        return folder

    def need_images(self, setting: str) -> ImageFolder:
        """Return the folder itself, unless it holds something, but no image.

        Raises:
            DataError: naming what is there instead; ``setting`` gives the folder.
        """
        if self.files or not set(self.unread) - {SYSTEM}:
            return self
        inner = [self.path / name for name in self.unread.get(FOLDERS, ()) if _count(self.path / name)]
        such_as = f", such as {inner[0]}" if inner else ""
        raise DataError(
            f"{self.path}: no images in this folder, only {self.describe_unread()}; {setting} names the one that the "
            f"ids are of{such_as}"
        )

    def describe_unread(self) -> str:
        """Describe what is not read, counted by kind, with some names; empty where everything is read."""
        return ", ".join(
            f"{len(names)} {kind[:-1] if kind == FOLDERS and len(names) == 1 else kind} ({self._some(kind, names)})"
            for kind, names in sorted(self.unread.items(), key=lambda item: (item[0] == SYSTEM, -len(item[1])))
        )

    def _some(self, kind: str, names: Sequence[str]) -> str:
        named = [shown(name) for name in names]
        if kind == FOLDERS:
            counts = [_count(self.path / name) for name in names[:MOST_NAMED]]
            images = [f" with {count} image{'s' * (count != 1)}" if count else "" for count in counts]
            named[:MOST_NAMED] = [name + has for name, has in zip(named, images, strict=False)]
        return some(named, MOST_NAMED)

    # ------------------------------------------------------------------------------------------------- ids

    @cached_property
    def _spellings(self) -> tuple[dict[str, list[Path]], ...]:
        """Files by name, by name without suffix, and both once more in one Unicode form and case of suffixes."""
        tables: tuple[dict[str, list[Path]], ...] = ({}, {}, {}, {})
        for name, path in self.files.items():
            keys = (name, Path(name).stem, one_spelling(name), one_form(Path(name).stem))
            for table, key in zip(tables, keys, strict=True):
                table.setdefault(key, []).append(path)
        return tables

    def find(self, image_id: str) -> Path | None:
        """Return the file that an id names, with its suffix or without, in any Unicode form; None without one.

        Raises:
            DataError: it could be any of several.
        """
        plain = one_spelling(image_id)
        for table, key in zip(self._spellings, (image_id, image_id, plain, plain), strict=True):
            if found := table.get(key):
                if len(found) > 1:
                    names = " and ".join(shown(path.name) for path in found)
                    raise DataError(f"{self.path}: several images have one id, {shown(image_id)}: {names}")
                return found[0]
        return None

    def subfolder_files(self) -> dict[str, str]:
        """Return paths below the folder of files in its subfolders, by name, up to ``MOST_WALKED``."""
        found: dict[str, str] = {}
        for folder, _, names in os.walk(self.path):
            if Path(folder) != self.path:
                found |= {name: os.path.relpath(os.path.join(folder, name), self.path) for name in names}
            if len(found) > MOST_WALKED:
                break
        return found


class ImageSizes(Mapping[str, tuple[int, int]]):
    """Height and width of a folder's images by id, read from a file's header when they are asked for."""

    def __init__(self, folder: ImageFolder, exif: Exif = "apply") -> None:
        self.folder, self.exif = folder, exif
        self._known: dict[Path, tuple[int, int]] = {}

    def __getitem__(self, image_id: str) -> tuple[int, int]:
        path = self.folder.find(image_id)
        if path is None:
            raise KeyError(image_id)
        if path not in self._known:
            self._known[path] = read_size(path, self.exif)
        return self._known[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.folder.files)

    def __len__(self) -> int:
        return len(self.folder.files)


def _kind(entry: os.DirEntry[str]) -> str | None:
    """Return the kind of something that is not read as an image; None for an image."""
    name = entry.name
    if name.lower() in SYSTEM_FILES or name.endswith(":Zone.Identifier"):
        return SYSTEM
    if entry.is_dir():
        return FOLDERS
    if not entry.is_file():
        return NO_FILE
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return SYSTEM if name.startswith("._") and _is_apple_double(entry.path) else None
    if name.startswith("._"):
        return SYSTEM
    if Path(name.rstrip(" .\u00a0")).suffix.lower() in IMAGE_SUFFIXES:
        return PADDED
    return shown(suffix) if suffix else NAMELESS


def _count(folder: Path) -> int:
    """Images in a folder; 0 where it cannot be read."""
    try:
        return len(list_images(folder))
    except (DataError, OSError):
        return 0


def _is_apple_double(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in APPLE_DOUBLE


def list_images(folder: Path) -> dict[str, Path]:
    """Image files of a folder by file name, sorted.

    Raises:
        DataError: the folder is missing.
    """
    return ImageFolder.open(folder).files


def by_stem(files: dict[str, Path]) -> dict[str, Path]:
    """Image files by their name without the suffix, in Unicode's composed form, the usual image id.

    Raises:
        DataError: two files differ in their suffix or in their Unicode form only.
    """
    stems: dict[str, Path] = {}
    clashes = []
    for path in files.values():
        stem = one_form(path.stem)
        if stem in stems:
            clashes.append(f"{shown(stems[stem].name)} and {shown(path.name)}")
        stems[stem] = path
    if clashes:
        raise DataError(f"{path.parent}: several images have one id: {some(clashes)}")
    return stems


def is_plain_id(image_id: str) -> bool:
    """True for an id that is safe as a file name."""
    return (
        image_id not in ("", ".") and ".." not in image_id and image_id.isprintable() and not set("/\\") & set(image_id)
    )


def ids_of(files: Iterable[Path], with_suffix: bool) -> dict[str, Path]:
    """Image files by their ids, where no CSV spells them: their names, with the suffix or without.

    Raises:
        DataError: two would have one id.
    """
    named = {path.name: path for path in files}
    return {one_form(name): path for name, path in named.items()} if with_suffix else by_stem(named)


def without_suffix(image_id: str) -> str:
    """An id, or a file's name, without the suffix of an image file."""
    suffix = Path(image_id).suffix
    return image_id.removesuffix(suffix) if suffix.lower() in IMAGE_SUFFIXES else image_id


def one_form(text: str) -> str:
    """A text in Unicode's composed form, whatever form a file system or an archive has left it in."""
    return unicodedata.normalize("NFC", text)


def one_spelling(name: str) -> str:
    """A name in Unicode's composed form, an image's suffix in lower case."""
    stem = without_suffix(name)
    return one_form(stem) + name[len(stem) :].lower()


def beside(path: Path) -> str:
    """Guess what a missing path should be, as the end of a message; empty without a guess."""
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return ""
    same = [name for name in names if _bare(name) == _bare(path.name)]
    packed = [name for name in names if _unpacked(name) in (path.name.casefold(), path.stem.casefold())]
    copies = [name for name in names if re.sub(r" ?\(\d+\)", "", name) == path.name]
    if packed and not same:
        return f"; {shown(packed[0])} is there: unpack it"
    return f"; there is {shown((same or copies)[0])}" if same or copies else ""


def _bare(name: str) -> str:
    """A name without case, and without what stands between words."""
    return re.sub(r"[\W_]+", "", one_form(name).casefold())


def _unpacked(name: str) -> str | None:
    """Return the name of what an archive contains, in lower case; None for another file."""
    stem = name.casefold()
    while stem.endswith(ARCHIVES):
        stem = Path(stem).stem
    return None if stem == name.casefold() else stem
