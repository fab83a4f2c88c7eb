"""Every check of every component of a plugin: one after the other, as test cases, or as methods of test classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from robustbench_med.errors import UnknownName
from robustbench_med.plugins.entries import Plugin
from robustbench_med.plugins.references import parse
from robustbench_med.plugins.registry import Registry
from robustbench_med.testing.checking import Check, NotApplicable, Result, Subject
from robustbench_med.testing.checks import checks_of

#: Parameters to check components with, by ``kind/name``.
Settings = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """One check of one component, as a test case."""

    subject: Subject
    check: Check

    def __call__(self) -> None:
        """Run it.

        Raises:
            AssertionError: with one line per fault.
            NotApplicable: the check does not apply to the component.
        """
        result = self.check.on(self.subject)
        if result.skipped:
            raise NotApplicable(result.skipped)
        if result.faults:
            raise AssertionError("\n".join(f"{self.subject}: {fault}" for fault in result.faults))

    def __str__(self) -> str:
        return f"{self.subject}-{self.check.name}"


def cases(plugin: str | ModuleType, settings: Settings | None = None, data_root: Path | None = None) -> list[Case]:
    """Every check of every component of an installed distribution, or of an imported plugin module.

    Args:
        plugin: name of the distribution, or the module with the hooks.
        settings: parameters to check components with, by ``kind/name``: ``{"attack/slow": "steps=3"}``.
        data_root: folder of the user's images, for data sets that need one.

    Raises:
        AssertionError: a component does not load, or there is none.
        UnknownName: ``settings`` names an unknown component.
    """
    subjects, broken = _subjects(plugin, settings or {}, data_root)
    if broken:
        raise AssertionError("\n".join(broken))
    return [Case(subject, check) for subject in subjects for check in checks_of(subject.entry.spec.kind)]


def results(subjects: Iterable[Subject]) -> Iterator[Result]:
    """The result of every check of these components."""
    for subject in subjects:
        for check in checks_of(subject.entry.spec.kind):
            yield check.on(subject)


def faults(plugin: str | ModuleType, settings: Settings | None = None) -> list[str]:
    """The faults that `check_plugin` reports."""
    subjects, lines = _subjects(plugin, settings or {})
    return lines + [f"{result.subject.entry}: {fault}" for result in results(subjects) for fault in result.faults]


def check_plugin(plugin: str | ModuleType, settings: Settings | None = None) -> None:
    """Check everything that an installed distribution, or an imported plugin module, offers.

    Args:
        plugin: name of the distribution, or the module with the hooks.
        settings: parameters to check components with, by ``kind/name``: ``{"attack/slow": "steps=3"}``.

    Raises:
        AssertionError: with one line per fault.
    """
    found = faults(plugin, settings)
    if found:
        raise AssertionError("\n".join(found))


def parametrize(plugin: str | ModuleType, settings: Settings | None = None, data_root: Path | None = None) -> Any:
    """A pytest decorator: the test gets each of `cases` as ``case``, under the name of component and check.

    ::

        @parametrize("rbmed-foo")
        def test_conformance(case):
            run_case(case)
    """
    import pytest

    return pytest.mark.parametrize("case", cases(plugin, settings, data_root), ids=str)


def run_case(case: Case) -> None:
    """Run one of `cases` under pytest: a check that does not apply to the component is skipped."""
    import pytest

    try:
        case()
    except NotApplicable as reason:
        pytest.skip(str(reason))


def _subjects(
    plugin: str | ModuleType, settings: Settings, data_root: Path | None = None
) -> tuple[list[Subject], list[str]]:
    """The components, and a line for each one that does not load."""
    if isinstance(plugin, ModuleType):
        name = plugin.__name__
        registry = Registry(only=())
        registry.add(plugin, Plugin(name, name, "0"))
        parts = Registry()
    else:
        name = plugin
        registry = parts = Registry(only=[plugin])
        if not registry.failures:
            parts = Registry()
    lines = [str(broken) for broken in registry.failures]
    entries = registry.entries()
    if not entries and not lines:
        lines.append(f"{name} offers nothing")
    known = {f"{entry.spec.kind}/{entry.spec.name}" for entry in entries}
    if unknown := sorted(set(settings) - known):
        raise UnknownName(f"settings name {unknown[0]!r}; {name} offers {', '.join(sorted(known))}")
    texts = {key: parse(f"{key.partition('/')[2]}:{text}") for key, text in settings.items()}
    subjects = [
        Subject(registry, entry, texts.get(f"{entry.spec.kind}/{entry.spec.name}"), data_root, parts)
        for entry in entries
    ]
    return subjects, lines


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
