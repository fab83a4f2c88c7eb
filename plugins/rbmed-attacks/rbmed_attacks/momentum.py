"""Momentum steps of shrinking length, the ladder's attack on systems that draw noise; and of low frequencies only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import GradientAttack, State, StepRule
from rbmed_attacks.losses import Loss
from rbmed_attacks.norms import in_ball, length, per_image, steepest
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel


class Momentum(GradientAttack):
    """Iterative attack with momentum and a cosine schedule, which continues from the worst image found so far.

    Successive gradients of a system that draws noise point to different sides; momentum averages them over the steps,
    so that few draws in each are enough, and steps that shrink to a fortieth of eps let the last iterate settle. The
    default loss, ``logistic``, spends no force on draws that are wrong already. Momentum: Dong et al., CVPR 2018,
    arXiv:1710.06081; cosine schedule: Loshchilov & Hutter, ICLR 2017, arXiv:1608.03983; expectation over draws: Athalye
    et al., ICML 2018, arXiv:1802.00420. Linf, L2 and L1, K >= 2 classes.

    Of a target model that draws noise the last iterate is returned, else the one at the highest loss.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
    """

    warm = True
    keep_last = True

    class Params(rbmed.Params):
        steps: int = Field(40, ge=1, description="Gradients per run.")
        decay: float = Field(0.9, ge=0, lt=1, description="Share of the momentum that each step keeps.")
        first: float = Field(0.5, gt=0, description="Length of the first step as a share of eps.")
        last: float = Field(0.025, gt=0, description="Length of the last step as a share of eps.")
        loss: Loss = Field(
            "logistic",
            description="What is maximised: logistic (the log-probability of a wrong answer), ce, dlr, margin, vote.",
        )
        warm: bool = Field(True, description="Begin at the worst image that earlier rungs found, not at random.")

    def __init__(self, params: object = None) -> None:
        super().__init__(params)
        self.warm = self.params.warm

    def start(self, x: Tensor, threat: ThreatModel, rng: Stream) -> Tensor:
        """A random point of the ball."""
        return in_ball(threat, x, rng)

    def step(self, state: State, steps: int) -> StepRule:
        """Momentum steps that shrink."""
        p = self.params
        return CosineStep(state, steps, p.decay, p.first * state.threat.eps, p.last * state.threat.eps)


class CosineStep(StepRule):
    """Steepest steps along accumulated gradients, from length ``first`` to ``last`` along half a cosine wave."""

    def __init__(self, state: State, steps: int, decay: float, first: float, last: float) -> None:
        self.steps, self.decay, self.first, self.last, self.done = steps, decay, first, last, 0
        self.momentum = torch.zeros_like(state.now)

    def next(self, state: State) -> Tensor:
        """One step."""
        size = state.grad.flatten(1).abs().mean(1)
        self.momentum = self.decay * self.momentum + state.grad / per_image(size + 1e-30, state.grad)
        wave = 0.5 * (1 + math.cos(math.pi * self.done / max(self.steps - 1, 1)))
        self.done += 1
        return state.now + (self.last + (self.first - self.last) * wave) * steepest(state.threat, self.momentum)


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
