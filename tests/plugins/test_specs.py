"""Specs are inert, checked when made, and cover every kind."""

import pytest

from robustbench_med.plugins.specs import KINDS, AttackSpec


def test_every_kind_is_there():
    assert KINDS == (
        "attack",
        "detector",
        "purifier",
        "strategy",
        "dataset",
        "model",
        "defense",
        "metric",
        "report",
    )


@pytest.mark.parametrize("name", ["", "Apgd", "a b", "a/b", "-a", "a:b", "ä"])
def test_names_that_the_command_line_could_not_spell_are_refused(name):
    with pytest.raises(ValueError, match="spec name"):
        AttackSpec(name=name, target="a.b:C", summary="s")


@pytest.mark.parametrize("target", ["", "a.b", "a.b:", ":C", "a/b:C", "a.b:C.D", "1a:C"])
def test_targets_that_cannot_be_imported_are_refused(target):
    with pytest.raises(ValueError, match="must look like"):
        AttackSpec(name="a", target=target, summary="s")


def test_a_spec_cannot_be_changed():
    spec = AttackSpec(name="a", target="a.b:C", summary="s")
    with pytest.raises(AttributeError):
        spec.name = "b"  # type: ignore[misc]
