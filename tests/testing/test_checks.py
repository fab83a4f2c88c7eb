"""Every check passes on the plugins that `rbmed new` writes, and fails on one that breaks its rule."""

from __future__ import annotations

import re
import signal
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.broken_plugins import BROKEN
from helpers.distributions import distribution
from helpers.paths import ROOT

from robustbench_med.plugins.registry import HOOKS, Registry
from robustbench_med.plugins.templates import Template
from robustbench_med.testing import (
    AttackContract,
    NotApplicable,
    Subject,
    cases,
    check_plugin,
    checking,
    checks_of,
    faults,
    parametrize,
    run_case,
)
from robustbench_med.testing.checks import common

#: Checks that every kind shares.
SHARED = {check.name for check in common.check.all}


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[types.FunctionType]:
    made: list[str] = []

    def subject(kind: str, change: tuple[str, str] | None = None) -> Subject:
        template = Template(kind, f"my-{kind}")
        text = template.single_file()
        if change:
            assert change[0] in text, f"the template no longer says {change[0]!r}"
            text = text.replace(*change)
        file = tmp_path / f"{template.module}.py"
        file.write_text(text, encoding="utf-8")
        made.append(template.module)
        registry = Registry(files=[file])
        assert registry.failures == []
        return Subject(registry, registry.find(kind, template.name))

    yield subject  # type: ignore[misc]
    for module in made:
        sys.modules.pop(module, None)


def test_a_new_component_has_a_title_for_people(subject) -> None:
    assert subject("attack").entry.spec.title == "My attack"


@pytest.mark.parametrize("kind", HOOKS)
def test_what_rbmed_new_writes_passes(subject, kind: str) -> None:
    mine = subject(kind)
    found = [check.on(mine) for check in checks_of(kind)]
    assert [fault for result in found for fault in result.faults] == []
    assert sum(not result.skipped for result in found) > len(found) / 2


@pytest.mark.parametrize(("kind", "check", "right", "wrong"), BROKEN, ids=[f"{k}-{c}" for k, c, _, _ in BROKEN])
def test_a_plugin_that_breaks_the_rule_fails_the_check(subject, kind: str, check: str, right: str, wrong: str) -> None:
    (one,) = (each for each in checks_of(kind) if each.name == check)
    result = one.on(subject(kind, (right, wrong)))
    assert result.faults, result.skipped
    assert all("\n" not in fault for fault in result.faults)


def test_there_is_a_broken_plugin_for_every_check() -> None:
    broken = {(kind, check) for kind, check, _, _ in BROKEN}
    own = {(kind, check.name) for kind in HOOKS for check in checks_of(kind) if check.name not in SHARED}
    assert own - broken == set()
    # Shown below: it takes an installed distribution.
    assert SHARED - {check for _, check in broken} == {"light-hooks"}


HEAVY = """
    import torch
    from robustbench_med import AttackSpec, hookimpl

    @hookimpl
    def rbmed_attacks():
        yield AttackSpec(name="push", target="{module}_impl:Push", summary="Adds eps")
"""


def test_a_distribution_whose_hooks_are_heavy_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    distribution(tmp_path, "rbmed-theavy", HEAVY)
    (fault,) = common.light_hooks.on(cases("rbmed-theavy")[0].subject).faults
    assert "imports torch" in fault


def test_a_check_that_does_not_concern_a_component_is_skipped(subject) -> None:
    (saving,) = (check for check in checks_of("attack") if check.name == "sees-what-it-says")
    result = saving.on(subject("attack"))
    assert (result.faults, result.skipped) == ((), "access is gradient: it ran on such a target model")


def test_work_that_fails_is_reported_once(subject) -> None:
    broken = subject("attack", ("x_adv = x\n", "raise RuntimeError('no')\n"))
    faulty = [result for check in checks_of("attack") if (result := check.on(broken)).faults]
    assert [result.faults for result in faulty] == [("RuntimeError: no",)]


def test_cases_raise_what_a_test_framework_understands(subject) -> None:
    subject("attack", ("return x_adv\n", "return x_adv + 2 * threat.eps\n"))
    (ball,) = (case for case in cases(sys.modules["my_attack"]) if case.check.name == "inside-the-ball")
    assert str(ball) == "attack/my-attack-inside-the-ball"
    with pytest.raises(AssertionError, match=r"outside \[0, 1\]"):
        run_case(ball)
    with pytest.raises(AssertionError, match="attack 'my-attack'"):
        check_plugin(sys.modules["my_attack"])


def test_settings_reach_the_component_and_must_name_one(subject) -> None:
    subject("attack")
    module = sys.modules["my_attack"]
    assert "greater than or equal to 1" in "".join(faults(module, {"attack/my-attack": "steps=0"}))
    with pytest.raises(Exception, match="my_attack offers attack/my-attack"):
        faults(module, {"attack/other": "steps=3"})


class TestExample(AttackContract):
    """A contract class is subclassed like this."""

    component = "rbmed-example/example:steps=3"


def test_a_contract_has_a_test_for_every_check() -> None:
    names = {name for name in dir(TestExample) if name.startswith("test_")}
    assert names == {f"test_{check.name.replace('-', '_')}" for check in checks_of("attack")}


def test_parametrize_is_a_decorator_with_an_id_for_each_case() -> None:
    mark = parametrize("rbmed-metrics").mark
    assert mark.args[0] == "case"
    with pytest.raises(NotApplicable):
        next(case for case in cases("rbmed-medfedpure") if case.check.name == "default-constructible").subject.once(
            "x", lambda: (_ for _ in ()).throw(NotApplicable("no"))
        )


def test_every_first_party_plugin_runs_all_checks() -> None:
    root = ROOT / "plugins"
    for folder in sorted(root.glob("rbmed-*")):
        text = (folder / "tests" / "test_conformance.py").read_text(encoding="utf-8")
        assert re.search(rf'@parametrize\(\s*"{folder.name}"', text), folder.name


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_a_check_that_does_not_end_is_stopped(subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def loop(subject: Subject) -> Iterator[str]:
        while True:
            try:
                yield str(time.sleep(0.01))
            except Exception:  # noqa: BLE001 -- as a plugin may
                continue

    monkeypatch.setattr(checking, "LONGEST", 1.0)
    before = signal.getsignal(signal.SIGALRM)
    found = checking.Check("ends", "It ends", loop).on(subject("attack"))
    assert found.faults == ("did not end within 1 s and was stopped; does it loop, or catch what should end it?",)
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
