"""Which records make a row: the newest of every seed, and what else is known of the same weights."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record, dumped
from robustbench_med.records.sections.base import moment

Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(frozen=True)
class RowRecords:
    """The records of one row.

    Attributes:
        protocol: the attacks that were requested.
        records: one for each training seed and seed, in that order; of several single rungs all of them.
        others: what else was measured of the same system on this board.
        single: the records are of single rungs.
    """

    protocol: str
    records: tuple[Record, ...]
    others: tuple[Record, ...]
    single: bool = False


def newest(record: Record) -> tuple[dt.datetime, str]:
    """Sorts records by age; of two that ended in the same second, by id."""
    return (moment(record.created), record.cell_id)


def unique(records: Iterable[Record]) -> list[Record]:
    """Each cell once, as it was measured last, whatever the order of the records."""
    found: dict[str, Record] = {}
    for record in records:
        before = found.get(record.cell_id)
        if before is None or (moment(record.created), dumped(record)) > (moment(before.created), dumped(before)):
            found[record.cell_id] = record
    return list(found.values())


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items with equal keys together, in their order."""
    found: dict[Key, list[Item]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def slots(records: Iterable[Record]) -> dict[tuple[Any, ...], list[Record]]:
    """Records that answer one question, oldest first: the last one counts, and supersedes the others.

    One question: a system trained with one seed, one protocol with one seed, the same images.
    """
    return grouped(sorted(records, key=newest), slot)


def slot(record: Record) -> tuple[Any, ...]:
    """Records with equal keys answer the same question."""
    clients = tuple(record.dataset.asked.client) if record.dataset.asked else ()
    return (
        *(identity.board_key(record), identity.system_key(record), identity.protocol(record), record.role == "probe"),
        *(record.limit, clients, identity.train_seed(record), record.seed),
    )


def superseded(records: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Records that no row shows, each with the one that counts instead."""
    return [(old, answers[-1]) for answers in slots(records).values() for old in answers[:-1]]


def rows(records: Sequence[Record]) -> list[RowRecords]:
    """The rows of one system on one board; ``records`` are all of that system there."""
    counted = [answers[-1] for answers in slots(records).values()]
    ladders = [record for record in counted if record.attack.is_ladder]
    measured = [record for record in ladders if record.status == "ok"]
    found = []
    for (protocol, probe, _), group in _alike(measured).items():
        if probe and len(measured) > len([record for record in measured if record.role == "probe"]):
            continue  # a ladder on more images says more
        # One that failed is no reason to believe those of other seeds.
        failed = [
            record
            for record in ladders
            if record.status == "failed" and record.limit == group[0].limit and identity.protocol(record) == protocol
        ]
        found.append(_row(protocol, [*group, *failed], records))
    if found:
        return found
    failed = [record for record in ladders if record.status == "failed"]
    found = [_row(protocol, group, records) for (protocol, *_), group in _alike(failed).items()]
    found += _single(counted, records)
    return found or [_row(protocol, group, records) for (protocol, *_), group in _alike(ladders).items()]


def _single(counted: Sequence[Record], records: Sequence[Record]) -> list[RowRecords]:
    """Rows of a system without a ladder: its single rungs on the images that most rungs saw."""
    plain = [record for record in counted if not record.attack.is_ladder]
    attacks = [record for record in plain if record.status == "ok" and not record.attack.is_control]
    if not attacks:
        return [_row(protocol, group, records, single=True) for (protocol, *_), group in _alike(plain).items()]
    by_images = grouped(attacks, identity.images)
    _, group = max(by_images.items(), key=lambda item: (len({r.threat.access for r in item[1]}), item[0][1], item[0]))
    protocol = " + ".join(sorted({identity.protocol(record) for record in group}))
    return [_row(protocol, group, records, single=True)]


def _alike(records: Iterable[Record]) -> dict[tuple[Any, ...], list[Record]]:
    """By protocol, whether it is a probe, and images."""
    return grouped(records, lambda record: (identity.protocol(record), record.role == "probe", identity.images(record)))


def _row(protocol: str, group: Sequence[Record], records: Sequence[Record], single: bool = False) -> RowRecords:
    ordered = sorted(group, key=lambda r: (identity.train_seed(r), r.seed, identity.protocol(r), r.cell_id))
    own = {record.cell_id for record in group}
    others = sorted((record for record in records if record.cell_id not in own), key=lambda r: r.cell_id)
    return RowRecords(protocol, tuple(ordered), tuple(others), single)


def oblivious(row: RowRecords) -> tuple[Record, ...]:
    """For every record of a row, the attack that does not know the defense, on the same weights.

    Of several the one with most images, then the one with the lowest accuracy. Empty where a record has none.
    """
    found = []
    for record in row.records:
        known = [
            other
            for other in same_weights(row, record)
            if other.threat.access == "oblivious" and other.metrics.get("robust_accuracy") is not None
        ]
        if not known:
            return ()
        found.append(min(known, key=lambda other: (-other.n, other.metrics["robust_accuracy"], other.cell_id)))
    return tuple({each.cell_id: each for each in found}.values())


def same_weights(row: RowRecords, record: Record) -> list[Record]:
    """Every measured attack on the weights of a record."""
    return [
        other
        for other in (*row.records, *row.others)
        if other.status == "ok" and not other.attack.is_control and identity.weights(other) == identity.weights(record)
    ]


def outcomes_of(records: Iterable[Record], outcomes: Mapping[str, ImageResults]) -> tuple[ImageResults | None, ...]:
    """The per-image results of records, where they are kept and are of as many images."""
    found = []
    for record in records:
        outcome = outcomes.get(record.cell_id)
        found.append(outcome if outcome is not None and len(outcome.index) == record.n else None)
    return tuple(found)
