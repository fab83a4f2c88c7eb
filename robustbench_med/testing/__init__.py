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

from robustbench_med.testing.checking import Check as Check
from robustbench_med.testing.checking import NotApplicable as NotApplicable
from robustbench_med.testing.checking import Result as Result
from robustbench_med.testing.checking import Subject as Subject
from robustbench_med.testing.checks import checks_of as checks_of
from robustbench_med.testing.conformance import AttackContract as AttackContract
from robustbench_med.testing.conformance import Case as Case
from robustbench_med.testing.conformance import DatasetContract as DatasetContract
from robustbench_med.testing.conformance import DefenseContract as DefenseContract
from robustbench_med.testing.conformance import DetectorContract as DetectorContract
from robustbench_med.testing.conformance import MetricContract as MetricContract
from robustbench_med.testing.conformance import ModelContract as ModelContract
from robustbench_med.testing.conformance import PurifierContract as PurifierContract
from robustbench_med.testing.conformance import ReportContract as ReportContract
from robustbench_med.testing.conformance import StrategyContract as StrategyContract
from robustbench_med.testing.conformance import cases as cases
from robustbench_med.testing.conformance import check_plugin as check_plugin
from robustbench_med.testing.conformance import faults as faults
from robustbench_med.testing.conformance import parametrize as parametrize
from robustbench_med.testing.conformance import results as results
from robustbench_med.testing.conformance import run_case as run_case
from robustbench_med.testing.pretend.device import PretendDevice as PretendDevice
from robustbench_med.testing.toys import Stop as Stop
from robustbench_med.testing.toys import StopAfter as StopAfter
from robustbench_med.testing.toys import ToyClassifier as ToyClassifier
from robustbench_med.testing.toys import toy_images as toy_images
from robustbench_med.testing.toys import toy_outcome as toy_outcome
from robustbench_med.testing.toys import toy_target as toy_target
