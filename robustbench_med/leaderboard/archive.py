"""Ladders that no one can run again go into the archive, which no page shows."""

from __future__ import annotations

import json
from collections.abc import Container
from pathlib import Path

from robustbench_med.errors import DataError
from robustbench_med.files import jsonl
from robustbench_med.leaderboard.ranking.eligibility import earlier
from robustbench_med.leaderboard.sources.folder import Sources
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS

#: Inside the leaderboard's folder: records and outcomes as they were published.
ARCHIVE = "archive"


def earlier_ladders(sources: Sources) -> set[str]:
    """Cells of ladders of an earlier revision, of the ladder or of a gate's threshold, which no one can run again.

    Cells of submissions and those that evidence is against stay.
    """
    kept = {*sources.owners, *(each.cell_id for each in sources.evidence)}
    return {each.cell_id for each in sources.records if each.attack.is_ladder and any(earlier(each))} - kept


def archive(root: Path, cells: Container[str]) -> int:
    """Move records and outcomes of these cells, as they were written; how many records.

    They are in the archive before they are taken away, so that an interruption loses nothing.

    Raises:
        DataError: a file of the archive cannot be read.
        StoreError: a file cannot be written.
    """
    _move(root, OUTCOMES, cells)
    return _move(root, RECORDS, cells)


def _move(root: Path, folder: str, cells: Container[str]) -> int:
    count = 0
    for path in jsonl.files_of(root / folder):
        every = [line for line in jsonl.content(path).split(b"\n") if line.strip()]
        gone = [line for line in every if json.loads(line)["cell_id"] in cells]
        if not gone:
            continue
        target = jsonl.file_of(root / ARCHIVE / folder, jsonl.name_of(path), compressed=True)
        try:
            there = jsonl.content(target) if target.is_file() else b""
        except OSError as error:
            raise DataError(f"cannot read {target}: {error.strerror or error}") from None
        known = set(there.split(b"\n"))
        jsonl.write(target, there + b"".join(line + b"\n" for line in gone if line not in known))
        if left := [line for line in every if line not in gone]:
            jsonl.write(path, b"".join(line + b"\n" for line in left))
        else:
            path.unlink()
        count += len(gone)
    return count
