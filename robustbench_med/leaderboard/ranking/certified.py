"""Certified accuracy beside what attacks left of the same images: a lower and an upper bound of the same truth.

Cross-validated folds are one row: each has other patients, so that their figures are independent, and are weighted by
their images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.figures import figure
from robustbench_med.leaderboard.ranking.pool import number_of, whole
from robustbench_med.leaderboard.ranking.rows import grouped, unique
from robustbench_med.leaderboard.ranking.studies import StudyBoard, size
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted
from robustbench_med.records.sections.certified import CertifiedPoint, CertifiedSection
from robustbench_med.statistics.intervals import of_strata


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

    Images of patients come before simulated ones; rows of certified systems first, each by radius, an attack before
    controls.
    """
    measured = [record for record in unique(records) if record.status == "ok" and record.threat.norm == "l2"]
    groups = grouped((record for record in measured if not record.attack.is_ladder), _images)
    found = [group for group in groups.values() if any(record.certified is not None for record in group)]
    boards = [(group[0].dataset.synthetic, _board(group)) for group in found]
    return [board for _, board in sorted(boards, key=lambda each: (each[0], each[1].title, -each[1].images))]


def _images(record: Record) -> tuple[Any, ...]:
    """Equal for records of the same images, and for folds of the same data set."""
    data, threat = record.dataset, record.threat
    which = (
        (data.digest, identity.images(record)) if data.fold is None else (data.fold.pool, data.fold.of, record.limit)
    )
    return data.name, data.partition, threat.goal, threat.finding, *which


def _board(group: Sequence[Record]) -> StudyBoard[Bounds]:
    rows = sorted(map(_bounds, grouped(group, _asked).values()), key=_place)
    threat, folds = group[0].threat, _by_fold(group)
    title = f"{identity.data_name(_unfolded(group[0]))}, {threat.norm.capitalize()}"
    goal = "" if threat.goal == "untargeted" else f", {threat.goal}"
    sizes = [size(own) for own in folds.values()]
    patients = [people for _, people in sizes if people is not None]
    known = sum(patients) if len(patients) == len(sizes) else None
    return StudyBoard(title + goal, sum(images for images, _ in sizes), known, tuple(rows))


def _by_fold(records: Iterable[Record]) -> Mapping[int, list[Record]]:
    """Records by the number of their fold; without folds all of them as 0."""
    found = grouped(records, number_of)
    return {number: found[number] for number in sorted(found)}


def _unfolded(record: Record) -> Record:
    """As if it were of all folds, so that one command measures them again."""
    return record if record.dataset.fold is None else record.model_copy(update={"dataset": whole(record.dataset)})


def _asked(record: Record) -> tuple[Any, ...]:
    """Equal for records of one row; the folds of a row have weights of their own."""
    how, seed = record.certified, identity.train_seed(record)
    return (
        *(identity.system_name(record), seed if record.dataset.fold else identity.weights(record)),
        *(formatted(record.attack), record.threat.access, record.threat.eps),
        (how.sigma, how.n0, how.n, how.alpha) if how is not None else (),
    )


def _bounds(records: Sequence[Record]) -> Bounds:
    first, folds = records[0], _by_fold(records)
    sections = [record.certified for record in records if record.certified is not None]

    def pooled(name: str) -> Figure | None:
        return _pooled([figure(own, name) for own in folds.values()], [own[0].n for own in folds.values()])

    return Bounds(
        identity.system_name(first),
        formatted(first.attack) + _missing(folds, first),
        first.threat.access,
        first.threat.eps,
        identity.eps_text(first),
        first.attack.is_control,
        pooled("clean_accuracy"),
        pooled("certified_accuracy"),
        pooled("robust_accuracy"),
        _how([(own[0].certified, own[0].n) for own in folds.values() if own[0].certified is not None]),
        sum(each.abstained for each in sections),
        sum(len(each.contradicted) for each in sections),
        tuple(map(_unfolded, records)),
    )


def _missing(folds: Mapping[int, Any], record: Record) -> str:
    """What a row says of its attack if folds were not measured."""
    fold = record.dataset.fold
    if fold is None or len(folds) == fold.of:
        return ""
    return f", of {fold.of} folds only {', '.join(map(str, folds))}"


def _pooled(figures: Sequence[Figure | None], images: Sequence[int]) -> Figure | None:
    """One figure of the images of all folds; None where a fold has none."""
    known = [each for each in figures if each is not None]
    if len(figures) == 1 or len(known) < len(figures):
        return figures[0] if len(figures) == 1 else None
    share = math.fsum(each.value * n for each, n in zip(known, images, strict=True)) / sum(images)
    bounds = [each.interval for each in known if each.interval is not None]
    if len(bounds) < len(known):
        return Figure(share)
    low, high = of_strata([each.value for each in known], bounds, images)
    return Figure(share, low, high, (share,), any(each.by_images for each in known))


def _how(sections: Sequence[tuple[CertifiedSection, int]]) -> CertifiedSection | None:
    """How a row was certified, with the curve of all folds."""
    if len(sections) < 2:
        return sections[0][0] if sections else None
    images = [n for _, n in sections]
    points = []
    for own in zip(*(section.curve for section, _ in sections), strict=True):
        found = _pooled([Figure(point.accuracy, point.low, point.high) for point in own], images)
        assert found is not None
        low, high = found.interval or (0.0, 1.0)
        points.append(CertifiedPoint(radius=own[0].radius, accuracy=found.value, low=low, high=high))
    return sections[0][0].model_copy(update={"curve": points})


def _place(row: Bounds) -> tuple[Any, ...]:
    return row.certified is None, row.system, row.eps, row.control, row.attack


def curves(rows: Iterable[Bounds]) -> Mapping[str, CertifiedSection]:
    """The curve of certified accuracy of each system, of the first of its rows."""
    found: dict[str, CertifiedSection] = {}
    for row in rows:
        if row.how is not None:
            found.setdefault(row.system, row.how)
    return found
