"""Certified accuracy beside what attacks left of the same images: a lower and an upper bound of the same truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.figures import figure
from robustbench_med.leaderboard.ranking.rows import grouped, unique
from robustbench_med.leaderboard.ranking.studies import StudyBoard, size
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


def certified_boards(records: Iterable[Record]) -> list[StudyBoard[Bounds]]:
    """Measured cells in L2 by data set and images; those without any certificate are left out.

    Rows of certified systems are first, each by radius, an attack before controls.
    """
    measured = [record for record in unique(records) if record.status == "ok" and record.threat.norm == "l2"]
    groups = grouped((record for record in measured if not record.attack.is_ladder), _images)
    found = [_board(group) for group in groups.values() if any(record.certified is not None for record in group)]
    return sorted(found, key=lambda board: (board.title, -board.images))


def _images(record: Record) -> tuple[Any, ...]:
    data, threat = record.dataset, record.threat
    return data.name, data.digest, data.partition, threat.goal, threat.finding, identity.images(record)


def _board(group: Sequence[Record]) -> StudyBoard[Bounds]:
    rows = sorted(map(_bounds, grouped(group, _asked).values()), key=_place)
    threat = group[0].threat
    title = f"{identity.data_name(group[0])}, {threat.norm.capitalize()}"
    goal = "" if threat.goal == "untargeted" else f", {threat.goal}"
    return StudyBoard(title + goal, *size(group), tuple(rows))


def _asked(record: Record) -> tuple[Any, ...]:
    how = record.certified
    return (
        *(identity.system_name(record), identity.weights(record)),
        *(formatted(record.attack), record.threat.access, record.threat.eps),
        (how.sigma, how.n0, how.n, how.alpha) if how is not None else (),
    )


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
