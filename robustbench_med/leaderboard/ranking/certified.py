"""Certified accuracy beside what attacks left of the same images: a lower and an upper bound of the same truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.figures import figure
from robustbench_med.leaderboard.ranking.rows import unique
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted
from robustbench_med.records.sections.certified import CertifiedSection


@dataclass(frozen=True)
class Bounds:
    """One system at one radius under one attack, over its seeds.

    Attributes:
        system, attack, access: as on the command line.
        eps, eps_text: L2 radius.
        control: the attack is none.
        clean, attacked: accuracy of the answers, of smoothed ones where the system is smoothed.
        certified: share of images that are right and certified up to the radius; None without certificates.
        how: how it was certified, of the first record.
        abstained, contradicted: images without a certificate, and such that were broken inside theirs; over the seeds.
        records: what it was made from.
    """

    system: str
    attack: str
    access: str
    eps: float
    eps_text: str
    control: bool
    clean: Figure | None
    certified: Figure | None
    attacked: Figure | None
    how: CertifiedSection | None = None
    abstained: int = 0
    contradicted: int = 0
    records: tuple[Record, ...] = field(default=(), repr=False)

    @property
    def gap(self) -> float | None:
        """Attacked minus certified: what neither bound decides."""
        return None if self.certified is None or self.attacked is None else self.attacked.value - self.certified.value


@dataclass(frozen=True)
class CertifiedBoard:
    """What was certified and attacked on the same images.

    Attributes:
        title: data set and norm.
        images, patients: how many.
        rows: certified systems first, each by radius, an attack before controls.
    """

    title: str
    images: int
    patients: int | None
    rows: tuple[Bounds, ...]


def certified_boards(records: Iterable[Record]) -> list[CertifiedBoard]:
    """Measured cells in L2 by data set and images; those without any certificate are left out."""
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in unique(records):
        if record.status == "ok" and record.threat.norm == "l2" and not record.attack.is_ladder:
            data, threat = record.dataset, record.threat
            key = (data.name, data.digest, data.partition, threat.goal, threat.finding, identity.images(record))
            groups[key].append(record)
    found = [_board(group) for group in groups.values() if any(record.certified is not None for record in group)]
    return sorted(found, key=lambda board: (board.title, -board.images))


def _board(group: Sequence[Record]) -> CertifiedBoard:
    cells: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in group:
        how = record.certified
        asked = (how.sigma, how.n0, how.n, how.alpha) if how is not None else ()
        key = (
            *(identity.system_name(record), identity.weights(record)),
            *(formatted(record.attack), record.threat.access, record.threat.eps, asked),
        )
        cells[key].append(record)
    rows = sorted((_bounds(own) for own in cells.values()), key=_place)
    first = group[0]
    patients = [record.patients for record in group if record.patients is not None]
    title = f"{identity.data_name(first)}, {first.threat.norm.capitalize()}"
    goal = "" if first.threat.goal == "untargeted" else f", {first.threat.goal}"
    return CertifiedBoard(title + goal, first.n, min(patients, default=None), tuple(rows))


def _bounds(records: Sequence[Record]) -> Bounds:
    first = records[0]
    sections = [record.certified for record in records if record.certified is not None]
    return Bounds(
        identity.system_name(first),
        formatted(first.attack),
        first.threat.access,
        first.threat.eps,
        identity.eps_text(first),
        first.attack.is_control,
        figure(records, "clean_accuracy"),
        figure(records, "certified_accuracy"),
        figure(records, "robust_accuracy"),
        sections[0] if sections else None,
        sum(each.abstained for each in sections),
        sum(len(each.contradicted) for each in sections),
        tuple(records),
    )


def _place(row: Bounds) -> tuple[Any, ...]:
    return row.certified is None, row.system, row.eps, row.control, row.attack


def curves(rows: Iterable[Bounds]) -> Mapping[str, CertifiedSection]:
    """The curve of certified accuracy of each system, of the first of its rows."""
    found: dict[str, CertifiedSection] = {}
    for row in rows:
        if row.how is not None:
            found.setdefault(row.system, row.how)
    return found
