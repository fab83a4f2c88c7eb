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
from robustbench_med.plugins import hookspecs
from robustbench_med.plugins.components import create
from robustbench_med.plugins.registry import HOOKS, Registry
from robustbench_med.plugins.specs import KINDS
from robustbench_med.progress import Silent
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
    assert registry.failures == []
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
    file.write_text(f"{head}    def run(self, model, x, y, threat, budget, rng):\n        {body}\n\n\n{tail}")
    try:
        assert Registry(files=[file], only=()).failures == []
        found = faults(sys.modules["my_plugin"])
        assert any(fault in line for line in found), found
        with pytest.raises(AssertionError, match="one-step"):
            check_plugin(sys.modules["my_plugin"])
    finally:
        sys.modules.pop("my_plugin", None)


PARTS = """
import torch

import robustbench_med as rbmed


class Mean(rbmed.Learner):
    def __init__(self, mean):
        super().__init__()
        self.mean = mean

    def loss(self, x, y):
        return (x - self.mean).square().mean()


class Detector(rbmed.Detector):
    stochastic = False

    class Params(rbmed.Params):
        training: str = rbmed.Field("fedavg", description="Strategy.")

    def build(self, channels, size):
        self.mean = torch.nn.Parameter(torch.zeros(channels, size, size))

    def learner(self, system):
        return Mean(self.mean)

    def score(self, x, system, rng):
        return (x - self.mean).square().flatten(1).mean(1)


class Fitted(rbmed.Detector):
    stochastic = False
    needs = ("classifier",)

    def build(self, channels, size):
        self.register_buffer("known", torch.zeros(0))

    def fit(self, split, system, job):
        self.known = system.classifier(split.images.to(job.device)).mean(0).detach()
        return {"images": len(split)}

    def score(self, x, system, rng):
        near = system.purifier.purify(x, x.new_ones(len(x)), rng)
        return (system.classifier(near) - self.known).square().sum(1)


class Purifier(rbmed.Purifier):
    stochastic = False
    votes = 2

    def purify(self, x, strength, rng):
        return x / 2

    def copies(self, x, strength, rng):
        return torch.stack([self.purify(x, strength, rng), x], 1)

    def join(self, logits):
        return logits.mean(1)


class Wrapper(rbmed.Purifier):
    stochastic = False

    def __init__(self, params=None):
        super().__init__(params)
        self.one = Purifier()

    def inner(self):
        return (self.one,)

    def purify(self, x, strength, rng):
        return self.one.purify(x, strength, rng)


@rbmed.hookimpl
def rbmed_detectors():
    yield rbmed.DetectorSpec(name="learned", target="my_plugin:Detector", summary="Learned")
    yield rbmed.DetectorSpec(name="fitted", target="my_plugin:Fitted", summary="Fitted")


@rbmed.hookimpl
def rbmed_purifiers():
    yield rbmed.PurifierSpec(name="voting", target="my_plugin:Purifier", summary="Two copies")
    yield rbmed.PurifierSpec(name="wrapping", target="my_plugin:Wrapper", summary="Wraps")
"""


BUILD = "def build(self, channels, size):"


def faults_of(source: str, tmp_path: Path) -> list[str]:
    file = tmp_path / "my_plugin.py"
    file.write_text(source)
    try:
        assert Registry(files=[file], only=()).failures == []
        return faults(sys.modules["my_plugin"])
    finally:
        sys.modules.pop("my_plugin", None)


def test_parts_that_learn_and_vote_conform(tmp_path: Path) -> None:
    assert faults_of(PARTS, tmp_path) == []


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("self.mean = mean", "self.image = mean; self.mean = 0.5", "state names differ from the part's: image, mean"),
        ('training: str = rbmed.Field("fedavg"', 'how: str = rbmed.Field("fedavg"', "no parameter 'training'"),
        ("(x - self.mean).square().mean()\n", "(x - self.mean).square()\n", "must be one finite number"),
        ("(x - self.mean).square().mean()\n", "(self.mean - x).sum() / 0\n", "one finite number, not [-inf]"),
        ("self.mean = mean", "self.mean = mean; self.more = torch.nn.Parameter(mean * 2)", "no gradient to more"),
        ("return Mean(self.mean)", "return Mean(self.mean.requires_grad_(False))", "no parameters to train"),
        ('"known", torch.zeros(0)', '"other", torch.zeros(0)', "buffers that build has registered"),
        ('{"images": len(split)}', '{"images": float("nan")}', "fit must return finite numbers"),
        ('needs = ("classifier",)', "needs = ()", "must declare it: needs = ('classifier',)"),
        (
            "near = system.purifier.purify(x,",
            "near = x + rng.normal(tuple(x.shape)) + 0 * system.purifier.purify(x,",
            "declares stochastic = False",
        ),
        (BUILD, f"def error_map(self, x, system, rng):\n        return -x[:, 0]\n\n    {BUILD}", "error_map goes down"),
        (
            BUILD,
            f"def pictures(self, x, rng):\n        return {{'x': x[:, :, 1:]}}\n\n    {BUILD}",
            "picture 'x' of images (1, 1, 64, 64) has shape (1, 1, 63, 64)",
        ),
        ("votes = 2", "votes = 3", "returns shape (4, 2, 1, 64, 64), not (4, 3, 1, 64, 64)"),
        ("return logits.mean(1)", "return logits", "join makes (4, 2, 2) of the logits (4, 2, 2)"),
        ("return x / 2", "return x.detach() / 2", "declare differentiable = False"),
        ("return x / 2", "return x - 1", "outside [0, 1]"),
        (
            "self.one = Purifier()",
            "self.hidden = [Purifier()]; self.one = self.hidden[0]; del self._modules['one'];"
            " object.__setattr__(self, 'one', self.hidden[0])",
            "not a submodule: Purifier",
        ),
    ],
)
def test_conformance_sees_what_a_part_must_not_do(tmp_path: Path, right: str, wrong: str, fault: str) -> None:
    assert right in PARTS
    found = faults_of(PARTS.replace(right, wrong), tmp_path)
    assert any(fault in line for line in found), found


def test_conformance_of_nothing_is_a_fault():
    assert faults(ModuleType("empty")) == ["empty offers nothing"]
