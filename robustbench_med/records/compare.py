"""Whether two records agree. Times, memory and provenance are left out: they depend on the machine and the moment."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from robustbench_med.records.record import Record, latest

#: Fields that hold results.
RESULTS = (
    *("status", "clients", "n", "patients", "client_images", "metrics", "intervals", "per_client", "client_intervals"),
    *("between_clients", "worst_client"),
    *("spent", "certified", "rungs", "diagnostics", "reason"),
)
#: Fields that say what was requested, and with which data and weights.
ASKED = ("dataset", "defense", "attack", "threat", "budget", "surrogate", "eot", "draws", "seed", "limit", "unseen")
#: Fields that say when, where and how fast a cell was measured.
CIRCUMSTANCES = {"provenance", "created", "seconds", "peak_memory_mib"}
#: Sentences for readers, which may be reworded; whether there is one is compared.
_PROSE = re.compile(r"(dataset|diagnostics)\.notes\.\d+|defense\.reference|(rungs\.\d+\.)?reason")
_WHOLE = tuple(name for name in Record.model_fields if name not in CIRCUMSTANCES)
#: Differences of these names are not shown in notes: the figures that they follow from are.
_QUIET = (
    "intervals.",
    "client_intervals.",
    "client_images.",
    "per_client.",
    "between_clients.",
    "diagnostics.",
    "dataset.asked",
    "attack.asked",
)
#: Data and weights that figures depend on: where a digest differs, different figures are expected.
DIGESTS = {"data set": "dataset.digest", "weights": "defense.weights.digest", "surrogate": "surrogate.digest"}

Match = Literal["same", "within", "differs", "only left", "only right"]


def flat(record: Record, fields: Sequence[str]) -> dict[str, Any]:
    """Some fields of a record by dotted name, without times."""
    return dict(_flat(record.model_dump(mode="json", include=set(fields))))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield name, value
        return
    yield name, type(value).__name__  # so that an empty one is compared too
    for key, each in items:
        if key != "seconds":
            yield from _flat(each, f"{name}.{key}".lstrip("."))


def changed(left: Record, right: Record, fields: Sequence[str] = RESULTS) -> dict[str, tuple[Any, Any]]:
    """Values in which two records differ, by dotted name; None where a record does not have the name.

    Of a record without patients, as older formats are, and one with them, what only the newer one has is left out:
    intervals of patients, and figures that came later.
    """
    one, two = flat(left, fields), flat(right, fields)
    names = dict.fromkeys([*one, *two])
    if (left.patients is None) != (right.patients is None):
        shared = one.keys() & two.keys()
        names = {name: None for name in names if not _of_newer(name, shared)}
    return {name: (one.get(name), two.get(name)) for name in names if one.get(name) != two.get(name)}


def _of_newer(name: str, shared: Collection[str]) -> bool:
    """Whether only records with patients have this value, or have it otherwise."""
    head = name.partition(".")[0]
    open_ended = head in ("metrics", "per_client", "between_clients") or name.startswith("diagnostics.figures.")
    later = open_ended and name not in shared
    return later or head in ("intervals", "patients", "client_images", "client_intervals")


def unlike(record: Record, again: Record) -> dict[str, tuple[Any, Any]]:
    """Every value in which a record differs from one of the same cell measured again, by dotted name.

    Left out are times, memory and provenance, and the versions of the distributions that offer components; and what a
    record without patients, as older formats are, does not say (`unsaid`).
    """
    found = changed(record, again, _WHOLE)
    silent = set(unsaid(record, again))
    return {name: each for name, each in found.items() if name not in silent and not _circumstance(name, *each)}


def unsaid(record: Record, again: Record) -> list[str]:
    """What a record of an older format does not say, by dotted name; nothing for one of today's format."""
    if record.patients is not None or again.patients is None:
        return []
    said = flat(record, _WHOLE).keys()
    return [name for name in changed(record, again, _WHOLE) if name not in said]


