"""Do the images of a cell give the figures of its record?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from robustbench_med.errors import DataError
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.sources.compact_labels import ABSTAINED
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.radii import check_radii
from robustbench_med.leaderboard.sources.reading import is_there
from robustbench_med.leaderboard.sources.samples import from_samples
from robustbench_med.records.compare import ASKED, RESULTS, changed
from robustbench_med.records.record import Record

#: Records hold single-precision shares; the mean over images is taken in double precision.
TOLERANCE = 1e-6


def outcome_of(record: Record, samples: Path) -> ImageResults | None:
    """What became of each image of a cell; None where that was not kept.

    Raises:
        DataError: the images do not give the figures of the record, or their radii its certificates; or the file is a
            link, or none.
    """
    path = samples / f"{record.cell_id}.parquet"
    if link := next((each for each in (samples, path) if each.is_symlink()), None):
        raise DataError(f"{link} is a symbolic link; results are read from real files only, so put a copy in its place")
    if not is_there(path, "per-image results"):
        return None
    outcome = from_samples(path)
    check(record, outcome, path)
    check_radii(record, path)
    return outcome


def outcomes_of(records: Iterable[Record], samples: Path) -> dict[str, ImageResults]:
    """By cell what became of each image, as far as it was measured and kept; raises as `outcome_of`."""
    found = {record.cell_id: outcome_of(record, samples) for record in records if record.status == "ok"}
    return {cell: outcome for cell, outcome in found.items() if outcome is not None}


def check(record: Record, outcome: ImageResults, origin: Path | str) -> None:
    """Raise `DataError` unless the images give the record's accuracies."""
    right, left = (
        outcome.clean == outcome.labels,
        (outcome.attacked == outcome.labels) | (outcome.attacked == ABSTAINED),
    )
    for what, hits in (("clean_accuracy", right), ("robust_accuracy", left)):
        stated, share = record.metrics.get(what), np.count_nonzero(hits) / max(hits.size, 1)
        if len(outcome.index) != record.n or stated is None or abs(share - stated) > TOLERANCE:
            raise DataError(
                f"{origin}: {plural(len(outcome.index), 'image gives', 'images give')} {what} "
                f"{share:.6f}, the record of cell "
                f"{record.cell_id} says {stated} of {record.n}"
            )


def checked_once(records: Iterable[Record]) -> None:
    """Refuse a cell that is there several times and says other things: its id decides what was asked and what came.

    A cell that failed may have been measured since, and the newest counts.

    Raises:
        DataError: which cell, and in what it differs.
    """
    found: dict[str, Record] = {}
    for record in records:
        before = found.setdefault(record.cell_id, record)
        if before is record or "ok" not in (before.status, record.status) or before.status != record.status:
            continue
        for what, fields in (("results", RESULTS), ("options", ASKED)):
            if other := changed(before, record, fields):
                raise DataError(
                    f"cell {record.cell_id} is there twice with other {what} ({next(iter(other))}); "
                    "records are not edited"
                )
