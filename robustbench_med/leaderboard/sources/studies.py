"""What the pages beside the boards are made from: records that no board ranks, in folders of their own.

``certified/``, ``corruptions/`` and ``attacks/`` have ``records/`` and ``outcomes/`` as the leaderboard itself, so that
``rbmed leaderboard add RESULTS --root leaderboard/certified --name FILE`` fills them. Any of them may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from robustbench_med.leaderboard.sources.consistency import check
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS, read_records
from robustbench_med.leaderboard.sources.test_split import TestSplit, completed
from robustbench_med.records.record import Record

CERTIFIED, CORRUPTIONS, ATTACKS = "certified", "corruptions", "attacks"
STUDIES = (CERTIFIED, CORRUPTIONS, ATTACKS)


@dataclass(frozen=True)
class StudySources:
    """Records of one folder, and the results of their images by cell."""

    records: tuple[Record, ...] = ()
    outcomes: Mapping[str, ImageResults] = field(default_factory=dict)


def read_study(root: Path, splits: Mapping[str, TestSplit]) -> StudySources:
    """Read the folder of a study; nothing where there is none.

    Raises:
        DataError: a line is no record or no outcome, or images do not give the figures of their record, or have other
            labels than in the data set.
    """
    records = [record for path in sorted((root / RECORDS).glob("*.jsonl")) for record in read_records(path)]
    by_cell = {record.cell_id: record for record in records}
    outcomes = {}
    for path in sorted((root / OUTCOMES).glob("*.jsonl")):
        for outcome in read_outcomes(path):
            record = by_cell.get(outcome.cell_id)
            if record is None or record.status != "ok":
                continue
            check(record, outcome, path)
            split = splits.get(record.dataset.digest or "")
            outcomes[outcome.cell_id] = outcome if split is None else completed(outcome, split, str(path))
    return StudySources(tuple(records), outcomes)
