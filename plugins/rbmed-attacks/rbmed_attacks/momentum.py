"""Momentum steps of shrinking length: the ladder's attack on systems that draw noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import GradientAttack, State, StepRule
from rbmed_attacks.losses import Loss
from rbmed_attacks.norms import in_ball, per_image, steepest
from robustbench_med import Field, Stream, ThreatModel


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
