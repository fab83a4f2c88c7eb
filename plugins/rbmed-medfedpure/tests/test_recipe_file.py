"""A defense in TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

import robustbench_med as rbmed
from robustbench_med.errors import BadConfig, BadParameter

TEXT = """
detector = "mae"
purifier = {name = "ddim", steps = 4}
gate = "adaptive"
strategy = "fedmoe"
model = "moe"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text(TEXT, encoding="utf-8")
    return tmp_path / "mine.toml"


def recipe(text: str) -> rbmed.Recipe:
    made: rbmed.Recipe = rbmed.load_component("defense", text).recipe()
    return made


def test_the_file_is_the_recipe(file: Path) -> None:
    assert recipe(str(file)) == rbmed.Recipe(
        rbmed.PartRef("moe"), rbmed.PartRef("fedmoe"), rbmed.PartRef("mae"), rbmed.PartRef("ddim", {"steps": "4"})
    )
    assert recipe(str(file)) == recipe("recipe:model=moe,strategy=fedmoe,detector=mae,purifier=[ddim:steps=4]")


def test_parameters_after_the_file_name_override_it(file: Path) -> None:
    changed = recipe(f"{file}:fpr=0.1,gate=full,purifier=jpeg,detector=none")
    assert (changed.fpr, changed.strength, changed.purifier, changed.detector) == (
        0.1,
        1.0,
        rbmed.PartRef("jpeg"),
        None,
    )
    assert recipe(f"{file}:gate=0.25").strength == 0.25


def test_a_record_keeps_the_contents_of_the_file(file: Path) -> None:
    assert rbmed.parse(str(file)).params["strategy"] == "fedmoe"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("detektor = 'mae'", "unknown parameter 'detektor', did you mean 'detector'?"),
        ("gate = 2.0", "a strength must be in"),
        ("gate = 'often'", "gate='often'"),
        ("purifier = {steps = 4}", "a part that is a table needs a name"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    with pytest.raises(BadParameter, match="defense 'recipe'") as caught:
        recipe(str(tmp_path / "bad.toml"))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"gone.toml cannot be read"):
        recipe(str(tmp_path / "gone.toml"))
