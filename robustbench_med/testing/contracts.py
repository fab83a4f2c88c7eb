"""Contract classes: one for each kind, a test method for each check; subclass one to test a component with pytest."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.testing.checking import Check, Subject
from robustbench_med.testing.checks import checks_of
from robustbench_med.testing.conformance import Case, run_case


class Contract:
    """Base class of the contracts.

    Attributes:
        component: a reference such as ``"my-attack:steps=3"``.
        plugin: file of an unpackaged plugin, if any.
        kind: set by the contract of each kind.
    """

    component: ClassVar[str] = ""
    plugin: ClassVar[str | None] = None
    kind: ClassVar[str] = ""

    @classmethod
    def subject(cls) -> Subject:
        """The component under test."""
        return _subject(cls.kind, cls.component, cls.plugin)


@cache
def _subject(kind: str, component: str, plugin: str | None) -> Subject:
    registry = Registry(files=[plugin] if plugin else [])
    ref = parse(component)
    return Subject(registry, registry.find(kind, ref.name), ref)


def contract(kind: str) -> type[Contract]:
    """The contract of a kind."""
    methods: dict[str, Any] = {"kind": kind, "__doc__": f"What must be true of a component of kind {kind}."}
    for check in checks_of(kind):
        methods[f"test_{check.name.replace('-', '_')}"] = _method(check)
    return type(f"{kind.capitalize()}Contract", (Contract,), methods)


def _method(check: Check) -> Any:
    def test(self: Contract) -> None:
        run_case(Case(self.subject(), check))

    test.__doc__ = check.about
    return test


AttackContract = contract("attack")
DetectorContract = contract("detector")
PurifierContract = contract("purifier")
StrategyContract = contract("strategy")
DatasetContract = contract("dataset")
ModelContract = contract("model")
DefenseContract = contract("defense")
MetricContract = contract("metric")
ReportContract = contract("report")
