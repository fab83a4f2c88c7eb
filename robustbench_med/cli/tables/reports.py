"""The table that a report is made from, where it wants one row for all folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustbench_med.leaderboard.ranking.folds import Pools, whole_folds
from robustbench_med.leaderboard.sources.consistency import outcomes_of
from robustbench_med.leaderboard.sources.folder import SPLITS, with_patients
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.records import OUTCOMES, RECORDS, read_outcomes
from robustbench_med.leaderboard.sources.test_split import read_all
from robustbench_med.records.folder import samples_of
from robustbench_med.records.record import Record, latest
from robustbench_med.records.table import to_frame

if TYPE_CHECKING:
    import pandas as pd


def pooled_frame(results: Mapping[Path, Sequence[Record]]) -> pd.DataFrame:
    """One row for each record, and one for all folds of a cross-validation.

    Args:
        results: records by their folder of results, or by their file.

    Raises:
        DataError: of a cross-validation not all folds can be pooled, or images do not give the figures of their record.
    """
    outcomes: dict[str, ImageResults] = {}
    for place, own in results.items():
        if folds := [record for record in own if record.dataset.fold is not None]:
            outcomes |= _published(place, folds) or outcomes_of(folds, samples_of(place))
    return to_frame(whole_folds(Pools(latest([each for own in results.values() for each in own]), outcomes)).records)


def _published(file: Path, records: Sequence[Record]) -> dict[str, ImageResults]:
    """The results of the images of records in a leaderboard's folder, which has no samples; else none."""
    root = file.parent.parent
    if file.parent.name != RECORDS or not (path := root / OUTCOMES / file.name).is_file():
        return {}
    found, splits = read_outcomes([path]), read_all((root if (root / SPLITS).is_dir() else root.parent) / SPLITS)
    known = [(record, found[record.cell_id]) for record in records if record.cell_id in found]
    return {record.cell_id: with_patients(record, own, splits, str(path)) for record, own in known}
