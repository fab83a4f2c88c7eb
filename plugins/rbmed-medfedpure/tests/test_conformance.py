"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

from robustbench_med.testing import Case, parametrize, run_case


@parametrize("rbmed-medfedpure")
def test_conformance(case: Case) -> None:
    run_case(case)
