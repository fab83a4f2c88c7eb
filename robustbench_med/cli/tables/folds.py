"""Lines of a terminal on folds of a cross-validation, pooled as the leaderboard does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from robustbench_med.cli.tables.records import name_of
from robustbench_med.leaderboard.ranking.folds import Pools, pooled
from robustbench_med.leaderboard.ranking.pool import Pooled
from robustbench_med.leaderboard.render.columns import images_and_patients
from robustbench_med.leaderboard.sources.consistency import outcome_of
from robustbench_med.records.record import Record
from robustbench_med.records.summary import share, threat_of


def lines(records: Sequence[Record], samples: Path) -> Iterator[str]:
    """One line for each system and attack: its figures over all folds, or what is missing.

    ``samples`` is the folder of per-image results.
    """
    folds = [record for record in records if record.dataset.fold is not None and record.status == "ok"]
    if not folds:
        return
    kept = {record.cell_id: found for record in folds if (found := outcome_of(record, samples)) is not None}
    for record in pooled(Pools(folds, kept)).records:
        if isinstance(record, Pooled):
            figures = f"clean % {share(record, 'clean_accuracy')}, robust % {share(record, 'robust_accuracy')}"
            told = "; ".join(record.gaps) or f"{figures}, n {images_and_patients(record.n, record.patients)}"
            yield f"{record.folds} folds pooled: {name_of(record)}, {threat_of(record)}: {told}"
