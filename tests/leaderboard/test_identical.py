"""One system under several names is one row."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.records import ladder_record, outcome

from robustbench_med.leaderboard.ranking.boards import boards
from robustbench_med.records.record import Record

SAFE = [True] * 8 + [False] * 8
WORSE = [True] * 7 + [False] * 9


def named(cell: str, name: str, safe: list[bool] = SAFE, **more: Any) -> Record:
    defense = ladder_record(name=name).defense.model_dump()
    defense["weights"] = {"digest": "same", "seed": 0}
    defense["parts"] = {"model": {"name": "resnet", "params": {"layers": 1}}, **more.pop("parts", {})}
    return ladder_record(cell, safe, defense=defense, **more)


def rows(*records: Record, answers: dict[str, list[bool]] | None = None) -> list[tuple[str, tuple[str, ...]]]:
    found = {cell: outcome(cell, safe) for cell, safe in (answers or {}).items()}
    (board,) = boards(records, found)
    return [(entry.defense, entry.also) for entry in board.entries]


def test_equal_weights_and_parts_are_one_row_under_the_older_name() -> None:
    one, two = named("0", "f", created="2026-02-01T00:00"), named("1", "g", created="2026-01-01T00:00")
    assert rows(one, two) == [("g", ("f, fedavg",))]
    assert rows(two, one) == [("g", ("f, fedavg",))]


@pytest.mark.parametrize(
    "parts",
    [
        {"detector": {"name": "mae"}},
        {"model": {"name": "resnet", "params": {"layers": 2}}},
        {"purifier": {"name": "jpeg", "revision": 2}},
    ],
)
def test_other_parts_are_another_system(parts: dict[str, Any]) -> None:
    assert len(rows(named("0", "f"), named("1", "g", parts=parts))) == 2


def test_other_results_of_the_same_attack_are_of_another_system() -> None:
    assert len(rows(named("0", "f"), named("1", "g", WORSE))) == 2


def test_a_share_of_false_alarms_without_a_detector_is_no_difference() -> None:
    assert len(rows(named("0", "f", parts={"fpr": 0.05}), named("1", "g", parts={"fpr": 0.01}))) == 1
    gate = {"detector": {"name": "mae"}}
    pair = named("0", "f", parts={"fpr": 0.05, **gate}), named("1", "g", parts={"fpr": 0.01, **gate})
    assert len(rows(*pair)) == 2


def test_the_strength_of_purification_is_a_difference_where_it_is_known() -> None:
    pair = [named(str(k), name, parts={"strength": k / 2}) for k, name in enumerate("fg")]
    assert len(rows(*pair)) == 2


def test_ranks_count_systems() -> None:
    better = ladder_record("9", [True] * 16, name="h")
    worse = [named(str(k), f"f{k}", [False] * 16) for k in range(3)]
    (board,) = boards([better, *worse], {"9": outcome("9", [True] * 16)})
    assert sorted(entry.rank or 0 for entry in board.entries) == [1, 2]
