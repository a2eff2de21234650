"""Pair the ids of a CSV with the files of a folder, and explain why ids have no file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from urllib.parse import unquote

from pipeline.data.folders import FOLDERS, ImageFolder, one_form, one_spelling, without_suffix
from pipeline.errors import DataError, some
from pipeline.rle import shown

MOST_COMPARED = 200
"""Ids without a file for which a reason is looked for."""
MOST_SEARCHED = 20
"""... by searching all names for them."""

_COPY = re.compile(r"^(?:Copy of (.+)|(.+?)(?: ?\(\d+\)| - Copy| - Kopie| - copie| copy)(?: ?\(?\d+\)?)?)$")
_PYTHON = re.compile(r"""^(?:\w+\()?[\[(]?[bu]?(?P<quote>['"])(.*)(?P=quote),?[\])]?\)?$""")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?([eE]\+?[0-9]{1,2})?")


def pair_ids(ids: Iterable[str], folder: ImageFolder, csv: Path) -> dict[str, Path]:
    """Return the image file of every id; ids may have the files' suffixes or not.

    Raises:
        DataError: an id has no file, or two ids have one.
    """
    ids = list(ids)
    paths = {image_id: folder.find(image_id) for image_id in ids}
    missing = [image_id for image_id, path in paths.items() if path is None]
    if missing:
        why = explain(missing, left_over(folder, paths), folder)
        raise DataError(f"{csv}: {len(missing)} of the rows have no image: {_named(missing)}{why}")
    id_of: dict[Path, str] = {}
    twice = [(id_of[path], i) for i, path in paths.items() if path is not None and id_of.setdefault(path, i) != i]
    if twice:
        raise DataError(f"{csv}: ids of one image: {some([f'{shown(a)} and {shown(b)}' for a, b in twice])}")
    return {image_id: path for image_id, path in paths.items() if path is not None}


def left_over(folder: ImageFolder, paths: dict[str, Path | None]) -> list[str]:
    """Names of the files that no id has."""
    taken = {path.name for path in paths.values() if path is not None}
    return [name for name in folder.files if name not in taken]


def have_suffixes(paths: dict[str, Path]) -> bool:
    """Return True where most ids are the whole names of their files, suffixes included."""
    return sum(one_spelling(image_id) == one_spelling(path.name) for image_id, path in paths.items()) * 2 > len(paths)


def find_copies(names: Iterable[str], folder: ImageFolder) -> list[str]:
    """Return files that have the content of others, and the name that a file manager gives a copy, with the others."""
    copies = []
    for name in names:
        original = folder.files.get(without_copy(Path(name).stem) + Path(name).suffix)
        if original and original.name != name and original.read_bytes() == folder.files[name].read_bytes():
            copies.append(f"{shown(name)} of {shown(original.name)}")
    return copies


def check_pairs(
    images: Collection[str], masks: Collection[str], what: str, place: Path | str, folder: ImageFolder, advice: str = ""
) -> None:
    """Check that every image has its mask and every mask its image.

    Args:
        folder: of the images.

    Raises:
        DataError: naming ids that lack the other.
    """
    masked, imaged = set(masks), set(images)
    maskless = [image_id for image_id in images if image_id not in masked]
    imageless = [image_id for image_id in masks if image_id not in imaged]
    problems = []
    if maskless:
        why = "" if imageless else explain_copies(maskless, masked)
        problems.append(f"{len(maskless)} of the images have no {what}: {_named(maskless)}{why}{advice}")
    if imageless:
        why = explain(imageless, maskless, folder)
        problems.append(f"{len(imageless)} of the {what}s have no image: {_named(imageless)}{why}")
    if problems:
        raise DataError("\n".join(f"{place}: {problem}" for problem in problems))


def _named(names: list[str]) -> str:
    return some([shown(name) for name in names])


# ------------------------------------------------------------------------------------------------------ reasons


def explain(missing: list[str], names: list[str], folder: ImageFolder) -> str:
    """Explain why ids have no image, as the end of a message; empty without an explanation.

    Args:
        missing: the ids.
        names: files, or other ids, of which none has been found to belong to an id.
        folder: where the images should be.
    """
    tried = missing[:MOST_COMPARED]
    reasons = [_of_unread(tried, folder), _of_spelling(tried, names), _of_subfolders(tried, folder)]
    best = max(reasons, key=lambda reason: reason[0])
    count, text = best if best[0] else _of_parts(tried, names)
    if not count:
        return ""
    return f"; {text}" + (f", and {count - 1} more alike" if count > 1 else "")


def explain_copies(names: Iterable[str], others: Collection[str]) -> str:
    """Name those that are called like copies, as the end of a message."""
    known = {without_suffix(other) for other in others}
    found = [name for name in names if without_copy(without_suffix(name)) in known - {without_suffix(name)}]
    return f"; {_named(found)} by the name a copy of an image that has one" if found else ""


def without_copy(stem: str) -> str:
    """A name without what browsers and file managers add to a copy's."""
    found = _COPY.match(stem)
    return (found[1] or found[2]) if found else stem


def _plain(text: str) -> str:
    """Without characters that look like others or like nothing."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join(visible.split())


def _number(text: str) -> str:
    digits = text.strip().replace(",", "")
    return str(int(float(digits))) if _NUMBER.fullmatch(digits) and len(digits) < 16 else text


def _as_written(encoding: str) -> Callable[[str], str]:
    """Repair a text whose bytes, UTF-8, were read in another encoding."""

    def repair(text: str) -> str:
        try:
            return one_form(text.encode(encoding).decode("utf-8"))
        except UnicodeError:
            return one_form(text)

    return repair


def _without_suffixes(text: str) -> str:
    while (shorter := without_suffix(text)) != text:
        text = shorter
    return text


SPELLINGS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("have other suffixes than their files", _without_suffixes),
    ("differ from the files' names in upper and lower case", lambda text: one_form(text).casefold()),
    ("have spaces or invisible characters around or in them", _plain),
    ("are paths, where the file's name alone is needed", lambda text: re.split(r"[/\\]", text)[-1]),
    ("have lost leading zeros or become decimal numbers, as in a spreadsheet", _number),
    ("are percent-encoded, or their files' names are", unquote),
    ("are Python objects written as text", lambda text: found[2] if (found := _PYTHON.match(text.strip())) else text),
    ("or their files' names are UTF-8 that was read as Windows-1252", _as_written("cp1252")),
    ("or their files' names are UTF-8 that was read as code page 437, by an unpacker", _as_written("cp437")),
    ("are those of files that are called like copies", without_copy),
    ("differ from the files' names in spaces, hyphens or underscores", lambda text: re.sub(r"[ _-]+", "_", text)),
)
"""Ways in which ids and names come to differ, and a key for each that makes them equal again."""
SEVERAL = "differ from the files' names in several of these: folder, case, spaces, hyphens, suffix"


def _loosest(text: str) -> str:
    plain = unquote(re.split(r"[/\\]", _plain(text))[-1]).casefold()
    return re.sub(r"[ _-]+", "_", _number(without_copy(_without_suffixes(plain))))


def _of_spelling(ids: list[str], names: list[str]) -> tuple[int, str]:
    best = (0, "")
    for what, key in (*SPELLINGS, (SEVERAL, _loosest)):
        if key is _loosest and best[0]:
            break
        found = {key(spelt): name for name in names for spelt in (name, without_suffix(name))}
        pairs = [(i, found[k]) for i in ids for k in dict.fromkeys((key(i), key(without_suffix(i)))) if k in found]
        count = len({image_id for image_id, _ in pairs})
        if count > best[0]:
            image_id, name = pairs[0]
            best = count, f"ids {what}: {image_id!r} and {name!r}"
    return best


def _of_unread(ids: list[str], folder: ImageFolder) -> tuple[int, str]:
    """Files of the ids' names that no reader reads."""
    stems = {Path(name).stem: name for kind, names in folder.unread.items() if kind != FOLDERS for name in names}
    stems |= {name: name for kind, names in folder.unread.items() if kind != FOLDERS for name in names}
    found = [stems[k] for i in ids for k in dict.fromkeys((i, without_suffix(i))) if k in stems]
    return (len(found), f"{shown(found[0])} is there, which is not read") if found else (0, "")


def _of_subfolders(ids: list[str], folder: ImageFolder) -> tuple[int, str]:
    """Files of the ids' names in subfolders, where nobody looks for them."""
    if FOLDERS not in folder.unread:
        return 0, ""
    below = folder.subfolder_files()
    below |= {path: path for path in below.values()}
    below = {without_suffix(name): path for name, path in below.items()} | below
    found = [below[name] for name in (image_id.replace("\\", "/") for image_id in ids) if name in below]
    what = f"images must lie directly in the folder, and there is {shown(found[0])}" if found else ""
    return len(found), what


def _of_parts(ids: list[str], names: list[str]) -> tuple[int, str]:
    """Ids that are a part of a name, or the other way round."""
    tried, stems = ids[:MOST_SEARCHED], {without_suffix(name): name for name in names if without_suffix(name)}
    inside = [(i, name) for i in tried if (name := next(filter(_bounded(i).search, names), None))]
    around = [(i, name) for i in tried for stem, name in stems.items() if stem in i and _bounded(stem).search(i)]
    for pairs, what in (
        (inside, "ids are a part of the files' names"),
        (around, "ids have more in them than the files' names"),
    ):
        if pairs:
            return len({image_id for image_id, _ in pairs}), "{}: {!r} and {!r}".format(what, *pairs[0])
    return 0, ""


def _bounded(part: str) -> re.Pattern[str]:
    """Finds a part that begins and ends where digits or letters do."""
    before = r"(?<!\d)" if part[:1].isdigit() else r"(?<![^\W\d_])"
    after = r"(?!\d)" if part[-1:].isdigit() else r"(?![^\W\d_])"
    return re.compile(before + re.escape(part) + after)
