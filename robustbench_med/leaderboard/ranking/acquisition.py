"""Worst-case acquisition beside the average case: MRI artefacts chosen by an adversary, and the same by chance.

Artefacts at random are the control of the search: the same family, limits and images, without a gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.figures import figure
from robustbench_med.leaderboard.ranking.folds import Pools, whole_folds
from robustbench_med.leaderboard.ranking.rows import grouped, unique
from robustbench_med.leaderboard.ranking.studies import StudyBoard, size
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted

NORM = "acquisition"
#: All artefacts at once.
ALL = "all"


@dataclass(frozen=True)
class Artefacts:
    """Artefacts on one system, over its seeds.

    Attributes:
        system, access: as on the command line.
        physics: which artefacts.
        clean: accuracy without any.
        worst: under those that the search chose.
        chance: under one random choice at the limits, the control.
        search: under the best of many random choices; None where that was not measured.
        tries: of how many.
        records: what it was made from.
    """

    system: str
    access: str
    physics: str
    clean: Figure | None
    worst: Figure | None
    chance: Figure | None
    search: Figure | None = None
    tries: int = 0
    records: tuple[Record, ...] = field(default=(), repr=False)

    @property
    def difference(self) -> float | None:
        """What choosing takes beyond chance."""
        return None if self.worst is None or self.chance is None else self.chance.value - self.worst.value


def acquisition_boards(records: Iterable[Record], outcomes: Mapping[str, ImageResults]) -> list[StudyBoard[Artefacts]]:
    """Measured cells by data set, share of the limits, and images.

    Rows are by system, all artefacts at once first, then those that take most; cross-validated folds are one row.

    Raises:
        DataError: of a cross-validation not all folds can be pooled.
    """
    pools = whole_folds(Pools([each for each in unique(records) if each.threat.norm == NORM], outcomes))
    measured = (record for record in pools.records if record.status == "ok")
    groups = grouped(measured, lambda record: (identity.board_key(record), identity.images(record)))
    return sorted(map(_board, groups.values()), key=lambda board: board.title)


def _board(group: Sequence[Record]) -> StudyBoard[Artefacts]:
    rows = sorted((_artefacts(key, own) for key, own in grouped(group, _key).items()), key=_place)
    title = f"{identity.data_name(group[0])}, share {identity.eps_text(group[0])} of the limits"
    return StudyBoard(title, *size(group), tuple(rows))


def _key(record: Record) -> tuple[str, str, str]:
    return identity.system_name(record), record.threat.access, str(_params(record).get("physics", ALL))


def _artefacts(key: tuple[str, str, str], records: Sequence[Record]) -> Artefacts:
    kinds = {kind: _strongest(own) for kind, own in grouped(records, _kind).items()}
    tries = max((int(_params(record).get("restarts", 1)) for record in kinds.get("search", ())), default=0)
    worst, chance, search = (
        figure(kinds[kind], "robust_accuracy") if kind in kinds else None for kind in ("worst", "chance", "search")
    )
    return Artefacts(*key, figure(records, "clean_accuracy"), worst, chance, search, tries, tuple(records))


def _strongest(records: Sequence[Record]) -> Sequence[Record]:
    """Of searches of several lengths the one that leaves least, over its seeds: their mean would be no worst case."""

    def left(own: Sequence[Record]) -> float:
        found = figure(own, "robust_accuracy")
        return 1.0 if found is None else found.value

    return min(grouped(records, lambda record: formatted(record.attack)).values(), key=left)


def _kind(record: Record) -> str:
    params = _params(record)
    if int(params.get("steps", 1)):
        return "worst"
    return "chance" if int(params.get("restarts", 1)) == 1 else "search"


def _params(record: Record) -> dict[str, Any]:
    return {**record.attack.params_passed, **record.attack.params}


def _place(row: Artefacts) -> tuple[Any, ...]:
    left = row.worst.value if row.worst is not None else 1.0
    return row.system, row.access, row.physics != ALL, left, row.physics
