"""Records as files for other programs.

Of many records only what is written is kept while they are read: a row, or a line of JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from robustbench_med.files.atomic import check_file, replacing
from robustbench_med.records import table
from robustbench_med.records.record import Record, dumped

#: Columns besides those of every table; they come last.
MORE: dict[str, Callable[[Record], Any]] = {
    "dataset_digest": lambda record: record.dataset.digest,
    "weights_digest": lambda record: record.defense.weights.digest,
    "limit": lambda record: record.limit,
    "draws": lambda record: record.draws,
    "eot": lambda record: record.eot,
    "commit": lambda record: record.provenance.commit,
    "device": lambda record: record.provenance.device or None,
    "created": lambda record: record.created,
}


def kept_as(form: str) -> Callable[[Record], Any]:
    """What is to be kept of each record for a format: its row, or for ``json`` its line."""
    return dumped if form == "json" else _row


def _row(record: Record) -> dict[str, Any]:
    return {name: get(record) for name, get in MORE.items()} | table.row(record)


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table of the rows, with digests, commit, device and time of each."""
    found = table.frame_of(rows)
    return found[[*(name for name in found if name not in MORE), *MORE]]


def parts(kept: Sequence[Any], form: str) -> Iterator[str]:
    """What was `kept_as` a format, as text: ``csv`` with a row per cell, ``json``, an array with a line per record."""
    if form == "csv":
        yield table.to_csv(frame_of(list(kept)))
        return
    before = "[\n"
    for line in kept:
        yield before + line
        before = ",\n"
    yield "\n]\n"


def write(kept: Sequence[Any], form: str, target: Path) -> None:
    """Write what was `kept_as` a format to a file, whole or not at all.

    Raises:
        BadParameter: ``target`` is a folder, or in one that cannot be written to.
        StoreError: it cannot be written.
    """
    check_file(target)
    with replacing(target) as draft:
        if form == "parquet":
            frame_of(list(kept)).to_parquet(draft, index=False)
        else:
            with draft.open("w", encoding="utf-8") as file:
                file.writelines(parts(kept, form))
