"""Comparisons of attacks: what is compared with what, ranks, controls, and the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command import invoke
from helpers.records import ladder_record, outcome

from robustbench_med.leaderboard.ranking.attacks import AttackBoard, attack_boards
from robustbench_med.leaderboard.sources.image_results import ImageResults, dumped
from robustbench_med.records.record import Record
from robustbench_med.records.record import dumped as dumped_record

IMAGES = 40


def cell(attack: str, defense: str, robust: int, **fields: object) -> tuple[Record, ImageResults]:
    """An attack that leaves ``robust`` images of 40 of a defense; it breaks the same images as any weaker one."""
    name = f"{attack}{defense}{len(fields)}".replace("-", "")
    safe = [at < robust for at in range(IMAGES)]
    values: dict[str, object] = {
        "attack": {"name": attack, "params_passed": {}},
        "threat": {"norm": "linf", "eps": 4 / 255, "access": "oblivious", "goal": "untargeted"},
        "budget": {"gradients": 50},
        "rungs": [],
    }
    record = ladder_record(name, safe, name=defense, **(values | fields))
    return record, outcome(name, safe)


def boards(*cells: tuple[Record, ImageResults]) -> list[AttackBoard]:
    return attack_boards([record for record, _ in cells], {found.cell_id: found for _, found in cells})


STRONG = [cell("strong", "one", 0), cell("strong", "two", 10)]
WEAK = [cell("weak", "one", 20), cell("weak", "two", 30)]
NOISE = [cell("noise", "one", 40), cell("noise", "two", 40)]


def test_attacks_are_ranked_by_what_they_leave_and_one_that_does_nothing_is_last() -> None:
    (board,) = boards(*NOISE, *WEAK, *STRONG)
    assert [(each.name, each.rank) for each in board.attacks] == [("strong", 1), ("weak", 2), ("noise", 3)]
    strong, weak, noise = board.attacks
    assert board.systems == ("one + fedavg", "two + fedavg")
    assert (strong.left, strong.gap, strong.best_on) == (0.125, 0.0, 2)
    assert (weak.left, weak.gap, weak.best_on) == (0.625, 0.5, 0)
    assert strong.low < strong.left < strong.high
    assert noise.control
    assert not strong.control
    assert strong.mean("gradients") == 40
    assert board.budget == {"gradients": 50}


def test_a_difference_that_may_be_chance_gives_one_rank() -> None:
    (board,) = boards(*STRONG, cell("other", "one", 1), cell("other", "two", 11))
    assert [(each.name, each.rank, each.tied) for each in board.attacks] == [("strong", 1, 1), ("other", 1, 1)]


def test_an_attack_that_did_not_run_on_all_systems_has_no_rank() -> None:
    (board,) = boards(*STRONG, *WEAK, cell("partial", "one", 0))
    partial = board.attacks[-1]
    assert (partial.name, partial.rank) == ("partial", None)
    assert [each is None for each in partial.results] == [False, True]


@pytest.mark.parametrize(
    "other",
    [
        {"budget": {"gradients": 100}},
        {"budget": {}},
        {"threat": {"norm": "linf", "eps": 8 / 255, "access": "oblivious", "goal": "untargeted"}},
        {"seed": 1},
        {"clients": ["a"]},
        {"status": "failed", "reason": "x"},
    ],
    ids=["budget", "no-budget", "eps", "seed", "images", "failed"],
)
def test_only_what_is_equal_but_for_the_attack_is_compared(other: dict[str, object]) -> None:
    (board,) = boards(*STRONG, *WEAK, cell("else", "one", 0, **other), cell("else", "two", 0, **other))
    assert {each.name for each in board.attacks} == {"strong", "weak"}


def test_one_attack_or_one_system_is_no_comparison() -> None:
    assert boards(*STRONG) == []
    assert boards(STRONG[0], WEAK[0]) == []


def test_without_results_of_each_image_intervals_decide() -> None:
    (board,) = attack_boards([record for record, _ in (*STRONG, *WEAK)], {})
    assert [(each.name, each.rank) for each in board.attacks] == [("strong", 1), ("weak", 2)]


def test_the_command_compares_what_is_published_with_results_of_ones_own(tmp_path: Path) -> None:
    for place, cells in ((tmp_path / "attacks", [*STRONG, *WEAK]), (tmp_path / "own", NOISE)):
        records = place / "records" if place.name == "attacks" else place
        records.mkdir(parents=True)
        lines = "".join(f"{dumped_record(record)}\n" for record, _ in cells)
        (records / ("records.jsonl")).write_text(lines)
        (place / "outcomes").mkdir()
        (place / "outcomes" / "a.jsonl").write_text("".join(f"{dumped(found)}\n" for _, found in cells))
    shown = invoke("leaderboard", "attacks", tmp_path / "own", "--root", tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "at most 50 gradients; 2 systems, 40 images" in shown.output
    assert [line.split()[1] for line in shown.output.splitlines() if line[:1].isdigit()][:3] == [
        "strong",
        "weak",
        "noise",
    ]
    text = invoke("leaderboard", "attacks", "--root", tmp_path, "--markdown").output
    assert "| 1 | strong | 12.5 [" in text
    assert "| weak | 50.0 | 75.0 |" in text
    nothing = invoke("leaderboard", "attacks", "--root", tmp_path / "elsewhere")
    assert nothing.exit_code == 2
    assert "no records in" in nothing.output
