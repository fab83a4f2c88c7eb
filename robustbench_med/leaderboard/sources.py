"""What a leaderboard is made from: the folder's records, per-image outcomes, submissions, and what others published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.errors import BadParameter, DataError
from robustbench_med.leaderboard.boards import boards
from robustbench_med.leaderboard.claims import Published, read_claims
from robustbench_med.leaderboard.model import Board
from robustbench_med.leaderboard.outcomes import Outcome
from robustbench_med.leaderboard.outcomes import read as read_outcomes
from robustbench_med.records import Record, split

RECORDS, OUTCOMES, CLAIMS = "records", "outcomes", "claims.toml"


@dataclass(frozen=True)
class Sources:
    """What is in the folder.

    Attributes:
        files: the records of each file, in its order, by the file's name.
        outcomes: by cell.
        published: claims and papers.
    """

    files: dict[str, list[Record]]
    outcomes: dict[str, Outcome]
    published: Published

    @property
    def records(self) -> list[Record]:
        """All records."""
        return [record for records in self.files.values() for record in records]

    def boards(self) -> list[Board]:
        """The boards that follow."""
        return boards(self.records, self.outcomes, self.published)


def read_sources(root: Path) -> Sources:
    """Read a leaderboard's folder.

    Raises:
        DataError: it holds no records, or a line is none; file and line are named.
        BadConfig: claims are not as they should be, or records are of a newer robustbench-med.
    """
    paths = sorted((root / RECORDS).glob("*.jsonl"))
    if not paths:
        raise DataError(f"no records in {root / RECORDS}; name the leaderboard's folder: --root leaderboard")
    files = {path.name: read_records(path) for path in paths}
    outcomes = {
        outcome.cell_id: outcome
        for path in sorted((root / OUTCOMES).glob("*.jsonl"))
        for outcome in read_outcomes(path)
    }
    return Sources(files, outcomes, read_claims(root / CLAIMS))


def read_records(path: Path) -> list[Record]:
    """The records of a file.

    Raises:
        DataError: a line is no record: unlike results at home, what is published holds nothing else.
    """
    good, bad = split(path)
    if bad:
        raise DataError(f"{path}: line {bad[0].number} is no record: {bad[0].reason}")
    return good


def checked_name(name: str) -> str:
    """A name that can be that of a file.

    Raises:
        BadParameter: it could lead elsewhere.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise BadParameter(f"--name {name!r}: use small letters, digits, '.', '_' and '-'")
    return name
