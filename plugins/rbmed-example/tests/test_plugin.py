"""The installed plugin: listed without torch, short enough to copy, and its attack is exact on a linear model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import rbmed_example
import robustbench_med as rbmed
from rbmed_example.attack import Example

FOLDER = Path(rbmed_example.__file__).parent


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_every_module_is_short(file: Path) -> None:
    if file.stem != "unlisted":
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 45


class Linear(rbmed.TargetModel):
    """Two classes, logits (0, w.x + b), whose exact robustness is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(16, generator=torch.Generator().manual_seed(0))

    def forward(self, x: Tensor) -> Tensor:
        margin = (x - 0.5).flatten(1) @ self.weight
        return torch.stack([torch.zeros_like(margin), margin], 1)


def test_the_attack_succeeds_exactly_where_it_can() -> None:
    model, eps = Linear(), 0.012
    x = 0.4 + 0.2 * torch.rand(32, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    threshold = model(x)[:, 1].abs() / model.weight.norm(p=1)
    assert 0.1 < (threshold < eps).float().mean() < 0.9, "the test must have both outcomes"
    rng = rbmed.Stream.named("attack", 0, torch.arange(len(x)))
    x_adv = Example().run(model, x, y, rbmed.ThreatModel(eps=eps), rbmed.Budget(), rng)
    torch.testing.assert_close(model(x_adv).argmax(1) != y, threshold < eps)
