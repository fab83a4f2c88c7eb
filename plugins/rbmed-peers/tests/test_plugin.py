"""The plugin as a user meets it: listed by what is installed, parameters refused before anything runs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from rbmed_peers import plugin
from rbmed_peers.arguments import Argument, from_signature
from robustbench_med.errors import BadParameter


def test_plugin_module_imports_no_library() -> None:
    code = (
        "import sys, rbmed_peers.plugin as p; list(p.rbmed_attacks());"
        "print(sorted({'torch', *(spec.name for spec in p.SPECS)} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_only_installed_libraries_are_listed(monkeypatch) -> None:
    monkeypatch.setattr(plugin, "find_spec", lambda name: object() if name in ("art", "foolbox") else None)
    assert [spec.name for spec in plugin.rbmed_attacks()] == ["foolbox", "art"]


@pytest.mark.parametrize(
    ("library", "text", "shown"),
    [
        ("torchattacks", "torchattacks:PGD,steps=20", {"attack": "PGD", "steps": 20}),
        ("pyautoattack", "pyautoattack:[apgd-ce,fab],n_iter=20", {"attack": "apgd-ce,fab", "n_iter": 20}),
        ("pyautoattack", "pyautoattack:standard", {"attack": "standard"}),
        ("foolbox", "foolbox:EADAttack,decision_rule=L1", {"attack": "EADAttack", "decision_rule": "L1"}),
        ("foolbox", "foolbox:LinfPGD,abs_stepsize=1/4", {"attack": "LinfPGD", "abs_stepsize": 0.25}),
        ("art", "art:SquareAttack,p_init=0.3", {"attack": "SquareAttack", "p_init": 0.3}),
    ],
)
def test_command_line_form(library, text, shown) -> None:
    pytest.importorskip(library)
    from robustbench_med import parse

    module, _, name = next(spec for spec in plugin.SPECS if spec.name == library).target.partition(":")
    cls = getattr(importlib.import_module(module), name)
    given = dict(parse(text).params)
    given = {"attack": given.pop(""), **given}
    assert cls.Params(**given).model_dump(mode="json", exclude_unset=True) == shown


@pytest.fixture
def params():
    pytest.importorskip("torchattacks")
    from rbmed_peers.from_torchattacks import TorchAttacks

    return TorchAttacks.Params


def test_text_becomes_what_the_signature_means(params) -> None:
    assert params(attack="PGD", steps="20", alpha="1/255", random_start="no").given == {
        "steps": 20,
        "alpha": 1 / 255,
        "random_start": False,
    }
    assert params(attack="CW", c="0.5", kappa=1).given == {"c": 0.5, "kappa": 1}
    assert params(attack="PGD", steps=20).model_dump(mode="json", exclude_unset=True) == {"attack": "PGD", "steps": 20}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"say which attack: torchattacks:NAME; valid: FGSM, "),
        ({"attack": "PGDD"}, r"torchattacks has no attack 'PGDD', did you mean 'PGD' or .*\? valid: FGSM, "),
        ({"attack": "pgd"}, r"did you mean 'PGD'"),
        ({"attack": "GN"}, r"torchattacks:GN is not offered: .* use the control 'noise'"),
        (
            {"attack": "PGD", "step": 3},
            r"unknown parameter 'step', did you mean 'steps'\? valid: alpha .*; steps \(int, 10\)",
        ),
        ({"attack": "PGD", "eps": 0.1}, r"torchattacks:PGD: 'eps' cannot be given: it is the threat model's"),
        ({"attack": "APGD", "norm": "L2"}, r"'norm' cannot be given"),
        ({"attack": "APGD", "seed": "3"}, r"'seed' cannot be given"),
        ({"attack": "PGD", "steps": "many"}, r"steps='many' is not one of int; valid: int, 10"),
        ({"attack": "PGD", "steps": 2.5}, r"steps=2.5 is not one of int"),
        ({"attack": "PGD", "steps": True}, r"steps=True is not one of int"),
        ({"attack": "PGD", "steps": "0"}, r"steps='0' is below 1"),
        ({"attack": "PGD", "steps": -5}, r"steps=-5 is below 1"),
        ({"attack": "PGD", "alpha": "1/0"}, r"alpha='1/0' is not one of float"),
        ({"attack": "PGD", "alpha": "inf"}, r"alpha='inf' is not"),
        ({"attack": "PGD", "alpha": float("nan")}, r"alpha=nan is not finite"),
        ({"attack": "PGD", "random_start": "perhaps"}, r"is not one of bool"),
        ({"attack": "APGD", "loss": "cw"}, r"loss='cw' is not one of ce, dlr"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(params, given, message) -> None:
    with pytest.raises(BadParameter, match=message) as caught:
        params(**given)
    assert "\n" not in str(caught.value)


def test_an_attack_of_another_norm_is_refused_with_those_that_fit(attacked, task) -> None:
    pytest.importorskip("torchattacks")
    from rbmed_peers.from_torchattacks import TorchAttacks

    with pytest.raises(BadParameter, match=r"torchattacks:PGD works in linf, not in l2; in l2: CW, PGDL2, "):
        attacked(TorchAttacks, "PGD", task(3), "l2")


def test_signatures_are_read() -> None:
    class Attack:
        def __init__(self, model, a=1, b: float | None = None, c=(2, 10), d: str = "x", *, e: int, f=None): ...

    read = from_signature(Attack, {"model"})
    assert read == {
        "a": Argument((int,), 1),
        "b": Argument((float, None), None),
        "c": Argument((tuple,), (2, 10)),
        "d": Argument((str,), "x"),
        "e": Argument((int,), None, required=True),
        "f": Argument((float, None), None),
    }
    assert read["b"].read("none") is None
    assert read["c"].read("3, 4") == (3, 4)
    assert read["c"].read([0.5, 1]) == (0.5, 1)
