"""A table that labels DICOM files: by SOPInstanceUID, path or name; with masks, if it has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import robustbench_med as rbmed
from rbmed_datasets import tabular
from rbmed_datasets.dicomfile import Header
from rbmed_datasets.labelling import columns_of, label_of, refuse_ids, refuse_lists
from rbmed_datasets.names import printable, some
from rbmed_datasets.picture_params import LabelledParams
from robustbench_med.errors import DataError

#: Columns that may name a file, in order of preference; case, spaces and punctuation do not matter.
UIDS = ("sopinstanceuid", "sopuid", "instanceuid", "uid")


@dataclass(frozen=True)
class Listed:
    """What a table says of a file.

    Attributes:
        label: its class, or its findings as `rbmed_datasets.labelling.joined`.
        masks: lesion masks.
    """

    label: str
    masks: tuple[Path, ...] = ()


def listed(
    path: Path, root: Path, headers: Mapping[Path, Header], params: LabelledParams, label: str, separator: str
) -> tuple[dict[Path, Listed], list[str]]:
    """What the table ``path`` says of DICOM files under ``root``; and notes.

    Args:
        path: the table.
        root: relative names start here.
        headers: of the files.
        params: the task and classes that are merged.
        label: column of the label; empty: one of the usual names.
        separator: between findings.

    Raises:
        DataError: a column is missing, or a row names no file, or several, or two rows disagree.
    """
    table = tabular.read(path)
    file, marks = _file_column(table), table.column("mask", "")
    several = columns_of(label, table.columns) if label else ()
    labels = "+".join(str(table.column("label", one)) for one in several) if len(several) > 1 else None
    column = labels or table.column("label", label)
    if column is None:
        names = ", ".join(map(printable, table.columns))
        raise DataError(f"table {path} has no column for the label: give label=COLUMN; it has: {names}")
    keys = _keys(root, headers)
    found: dict[Path, Listed] = {}
    lost, unlabelled = [], 0
    for line, row in zip(table.lines, table.rows, strict=True):
        where = f"table {path}, line {line}"
        said = label_of(row, column, params.task, separator, params.lesion, where)
        named = keys.get(_plain(row[file]), [])
        if said is None:
            unlabelled += 1
        elif len(named) > 1:
            raise DataError(f"{where}: {printable(row[file])!r} is the name of several DICOM files")
        elif not named:
            lost.append(f"line {line}")
        else:
            masks = (_mask(root, row[marks], where),) if marks and row[marks] else ()
            made = Listed(said, masks)
            if found.setdefault(named[0], made) != made:
                raise DataError(f"{where} says otherwise of its file than an earlier line: one row for each file")
    if lost:
        rows, name = rbmed.plural(len(lost), "row"), "names" if len(lost) == 1 else "name"
        raise DataError(f"{rows} of table {path} {name} no DICOM file under {root}: {some(lost)}")
    if not found:
        raise DataError(f"table {path} labels no DICOM file under {root}")
    if not (params.classes or params.lesion):
        where = f"column {printable(column)!r} of table {path}"
        refuse_ids([each.label for each in found.values()], params.task, where)
        refuse_lists({each.label for each in found.values()}, params.task, where)
    notes = [f"labels are those of table {printable(path.name)}, column {printable(column)}"]
    rows = rbmed.plural(unlabelled, "row without a label is left out", "rows without a label are left out")
    notes += [rows] if unlabelled else []
    without = len(headers) - len(found)
    left = (
        "DICOM file has no row in the table and is left out",
        "DICOM files have no row in the table and are left out",
    )
    notes += [rbmed.plural(without, *left)] if without else []
    return found, notes


def _file_column(table: tabular.Rows) -> str:
    plain = {tabular.plain(name): name for name in table.columns}
    known = next((plain[name] for name in UIDS if name in plain), None) or table.column("path", "")
    if known is None:
        names = ", ".join(map(printable, table.columns))
        raise DataError(f"table {table.path} has no column of files or SOPInstanceUID; it has: {names}")
    return known


def _keys(root: Path, headers: Mapping[Path, Header]) -> dict[str, list[Path]]:
    """Files by all that may name them."""
    keys: dict[str, list[Path]] = {}
    for path, header in headers.items():
        names = {header.uid, path.relative_to(root).as_posix(), path.name, path.stem}
        for key in {_plain(name) for name in names if name}:
            keys.setdefault(key, []).append(path)
    return keys


def _plain(name: str) -> str:
    return os.path.normpath(name.replace("\\", "/")) if name else ""


def _mask(root: Path, name: str, where: str) -> Path:
    path = Path(os.path.normpath(root / name.replace("\\", "/")))
    if not path.is_relative_to(root):
        raise DataError(f"{where}: the mask {printable(name)!r} leads out of {root}")
    if not path.is_file():
        raise DataError(f"{where}: there is no mask {path}")
    return path
