"""Components in words: what tells several apart."""

from __future__ import annotations

import pytest

from robustbench_med.plugins.references import format_ref, parse, without_shared_params


@pytest.mark.parametrize(
    ("names", "left", "shared"),
    [
        (["a:x=1,y=2", "b:[c:y=2]"], ["a:x=1", "b:c"], "y=2"),
        (["a:s=[b:x=1,y=2]", "a:m=z,s=[c:x=1,y=2]"], ["a:s=b", "a:m=z,s=c"], "x=1,y=2"),
        (["a:s=[b:x=1,h=[p:k=3]]", "a:s=[b:x=1,h=[p:k=4]]"], ["a:s=[b:h=[p:k=3]]", "a:s=[b:h=[p:k=4]]"], "x=1"),
        (["a:x=1", "a:x=11"], ["a:x=1", "a:x=11"], ""),
        (["a:x=1", "b"], ["a:x=1", "b"], ""),
        (["a:x=1", "a:x=1"], ["a:x=1", "a:x=1"], ""),
        (["a:x=1"], ["a:x=1"], ""),
        ([], [], ""),
    ],
)
def test_what_all_share_is_told_once(names: list[str], left: list[str], shared: str) -> None:
    assert without_shared_params(names) == (left, shared)


def test_what_is_left_can_be_read_back() -> None:
    names = ["u:model=moe,s=[f:rounds=8,adversarial=[pgd:steps=3]]", "u:s=[g:rounds=8,adversarial=[pgd:steps=3]]"]
    for name in without_shared_params(names)[0]:
        assert format_ref(parse(name)) == name
