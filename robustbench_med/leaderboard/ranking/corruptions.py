"""Corruptions as MedMNIST-C reports them: errors over the severities, relative to a baseline (arXiv:2406.17536).

``rbmed table --report corruptions`` prints the same of any results. Here each corruption also has the share of images
that stay right on average over the severities, with its interval over patients. Cross-validated folds are one row.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.folds import Pools, whole_folds
from robustbench_med.leaderboard.ranking.rows import grouped, unique
from robustbench_med.leaderboard.ranking.studies import StudyBoard, size
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.statistics.intervals import share_interval

NORM = "corruption"
SEVERITIES = (1, 2, 3, 4, 5)
#: The system that errors are divided by.
BASELINE = "undefended"


@dataclass(frozen=True)
class Corrupted:
    """One corruption of the images of a system.

    Attributes:
        system, access: as on the command line.
        name: of the corruption; "" for the mean over all.
        kept: share of images that stay right, mean over the severities.
        balanced: balanced accuracy by severity.
        be, ce, rce: balanced error, and its ratios to the baseline's; None where undefined.
        records: what it was made from.
    """

    system: str
    access: str
    name: str
    kept: Figure | None
    balanced: Mapping[int, float]
    be: float
    ce: float | None = None
    rce: float | None = None
    records: tuple[Record, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class CorruptionBoard(StudyBoard[Corrupted]):
    """Rows are by system, the mean first, then the corruptions that take most.

    ``clean`` is the balanced accuracy on clean images by system, the control: nothing is corrupted.
    """

    clean: Mapping[str, float]


def corruption_boards(records: Iterable[Record], outcomes: Mapping[str, ImageResults]) -> list[CorruptionBoard]:
    """Measured cells by data set and images; each corruption at each severity once, as it was measured last.

    Raises:
        DataError: of a cross-validation not all folds can be pooled.
    """
    pools = whole_folds(Pools([each for each in unique(records) if each.threat.norm == NORM], outcomes))
    groups = grouped((record for record in pools.records if record.status == "ok"), _images)
    return sorted((_board(group, pools.outcomes) for group in groups.values()), key=lambda board: board.title)


def _images(record: Record) -> tuple[Any, ...]:
    data = record.dataset
    return data.name, data.digest, data.partition, identity.images(record), record.seed


#: System and access.
_System = tuple[str, str]


def _board(group: Sequence[Record], outcomes: Mapping[str, ImageResults]) -> CorruptionBoard:
    systems: dict[_System, dict[str, dict[int, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in sorted(group, key=lambda record: record.created):
        name = str({**record.attack.params_passed, **record.attack.params}.get("name", "gaussian-noise"))
        systems[identity.system_name(record), record.threat.access][name][round(record.threat.eps)] = record
    of_base = next((own for own in systems.values() if _first(own).defense.name == BASELINE), None)
    rows: list[Corrupted] = []
    for system, own in systems.items():
        found = [_corrupted(system, name, cells, of_base, outcomes) for name, cells in own.items()]
        rows += [_mean(system, found), *sorted(found, key=lambda row: (-row.be, row.name))]
    clean = {system: 1 - _clean_error(list(_first_of(own).values())) for (system, _), own in systems.items()}
    return CorruptionBoard(identity.data_name(group[0]), *size(group), tuple(rows), clean)


def _first_of(own: Mapping[str, Mapping[int, Record]]) -> Mapping[int, Record]:
    return next(iter(own.values()))


def _first(own: Mapping[str, Mapping[int, Record]]) -> Record:
    return next(iter(_first_of(own).values()))


def _corrupted(
    system: _System,
    name: str,
    cells: Mapping[int, Record],
    of_base: Mapping[str, Mapping[int, Record]] | None,
    outcomes: Mapping[str, ImageResults],
) -> Corrupted:
    errors = {severity: _error(record) for severity, record in sorted(cells.items())}
    base = (of_base or {}).get(name, {})
    ce = rce = None
    if cells.keys() <= base.keys():
        theirs = {severity: _error(base[severity]) for severity in errors}
        ce = _ratio(fmean(errors.values()), fmean(theirs.values()))
        ours, others = (_clean_error(list(each.values())) for each in (cells, base))
        rce = _ratio(fmean(errors.values()) - ours, fmean(theirs.values()) - others)
    kept = _kept([cells[severity] for severity in errors], outcomes)
    balanced = {severity: 1 - error for severity, error in errors.items()}
    be = fmean(errors.values())
    return Corrupted(*system, name, kept, balanced, be, ce, rce, tuple(cells[severity] for severity in errors))


def _mean(system: _System, rows: Sequence[Corrupted]) -> Corrupted:
    """The mean over corruptions; a ratio only where each of them has one."""
    severities = [each for each in SEVERITIES if all(each in row.balanced for row in rows)]
    balanced = {each: float(np.mean([row.balanced[each] for row in rows])) for each in severities}
    kept = [row.kept.value for row in rows if row.kept is not None]
    ratios = [[getattr(row, what) for row in rows] for what in ("ce", "rce")]
    ce, rce = (None if None in each else float(np.mean(each)) for each in ratios)
    figure = Figure(float(np.mean(kept))) if len(kept) == len(rows) else None
    return Corrupted(*system, "", figure, balanced, float(np.mean([row.be for row in rows])), ce, rce)


def _kept(records: Sequence[Record], outcomes: Mapping[str, ImageResults]) -> Figure | None:
    """Robust accuracy, mean over records of the same images; with an interval where their results are kept."""
    values = [record.metrics.get("robust_accuracy") for record in records]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    answers = [outcomes[record.cell_id] for record in records if record.cell_id in outcomes]
    if len(answers) < len(records) or len({each.index for each in answers}) > 1:
        return Figure(float(np.mean(known)))
    patients = answers[0].patients
    found = share_interval(
        np.mean([each.robust for each in answers], axis=0), patients or tuple(map(str, answers[0].index))
    )
    return Figure(float(np.mean(known)), found.low, found.high, by_images=not patients)


def _error(record: Record) -> float:
    return 1 - (record.metrics.get("robust_balanced_accuracy") or 0.0)


def _clean_error(records: Sequence[Record]) -> float:
    return float(np.mean([1 - (record.metrics.get("clean_balanced_accuracy") or 0.0) for record in records]))


def _ratio(one: float, other: float) -> float | None:
    return None if other <= 0 or math.isnan(one) else one / other
