"""Rules that a sample submission sets: columns, ids, rows of each id, and the text of an empty mask."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import some
from pipeline.linting.submission import Finding, Row, Submission, whole_numbers
from pipeline.rle import FORMATS, RleFormat

MISSING = ("", "nan", "NaN")  # an empty field, or what pandas makes of one
EMPTY_ELSEWHERE = {fmt.empty for fmt in FORMATS.values() if fmt.empty} | {"None", "none", "null", "<NA>", "[]"}
LONGEST_EMPTY = 64  # characters

_NO_MASK = re.compile(r"-1(\.0*)?|0+(\.0*)?")
_WORD = re.compile(r"\D{1,16}")  # such as "empty"
_SUFFIX = re.compile(r"\.(png|jpe?g|tiff?|bmp|gif|webp|npy|dcm|0)(?=/|$)")
_UNSEEN = "\ufeff\u200b\u200c\u200d\u2060"  # a byte order mark, and what has no width
_LEADING_ZEROS = re.compile(r"^0+(?=[^/])")  # all but one of a number that is 0


@dataclass(frozen=True)
class Empties:
    """Texts of an empty mask."""

    texts: tuple[str, ...]
    """Accepted texts, of which --fix writes the first. A blank field is ""."""
    source: str
    """Origin, for messages: "the sample writes" or "--format contrails writes"."""

    @property
    def written(self) -> str:
        return self.texts[0]

    def accept(self, text: str) -> bool:
        return blank_alike(text) in self.texts


def blank_alike(text: str) -> str:
    """The text, blank for NaN: a competition's reader sees no difference."""
    return "" if text in MISSING else text


def means_empty(text: str, fmt: RleFormat) -> bool:
    """True where a text stands for an empty mask in some competition, whatever the format says.

    COCO's counts have proper texts for empty masks; in other styles -1, 0 and runs of length 0 only are no masks.
    """
    if text in MISSING or text in EMPTY_ELSEWHERE:
        return True
    if fmt.style not in ("pairs", "gaps") or len(text) > LONGEST_EMPTY:
        return False
    numbers = whole_numbers(text)
    only_lengths_of_0 = bool(numbers) and len(numbers) % 2 == 0 and not any(numbers[1::2])
    return only_lengths_of_0 or _NO_MASK.fullmatch(text) is not None


def empties_of(texts: Iterable[str], fmt: RleFormat) -> Empties:
    """Texts of empty masks in a sample, the most frequent one first; the format's where the sample has none.

    A word without digits is no mask either in a file that a competition takes. Where all is blank there, the format's
    text is accepted, too.
    """
    found: Counter[str] = Counter()
    for text in texts:
        if means_empty(text, fmt) or (fmt.style in ("pairs", "gaps") and _WORD.fullmatch(text)):
            found[blank_alike(text)] += 1
    if found:
        texts = tuple(text for text, _ in found.most_common())
        return Empties(("", fmt.empty) if texts == ("",) else texts, "the sample writes")
    return Empties((fmt.empty,), f"--format {fmt.name} writes")


@dataclass(frozen=True)
class Expected:
    """Rows that a sample submission asks for."""

    sample: Submission
    by_image: bool
    """The sample has one row for each image and a placeholder for a class: classes are not its own to decide."""
    counts: Counter[str]
    """Rows of each key, in the sample's order."""
    has_objects: bool
    """Rows are objects: ids have different numbers of them."""

    @classmethod
    def of(cls, sample: Submission, read: Submission) -> Expected:
        labels = {row.label for row in sample.rows}
        by_image = (
            sample.has_classes
            and len(labels) == 1
            and len({row.label for row in read.rows} - labels) > 1
            and len({row.image for row in sample.rows}) == len(sample.rows)
        )
        counts = Counter(row.image if by_image else row.id for row in sample.rows)
        return cls(sample, by_image, counts, len(set(counts.values())) > 1)

    def key(self, row: Row) -> str:
        """The id that the sample has rows of: the row's, or the image's where classes are free."""
        return row.image if self.by_image else row.id

    def most(self, key: str) -> int | None:
        """The number of rows that a key may have; None: any number."""
        return None if self.has_objects else self.counts.get(key, 1)


