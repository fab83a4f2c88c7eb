"""Small real parts for tests of the core: every answer can be checked by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustbench_med.interfaces.component import Params
from robustbench_med.interfaces.dataset import Split
from robustbench_med.interfaces.defense import Detector, Purifier, System
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.training import Classifier


class Linear(Classifier):
    """logits = W (x - 1/2), so the exact robustness of every image is known."""

    def __init__(self, classes: int = 2, channels: int = 1, size: int = 4, seed: int = 0) -> None:
        super().__init__()
        weight = torch.randn(classes, channels * size * size, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T


class Brightness(Detector):
    """Score: mean intensity. Deterministic, no weights."""

    stochastic = False

    def score(self, x: Tensor, system: System, rng: Stream) -> Tensor:
        return x.flatten(1).mean(1)


class Noisy(Purifier):
    """Adds noise of the given strength and clips; gradients pass."""

    Params = Params
    stochastic = True

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return (x + strength.view(-1, 1, 1, 1) * 0.3 * rng.normal(tuple(x.shape))).clamp(0, 1)


class Halver(Purifier):
    """Moves every pixel halfway to grey. Deterministic."""

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: Stream) -> Tensor:
        return 0.5 + (x - 0.5) / 2


def images(n: int = 8, channels: int = 1, size: int = 4, seed: int = 1) -> Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def split_of(model: Linear, n: int = 12, sites: int = 2, seed: int = 1) -> Split:
    """Images labelled by the model itself, so its clean accuracy is 1."""
    x = images(n, seed=seed)
    with torch.no_grad():
        labels = model(x).argmax(1)
    names = tuple(f"site-{i % sites}" for i in range(n))
    return Split(images=x, labels=labels, patients=tuple(f"p{i}" for i in range(n)), sites=names)
