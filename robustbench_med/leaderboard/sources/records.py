"""Published records: unlike results at home, a file of them holds nothing else."""

from __future__ import annotations

from pathlib import Path

from robustbench_med.errors import DataError
from robustbench_med.records.record import Record, split

#: Inside the leaderboard's folder, and inside that of each track: records, and the result of each image.
RECORDS, OUTCOMES = "records", "outcomes"


def read_records(path: Path) -> list[Record]:
    """The records of a file.

    Raises:
        DataError: a line is not a record.
    """
    good, bad = split(path, lambda record: record)
    if bad:
        raise DataError(f"{path}: line {bad[0].number} is not a record: {bad[0].reason}")
    return good
