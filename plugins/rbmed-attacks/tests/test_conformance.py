"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

from robustbench_med.testing import Case, parametrize, run_case

#: What the checks look at shows in few steps.
SETTINGS = {
    "attack/autoattack": "steps=3,queries=10",
    "attack/apgd": "steps=5",
    "attack/cw": "steps=5",
    "attack/fab": "steps=3",
    "attack/hopskipjump": "steps=2,samples=8",
    "attack/lee-kim": "steps=3",
    "attack/pgd": "steps=5",
    "attack/square": "queries=20",
}


@parametrize("rbmed-attacks", SETTINGS)
def test_conformance(case: Case) -> None:
    run_case(case)
