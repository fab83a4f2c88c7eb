"""Evidence counts against the system that it was made against, and a claim is taken from verified records only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.records import ladder_record, outcome, plain

from robustbench_med.leaderboard.entry import Entry, Paper
from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.verified import Word
from robustbench_med.records.record import Record

MORE, NONE = [True] * 8, [False] * 8
JPEG = {"name": "jpeg", "params": {}, "revision": 1}


def deployed(cell: str, name: str = "f", purifier: dict[str, Any] | None = None, **parts: Any) -> Record:
    """A ladder on one set of weights, behind a purifier or none."""
    facts = ladder_record(cell, MORE, name=name).defense.model_dump(mode="json")
    facts["weights"] = {"digest": "w", "seed": 0}
    facts["parts"] |= {"model": {"name": "cnn", "params": {}, "revision": 1}, "purifier": purifier} | parts
    return ladder_record(cell, MORE, name=name, defense=facts)


def against(cell: str) -> Evidence:
    broken = outcome(cell, NONE)
    return Evidence("e", cell, "sharper", Paper("P", "https://example.org"), "0" * 64, broken, broken)


def word(cell: str) -> Word:
    return Word.model_validate(
        {"of": cell, "digest": "0" * 64, "verdict": "identical", "by": "M", "date": "2026-03-01"}
    )


def rows(records: list[Record], **known: Any) -> dict[str, Entry]:
    kept = {record.cell_id: outcome(record.cell_id, MORE) for record in records} | known.pop("outcomes", {})
    made = boards(records, kept, **known)
    return {entry.records[0].cell_id: entry for board in made for entry in board.entries}


def worst(entry: Entry) -> float | None:
    return entry.worst and entry.worst.value


def test_evidence_against_a_classifier_does_not_count_against_what_protects_it() -> None:
    """`undefended` and `shielded:jpeg` hold the same weights: images that break the one say nothing of the other."""
    bare, shielded = deployed("0", strength=1.0), deployed("1", "shielded", JPEG, strength=1.0)
    found = rows([bare, shielded], evidence=[against("0")])
    assert (worst(found["0"]), worst(found["1"])) == (0.0, 1.0)
    assert found["1"].lowered == ()


@pytest.mark.parametrize(
    ("parts", "lowered"), [({"strength": 1.0}, True), ({"strength": 0.5}, False), ({}, False), ({"fpr": 0.5}, True)]
)
def test_evidence_counts_against_the_same_system_of_others(parts: dict[str, Any], lowered: bool) -> None:
    """Handed in again under another name, and accepted; ``fpr`` is of no threshold, as there is no detector."""
    ours = deployed("0", purifier=JPEG, strength=1.0)
    theirs = deployed("1", "renamed", JPEG, **({"strength": 1.0} | parts if "fpr" in parts else parts))
    found = rows([ours, theirs], evidence=[against("0")], owners={"1": "theirs"}, words={"1": word("1")})
    assert worst(found["0"]) == 0.0
    assert worst(found["1"]) == (0.0 if lowered else 1.0)


def test_evidence_does_not_count_where_the_threshold_follows_another_rule() -> None:
    detector = {"name": "mae", "params": {}, "revision": 1}
    one = deployed("0", strength=1.0, detector=detector, gate_revision=1)
    two = deployed("1", strength=1.0, detector=detector, gate_revision=2)
    two = two.model_copy(update={"seed": 1})
    found = rows([one, two], evidence=[against("0")])
    shares = [each.withstood.mean() for entry in found.values() for each in entry.answers]
    assert sorted(shares) == [0.0, 1.0]


@pytest.mark.parametrize("said", [True, False])
def test_a_claim_that_no_maintainer_verified_is_not_shown(said: bool) -> None:
    """The ladder is verified; the attack that does not know the defense, handed in beside it, says more than is so."""
    ladder, claim = ladder_record("1", [True, False] * 4), plain("2", MORE, limit=8)
    words = {"1": word("1")} | ({"2": word("2")} if said else {})
    kept: dict[str, ImageResults] = {"1": outcome("1", [True, False] * 4), "2": outcome("2", MORE)}
    found = rows([ladder, claim], outcomes=kept, owners={"1": "s", "2": "s"}, words=words)["1"]
    assert found.ranked
    assert (found.claim is not None and found.claim.value == 1.0) == said
    assert [each.cell_id for each in found.claim_records] == (["2"] if said else [])


@pytest.mark.parametrize("said", [True, False])
def test_attacks_that_no_maintainer_verified_decide_nothing(said: bool) -> None:
    """Of a system with noise, answers that seem broken on some draws are chosen for others, on which they are right."""
    draws = np.array([[0, 1, 1, 0, 1, 1, 0, 0]] * 2 + [[1, 1, 1, 1, 0, 1, 0, 0]], dtype=np.int8)
    ladder, other = ladder_record("1", MORE, draws=3), plain("2", NONE, "full", draws=3)
    facts = ladder.defense.model_dump(mode="json") | {"randomized": True}
    records = [record.model_validate(record.model_dump() | {"defense": facts}) for record in (ladder, other)]
    kept = {
        "1": replace(outcome("1", MORE), clean=np.zeros((3, 8), dtype=np.int8), attacked=draws),
        "2": replace(outcome("2", NONE), clean=np.zeros((3, 8), dtype=np.int8), attacked=np.ones_like(draws)),
    }
    words = {"1": word("1")} | ({"2": word("2")} if said else {})
    found = rows(records, outcomes=kept, owners={"1": "s", "2": "s"}, words=words)["1"]
    assert worst(found) == pytest.approx(0.0 if said else (draws == 0).mean())


def test_withheld_answers_to_everything_withstand_nothing() -> None:
    """Abstaining on each image, attacked or not, is no robustness."""
    silent = np.full((1, 8), -1, dtype=np.int8)
    kept = {"0": replace(outcome("0", MORE), clean=silent, attacked=silent)}
    record = ladder_record("0", MORE)
    record = record.model_copy(update={"metrics": record.metrics | {"clean_accuracy": 0.0}})
    assert worst(rows([record], outcomes=kept)["0"]) == 0.0
