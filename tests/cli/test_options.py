"""An option of a run is written once, in `RunConfig`: the command line and the Python API have the same ones."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest
from helpers.command import invoke
from torch import nn

from robustbench_med.api import load_defense
from robustbench_med.datasets.from_python import OwnData
from robustbench_med.evaluation.keywords import Pair, RunOptions, TrainingOptions
from robustbench_med.grid import options as groups
from robustbench_med.grid.config import OPTIONS, RunConfig, build
from robustbench_med.grid.options import Ref
from robustbench_med.interfaces.threat import ThreatModel

GROUPS = [groups.SUBJECT, groups.DATA, groups.THREAT, groups.ATTACK, groups.TRAINING, groups.COMPUTE, groups.OUTPUT]


def accepted(hint: Any) -> Any:
    """What a Python caller may write for a field of this type."""
    if get_origin(hint) is Annotated:
        return accepted(get_args(hint)[0])
    if get_origin(hint) is tuple:
        item = accepted(get_args(hint)[0])
        return item | Sequence[item]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(each if each is NoneType else accepted(each) for each in get_args(hint))]  # noqa: UP007
    return {Path: Path | str, ThreatModel: ThreatModel | str | dict[str, Any]}.get(hint, hint)


def test_the_keywords_of_evaluate_are_the_fields_of_a_run() -> None:
    given, fields = get_type_hints(RunOptions), get_type_hints(RunConfig, include_extras=True)
    assert list(given) == list(OPTIONS) == list(fields)
    expected = {key: accepted(hint) for key, hint in fields.items()} | {
        "eps": float | str | Sequence[float | str],
        "model": Ref | nn.Module | Sequence[Ref | nn.Module],  # a module has no form on the command line
        "dataset": Ref | OwnData | Pair | Sequence[Ref],  # and neither have images
    }
    assert given == expected


def test_the_keywords_of_a_training_are_options_of_a_run() -> None:
    assert set(TrainingOptions.__annotations__) < set(OPTIONS)
    with pytest.raises(TypeError, match="unexpected keyword 'modle'; valid: model, strategy"):
        load_defense("guarded", "stripes", modle="resnet")  # type: ignore[call-arg]


def test_the_default_of_every_option_is_valid() -> None:
    assert build({}) == RunConfig()


@pytest.mark.parametrize("columns", [80, 120])
def test_help_has_a_panel_for_each_group_and_every_option_with_its_default(columns: int) -> None:
    shown = invoke("run", "--help", env={"COLUMNS": str(columns)}).stdout
    assert max(map(len, shown.splitlines())) <= columns
    assert re.findall(r"^╭─ ([\w ]+?) ─", shown, re.MULTILINE) == ["Arguments", "Options", *GROUPS]
    assert "…" not in shown
    text = " ".join(shown.replace("│", " ").split())
    assert all(f"--{key.replace('_', '-')} " in text for key in OPTIONS if key != "probe_limit")
    assert all(default in text for default in ("[medfedpure]", "[4/255]", "[channels-last]", "[results]", "[by site]"))


def test_threats_and_configurations_are_read_without_torch() -> None:
    heavy = "{'torch', 'pydantic', 'numpy', 'pandas'} & set(sys.modules)"
    code = f"import sys, robustbench_med.grid.config, robustbench_med.interfaces.threat; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        (("run", "--config", "brainsim"), "run [FILE|NAME]"),
        (("plan", "--config=brainsim"), "plan [FILE|NAME]"),
        (("train", "--defense", "medfedpure"), "train [DEFENSE]"),
        (("verify", "--results", "results"), "verify RESULTS"),
    ],
)
def test_who_gives_an_argument_as_an_option_is_told_how_it_is_given(words: tuple[str, ...], ending: str) -> None:
    done = invoke(*words)
    assert done.exit_code == 2
    told = " ".join(done.output.split())
    assert "It is given without an option:" in told
    assert told.endswith(ending)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("gallery", "leaderboard gallery"),
        ("attacks", "leaderboard attacks"),
        ("help", "--help"),
        ("version", "--version"),
    ],
)
def test_who_looks_for_a_command_of_a_group_is_told_where_it_is(word: str, meant: str) -> None:
    done = invoke(word)
    assert done.exit_code == 2
    assert f"{meant}'?" in " ".join(done.output.split())
