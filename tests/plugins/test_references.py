"""Components in words: what tells several apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from robustbench_med.grid.options import reference
from robustbench_med.plugins.references import PartRef, format_ref, parse, split_list, unbracket, without_shared_params


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


def test_a_recipe_file_is_what_the_command_line_says_and_what_a_record_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'model = "resnet"\nstrategy = "fedavg:rounds=1"\ndetector = {name = "mae", passes = 2, seal = true}\n'
        'purifier = {name = "median", radius = 1}\nfpr = 0.1\n'
    )
    read = parse(str(file))
    parts = "detector=[mae:passes=2,seal=true],purifier=[median:radius=1]"
    assert read == parse(f"recipe:model=resnet,strategy=[fedavg:rounds=1],{parts},fpr=0.1")
    assert reference({"name": "recipe", **read.params}, "defense") == read
    assert parse(f"{file}:fpr=0.2").params["fpr"] == "0.2"


def test_parts_in_a_list_of_a_recipe_file_keep_their_parameters(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'purifier = {name = "ensemble", purifiers = [{name = "tv", steps = 5, weight = 0.1}, '
        '"jpeg:a=1,b=2", "clamp"]}\n'
        "[model]\nname = 'mlp'\nwidths = [[64, 32], [8]]\n"
    )
    read = parse(str(file))
    assert read.params["purifier"] == "ensemble:purifiers=[[[tv:steps=5,weight=0.1],[jpeg:a=1,b=2],clamp]]"
    assert read.params["model"] == "mlp:widths=[[[64,32],[8]]]"
    inner = parse(read.params["purifier"]).params["purifiers"]
    assert [parse(unbracket(each)) for each in split_list(unbracket(inner))] == [
        PartRef("tv", {"steps": "5", "weight": "0.1"}),
        PartRef("jpeg", {"a": "1", "b": "2"}),
        PartRef("clamp"),
    ]
    assert parse(format_ref(read)) == read
