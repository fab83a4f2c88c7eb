"""What comparisons of attacks are made from: the published cells, and those of results of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.ranking.attacks import AttackBoard, attack_boards
from robustbench_med.leaderboard.sources.consistency import outcomes_of
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
        own = open_results(out)
        records += own
        outcomes |= outcomes_of(own, out / SAMPLES)
    if not records:
        raise DataError(f"no records in {root / ATTACKS / RECORDS}, and no folder of results is named")
    return attack_boards(records, outcomes)
