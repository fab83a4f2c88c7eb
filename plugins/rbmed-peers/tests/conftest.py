"""Small real models and target models, shared by the tests of every library."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rbmed_peers.isolation import silenced
from robustbench_med import Budget, Stream, TargetModel, ThreatModel, isolated
from robustbench_med.errors import BudgetExceeded

EPS = {"linf": 0.03, "l2": 0.5, "l1": 8.0}


class Plain(TargetModel):
    """A target model over a module that takes any batch; stops after ``limit`` calls, like the harness's."""

    def __init__(self, net: nn.Module, stop: bool = True, limit: int | None = None) -> None:
        super().__init__()
        self.net, self.stop_on_success, self.limit, self.calls = net, stop, limit, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.limit is not None and self.calls > self.limit:
            raise BudgetExceeded(f"more than {self.limit} calls")
        assert float(x.detach().min()) >= 0
        assert float(x.detach().max()) <= 1
        return self.net(x)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def globals_untouched() -> Iterator[None]:
    """Fails if a test moves one of the process's random generators."""
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after, strict=True))
    assert before[2] == random.getstate()


@pytest.fixture
def alone() -> Callable[[], AbstractContextManager[None]]:
    """Shields a test from what a library does to the process when it is called directly."""

    @contextmanager
    def alone() -> Iterator[None]:
        with isolated(0), silenced("auto-attack"):
            yield

    return alone


@pytest.fixture(scope="session")
def task() -> Callable[..., tuple[nn.Module, Tensor, Tensor]]:
    """Builds a fixed convolutional net in training mode, N images, and labels that are its answers."""

    def build(classes: int, channels: int = 1, n: int = 4, side: int = 16) -> tuple[nn.Module, Tensor, Tensor]:
        with torch.random.fork_rng():
            return seeded(classes, channels, n, side)

    def seeded(classes: int, channels: int, n: int, side: int) -> tuple[nn.Module, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(7)
        net = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU())
        width = net(torch.zeros(1, channels, side, side)).flatten(1).shape[1]
        net = nn.Sequential(net, nn.Flatten(), nn.Linear(width, classes))
        with torch.no_grad():
            for weight in net.parameters():
                bound = 2 / max(weight[0].numel(), 1) ** 0.5
                weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
            # Without this, random weights answer every image with the same class.
            net[-1].bias.sub_(net(torch.rand((128, channels, side, side), generator=generator)).mean(0))
            x = (torch.rand((n, channels, side, side), generator=generator) * 1.2 - 0.1).clamp(0, 1)
            return net, x, net(x).argmax(1)

    return build


def stream(n: int, seed: int = 0) -> Stream:
    """The attack's streams of ``n`` images."""
    return Stream.named("attack", seed, torch.arange(n))


@pytest.fixture(scope="session")
def attacked() -> Callable[..., Tensor]:
    """Runs one attack on a task, checks ball and range, and returns its images."""

    def run(cls, name, task, norm, *, eps=None, seed=0, stop=True, limit=None, **params) -> Tensor:
        net, x, y = task
        attack = cls(cls.Params(attack=name, **params))
        threat = ThreatModel(norm=norm, eps=eps or EPS[norm])
        made = attack.run(Plain(net, stop, limit), x, y, threat, Budget(), stream(len(x), seed))
        threat.check(made, x)
        return made

    return run


@pytest.fixture(scope="session")
def behaves(attacked) -> Callable[..., None]:
    """What holds for every attack: repeats, touches nothing, breaks something, and lets the budget end it."""

    def check(cls, name, task, norm, *, weak=False, limit=2, **params) -> None:
        net, x, y = task
        images, labels, weights = x.clone(), y.clone(), [w.detach().clone() for w in net.parameters()]
        made = attacked(cls, name, task, norm, **params)
        assert torch.equal(made, attacked(cls, name, task, norm, **params))
        assert made.dtype == x.dtype
        assert not made.requires_grad
        assert torch.equal(x, images)
        assert torch.equal(y, labels)
        assert all(torch.equal(w, old) for w, old in zip(net.parameters(), weights, strict=True))
        assert all(w.grad is None for w in net.parameters())
        assert all(module.training for module in net.modules())
        assert weak or (net(made).argmax(1) != y).any()
        with pytest.raises(BudgetExceeded):
            attacked(cls, name, task, norm, limit=limit, eps=1e-5, **params)

    return check
