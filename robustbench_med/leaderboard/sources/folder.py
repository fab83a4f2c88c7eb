"""What a leaderboard is made from: the folder's records, per-image outcomes, submissions, and what others published."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from robustbench_med.errors import BadParameter, DataError
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.schema import Board
from robustbench_med.leaderboard.sources.claims import Publications, read_claims
from robustbench_med.leaderboard.sources.consistency import check
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.evidence import read as read_evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.submission import read as read_submission
from robustbench_med.leaderboard.sources.test_split import completed, read_all
from robustbench_med.records.record import Record, split

RECORDS, OUTCOMES, SUBMISSIONS, EVIDENCE, CLAIMS = "records", "outcomes", "submissions", "evidence", "claims.toml"
#: Label, patient and client of each test image.
SPLITS = "splits"
#: What every reader should know of the published rows, one paragraph of plain text; optional.
NOTICE = "notice.txt"


@dataclass(frozen=True)
class Sources:
    """What is in the folder.

    Attributes:
        files: the records of each file, in its order, by the file's name.
        outcomes: by cell.
        published: claims and papers.
        evidence: answers to adversarial images of others.
        notice: a paragraph shown above the boards; empty for none.
    """

    files: dict[str, list[Record]]
    outcomes: dict[str, ImageResults]
    published: Publications
    evidence: tuple[Evidence, ...] = ()
    notice: str = ""

    @property
    def records(self) -> list[Record]:
        """All records."""
        return [record for records in self.files.values() for record in records]

    def boards(self) -> list[Board]:
        """The boards that follow."""
        return boards(self.records, self.outcomes, self.published, self.evidence)


def read_sources(root: Path) -> Sources:
    """Read a leaderboard's folder.

    Raises:
        DataError: it holds no records, a line is none (file and line are named), or images do not give the figures of
            their record, or have other labels than in the data set.
        BadConfig: claims are not as they should be, or records are of a newer robustbench-med.
    """
    paths = sorted((root / RECORDS).glob("*.jsonl"))
    if not paths:
        raise DataError(f"no records in {root / RECORDS}; name the leaderboard's folder: --root leaderboard")
    kept = sorted((root / OUTCOMES).glob("*.jsonl"))
    with no_collection():
        files = {path.name: read_records(path) for path in paths}
        outcomes = {outcome.cell_id: outcome for path in kept for outcome in read_outcomes(path)}
    published = read_claims(root / CLAIMS)
    for path in sorted((root / SUBMISSIONS).glob("*.json")):
        submitted = read_submission(path)
        files[f"{SUBMISSIONS}/{path.name}"] = list(submitted.records)
        outcomes = dict(submitted.outcomes) | outcomes
        published.papers.update({("cell", record.cell_id): submitted.paper for record in submitted.records})
    splits = read_all(root / SPLITS)
    for name, records in files.items():
        for record in records:
            if record.cell_id in outcomes and record.status == "ok":
                origin = f"outcomes of {root / RECORDS / name}"
                check(record, outcomes[record.cell_id], origin)
                if (split := splits.get(record.dataset.digest or "")) is not None:
                    outcomes[record.cell_id] = completed(outcomes[record.cell_id], split, origin)
    evidence = tuple(read_evidence(path) for path in sorted((root / EVIDENCE).glob("*.json")))
    _known(evidence, files)
    notice = " ".join((root / NOTICE).read_text(encoding="utf-8").split()) if (root / NOTICE).is_file() else ""
    return Sources(files, outcomes, published, evidence, notice)


def _known(evidence: Iterable[Evidence], files: Mapping[str, Sequence[Record]]) -> None:
    """Raise `DataError` where evidence is against a cell that is not there."""
    cells = {record.cell_id for records in files.values() for record in records}
    for each in evidence:
        if each.cell_id not in cells:
            raise DataError(f"{EVIDENCE}/{each.name}.json is against cell {each.cell_id}, which is not there")


@contextmanager
def no_collection() -> Iterator[None]:
    """Millions of small objects are made and all are kept: looking for garbage would take a third of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def read_records(path: Path) -> list[Record]:
    """The records of a file.

    Raises:
        DataError: a line is not a record: unlike results at home, what is published holds nothing else.
    """
    good, bad = split(path)
    if bad:
        raise DataError(f"{path}: line {bad[0].number} is not a record: {bad[0].reason}")
    return good


def checked_name(name: str) -> str:
    """A name that can be that of a file.

    Raises:
        BadParameter: it could lead elsewhere.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        raise BadParameter(f"--name {name!r}: use small letters, digits, '.', '_' and '-'")
    return name
