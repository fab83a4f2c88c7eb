"""Measured results into the leaderboard's folder: records as they are, and what became of each image."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

from robustbench_med.errors import BadParameter, DataError
from robustbench_med.files import lines
from robustbench_med.leaderboard.sources.consistency import outcome_of
from robustbench_med.leaderboard.sources.image_results import ImageResults, dumped
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS, read_records
from robustbench_med.leaderboard.sources.studies import LARGE, checked_kind
from robustbench_med.records.compare import changed
from robustbench_med.records.contradictions import contradictions
from robustbench_med.records.folder import SAMPLES, open_results
from robustbench_med.records.record import Record
from robustbench_med.records.record import dumped as dumped_record
from robustbench_med.records.sections.base import moment


def add(root: Path, out: Path, name: str | None = None) -> tuple[int, int]:
    """Add the cells of a folder of results that are not there yet, and the outcomes of all its cells.

    Args:
        root: the leaderboard's folder.
        out: the folder of results.
        name: file for new records; None refuses them, so that only outcomes are added.

    Returns:
        How many records and how many outcomes were added.

    Raises:
        DataError: a cell is there with other results, is not for this folder, contradicts itself or is of tomorrow, or
            images do not give the figures of their record.
        BadParameter: there are new records, and no name.
        StoreError: a file cannot be written.
    """
    there = {path: read_records(path) for path in lines.files_of(root / RECORDS)}
    place = {record.cell_id: (path, record) for path, records in there.items() for record in records}
    chosen = None if name is None else _file(root, RECORDS, name)
    new: list[Record] = []
    outcomes: dict[str, list[ImageResults]] = {}
    for record in open_results(out):
        path, before = place.get(record.cell_id, (chosen, None))
        if path is None:
            raise BadParameter(f"{out} holds records that are not there yet; say into which file: --name NAME")
        if before is not None and changed(before, record):
            raise DataError(
                f"cell {record.cell_id} of {out} is in {path.name} with other results; records are not edited"
            )
        if before is None:
            checked_kind(root.resolve().name, [record], out)
            for fault in _faults(record):
                raise DataError(f"cell {record.cell_id} of {out}: {fault}")
            new.append(record)
        if record.status == "ok" and (outcome := outcome_of(record, out / SAMPLES)) is not None:
            outcomes.setdefault(lines.name_of(path), []).append(outcome)
    if new and chosen is not None:
        kept = lines.content(chosen) if chosen.is_file() else b""
        lines.write(chosen, kept + "".join(f"{dumped_record(record)}\n" for record in new).encode())
    return len(new), sum(_keep(_file(root, OUTCOMES, stem), found) for stem, found in outcomes.items())


def _file(root: Path, folder: str, name: str) -> Path:
    """The file of this name, there or new."""
    return lines.file_of(root / folder, name, compressed=root.resolve().name in LARGE)


def _faults(record: Record) -> Iterator[str]:
    """Why a record is not taken; one of tomorrow would supersede every record of today."""
    if moment(record.created) > dt.datetime.now(dt.UTC) + dt.timedelta(days=1):
        yield f"it was measured at {record.created}, which is not over yet; set the clock"
    yield from contradictions(record)


def _keep(path: Path, found: list[ImageResults]) -> int:
    """Add outcomes to a file, each cell once; how many are new."""
    kept = {outcome.cell_id: outcome for outcome in (read_outcomes(path) if path.is_file() else [])}
    before = len(kept)
    kept |= {outcome.cell_id: outcome for outcome in found}
    lines.write(path, "".join(f"{dumped(outcome)}\n" for outcome in kept.values()).encode())
    return len(kept) - before
