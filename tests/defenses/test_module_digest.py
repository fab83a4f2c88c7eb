"""The key of a module in memory changes with all that its answers depend on, and with nothing else."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustbench_med as rbmed
from robustbench_med.defenses.module_digest import module_digest
from robustbench_med.errors import ModelNote

SCALE = 1.0


def scaled(x: Tensor) -> Tensor:
    return x * SCALE


class Base(nn.Module):
    def prepared(self, x: Tensor) -> Tensor:
        return x


class Net(Base):
    """Linear, with everything that a net may keep besides weights."""

    def __init__(self, after: Callable[[Tensor], Tensor] = scaled) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.after, self.temperature = nn.Linear(16, 2), after, 1.0
        self.register_buffer("shift", torch.zeros(2), persistent=False)
        self.plain, self.options = torch.ones(2), {"power": [1, 2]}

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.after(self.linear(self.prepared(x).flatten(1)) / self.temperature + self.shift)
        return answer * self.plain


def closed(factor: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * factor


ELSEWHERE = """
import torch
from torch import nn
from robustbench_med.defenses.module_digest import module_digest

class Net(nn.Linear):
    kinds = {"a", "b", "c"}

    def forward(self, x):
        return super().forward(x) * len(self.kinds)

torch.manual_seed(0)
print(module_digest(Net(4, 2)))
"""

CHANGES: dict[str, Callable[[Any], Any]] = {
    "weights": lambda net: net.linear.weight.data.mul_(2),
    "attribute": lambda net: setattr(net, "temperature", 2.0),
    "buffer that is not stored": lambda net: net.shift.add_(1),
    "tensor that is no buffer": lambda net: net.plain.mul_(2),
    "inside a container": lambda net: net.options["power"].append(3),
    "hook": lambda net: net.linear.register_forward_hook(lambda module, given, answer: -answer),
    "method of the instance": lambda net: setattr(net, "forward", lambda x: x),
    "closure": lambda net: setattr(net, "after", closed(2.0)),
    "partial": lambda net: setattr(net, "after", functools.partial(torch.mul, other=2)),
    "layer": lambda net: setattr(net, "linear", nn.Sequential(net.linear, nn.ReLU())),
    "option of a layer": lambda net: setattr(net, "act", nn.LeakyReLU(0.2)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_is_answered_changes_the_key(change: str) -> None:
    net = Net()
    before = module_digest(net)
    CHANGES[change](net)
    assert module_digest(net) != before


def test_code_outside_of_the_module_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = module_digest(Net())
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    assert module_digest(Net()) != before
    monkeypatch.undo()
    monkeypatch.setattr(Base, "prepared", lambda self, x: 1 - x)
    assert module_digest(Net()) != before
    assert module_digest(Net(closed(2.0))) != module_digest(Net(closed(3.0)))


def test_equal_modules_have_one_key_in_any_mode_after_any_use_and_in_any_process(tmp_path: Path) -> None:
    net, other = Net(), Net().train()
    key = module_digest(net)
    net.linear.register_forward_hook(print).remove()  # hooks are numbered through the process
    net(torch.rand(2, 1, 4, 4))
    assert module_digest(net) == module_digest(other) == module_digest(net.requires_grad_(False)) == key
    (tmp_path / "own.py").write_text(ELSEWHERE)
    keys = {
        subprocess.run([sys.executable, "own.py"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(keys) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_scripts_and_recursive_objects_have_keys() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(4, 2), torch.rand(1, 4)
    keys = {module_digest(torch.jit.trace(nn.Sequential(linear, act), x)) for act in (nn.ReLU(), nn.GELU())}
    assert len(keys) == 2
    net = Net()
    net.options["self"] = net.options  # type: ignore[assignment]
    assert module_digest(net) == module_digest(net)


def test_modules_that_differ_in_an_attribute_are_measured_each(tmp_path: Path) -> None:
    """Before, the second got the clean answers, or the whole record, of the first."""
    images, labels = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    labels = (images.flatten(1) @ Net().linear.weight.T + Net().linear.bias).argmax(1)
    how: dict[str, Any] = {"dataset": (images, labels), "attack": "clamp", "access": "oblivious", "out": tmp_path / "o"}
    found = []
    for sign in (1.0, -1.0):
        net = Net()
        net.temperature = sign
        with pytest.warns(ModelNote):
            found.append(rbmed.evaluate(model=net, **how)[0].metrics["clean_accuracy"])
    assert found == [1.0, 0.0]


def test_a_module_too_large_to_be_looked_at_shares_its_key_with_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Linear(2, 2)
    assert module_digest(module) == module_digest(module)
    monkeypatch.setattr("robustbench_med.defenses.module_digest.MOST", 3)
    assert module_digest(module) != module_digest(module)
