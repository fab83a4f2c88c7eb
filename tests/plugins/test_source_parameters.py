"""Parameters read from source are those that the component has, and nothing heavy is imported for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers.processes import run

from robustbench_med.plugins import source_parameters
from robustbench_med.plugins.entries import RegistryEntry
from robustbench_med.plugins.specs import AttackSpec

COMPARE = """
import json, re, sys
from robustbench_med.plugins import source_parameters
from robustbench_med.plugins.entries import load_target
from robustbench_med.plugins.registry import Registry

def facts(model):
    found = {name: repr((i.annotation, i.default, i.description, i.metadata)) for name, i in model.model_fields.items()}
    return {name: re.sub(r" at 0x\\w+", "", text).replace(model.__module__, "") for name, text in found.items()}

found = {entry: source_parameters.params_of(entry) for entry in Registry().entries()}
heavy = sorted({"torch", "numpy", "pandas", "timm", "torchvision", "sklearn", "flwr"} & set(sys.modules))
unknown = sorted(entry.spec.name for entry, model in found.items() if model is None)
other = [str(e) for e, model in found.items() if model and facts(model) != facts(load_target(e).Params)]
print(json.dumps([len(found), heavy, unknown, other]))
"""


@pytest.mark.long
def test_every_first_party_component_has_the_parameters_of_its_source() -> None:
    count, heavy, unknown, other = json.loads(run([sys.executable, "-c", COMPARE]).stdout.splitlines()[-1])
    assert count > 90
    assert heavy == other == []
    # Their parameters say what the installed library offers, and which corruptions there are.
    assert set(unknown) <= {"corruption", "foolbox"}


USUAL = """
    import pydantic
    import torch
    import robustbench_med as rbmed
    from {module}_more import MOST, Base

    LEAST = 2

    def even(value):
        if value % 2:
            raise ValueError("should be even")
        return value

    class Push(Base):
        class Params(Base.Params):
            steps: int = rbmed.Field(LEAST, ge=LEAST, le=MOST, description="Pushes.")

            @pydantic.field_validator("steps")
            @classmethod
            def _even(cls, value: "torch.Tensor") -> int:
                return even(value)

    class Later(Push):
        pass
"""
MORE = """
    import torch.nn
    import robustbench_med as rbmed

    MOST, OTHER = 9, 3

    class Base(rbmed.Attack, torch.nn.Module):
        class Params(rbmed.Params):
            share: float = rbmed.Field(1.0, description="Share.")
"""


def entry(target: str) -> RegistryEntry:
    return RegistryEntry(AttackSpec(name="a", target=target, summary=""), "dist", "1", "p")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from textwrap import dedent

    name = f"outlined_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(dedent(USUAL).replace("{module}", name))
    (tmp_path / f"{name}_more.py").write_text(dedent(MORE))
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.mark.parametrize("cls", ["Push", "Later"])
def test_parameters_of_base_classes_in_other_modules(module: str, cls: str) -> None:
    found = source_parameters.params_of(entry(f"{module}:{cls}"))
    assert found is not None
    assert list(found.model_fields) == ["share", "steps"]
    assert found(steps=4).model_dump() == {"share": 1.0, "steps": 4}
    for bad in (3, 1, 10):
        with pytest.raises(ValueError, match="steps"):
            found(steps=bad)
    assert module not in sys.modules


@pytest.mark.parametrize(
    "body",
    [
        "class Push(BASES[0]):\n    pass",
        "@changed\nclass Push:\n    pass",
        "class Push:\n    if True:\n        Params = int",
        "class Push:\n    class Params(torch.nn.Module):\n        pass",
        "class Push:\n    Params = made(3)",
        "Push = made(3)",
        "class Push(",
    ],
)
def test_what_is_unusual_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    name = f"unusual_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(f"import torch\nfrom elsewhere import made, changed\n{body}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert source_parameters.params_of(entry(f"{name}:Push")) is None
    assert source_parameters.params_of(entry(f"{name}_missing:Push")) is None
