"""Errors for plugin authors: whose they are and where, and plugins for another interface."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import grids as running
from helpers.command import invoke
from helpers.distributions import GOOD, distribution

import robustbench_med as rbmed
from robustbench_med.errors import UnknownName
from robustbench_med.plugins.registry import Registry
from robustbench_med.plugins.tracebacks import plugin_traceback

FILE = """
import torch
import robustbench_med as rbmed


def helper(x):
    return x.reshape(3, -1, 7)  # the author's mistake


class Mine(rbmed.Attack):
    def run(self, model, x, y, threat, budget, rng):
        return torch.nn.Sequential(torch.nn.Identity())(helper(model(x)))


class Heir(Mine):
    pass


class Calls(rbmed.Attack):
    def run(self, model, x, y, threat, budget, rng):
        return model(x)


@rbmed.hookimpl
def rbmed_attacks():
    for name in ("mine", "heir", "calls"):
        yield rbmed.AttackSpec(name=name, target=f"mine_plugin:{name.capitalize()}", summary="Breaks")
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine_plugin.py"
    path.write_text(FILE, encoding="utf-8")
    yield path
    sys.modules.pop("mine_plugin", None)


@pytest.mark.parametrize("name", ["mine", "heir"])
def test_a_cell_that_a_plugin_breaks_shows_its_authors_lines(file: Path, tmp_path: Path, name: str) -> None:
    running.trained()
    plugins = [argument for each in (*running.FILES, file) for argument in ("-p", each)]
    options = ["--dataset", "stripes", "--defense", "guarded", "--baseline", "", "--access", "oblivious"]
    run = ["run", *options, "--attack", name, "--surrogate", "bare", "--out", tmp_path / "out", "--quiet"]
    own = invoke(*plugins, *run)
    assert own.exit_code == 1
    assert f"failed: guarded / {name} / oblivious: RuntimeError: shape '[3, -1, 7]' is invalid" in own.stderr
    assert f"in attack '{name}' (mine_plugin 0+" in own.stderr
    assert "return x.reshape(3, -1, 7)  # the author's mistake" in own.stderr
    assert "evaluator.py" not in own.stderr
    assert "evaluator.py" in invoke("--debug", *plugins, *run).stderr


def test_the_plugin_nearest_to_the_error_is_named(file: Path) -> None:
    registry = Registry(files=[file, *running.FILES], only=())
    attack = rbmed.load_component("attack", "calls", registry=registry)

    class Breaks(rbmed.TargetModel):
        def forward(self, x: object) -> object:
            return rbmed.load_component("attack", "mine", registry=registry).run(lambda x: x, x, 0, 0, 0, 0)

    import torch

    with pytest.raises(RuntimeError) as caught:
        attack.run(Breaks(), torch.zeros(2), None, None, None, None)
    found = plugin_traceback(caught.value, registry)
    assert found is not None
    assert found.component.startswith("attack 'mine'")
    assert "def " not in found.own.splitlines()[-1]
    assert found.own.splitlines()[-1].startswith("RuntimeError: shape")


def test_an_error_of_the_core_names_no_plugin() -> None:
    with pytest.raises(UnknownName) as caught:
        Registry(only=()).find("attack", "x")
    assert plugin_traceback(caught.value, Registry(only=())) is None


def test_an_error_outside_of_a_cell_is_explained_too(tmp_path: Path) -> None:
    path = tmp_path / "mine_report.py"
    path.write_text(
        "import robustbench_med as rbmed\n\nclass R(rbmed.Report):\n    def __init__(self, params=None):\n"
        "        raise ValueError('not yet')\n    def render(self, table): return ''\n\n@rbmed.hookimpl\n"
        "def rbmed_reports():\n    yield rbmed.ReportSpec(name='mine', target='mine_report:R', summary='x')\n",
        encoding="utf-8",
    )
    try:
        done = invoke("-p", path, "run", "--report", "mine")
    finally:
        sys.modules.pop("mine_report", None)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ValueError: not yet\nin report 'mine' (mine_report 0+")
    assert "raise ValueError('not yet')" in done.stderr
    assert "cli/run.py" not in done.stderr


@pytest.mark.parametrize(
    ("said", "remedy"), [("3", "install a newer robustbench-med"), ("0", "install a newer rbmed-told")]
)
def test_a_plugin_for_another_interface_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, remedy: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = distribution(tmp_path, "rbmed-told", f"    RBMED_INTERFACE = {said}\n{GOOD}")
    try:
        registry = Registry(only=["rbmed-told"])
    finally:
        sys.modules.pop(module, None)
    (broken,) = registry.failures
    assert registry.entries() == []
    assert str(broken).startswith("rbmed-told failed to load (interface: ")
    assert f"written for interface {said}, and this is {rbmed.INTERFACE}; {remedy}" in str(broken)
    assert "\n" not in str(broken)


def test_first_party_plugins_that_say_their_interface_say_this_one() -> None:
    assert not [broken for broken in Registry().failures if broken.stage == "interface"]
