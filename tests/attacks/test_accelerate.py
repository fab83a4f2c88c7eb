"""The attacker's fast copy of a classifier answers as the original does, whatever the original is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from robustbench_med.attacks.accelerate import accelerated


class Residual(nn.Module):
    """Convolutions, batch-norms after them, after something else, and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.inner_norm = nn.BatchNorm2d(4, affine=False)
        self.last_norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = (x + self.inner_norm(self.inner(x))).relu()
        logits: Tensor = self.head(self.last_norm(x).mean((2, 3)))
        return logits


class Read(Residual):
    """What the first convolution says is read twice."""

    def forward(self, x: Tensor) -> Tensor:
        convolved = self.first[0](x)
        return super().forward(x) + convolved.mean((1, 2, 3))[:, None]


class Weighed(Residual):
    """The weights of a convolution are read besides."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.inner.weight.sum()


class Aliased(Residual):
    """A convolution has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.alias = self.inner


class Branching(Residual):
    """Control flow depends on the images, so tracing is impossible."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


def trained(kind: type[nn.Module]) -> nn.Module:
    """Batch-norm statistics far from their initial values."""
    torch.manual_seed(0)
    module = kind()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.2, 3)
            if part.affine:
                nn.init.uniform_(part.weight, 0.3, 2)
                nn.init.uniform_(part.bias, -1, 1)
    return module


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize(("kind", "left"), [(Residual, 1), (Read, 2), (Weighed, 2), (Aliased, 2), (Branching, 3)])
def test_folds_what_is_safe_and_answers_the_same(kind: type[nn.Module], left: int) -> None:
    module = trained(kind).eval()
    fast = accelerated(module)
    x = torch.rand(5, 1, 8, 8, requires_grad=True)
    assert norms(fast) == left
    torch.testing.assert_close(fast(x), module(x), atol=1e-4, rtol=0)
    gradients = [torch.autograd.grad(model(x).square().sum(), x)[0] for model in (fast, module)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_the_original_is_not_touched() -> None:
    module = trained(Residual).train()
    before, state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    fast = accelerated(module)
    assert module.training
    assert norms(module) == 3
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not fast.training
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_a_hooked_layer_is_left_alone() -> None:
    module, seen = trained(Residual).eval(), []
    module.inner.register_forward_hook(lambda part, inputs, output: seen.append(output.std()))
    assert norms(accelerated(module)) == 2


def test_batch_norm_without_running_statistics_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    assert norms(accelerated(module)) == 1
