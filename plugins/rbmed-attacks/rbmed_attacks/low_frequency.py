"""Changes of an image that hold low spatial frequencies only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rbmed_attacks.momentum import Momentum
from rbmed_attacks.norms import length
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel


class LowFrequency(Momentum):
    """Momentum steps whose change of the image is band-limited: a stricter threat inside the same ball.

    Purifiers remove fine noise and keep coarse structure, so a smooth change may pass them (Kassis et al. 2024,
    arXiv:2411.16598). Of the two-dimensional discrete cosine transform of the change (type II, which does not wrap
    around at the edges) only the lowest ``frequency`` of the rows and of the columns are kept; a change that leaves the
    ball is scaled as a whole, since cutting single pixels would add high frequencies. The gradient is that of the whole
    path: the loss rises along changes that are possible. Only the clamp to [0, 1] adds other frequencies, where
    pixels are black or white. Linf and L2, K >= 2 classes; otherwise as `Momentum`.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
    """

    class Params(Momentum.Params):
        frequency: float = Field(
            0.25, gt=0, le=1, description="Share of the frequencies, lowest first, that a change may hold on each axis."
        )

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``."""
        low = LowPass(threat, x.detach(), self.params.frequency)
        with torch.no_grad():
            return low(super().run(_Filtered(model, low), x, y, threat, budget, rng))


class LowPass:
    """Brings images to the nearest ones, up to scale, that differ from the clean ones in low frequencies only.

    Args:
        threat: norm and eps of the ball, which is kept: Linf or L2.
        x: clean images, (N, C, H, W).
        frequency: share of the frequencies that are kept on each axis.
    """

    def __init__(self, threat: ThreatModel, x: Tensor, frequency: float) -> None:
        self.threat, self.x, self.frequency = threat, x, frequency
        self.rows, self.columns = (basis(size, frequency).to(x) for size in x.shape[-2:])

    def __call__(self, v: Tensor) -> Tensor:
        """Images like ``v``, (N, C, H, W), inside the ball and [0, 1]; differentiable."""
        delta = v - self.x
        coefficients = self.rows @ delta @ self.columns.T
        delta = self.rows.T @ coefficients @ self.columns
        size = length(self.threat, delta).clamp_min(1e-12)
        return (self.x + delta * (self.threat.eps / size).clamp_max(1)).clamp(0, 1)

    def at(self, index: Tensor) -> LowPass:
        """The same for some of the images."""
        return LowPass(self.threat, self.x[index], self.frequency)


def basis(size: int, frequency: float) -> Tensor:
    """The lowest functions of the orthonormal DCT-II over ``size`` pixels: float64 (ceil(frequency * size), size)."""
    kept = torch.arange(math.ceil(frequency * size - 1e-9), dtype=torch.float64)[:, None]
    waves = torch.cos(math.pi / size * kept * (torch.arange(size, dtype=torch.float64) + 0.5)) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves


class _Filtered(TargetModel):
    """A target model that sees each image with its change filtered."""

    def __init__(self, inner: TargetModel, low: LowPass) -> None:
        super().__init__()
        self.inner, self.low = inner, low
        self.stop_on_success, self.draws, self.random = inner.stop_on_success, inner.draws, inner.random
        self.start = inner.start

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(self.low(x))
        return logits

    def each(self, x: Tensor) -> Tensor:
        return self.inner.each(self.low(x))

    def success_rate(self, x: Tensor, y: Tensor, draws: int) -> Tensor:
        return self.inner.success_rate(self.low(x), y, draws)

    def at(self, index: Tensor) -> TargetModel:
        return _Filtered(self.inner.at(index), self.low.at(index))
