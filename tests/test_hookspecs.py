"""The example in every hook's docstring is a plugin that works."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
import torch

import robustbench_med as rbmed
from robustbench_med import hookspecs
from robustbench_med.components import create
from robustbench_med.progress import Silent
from robustbench_med.registry import HOOKS, Registry
from robustbench_med.specs import KINDS
from robustbench_med.testing import ToyClassifier, check_plugin, faults


def example(hook: str) -> str:
    text = inspect.getdoc(getattr(hookspecs, hook))
    return dedent(text.split("Example::", 1)[1].removeprefix("\n"))


@pytest.fixture
def load(tmp_path: Path):
    def load(kind: str) -> Registry:
        file = tmp_path / "my_plugin.py"
        file.write_text(example(HOOKS[kind]))
        return Registry(files=[file], only=())

    yield load
    sys.modules.pop("my_plugin", None)


def test_every_kind_has_a_hook_and_an_example():
    assert tuple(HOOKS) == KINDS
    for hook in HOOKS.values():
        ast.parse(example(hook))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "defense"])
def test_the_example_conforms(load, kind):
    registry = load(kind)
    assert registry.broken == []
    (entry,) = registry.entries()
    assert entry.spec.kind == kind
    assert faults(sys.modules["my_plugin"]) == []


def test_the_strategy_example_trains(load):
    registry = load("strategy")
    strategy = create(registry, "strategy", "local-once:lr=1/4")
    splits = {
        name: rbmed.Split(torch.rand(6, 1, 8, 8), torch.arange(6) % 2, tuple("abcdef"), (name,) * 6)
        for name in ("one", "two")
    }
    job = SimpleNamespace(seed=0, device=torch.device("cpu"), progress=Silent(), checkpoints=None)
    trained = strategy.train(lambda: ToyClassifier(2), splits, job)
    assert not torch.equal(trained.shared["weight"], ToyClassifier(2).weight)


def test_the_dataset_example_keeps_patients_apart(load):
    data = create(load("dataset"), "dataset", "squares:per_split=4")
    patients = [set(data.split(name).patients) for name in ("train", "calibration", "test")]
    assert len(set.union(*patients)) == 12


def test_the_defense_example_names_its_parts(load):
    recipe = create(load("defense"), "defense", "plain:model=[linear:width=3]").recipe()
    assert recipe.model == rbmed.PartRef("linear", {"width": "3"})
    assert recipe.strategy.name == "fedavg"


def test_the_report_example_renders(load):
    assert create(load("report"), "report", "csv").render(pd.DataFrame({"a": [1]})) == "a\n1\n"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return x + 2 * threat.eps", "outside [0, 1]"),
        ("return (x + 2 * threat.eps * (0.5 - x).sign())", "eps is"),
        ("return threat.project(x + torch.rand_like(x), x)", "draws from torch's global generator"),
        ("return threat.project(x - 0.01 * len(x), x)", "depends on the other images"),
        ("self.n = getattr(self, 'n', 0) + 1; return threat.project(x + self.n % 2 - 0.5, x)", "when run again"),
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("raise UsageError('three classes or more')", "neither with 2 nor with 4 classes"),
    ],
)
def test_conformance_sees_what_an_attack_must_not_do(tmp_path, body, fault):
    source = "from robustbench_med.errors import UsageError\n" + example("rbmed_attacks")
    head, _, rest = source.partition("    def run(")
    tail = rest[rest.index("@rbmed.hookimpl") :]
    file = tmp_path / "my_plugin.py"
    file.write_text(f"{head}    def run(self, surface, x, y, threat, budget, rng):\n        {body}\n\n\n{tail}")
    try:
        assert Registry(files=[file], only=()).broken == []
        found = faults(sys.modules["my_plugin"])
        assert any(fault in line for line in found), found
        with pytest.raises(AssertionError, match="one-step"):
            check_plugin(sys.modules["my_plugin"])
    finally:
        sys.modules.pop("my_plugin", None)


def test_conformance_of_nothing_is_a_fault():
    assert faults(ModuleType("empty")) == ["empty offers nothing"]
