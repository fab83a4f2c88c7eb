"""Patterns that choose cells of a grid."""

from __future__ import annotations

import pytest
from helpers.grids import cells

from robustbench_med.errors import BadParameter
from robustbench_med.grid.config import build
from robustbench_med.grid.filters import CELL_LABELS, chooser, read
from robustbench_med.plugins.registry import Registry


def named(**facts: str) -> dict[str, str]:
    return dict.fromkeys(CELL_LABELS, "") | facts


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("attack=apgd", False),
        ("attack=apgd*", True),
        ("attack=apgd:steps=?0", True),
        ("attack=[apgd:steps=20],client=hospital-1", True),
        ("attack=apgd*,client=hospital-2", False),
        ({"attack": ["pgd", "apgd*"], "seed": 0}, True),
        ({"seed": [1, 2]}, False),
        ("eps=0.0156862745098", True),
        ("eps=8/510", True),
        ("eps=4/*", True),
        ("defense=[medfedpure:detector=[mae:passes=2]]", True),
        ("defense=medfedpure:detector=[mae:passes=2]", True),
        ("defense=*passes=[12]*", False),  # brackets are no set of characters
    ],
)
def test_a_pattern_fits_the_whole_of_every_name(pattern: str | dict[str, object], fits: bool) -> None:
    names = named(
        attack="apgd:steps=20", client="hospital-1", seed="0", eps="4/255", defense="medfedpure:detector=[mae:passes=2]"
    )
    assert read(pattern).fits(names) is fits


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("atack=apgd", "unknown key 'atack'"),
        ("apgd", "'apgd' in the pattern 'apgd' is not key=text"),
        ("", "is not key=text"),
        ("attack=[apgd", "brackets do not match"),
        ({}, "says nothing"),
        ({"attack": []}, "says nothing"),
        ({"seed": True}, "is no text or number"),
        ({"seed": {"a": 1}}, "is no text or number"),
        ("seed=1,seed=2", "'seed' stands twice"),
        ("eps=much", "not a number"),
    ],
)
def test_a_pattern_that_says_nothing_certain_is_refused(pattern: str | dict[str, object], words: str) -> None:
    with pytest.raises(BadParameter, match="--exclude") as caught:
        build({"exclude": [pattern]})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_stars_take_no_time() -> None:
    assert not read("defense=" + "*a" * 40 + "b").fits(named(defense="a" * 200))


def test_include_then_exclude(toys: Registry) -> None:
    chosen = cells(toys, seed=[0, 1, 2], include=["seed=0", "seed=1"], exclude="defense=bare,seed=1")
    assert [(c.defense.name, c.seed) for c in chosen] == [("bare", 0), ("guarded", 0), ("guarded", 1)]
    wanted = chooser([], [read("seed=1")])
    assert wanted(named(seed="0"))
    assert not wanted(named(seed="1"))


def test_patterns_that_leave_nothing_are_an_error(toys: Registry) -> None:
    with pytest.raises(BadParameter, match="leave none of 2 cells"):
        cells(toys, include="defense=missing")
