"""For plugin authors: checks of a plugin's components, and toy images, models and outcomes.

One call::

    from robustbench_med.testing import check_plugin

    def test_conformance():
        check_plugin("rbmed-foo")

a test for each component and check::

    from robustbench_med.testing import parametrize, run_case

    @parametrize("rbmed-foo", {"attack/slow": "steps=3"})
    def test_conformance(case):
        run_case(case)

or a class to which more tests can be added::

    from robustbench_med.testing import AttackContract

    class TestFoo(AttackContract):
        component = "foo:steps=3"
"""

from __future__ import annotations

from robustbench_med.testing.checking import Check, NotApplicable, Result, Subject
from robustbench_med.testing.checks import checks_of
from robustbench_med.testing.conformance import (
    AttackContract,
    Case,
    DatasetContract,
    DefenseContract,
    DetectorContract,
    MetricContract,
    ModelContract,
    PurifierContract,
    ReportContract,
    StrategyContract,
    cases,
    check_plugin,
    faults,
    parametrize,
    results,
    run_case,
)
from robustbench_med.testing.pretend.device import PretendDevice
from robustbench_med.testing.toys import Stop, StopAfter, ToyClassifier, toy_images, toy_outcome, toy_target

__all__ = [
    "AttackContract",
    "Case",
    "Check",
    "DatasetContract",
    "DefenseContract",
    "DetectorContract",
    "MetricContract",
    "ModelContract",
    "NotApplicable",
    "PretendDevice",
    "PurifierContract",
    "ReportContract",
    "Result",
    "Stop",
    "StopAfter",
    "StrategyContract",
    "Subject",
    "ToyClassifier",
    "cases",
    "check_plugin",
    "checks_of",
    "faults",
    "parametrize",
    "results",
    "run_case",
    "toy_images",
    "toy_outcome",
    "toy_target",
]
