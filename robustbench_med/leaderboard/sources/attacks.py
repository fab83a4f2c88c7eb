"""What comparisons of attacks are made from: the published cells, and those of results of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.ranking.attacks import AttackBoard, attack_boards
from robustbench_med.leaderboard.sources.consistency import outcome_of
from robustbench_med.leaderboard.sources.folder import OUTCOMES, RECORDS, read_records
from robustbench_med.leaderboard.sources.image_results import read as read_outcomes
from robustbench_med.records.folder import SAMPLES, open_results

#: Inside the leaderboard's folder: records and per-image results of comparisons of attacks, which no board ranks.
FOLDER = "attacks"


def read_attack_boards(root: Path, results: Sequence[Path]) -> list[AttackBoard]:
    """The comparisons of attacks in ``root`` and in folders of results, together.

    Raises:
        DataError: there are no records, or they or the per-image results cannot be read.
    """
    records = [record for path in sorted((root / RECORDS).glob("*.jsonl")) for record in read_records(path)]
    outcomes = {
        each.cell_id: each for path in sorted((root / OUTCOMES).glob("*.jsonl")) for each in read_outcomes(path)
    }
    for out in results:
        for record in open_results(out):
            records.append(record)
            found = outcome_of(record, out / SAMPLES) if record.status == "ok" and out.is_dir() else None
            outcomes |= {} if found is None else {record.cell_id: found}
    if not records:
        raise DataError(f"no records in {root / RECORDS}, and no folder of results is named")
    return attack_boards(records, outcomes)
