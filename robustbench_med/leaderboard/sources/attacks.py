"""What comparisons of attacks are made from: the published cells, and those of results of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.ranking.attacks import AttackBoard, attack_boards
from robustbench_med.leaderboard.sources.consistency import outcome_of
from robustbench_med.leaderboard.sources.folder import SPLITS
from robustbench_med.leaderboard.sources.records import RECORDS
from robustbench_med.leaderboard.sources.studies import ATTACKS, read_study
from robustbench_med.leaderboard.sources.test_split import read_all
from robustbench_med.records.folder import SAMPLES, open_results


def read_attack_boards(root: Path, results: Sequence[Path]) -> list[AttackBoard]:
    """The comparisons of attacks of the leaderboard in ``root`` and in folders of results, together.

    Raises:
        DataError: there are no records, or they or the per-image results cannot be read.
    """
    published = read_study(root / ATTACKS, read_all(root / SPLITS))
    records, outcomes = list(published.records), dict(published.outcomes)
    for out in results:
        for record in open_results(out):
            records.append(record)
            found = outcome_of(record, out / SAMPLES) if record.status == "ok" and out.is_dir() else None
            outcomes |= {} if found is None else {record.cell_id: found}
    if not records:
        raise DataError(f"no records in {root / ATTACKS / RECORDS}, and no folder of results is named")
    return attack_boards(records, outcomes)
