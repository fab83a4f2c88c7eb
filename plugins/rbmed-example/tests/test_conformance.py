"""Every check of robustbench_med.testing on one component of every kind."""

from __future__ import annotations

import rbmed_example.unlisted
from robustbench_med.testing import Case, parametrize, run_case


@parametrize("rbmed-example")
def test_the_installed_component_conforms(case: Case) -> None:
    run_case(case)


@parametrize(rbmed_example.unlisted)
def test_the_components_to_copy_conform(case: Case) -> None:
    run_case(case)