def distinguishing_column(read: Submission, sample: Submission) -> str | None:
    """The column, of both files, that tells the sample's several rows of an id apart, as classes do; or None."""
    if sample.has_classes or len(set(sample.ids)) == len(sample.ids):
        return None
    for name, at in sample.other_columns.items():
        pairs = {(row.image, row.fields[at]) for row in sample.rows}
        if name in read.other_columns and name not in sample.size_columns and len(pairs) == len(sample.rows):
            return name
    return None


# ------------------------------------------------------------------------------------------------ rows and ids


def about_rows(read: Submission, expected: Expected | None) -> list[Finding]:
    """Findings about fields, ids, and the number of rows of each."""
    findings = []
    if read.repeated_names:
        fix = "give each column a name of its own"
        findings.append(Finding("error", "several columns of one name", _listed(read.repeated_names), fix))
    if read.ragged:
        rows = some([f"row {number}" for number in read.ragged])
        findings.append(Finding("error", "rows with a wrong number of fields", rows, "quote or remove their commas"))
    if not read.rows:
        findings.append(Finding("error", "no rows", "there is a header only", "write a row for each image"))
    nameless = [f"row {row.number}" for row in read.rows if not row.is_named]
    if nameless:
        what = "rows without an id or a class" if read.has_classes else "rows without an id"
        findings.append(Finding("error", what, some(nameless), "name the image of each row"))
    return findings + _about_repeated(read, expected)


def _about_repeated(read: Submission, expected: Expected | None) -> list[Finding]:
    """Findings about ids with more, or fewer, rows than they should have."""
    rows_of: dict[str, list[Row]] = {}
    for row in read.rows:
        rows_of.setdefault(row.id, []).append(row)
    equal, different, miscounted = [], [], []
    for row_id, rows in rows_of.items():
        most = 1 if expected is None else expected.most(row_id)
        distinct = len({tuple(row.fields) for row in rows})
        if most is not None and most > 1:
            if len(rows) != most:
                miscounted.append(f"{row_id}: {len(rows)} rows, not {most}")
        elif most == 1 and distinct > 1:
            different.append(row_id)
        elif distinct < len(rows):
            equal.append(row_id)
    findings = []
    if equal:
        findings.append(Finding("error", f"{len(equal)} ids have several equal rows", some(equal), "--fix keeps one"))
    if different:
        fix = "decide which one is meant, or unite them with `convert --unite`"
        findings.append(Finding("error", f"{len(different)} ids have several different rows", some(different), fix))
    if miscounted:
        what = f"{len(miscounted)} ids have another number of rows than in the sample"
        fix = "write as many rows for each id as the sample has"
        findings.append(Finding("error", what, some(miscounted), fix))
    return findings


def other_spellings(ids: list[str], expected: list[str]) -> dict[str, str]:
    """The sample's id for each that differs in a file's suffix, leading zeros, spaces, case or Unicode form only.

    Only where no other id, of the submission or of the sample, could be meant.
    """
    known, present = set(expected), set(ids)
    missing = _by_plain_spelling(row_id for row_id in expected if row_id not in present)
    extra = _by_plain_spelling(row_id for row_id in ids if row_id not in known)
    return {row_id: missing[plain] for plain, row_id in extra.items() if plain in missing}


def _by_plain_spelling(ids: Iterable[str]) -> dict[str, str]:
    """Ids by their plain spelling, where it is of one id alone; rows without an id, or a class, have none."""
    alike: dict[str, list[str]] = {}
    for row_id in dict.fromkeys(ids):
        alike.setdefault(_plain(row_id), []).append(row_id)
    return {plain: same[0] for plain, same in alike.items() if len(same) == 1 and all(plain.rsplit("/", 1))}


