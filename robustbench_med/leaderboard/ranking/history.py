"""What was measured when, and what took its place: records are superseded, never edited."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from robustbench_med.leaderboard.ranking.rows import newest, slots, unique
from robustbench_med.records.record import Record


@dataclass(frozen=True)
class Event:
    """A record that came.

    Attributes:
        record: itself.
        file: where it stands.
        before: the record of the same question that it supersedes, if any.
        after: the record that superseded it, if any.
    """

    record: Record
    file: str
    before: Record | None = None
    after: Record | None = None


def events(files: Mapping[str, Sequence[Record]]) -> list[Event]:
    """Every record of these files, oldest first.

    A question is a system with its training seed, a protocol with its seed, and images; its newest record counts.
    """
    place = {id(record): name for name, records in files.items() for record in records}
    every = [record for records in files.values() for record in records]
    known = {id(record) for record in unique(every)}
    found = []
    for answers in _questions(files, known):
        for at, record in enumerate(answers):
            before = answers[at - 1] if at else None
            after = answers[at + 1] if at + 1 < len(answers) else None
            found.append(Event(record, place[id(record)], before, after))
    return sorted(found, key=lambda event: newest(event.record))


def _questions(files: Mapping[str, Sequence[Record]], known: Container[int]) -> Iterator[list[Record]]:
    """The records of one question, oldest first; a submission answers its own questions only."""
    owned: dict[str, list[Record]] = defaultdict(list)
    for name, records in files.items():
        owned[name if "/" in name else ""] += [record for record in records if id(record) in known]
    for records in owned.values():
        yield from slots(records).values()
