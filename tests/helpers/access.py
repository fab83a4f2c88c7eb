"""A small system in float64 whose gradients can be compared with numeric ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import TargetSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.interfaces.defense import Detector, Purifier, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.interfaces.training import Classifier

N, SIDE = 6, 4
STREAM = Stream.named("defense-under-attack", 0, torch.arange(N))


class Curved(Classifier):
    """Two layers with a smooth bend between them, in float64."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(8, SIDE * SIDE, generator=generator, dtype=torch.float64))
        self.second = nn.Parameter(torch.randn(2, 8, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh((x.flatten(1) - 0.5) @ self.first.T) @ self.second.T


class Contrast(Detector):
    """Score: mean squared distance from grey."""

    stochastic = False

    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        return (x - 0.5).square().flatten(1).mean(1)


class Squash(Purifier):
    """Squeezes towards grey, with noise; smooth in the image."""

    stochastic = True

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        noise = 0.2 * rng.normal(tuple(x.shape)).to(x.dtype)
        return 0.5 + 0.4 * torch.tanh(2 * (x - 0.5) + noise)


class Cut(Squash):
    """The same without a gradient."""

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        with torch.no_grad():
            return super().purify(x, strength, rng)


def images() -> Tensor:
    # Contrast grows over the batch, so that about half is flagged by GATE.
    noise = torch.rand(N, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    return 0.5 + noise * torch.linspace(0.3, 1.0, N).view(-1, 1, 1, 1)


def seen(pipeline: Pipeline, access: str, eot: int = 1, **more: object) -> Callable[[Tensor], Tensor]:
    """Sum over images and classes, weighted; every call starts with the same noise."""
    weight = torch.linspace(-1, 1, N * 2, dtype=torch.float64).view(N, 2)

    def value(x: Tensor) -> Tensor:
        counter = QueryCounter(images(), torch.zeros(N, dtype=torch.int64), ThreatModel(eps=0.5), Budget())
        settings = TargetSettings(pipeline, counter, eot, **more)  # type: ignore[arg-type]
        return (target_for(settings, access, STREAM)(x) * weight).sum()

    return value


def analytic(value: Callable[[Tensor], Tensor]) -> Tensor:
    x = images().requires_grad_()
    return torch.autograd.grad(value(x), x)[0]


def numeric(value: Callable[[Tensor], Tensor], h: float = 1e-6) -> Tensor:
    x = images()
    slope = torch.zeros_like(x)
    with torch.no_grad():
        for i in range(x.numel()):
            step = torch.zeros(x.numel(), dtype=x.dtype)
            step[i] = h
            step = step.view_as(x)
            slope.view(-1)[i] = (value(x + step) - value(x - step)) / (2 * h)
    return slope
