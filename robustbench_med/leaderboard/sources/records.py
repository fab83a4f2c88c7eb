"""Published records and outcomes: unlike results at home, a file of them holds nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from robustbench_med.errors import DataError
from robustbench_med.files.strict_json import check_strict, size_of
from robustbench_med.leaderboard.sources.image_results import ImageResults, differences, read
from robustbench_med.records.record import Record, split

#: Inside the leaderboard's folder, and inside that of each track: records, and the result of each image.
RECORDS, OUTCOMES = "records", "outcomes"


def read_records(path: Path) -> list[Record]:
    """The records of a file.

    Raises:
        DataError: a line is not a record, or could be read as two; or it is no file.
    """
    try:
        size_of(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the records in {path}: {getattr(error, 'strerror', None) or error}") from None
    good, bad = split(path, lambda record: record, check_strict)
    if bad:
        raise DataError(f"{path}: line {bad[0].number} is not a record: {bad[0].reason}")
    return good


def read_outcomes(paths: Iterable[Path]) -> dict[str, ImageResults]:
    """The outcomes of several files, by cell.

    Raises:
        DataError: as `read`, or a cell is there twice with other answers: the one would take the place of the other.
    """
    found: dict[str, ImageResults] = {}
    for path in paths:
        for each in read(path):
            before = found.setdefault(each.cell_id, each)
            if before is not each and (other := differences(before, each)):
                raise DataError(f"{path}: cell {each.cell_id} is there twice with other answers ({other[0]})")
    return found
