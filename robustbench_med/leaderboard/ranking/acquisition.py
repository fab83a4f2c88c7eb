"""Worst-case acquisition beside the average case: MRI artefacts chosen by an adversary, and the same by chance.

Artefacts at random are the control of the search: the same family, limits and images, without a gradient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.figures import figure
from robustbench_med.leaderboard.ranking.rows import unique
from robustbench_med.records.record import Record

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


@dataclass(frozen=True)
class AcquisitionBoard:
    """Artefacts within the same share of the physical limits, on the same images.

    Attributes:
        title: data set and share.
        images, patients: how many.
        rows: by system, all artefacts at once first, then those that take most.
    """

    title: str
    images: int
    patients: int | None
    rows: tuple[Artefacts, ...]


def acquisition_boards(records: Iterable[Record]) -> list[AcquisitionBoard]:
    """Measured cells by data set, share of the limits, and images."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in unique(records):
        if record.status == "ok" and record.threat.norm == NORM:
            groups[identity.board_key(record), identity.images(record)].append(record)
    return sorted(map(_board, groups.values()), key=lambda board: board.title)


def _board(group: Sequence[Record]) -> AcquisitionBoard:
    cells: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for record in group:
        physics = str(_params(record).get("physics", ALL))
        cells[identity.system_name(record), record.threat.access, physics].append(record)
    rows = sorted((_artefacts(key, own) for key, own in cells.items()), key=_place)
    first = group[0]
    patients = [record.patients for record in group if record.patients is not None]
    title = f"{identity.data_name(first)}, share {identity.eps_text(first)} of the limits"
    return AcquisitionBoard(title, first.n, min(patients, default=None), tuple(rows))


def _artefacts(key: tuple[str, str, str], records: Sequence[Record]) -> Artefacts:
    kinds: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        kinds[_kind(record)].append(record)
    tries = max((int(_params(record).get("restarts", 1)) for record in kinds["search"]), default=0)
    worst, chance, search = (
        figure(kinds[kind], "robust_accuracy") if kinds[kind] else None for kind in ("worst", "chance", "search")
    )
    return Artefacts(*key, figure(records, "clean_accuracy"), worst, chance, search, tries, tuple(records))


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
