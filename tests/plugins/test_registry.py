"""Discovery over real distributions, good and broken ones side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.distributions import GOOD, distribution

from robustbench_med.errors import AmbiguousName, UnknownName, UsageError
from robustbench_med.plugins.registry import Registry


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path for fake distributions; what they import is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("RBMED_PLUGINS", raising=False)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("rbmed_t", "my_")):
            del sys.modules[name]


def broken_of(registry: Registry, distribution: str) -> list[tuple[str, str]]:
    return [(b.stage, b.error) for b in registry.failures if b.distribution == distribution]


def test_a_good_plugin_is_found_and_loads(site):
    distribution(site, "rbmed-Tgood", GOOD)
    registry = Registry(only=["rbmed-tgood"])
    (entry,) = registry.entries("attack")
    assert (entry.qualified, entry.version, entry.plugin) == ("rbmed-tgood/push", "1.2", "rbmed_tgood")
    assert registry.failures == []
    assert "rbmed_tgood_impl" not in sys.modules  # listing imports no target
    assert registry.load("attack", "push").__name__ == "Push"
    assert registry.find("attack", "rbmed_tgood/push") is registry.find("attack", "push")


@pytest.mark.parametrize(
    ("plugin", "stage", "error"),
    [
        ("import no_such_module", "import", "no_such_module"),
        ("raise SystemExit(3)", "import", "SystemExit: 3"),
        (
            "from robustbench_med import hookimpl\n@hookimpl\ndef rbmed_attacks(x):\n    return []",
            "register",
            "rbmed_attacks",
        ),
        (
            "from robustbench_med import hookimpl\n@hookimpl\ndef rbmed_atacks():\n    return []",
            "hook rbmed_atacks",
            "did you mean rbmed_attacks?",
        ),
        (
            "from robustbench_med import hookimpl\n@hookimpl\ndef rbmed_attacks():\n    return [1 / 0]",
            "hook rbmed_attacks",
            "ZeroDivisionError",
        ),
        (
            "from robustbench_med import hookimpl\n@hookimpl\ndef rbmed_attacks():\n    yield 'apgd'",
            "hook rbmed_attacks",
            "yields 'apgd', not a AttackSpec",
        ),
        (
            "from robustbench_med import ModelSpec, hookimpl\n@hookimpl\ndef rbmed_attacks():\n"
            "    yield ModelSpec(name='m', target='a:B', summary='')",
            "hook rbmed_attacks",
            "yields a ModelSpec, not a AttackSpec",
        ),
        (
            "from robustbench_med import AttackSpec, hookimpl\n@hookimpl\ndef rbmed_attacks():\n"
            "    yield AttackSpec(name='No Name', target='a:B', summary='')",
            "hook rbmed_attacks",
            "spec name 'No Name'",
        ),
        (
            "from robustbench_med import AttackSpec, hookimpl\n@hookimpl\ndef rbmed_attacks():\n"
            "    yield AttackSpec(name='a', target='a:B', summary='')\n"
            "    yield AttackSpec(name='a', target='a:C', summary='')",
            "hook rbmed_attacks",
            "yields 'a' twice",
        ),
    ],
)
def test_a_broken_plugin_is_kept_apart_and_shown(site, plugin, stage, error):
    distribution(site, "rbmed-tbad", plugin)
    distribution(site, "rbmed-tgood", GOOD)
    registry = Registry(only=["rbmed-tbad", "rbmed-tgood"])
    assert [e.spec.name for e in registry.entries("attack")] == ["push"]
    ((found_stage, found_error),) = broken_of(registry, "rbmed-tbad")
    assert found_stage == stage
    assert error in found_error
    with pytest.raises(UnknownName, match=f"rbmed-tbad failed to load \\({stage}"):
        registry.find("attack", "nothing-like-it")


def test_one_bad_hook_does_not_affect_the_others_of_its_plugin(site):
    bad = "\n    @hookimpl\n    def rbmed_models():\n        yield 3\n"
    distribution(site, "rbmed-thalf", GOOD + bad)
    registry = Registry(only=["rbmed-thalf"])
    assert [e.spec.name for e in registry.entries()] == ["push"]
    assert [stage for stage, _ in broken_of(registry, "rbmed-thalf")] == ["hook rbmed_models"]


def test_unreadable_entry_points_are_reported(site):
    distribution(site, "rbmed-tmeta", GOOD, points="[rbmed]\nno equals sign\n")
    distribution(site, "rbmed-tgood", GOOD)
    registry = Registry(only=["rbmed-tgood"])
    assert [e.spec.name for e in registry.entries("attack")] == ["push"]
    assert [stage for stage, _ in broken_of(registry, "rbmed-tmeta")] == ["metadata"]


def test_a_name_offered_twice_must_be_qualified(site):
    distribution(site, "rbmed-tone", GOOD)
    distribution(site, "rbmed-ttwo", GOOD)
    registry = Registry(only=["rbmed-tone", "rbmed-ttwo"])
    with pytest.raises(AmbiguousName, match=r"write rbmed-tone/push or rbmed-ttwo/push"):
        registry.find("attack", "push")
    assert registry.find("attack", "rbmed-ttwo/push").distribution == "rbmed-ttwo"


def test_two_entry_points_of_one_distribution_cannot_offer_the_same_name(site):
    points = "[rbmed]\na = rbmed_ttwin\nb = rbmed_ttwin_impl\n"
    distribution(site, "rbmed-ttwin", GOOD, points=points, impl=GOOD.replace("{module}", "x"))
    registry = Registry(only=["rbmed-ttwin"])
    assert len(registry.entries("attack")) == 1
    assert "offers 'push' in another plugin already" in broken_of(registry, "rbmed-ttwin")[0][1]


def test_unknown_names_suggest_near_ones(site):
    distribution(site, "rbmed-tgood", GOOD)
    registry = Registry(only=["rbmed-tgood"])
    with pytest.raises(UnknownName, match=r"^unknown attack 'psh', did you mean 'push'\? valid: push$"):
        registry.find("attack", "psh")
    with pytest.raises(UnknownName, match="rbmed-tgood/push"):
        registry.find("attack", "rbmed-tbad/push")
    with pytest.raises(UnknownName, match="no installed plugin offers any metric"):
        registry.find("metric", "x")
    with pytest.raises(UsageError, match=r"unknown kind 'atack', did you mean 'attack'\?"):
        registry.entries("atack")


def test_rbmed_plugins_selects(site, monkeypatch):
    distribution(site, "rbmed-tone", GOOD, points="[rbmed]\nshort = rbmed_tone\n")
    distribution(site, "rbmed-ttwo", GOOD)
    for selection in ("rbmed-tone", "short", " rbmed_tone ,"):
        monkeypatch.setenv("RBMED_PLUGINS", selection)
        assert [p.distribution for p in Registry().plugins] == ["rbmed-tone"]
    monkeypatch.setenv("RBMED_PLUGINS", "rbmed-tone,rbmed-tree")
    with pytest.raises(UsageError, match=r"RBMED_PLUGINS: unknown plugin 'rbmed-tree'; valid: .*rbmed-tone.*"):
        Registry()


@pytest.mark.parametrize(
    ("impl", "message"),
    [
        ("import torchattacks_not_here", "'torchattacks_not_here' is missing; install 'rbmed-tlazy\\[peers\\]'"),
        ("import other_not_here", "'other_not_here' is missing .* install the package that provides it"),
        ("x = 1 / 0", "target rbmed_tlazy_impl:Push fails: ZeroDivisionError"),
        ("x = 1", "target rbmed_tlazy_impl:Push fails: AttributeError"),
        ("Push = 3", "is not a subclass of robustbench_med.Attack"),
        ("class Push: pass", "is not a subclass of robustbench_med.Attack"),
        ("import robustbench_med\nclass Push(robustbench_med.Attack): pass", "does not implement run"),
    ],
)
def test_a_target_that_cannot_be_used_names_itself(site, impl, message):
    metadata = 'Provides-Extra: peers\nRequires-Dist: torchattacks-not-here>=3; extra == "peers"\n'
    distribution(site, "rbmed-tlazy", GOOD, impl=impl, metadata=metadata)
    with pytest.raises(UsageError, match=rf"attack 'push' \(rbmed-tlazy 1.2\).*{message}"):
        Registry(only=["rbmed-tlazy"]).load("attack", "push")


def test_a_target_module_that_is_not_there_is_named(site):
    distribution(site, "rbmed-tgone", GOOD.replace("{module}_impl:", "{module}.deep:"))
    with pytest.raises(UsageError, match=r"target rbmed_tgone\.deep:Push fails: No module named"):
        Registry(only=["rbmed-tgone"]).load("attack", "push")


def test_a_plugin_file_that_was_renamed_says_so(tmp_path):
    distribution(tmp_path, "old-name", GOOD.replace("{module}_impl", "old_name"), impl="")
    (tmp_path / "old_name.py").rename(tmp_path / "new_name.py")
    found = Registry(files=[tmp_path / "new_name.py"], only=())
    with pytest.raises(UsageError, match=r'names a file old_name\.py, .* write target="new_name:Push" or rename'):
        found.load("attack", "push")


def test_a_plugin_file_is_loaded_and_versioned_by_content(site, tmp_path):
    folder = tmp_path / "elsewhere"
    distribution(folder, "my-file", GOOD.replace("{module}_impl", "my_file"), impl="")
    first = Registry(files=[folder / "my_file.py"], only=()).find("attack", "push")
    assert (first.distribution, first.qualified) == ("my_file", "my_file/push")
    with folder.joinpath("my_file.py").open("a") as file:
        file.write("# changed\n")
    second = Registry(files=[folder / "my_file.py"], only=()).find("attack", "my_file/push")
    assert first.version.startswith("0+")
    assert first.version != second.version


def test_a_failing_plugin_file_is_broken_and_leaves_no_module(site, tmp_path):
    file = tmp_path / "my_bad.py"
    file.write_text("raise RuntimeError('two\\nlines')")
    registry = Registry(files=[file], only=())
    assert broken_of(registry, "my_bad") == [("import", "RuntimeError: two lines")]
    assert "my_bad" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing.py", "does not exist"), ("my-attack.py", "named like a module"), ("json.py", "hides the module 'json'")],
)
def test_plugin_files_that_cannot_be_imported_by_name_are_refused(tmp_path, name, message):
    if name != "missing.py":
        tmp_path.joinpath(name).write_text("")
    with pytest.raises(UsageError, match=message):
        Registry(files=[tmp_path / name], only=())
