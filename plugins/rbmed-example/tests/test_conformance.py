"""Every check of robustbench_med.testing on one component of every kind."""

from __future__ import annotations

import rbmed_example.unlisted
from robustbench_med.testing import Case, parametrize, run_case


@parametrize("rbmed-example")
def test_what_is_listed_conforms(case: Case) -> None:
    run_case(case)


@parametrize(rbmed_example.unlisted)
def test_what_is_only_there_to_be_copied_conforms(case: Case) -> None:
    run_case(case)
