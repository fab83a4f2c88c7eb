"""Cross-validation: each fold tests other patients, and all folds together are one row.

The images of all folds are pooled, not averaged: figures count every image once, and intervals all patients, although
each fold has weights of its own training. What follows, rows and ranks, sees one record. A pool that lacks a fold says
so, and has no rank.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.pool import Pooled, joined_of, number_of, pool, whole
from robustbench_med.leaderboard.ranking.rows import newest, slot
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.verified import Word
from robustbench_med.records.record import Record


@dataclass(frozen=True)
class Pools:
    """Records without folds, and what is known of them; as the arguments of `robustbench_med.leaderboard.boards`."""

    records: list[Record]
    outcomes: Mapping[str, ImageResults]
    evidence: Sequence[Evidence] = ()
    owners: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Word] = field(default_factory=dict)


def pooled(known: Pools) -> Pools:
    """Every record of a fold replaced by that of its pool; others stay as they are."""
    owners, words = known.owners, known.words
    groups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    plain = []
    for record in known.records:
        if record.dataset.fold is None:
            plain.append(record)
        else:
            unfolded = record.model_copy(update={"dataset": whole(record.dataset)})
            groups[(owners.get(record.cell_id, ""), record.dataset.fold.of, *slot(unfolded))].append(record)
    if not groups:
        return known
    outcomes, owned, said, evidence = dict(known.outcomes), dict(owners), dict(words), list(known.evidence)
    for (owner, *_), group in groups.items():
        # Of a fold that was measured several times the newest record counts.
        last = {number_of(record): record for record in sorted(group, key=newest)}
        members = [last[number] for number in sorted(last)]
        kept = [outcomes.get(member.cell_id) if member.status == "ok" else None for member in members]
        one, joined = pool(members, kept)
        plain.append(one)
        if joined is not None:
            outcomes[one.cell_id] = joined
        if owner:
            owned[one.cell_id] = owner
        if all(member.cell_id in words for member in members):
            said[one.cell_id] = _weakest([words[member.cell_id] for member in members])
        by_weights = {identity.weights(member): number_of(member) for member in members}
        of = {record.cell_id: by_weights.get(identity.weights(record)) for record in group}
        evidence += _moved(known.evidence, of, one.cell_id)
    return Pools(plain, outcomes, evidence, owned, said)


def whole_folds(known: Pools) -> Pools:
    """Pools of which each is whole, for tables that show figures of all folds and have no row for less.

    Raises:
        DataError: folds of a system are missing, failed, or cannot be pooled; those without any figure are left out.
    """
    found = pooled(known)
    for record in found.records:
        if not isinstance(record, Pooled) or not any(member.status == "ok" for member in record.members):
            continue
        if why := [*record.gaps, *([] if record.status == "ok" else [record.reason or record.status])]:
            names = (identity.data_name(record), identity.system_name(record), identity.protocol(record))
            raise DataError(
                f"cell {record.members[0].cell_id} ({', '.join(names)}): {'; '.join(why)}. Figures are of all folds "
                "together: measure them in one run, with folds=K and without fold, or leave these records out"
            )
    return found


def _weakest(words: Sequence[Word]) -> Word:
    """One word for all folds: no more than was said of each, and everyone who said it."""
    least = max(words, key=lambda word: word.verdict == "within")
    names = ", ".join(dict.fromkeys(word.by for word in words))
    return least.model_copy(update={"fresh": None, "by": names, "date": max(word.date for word in words)})


def _moved(evidence: Sequence[Evidence], of: Mapping[str, int | None], cell: str) -> Iterator[Evidence]:
    """Evidence against a fold as evidence against the pool; ``of``: the fold of a record of the same weights."""
    for each in evidence:
        number = of.get(each.cell_id)
        if number is not None:
            choice, outcome = (joined_of(cell, [(number, side)]) for side in (each.choice, each.outcome))
            yield replace(each, cell_id=cell, choice=choice, outcome=outcome)
