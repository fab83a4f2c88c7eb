"""Tables of images: CSV, TSV or Parquet, read as text, and the columns that mean something."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import robustbench_med as rbmed
from rbmed_datasets.files import SUFFIXES
from rbmed_datasets.names import MISSING, printable
from robustbench_med.errors import DataError

#: Column names that are understood, in order of preference; case, spaces and punctuation do not matter.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "path": (
        *("path", "imagepath", "filepath", "filename", "file", "imagefile", "imagefilename", "image", "imagename"),
        *("imageid", "imageindex", "img", "imgpath", "imgname", "isicid", "idcode", "id"),
    ),
    "label": (
        *("label", "labels", "class", "classname", "diagnosis", "dx", "target", "category"),
        *("findinglabels", "level"),
    ),
    "patient": (
        *("patient", "patientid", "subject", "subjectid", "pid", "case", "caseid", "person", "personid"),
        *("lesionid",),
    ),
    "site": ("site", "siteid", "hospital", "hospitalid", "center", "centre", "institution", "institutionname"),
    "split": ("split", "subset", "partition", "set"),
    "mask": ("mask", "maskpath", "maskfile", "segmentation", "segmentationpath"),
}
#: The first line by which Excel is told the separator.
_SEPARATOR = re.compile(r"sep=([,;\t|])", re.IGNORECASE)
#: What stands for no column.
NONE = "-"


@dataclass(frozen=True)
class Rows:
    """A table as text.

    Attributes:
        path: the file.
        columns: names, unique.
        rows: values by column, without white space around them; "" where one is missing.
        lines: the line of each row in the file, or its number, from 1, in Parquet.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    lines: list[int]

    def column(self, what: str, asked: str) -> str | None:
        """The column ``asked`` for, or the known one for ``what``; None without one, or where `NONE` was asked for.

        Raises:
            DataError: the table has no such column.
        """
        if asked == NONE:
            return None
        known = {plain(name): name for name in reversed(self.columns)}
        if asked and asked not in self.columns and plain(asked) not in known:
            raise DataError(
                f"table {self.path} has no column {asked!r} ({what}); it has: {', '.join(map(printable, self.columns))}"
            )
        if asked:
            return asked if asked in self.columns else known[plain(asked)]
        return next((known[name] for name in KNOWN[what] if name in known), None)


def hint(table: Rows, what: str) -> str:
    """What may be meant where a table has no column for ``what``, as the end of a message; or nothing."""
    if any(Path(name).suffix.lower() in SUFFIXES for name in table.columns):
        return "; its first line is no header: write one, such as image,label"
    held = {name: {row[name] for row in table.rows} for name in table.columns}
    zeros = [name for name, values in held.items() if values <= {"", "0", "1", "0.0", "1.0"} and len(values) > 1]
    if what == "label" and len(zeros) > 1:
        return f"; columns of 0 and 1 are joined: label={'+'.join(map(printable, zeros[:3]))}"
    return ""


def plain(name: str) -> str:
    """The name of a column without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


def read(path: Path) -> Rows:
    """The table. Bytes that are not UTF-8 are kept as Python keeps them in names of files.

    Raises:
        DataError: it cannot be read, is empty, or two columns have one name.
    """
    try:
        found = list(_parquet(path) if path.suffix.lower() == ".parquet" else _text(path))
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"table {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # csv, pandas and pyarrow raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"table {path} cannot be read: {reason}") from error
    if len(found) < 2:
        raise DataError(f"table {path} has no rows")
    columns = tuple(found[0][1])
    for name in filter(None, columns):  # no name: spreadsheets end lines with separators
        if columns.count(name) > 1:
            raise DataError(f"table {path} has two columns {name!r}")
    for line, values in found[1:]:
        if len(values) != len(columns):
            raise DataError(
                f"table {path} cannot be read: line {line} has {rbmed.plural(len(values), 'value')}, not {len(columns)}"
            )
    rows = [dict(zip(columns, values, strict=True)) for _, values in found[1:]]
    return Rows(path, columns, rows, [line for line, _ in found[1:]])


def _text(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines of a CSV or TSV file, empty ones left out, with their numbers."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if head.startswith((b"PK", b"\xd0\xcf\x11\xe0")):
        raise DataError(f"table {path} is a workbook of Excel; save the sheet as CSV")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head:
        raise DataError(f"table {path} is written in UTF-16, or is no text; save it as UTF-8")
    first = head.splitlines()[0].decode("utf-8-sig", "replace") if head.strip() else ""
    stated = _SEPARATOR.fullmatch(first)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = csv.reader(
            text, delimiter=stated[1] if stated else _separator(path, first), skipinitialspace=True, strict=True
        )
        for at, values in enumerate(lines):
            if any(values) and not (stated and at == 0):
                yield lines.line_num, [value.strip() for value in values]


def _separator(path: Path, first: str) -> str:
    """What separates values, as the first line tells: spreadsheets of some countries write semicolons."""
    bare = re.sub(r'"[^"]*"', "", first)
    known = "\t,;|" if path.suffix.lower() == ".tsv" else ",;\t|"
    return max(known, key=bare.count)


def _parquet(path: Path) -> Iterator[tuple[int, list[str]]]:
    table = pd.read_parquet(path)
    yield 0, [str(name).strip() for name in table.columns]
    for at, row in enumerate(table.astype(object).where(table.notna(), "").itertuples(index=False), start=1):
        whole = (int(value) if isinstance(value, float) and value.is_integer() else value for value in row)
        yield at, [str(value).strip() for value in whole]


def ids_of(path: Path, names: Sequence[str]) -> list[str]:
    """The patient of each of ``names``, paths below the data root, as a table says.

    Rows name files by the path, the file name or the file name without its extension.

    Raises:
        DataError: the table lacks a column or a file, or it names two patients for one file.
    """
    if not path.is_file():
        raise DataError(f"there is no table {path} (ids=)")
    table = read(path)
    file, patient = (table.column(what, "") for what in ("path", "patient"))
    if file is None or patient is None:
        raise DataError(
            f"table {path} needs a column of files ({', '.join(KNOWN['path'][:4])}, ...) and one of patients "
            f"({', '.join(KNOWN['patient'][:4])}, ...); it has: {', '.join(map(printable, table.columns))}"
        )
    by_key: dict[str, set[str]] = {}
    for row in table.rows:
        by_key.setdefault(_key(printable(row[file])), set()).add(printable(row[patient]))
    found, lost = [], []
    for name in names:
        parts = _key(name).split("/")
        keys = ("/".join(parts[at:]) for at in range(len(parts)))
        patients = next((by_key[key] for key in keys if key in by_key), set())
        if len(patients) > 1:
            raise DataError(f"table {path} names several patients for {name}: {', '.join(sorted(patients))}")
        if all(patient.casefold() in ("", *MISSING) for patient in patients):  # all such files would be one patient's
            lost.append(name)
        found += list(patients)
    if lost:
        raise DataError(f"table {path} names no patient for {rbmed.plural(len(lost), 'file')}, {lost[0]} for example")
    return found


def _key(name: str) -> str:
    """A path without the extension of an image or a volume."""
    name = name.replace("\\", "/")
    for suffix in (".nii", ".nii.gz", ".dcm"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in SUFFIXES else name
