"""Systems that are the same under several names: equal weights and equal parts.

``medfedpure:ablation=no-detector`` and ``medfedpure:detector=none`` deploy the same thing. They are one row, which
bears the name that was measured first and says the others, so that one system never takes two ranks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.rows import newest
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record


def identical(records: Iterable[Record], outcomes: Mapping[str, ImageResults]) -> dict[str, str]:
    """For the key of each system, that of the system it is the same as: of the one that was measured first."""
    systems: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        systems[identity.system_key(record)].append(record)
    born = {key: min(map(newest, own)) for key, own in systems.items()}
    by_weights: dict[str | None, set[str]] = defaultdict(set)
    for key, own in systems.items():
        for record in own:
            by_weights[record.defense.weights.digest].add(key)
    by_parts: dict[Any, set[str]] = defaultdict(set)
    for key, own in systems.items():
        for record in own:
            # Weights of one system alone are like no other's.
            shared = len(by_weights[record.defense.weights.digest]) > 1
            if shared and (parts := _deployed(record)) is not None:
                by_parts[parts].add(key)
    same = {key: key for key in systems}
    for keys in by_parts.values():
        ordered = sorted(keys, key=lambda key: born[key])
        for at, key in enumerate(ordered):
            twin = next((k for k in ordered[:at] if _agree(systems[k], systems[key], outcomes)), None)
            if twin is not None:
                first, second = sorted((_root(same, twin), _root(same, key)), key=lambda each: born[each])
                same[second] = first
    return {key: _root(same, key) for key in systems}


def _root(same: Mapping[str, str], key: str) -> str:
    while same[key] != key:
        key = same[key]
    return key


def _deployed(record: Record) -> Any:
    """What is deployed: data, weights and parts; None where the record does not say.

    A system that is nothing but its name, as the parts of old records of others may be, is like no other.
    """
    parts, digest = record.defense.parts, record.defense.weights.digest
    if record.status != "ok" or not digest or parts.model is None:
        return None
    facts = parts.model_dump(mode="json")
    facts.pop("strength", None)  # compared where both have it
    if parts.detector is None:
        facts.pop("fpr", None)  # of no threshold
    return identity.digest_of(record.dataset.digest, record.dataset.partition, digest, facts, sorted(record.unseen))


def same_deployed(one: Record, two: Record) -> bool:
    """Whether two records say that they are of the same data, weights and parts, purified as strongly."""
    first, second = (each.defense.parts for each in (one, two))
    if not all("strength" in each.model_fields_set for each in (first, second)) or first.strength != second.strength:
        return False
    facts = _deployed(one)
    return facts is not None and facts == _deployed(two)


def _agree(ones: Sequence[Record], twos: Sequence[Record], outcomes: Mapping[str, ImageResults]) -> bool:
    """Whether no record contradicts that two systems with the same weights and parts are one.

    How strongly a defense purifies is no part, and records of formats before 5 do not say it. There the answers have
    to: the same attack with the same seed has the same result, and the same draw answers the same clean image alike.
    """
    seen = False
    results = {_question(record): record for record in ones}
    for two in twos:
        if (one := results.get(_question(two))) is not None:
            if one.metrics.get("robust_accuracy") != two.metrics.get("robust_accuracy"):
                return False
            seen = True
    for one in ones:
        for two in twos:
            if identity.weights(one) != identity.weights(two) or one.seed != two.seed:
                continue
            told = [record.defense.parts for record in (one, two)]
            if all("strength" in parts.model_fields_set for parts in told):
                if told[0].strength != told[1].strength:
                    return False
                seen = True
            left, right = outcomes.get(one.cell_id), outcomes.get(two.cell_id)
            if left is not None and right is not None and left.clean.shape[0] == right.clean.shape[0]:
                _, a, b = np.intersect1d(left.index, right.index, assume_unique=True, return_indices=True)
                if len(a):
                    if not np.array_equal(left.clean[:, a], right.clean[:, b]):
                        return False
                    seen = True
    return seen


def _question(record: Record) -> tuple[Any, ...]:
    """Records of one system with equal keys have the same result."""
    threat = (record.threat.norm, record.threat.eps, record.threat.goal)
    asked = (identity.protocol(record), record.attack.revision, record.seed, record.draws, identity.images(record))
    return (identity.weights(record), *threat, *asked)
