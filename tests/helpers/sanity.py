"""Small systems whose answers are sound, and the flags that are raised on others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from helpers.attacks import REGISTRY, examined, rung, settings
from robustbench_med.defenses.pipeline import Gate, Pipeline
from robustbench_med.interfaces.defense import Detector, Purifier, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.results import Outcome
from robustbench_med.interfaces.threat import ThreatModel
from robustbench_med.interfaces.training import Classifier
from robustbench_med.plugins.components import create
from robustbench_med.plugins.references import parse as read
from robustbench_med.records.record import flatten

THREAT = ThreatModel(eps=0.05)
N = 48
SANITY = {"not-finite", "weights-not-finite", "constant-answer", "clean-at-chance", "batch-dependent", "class-absent"}


class Net(Classifier):
    """Two smooth layers on 8 x 8 images, with something done to its answer."""

    def __init__(self, after: Callable[[Tensor, Tensor], Tensor] = lambda logits, x: logits) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(16, 64, generator=generator) / 8)
        self.second = nn.Parameter(torch.randn(2, 16, generator=generator))
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.tanh(4 * (x.flatten(1) - 0.5) @ self.first.T) @ self.second.T, x)


def images(n: int = N) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def labels(x: Tensor) -> Tensor:
    return Net()(x).argmax(1)


def looked_at(pipeline: Pipeline, y: Tensor | None = None, **more: Any) -> dict[str, Any]:
    x = images()
    how = settings(rung("oblivious", "apgd:steps=5"), threat=THREAT, **more)
    return examined(pipeline, x, labels(x) if y is None else y, how)


def flags(pipeline: Pipeline, y: Tensor | None = None) -> set[str]:
    return SANITY & set(looked_at(pipeline, y)["flags"])


def figures(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in REGISTRY.entries("metric"):
        found |= create(REGISTRY, "metric", read(entry.qualified)).compute(outcome)
    return flatten(found)[0]


class Smooth(Purifier):
    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class Noisy(Smooth):
    stochastic = True

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return (x + 0.01 * rng.normal(tuple(x.shape))).clamp(0, 1)


class Rough(Detector):
    stochastic = False

    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        return (x - nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).square().flatten(1).mean(1)


GATE = Gate(threshold=0.08, low=0.0, high=0.1)
