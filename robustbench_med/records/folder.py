"""Folders of results: read, and merged into one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from robustbench_med.errors import BadParameter, DataError
from robustbench_med.files import journal, jsonl
from robustbench_med.files.atomic import check_writable, new_folder
from robustbench_med.records.compare import changed
from robustbench_med.records.record import Record, dumped, split

T = TypeVar("T")
RECORDS, SAMPLES = "records.jsonl", "samples"


#: Bytes of records from which on tables keep only what they show.
LARGE = 16 << 20


def records_file(path: Path) -> Path:
    """The file of records of a folder of results, or the file itself."""
    return path / RECORDS if path.is_dir() else path


def samples_of(path: Path) -> Path:
    """The folder of the results of each image, beside the file of records."""
    return records_file(path).parent / SAMPLES


def is_large(path: Path) -> bool:
    """Whether there are so many records that only what a table shows should be kept of them."""
    file = records_file(path)
    return file.is_file() and jsonl.size_of(file) > LARGE


def open_results(path: Path, keep: Callable[[Record], Record] = lambda record: record) -> list[Record]:
    """The records of a folder of results, or of a file of records, each cell as it was measured last.

    ``keep`` says what is kept of each record.

    Raises:
        DataError: there are none.
    """
    return list(kept(path, keep).values())


def kept(path: Path, keep: Callable[[Record], T]) -> dict[str, T]:
    """By cell, what is to be kept of the record that was measured last; arguments and errors as `open_results`."""
    file = records_file(path)
    if not file.is_file():
        what = f"folder {path} holds no {RECORDS}" if path.is_dir() else f"there is no file or folder {path}"
        raise DataError(f"{what}; name a folder of results, such as results, or a file of records in it")
    good, bad = split(file, lambda record: (record.cell_id, keep(record)))
    if not good:
        reason = f": line {bad[0].number} is not a record ({bad[0].reason})" if bad else ""
        raise DataError(f"no records in {file}{reason}")
    if bad:
        journal.warn(file, bad)
    return dict(good)


def merge(folders: Sequence[Path], target: Path) -> list[Record]:
    """Write the records and samples of several folders into a new one; what was measured wins over what was not.

    Returns:
        The records, in the order of the folders.

    Raises:
        DataError: a folder holds no records, or two hold different results of one cell; both are named.
        BadParameter: ``target`` is there already, or cannot be created.
        StoreError: it cannot be written. Nothing is left of it then.
    """
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise BadParameter(f"--out {target} is there already; name a new folder")
    check_writable(target)
    chosen: dict[str, tuple[Record, Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder; name folders of results, such as results")
        for record in open_results(folder):
            before = chosen.get(record.cell_id)
            if before is None or _better(record, folder, *before):
                chosen[record.cell_id] = (record, folder)
    with new_folder(target) as draft:
        (draft / SAMPLES).mkdir()
        for record, folder in chosen.values():
            source = folder / SAMPLES / f"{record.cell_id}.parquet"
            if source.is_symlink() or source.parent.is_symlink():
                raise DataError(f"{source} is a symbolic link; results are read from real files only")
            if source.is_file():
                shutil.copyfile(source, draft / SAMPLES / source.name)
        text = "".join(f"{dumped(record)}\n" for record, _ in chosen.values())
        (draft / RECORDS).write_text(text, encoding="utf-8")
    return [record for record, _ in chosen.values()]


def _better(record: Record, folder: Path, other: Record, place: Path) -> bool:
    """Whether a record replaces one of the same cell.

    Raises:
        DataError: both were measured, and differ.
    """
    if record.status != "ok" or other.status != "ok":
        return record.status == "ok"
    if differs := changed(other, record):
        name, (theirs, ours) = next(
            ((name, values) for name, values in differs.items() if name.startswith("metrics.")),
            next(iter(differs.items())),
        )
        cell = f"{record.defense.name} / {record.attack.name} / {record.threat.access}"
        raise DataError(
            f"cell {record.cell_id} ({cell}) has two results: {name} is {theirs} in {place} and {ours} in {folder}; "
            "`rbmed verify` shows which one is reproducible"
        )
    return False