def _circumstance(name: str, one: Any, two: Any) -> bool:
    """Whether a difference is one of time, of versions, or of how the same is said."""
    if name in ("defense.weights.trained", "defense.weights.source"):
        return True
    if not (isinstance(one, str) and isinstance(two, str) and one and two):
        return False
    if name.rpartition(".")[2] == "distribution":
        return one.rpartition(" ")[0] == two.rpartition(" ")[0]
    return bool(_PROSE.fullmatch(name))


def outside(
    left: Record, right: Record, names: Collection[str] | None = None
) -> dict[str, tuple[float | None, float | None]]:
    """The shares of ``right`` that lie outside the 95 % intervals of ``left``; of these ``names`` only, if given."""
    found = {}
    for name, (low, high) in left.intervals.items():
        if names is not None and name not in names:
            continue
        value = right.metrics.get(name)
        if value is None or not low <= value <= high:
            found[name] = (left.metrics.get(name), value)
    return found


def other_digests(left: Record, right: Record) -> list[str]:
    """A line for each digest of data or weights that differs."""
    one, two = (flat(record, ("dataset", "defense", "surrogate")) for record in (left, right))
    return [
        f"{what}: digest {one.get(name)} -> {two.get(name)}"
        for what, name in DIGESTS.items()
        if one.get(name) != two.get(name)
    ]


def notes(left: Record, right: Record) -> tuple[str, ...]:
    """One line for each difference that matters to a reader: digests, parameters, revisions, figures."""
    lines = other_digests(left, right)
    asked = changed(left, right, ASKED)
    shown = {name: values for name, values in asked.items() if name not in DIGESTS.values()}
    for name, (one, two) in {**shown, **changed(left, right)}.items():
        if not name.startswith((*_QUIET, "defense.weights.")):
            lines.append(f"{name.removeprefix('metrics.')}: {_short(one)} -> {_short(two)}")
    return tuple(lines)


@dataclass(frozen=True)
class Pair:
    """A cell of two folders: its records, whether they agree, and what differs."""

    left: Record | None
    right: Record | None
    match: Match
    notes: tuple[str, ...] = ()

    @property
    def record(self) -> Record:
        """One of the records, which names the cell."""
        record = self.left or self.right
        assert record is not None
        return record


def pairs(left: Sequence[Record], right: Sequence[Record]) -> list[Pair]:
    """The cells of two folders side by side: by id, and where ids differ by what was requested.

    The same request has another id where data, weights or a revision changed in between.
    """
    ones, twos = latest(left), latest(right)
    by_id = {record.cell_id: record for record in twos}
    rest = [record for record in twos if record.cell_id not in {one.cell_id for one in ones}]
    found = []
    for one in ones:
        two = by_id.get(one.cell_id)
        if two is None:
            alike = [record for record in rest if question(record) == question(one)]
            if len(alike) == 1 and sum(question(record) == question(one) for record in ones) == 1:
                two = alike[0]
                rest.remove(two)
        found.append(Pair(one, None, "only left") if two is None else _pair(one, two))
    return found + [Pair(None, two, "only right") for two in rest]


def _pair(one: Record, two: Record) -> Pair:
    if not changed(one, two):
        return Pair(one, two, "same", tuple(other_digests(one, two)))
    alike = one.status == two.status and not outside(one, two) and not outside(two, one)
    return Pair(one, two, "within" if alike else "differs", notes(one, two))


def question(record: Record) -> tuple[str, ...]:
    """What was requested of a record's cell, without digests and revisions."""
    defense, attack, dataset = record.defense, record.attack, record.dataset
    facts = (
        *(record.role, record.threat, record.budget, record.draws, record.seed, record.limit, record.unseen),
        *(dataset.name, dataset.params_passed, dataset.asked, dataset.partition),
        *(defense.name, defense.params_passed, defense.asked),
        *(attack.name, attack.params_passed, attack.asked),
    )
    return tuple(map(repr, facts))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:60]
