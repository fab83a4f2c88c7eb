"""Measured results into the leaderboard's folder: records as they are, and what became of each image."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path

from robustbench_med.errors import BadParameter, DataError
from robustbench_med.files import jsonl
from robustbench_med.leaderboard.sources.consistency import outcome_of
from robustbench_med.leaderboard.sources.folder import SPLITS
from robustbench_med.leaderboard.sources.image_results import ImageResults, differences, dumped
from robustbench_med.leaderboard.sources.reading import is_there
from robustbench_med.leaderboard.sources.record_form import form_faults
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS, read_outcomes, read_records
from robustbench_med.leaderboard.sources.studies import LARGE, STUDIES, checked_kind
from robustbench_med.leaderboard.sources.test_split import TestSplit, checked_data, completed, read_all
from robustbench_med.records.compare import changed
from robustbench_med.records.contradictions import contradictions
from robustbench_med.records.folder import SAMPLES, open_results
from robustbench_med.records.record import Record
from robustbench_med.records.record import dumped as dumped_record
from robustbench_med.records.sections.base import moment

#: Folders whose records no table ranks by the results of their images.
UNRANKED = (*STUDIES, "measurements", "archive")


def add(root: Path, out: Path, name: str | None = None) -> tuple[int, int]:
    """Add the cells of a folder of results that are not there yet, and the outcomes that are not there yet.

    Args:
        root: the leaderboard's folder.
        out: the folder of results.
        name: file for new records; None refuses them, so that only outcomes are added.

    Returns:
        How many records and how many outcomes were added.

    Raises:
        DataError: a cell is there with other results, is not for this folder, contradicts itself, is of tomorrow or has
            no results of images; these do not give the figures of their record, or are not of its data set. Nothing is
            written then.
        BadParameter: there are new records, and no name.
        StoreError: a file cannot be written.
    """
    for folder in (root / RECORDS, root / OUTCOMES):
        if folder.is_symlink():  # a link of a stranger would choose where we write
            raise DataError(f"{folder} is a symbolic link; the leaderboard is written to real folders only")
    there = {path: read_records(path) for path in jsonl.files_of(root / RECORDS)}
    place = {record.cell_id: (path, record) for path, records in there.items() for record in records}
    known = read_outcomes(jsonl.files_of(root / OUTCOMES))
    splits = read_all((root.parent if root.resolve().name in UNRANKED else root) / SPLITS)
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
        if (outcome := _outcome(record, out, splits)) is not None:
            _checked_same(known.get(record.cell_id), outcome, splits.get(record.dataset.digest or ""), out)
            if record.cell_id not in known:
                outcomes.setdefault(jsonl.name_of(path), []).append(outcome)
        elif record.status == "ok" and before is None and root.resolve().name not in UNRANKED:
            raise DataError(
                f"cell {record.cell_id} of {out} has no per-image results ({SAMPLES}/{record.cell_id}.parquet), from "
                "which its figures follow and its rank is determined"
            )
    # Everything was read and compared before the first file is written.
    drafts = {_file(root, OUTCOMES, stem): [*map(dumped, found)] for stem, found in outcomes.items()}
    if new and chosen is not None:
        drafts[chosen] = [*map(dumped_record, new)]
    made = {path: _content(path) + "".join(f"{line}\n" for line in kept).encode() for path, kept in drafts.items()}
    for path, data in made.items():
        jsonl.write(path, data)
    return len(new), sum(map(len, outcomes.values()))


def _outcome(record: Record, out: Path, splits: Mapping[str, TestSplit]) -> ImageResults | None:
    """What became of each image, if it was measured and kept, compared with what is known of the data set.

    Raises:
        DataError: it has other labels, is of other images, or does not give the figures of the record.
    """
    if record.status != "ok":
        return None
    origin = f"cell {record.cell_id} of {out}"
    checked_data(record.dataset, splits, origin)
    found, split = outcome_of(record, out / SAMPLES), splits.get(record.dataset.digest or "")
    if found is not None and split is not None:
        completed(found, split, origin)
    return found


def _checked_same(before: ImageResults | None, now: ImageResults, split: TestSplit | None, out: Path) -> None:
    """Refuse other results of images that are there already: like records, they are not edited."""
    if before is None:
        return
    one, two = (each if split is None else completed(each, split, str(out)) for each in (before, now))
    if other := differences(one, two):
        raise DataError(
            f"cell {now.cell_id} of {out} is there with other per-image results ({other[0]}); they are not edited"
        )


def _content(path: Path) -> bytes:
    """What a file says that is added to, with its last line ended; nothing where there is none."""
    try:
        found = jsonl.content(path) if is_there(path, "lines") else b""
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    return found if not found or found.endswith(b"\n") else found + b"\n"


def _file(root: Path, folder: str, name: str) -> Path:
    """The file of this name, there or new."""
    return jsonl.file_of(root / folder, name, compressed=root.resolve().name in LARGE)


def _faults(record: Record) -> Iterator[str]:
    """Why a record is not taken; one of tomorrow would supersede every record of today."""
    if moment(record.created) > dt.datetime.now(dt.UTC) + dt.timedelta(days=1):
        yield f"it was measured at {record.created}, which is not over yet; set the clock"
    yield from contradictions(record)
    yield from form_faults(record)
