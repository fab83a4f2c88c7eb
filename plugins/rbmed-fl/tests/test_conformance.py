"""Every check of robustbench_med.testing on every component of this distribution."""

from __future__ import annotations

import rbmed_fl.plugin
from robustbench_med.testing import Case, parametrize, run_case

SETTINGS = {f"strategy/{spec.name}": "rounds=1" for spec in rbmed_fl.plugin.rbmed_strategies()}


@parametrize("rbmed-fl", SETTINGS)
def test_conformance(case: Case) -> None:
    run_case(case)
