"""Specs are inert, checked when made, and cover every kind."""

import pytest

from robustbench_med.plugins.registry import Registry
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


@pytest.mark.parametrize("kind", ["attack", "detector", "purifier", "strategy", "dataset", "defense"])
def test_readers_get_a_name_and_the_paper_of_everything_that_is_shipped(kind):
    shipped = [entry.spec for entry in Registry().entries(kind) if entry.distribution.startswith("rbmed-")]
    assert shipped
    for spec in shipped:
        assert spec.title, spec.name
        assert bool(spec.paper) == bool(spec.venue), spec.name
        assert not spec.paper or spec.reference, spec.name
    papers = {spec.paper: spec.venue for spec in shipped if spec.paper}
    assert all(papers[spec.paper] == spec.venue for spec in shipped if spec.paper)
