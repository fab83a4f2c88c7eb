"""A system with noise has a rank only where its attacks had done enough."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.records import ladder_record

from robustbench_med.leaderboard.ranking.eligibility import unfinished
from robustbench_med.records.record import Record


def measured(preset: str, gradients: int, randomized: bool = True, robust: float = 0.5, draws: int = 3) -> Record:
    facts: dict[str, Any] = ladder_record(draws=draws).model_dump(mode="json")
    facts["attack"] |= {"params_passed": {"preset": preset}}
    facts["defense"] |= {"randomized": randomized, "parts": {"model": {"name": "m"}, "purifier": {"name": "p"}}}
    facts["metrics"] |= {"robust_accuracy": robust}
    facts["rungs"].append(
        {
            "rung": "full momentum",
            "access": "full",
            "attacked": 8,
            "withstanding": robust,
            "broken": 4,
            "gradients_mean": 10.0,
            "gradients_max": gradients,
            "queries_mean": 10.0,
            "seconds": 1.0,
            "reason": "",
            "rounds": [{"gradients": 5.0, "withstanding": robust}],
        }
    )
    return Record.model_validate(facts)


@pytest.mark.parametrize(
    ("record", "reasons"),
    [
        (measured("standard", 300), 0),
        (measured("standard", 99), 1),
        (measured("standard", 300, draws=2), 1),  # by chance they may be good ones
        (measured("standard", 300, draws=1, randomized=False), 0),
        (measured("quick", 300), 1),
        (measured("quick", 40), 2),
        (measured("quick", 40, randomized=False), 0),
        (measured("standard", 20, robust=0.0), 0),  # nothing is left to attack
    ],
)
def test_what_a_rank_requires(record: Record, reasons: int) -> None:
    assert len(list(unfinished(record))) == reasons