def _plain(row_id: str) -> str:
    seen = "".join(character for character in unicodedata.normalize("NFC", row_id) if character not in _UNSEEN)
    return _LEADING_ZEROS.sub("", _SUFFIX.sub("", seen.strip().casefold()))


def about_columns(read: Submission, sample: Submission) -> list[Finding]:
    """Findings about names and order of the columns, against the sample's."""
    findings = []
    named, wanted = ([file.written_header[at] for at in file.places] for file in (read, sample))
    if named != wanted:
        what = f"the columns are {_listed(named)}"
        findings.append(Finding("error", what, f"the sample has {_listed(wanted)}", "--fix renames them"))
    missing = [name for name in wanted_columns(sample) if name not in read.other_columns]
    if missing:
        what = f"{len(missing)} of the sample's columns are missing"
        fix = "--fix takes their values from the sample; write your own where they matter"
        findings.append(Finding("error", what, _listed(missing), fix))
    unknown = [name for name in read.other_columns if name not in sample.other_columns]
    if unknown:
        fix = "remove them, unless the competition ignores them; --fix keeps every column"
        findings.append(Finding("warning", "columns that the sample does not have", _listed(unknown), fix))
    order = column_order(read, sample)
    if not missing and order != [name for name in read.header if name in order]:
        what = "columns are in another order than the sample's"
        findings.append(Finding("note", what, _listed(read.header), "--fix puts them in order"))
    return findings


def wanted_columns(sample: Submission) -> list[str]:
    """The sample's columns besides ids, classes and texts; sizes are for those who make masks, not for the metric."""
    return [name for name in sample.other_columns if name not in sample.size_columns]


def column_order(read: Submission, sample: Submission) -> list[str]:
    """The submission's columns, by its own names, that the sample has, in the sample's order."""
    name_of = dict(zip(sample.places, read.columns, strict=True)) if len(sample.places) == len(read.columns) else {}
    order = [name_of.get(at, name) for at, name in enumerate(sample.header)]
    return [name for name in order if name in read.header]


def _listed(names: list[str]) -> str:
    """Column names; with quotes where one has spaces around it, which nobody would see."""
    return ", ".join(name if name == name.strip() and name else repr(name) for name in names)


def about_ids(read: Submission, expected: Expected, spellings: dict[str, str]) -> list[Finding]:
    """Findings about ids and their order, against the sample's."""
    findings = []
    if expected.by_image:
        label = expected.sample.rows[0].label
        classes = sorted({row.label for row in read.rows} - {label})
        what = f"the sample names no class but {label!r}, which is taken for a placeholder"
        fix = "see the competition's page: the sample does not say which classes there are"
        findings.append(Finding("note", what, f"the submission has {some(classes)}", fix))
    if spellings:
        examples = some([f"{spelt!r} for {right!r}" for spelt, right in spellings.items()])
        what = f"{len(spellings)} ids are spelt otherwise than in the sample"
        findings.append(Finding("error", what, examples, "--fix spells them as the sample does"))
    keys = list(dict.fromkeys(spellings.get(expected.key(row), expected.key(row)) for row in read.rows))
    present = set(keys)
    missing = [key for key in expected.counts if key not in present]
    extra = [key for key in keys if key not in expected.counts]
    if missing:
        what = f"{len(missing)} of the sample's {len(expected.counts)} ids are missing"
        findings.append(Finding("error", what, some(missing), "--fix adds them with empty masks"))
    if extra:
        fix = "remove their rows, or correct the ids; --fix leaves no row out"
        findings.append(Finding("error", f"{len(extra)} ids are not in the sample", some(extra), fix))
    if not missing and not extra and keys != list(expected.counts):
        findings.append(Finding("note", "rows are in another order than the sample's", some(keys), "--fix sorts them"))
    return findings
