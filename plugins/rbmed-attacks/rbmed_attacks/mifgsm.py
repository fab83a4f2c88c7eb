"""Momentum iterative FGSM (Dong et al., CVPR 2018)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import Mover, State
from rbmed_attacks.losses import untargeted
from rbmed_attacks.norms import Ball
from rbmed_attacks.search import Search
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel


class MIFGSM(rbmed.Attack):
    """Equal steps along the accumulated gradients, which transfers well; Linf and L2, K >= 2 classes.

    Starts at the image and takes steps of eps / ``steps``. Unlike the paper, which returns the last iterate, it returns
    a broken image where it broke and any other at its highest loss. Reference: Dong et al., "Boosting adversarial
    attacks with momentum", CVPR 2018, arXiv:1710.06081.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
    """

    class Params(rbmed.Params):
        """Parameters of MI-FGSM; the defaults are the published ones."""

        steps: int = Field(10, ge=1, description="Gradients.")
        decay: float = Field(1.0, ge=0, description="Share of the accumulated gradient that each step keeps.")
        loss: Literal["auto", "ce", "margin", "vote"] = Field(
            "auto", description="What is maximised; auto is margin for 2 classes and ce for more."
        )

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``; see `rbmed_attacks.search.Search.run` for which ones."""
        p, ball = self.params, Ball.of(threat)
        return Search(
            objective=untargeted(p.loss),
            start=lambda images, rng: images,
            mover=lambda steps: Accumulated(ball, ball.eps / steps, p.decay),
            steps=p.steps,
        ).run(model, x, y, budget, rng)


class Accumulated(Mover):
    """Steepest steps of one length along the decaying sum of the gradients, each scaled to a mean magnitude of 1."""

    def __init__(self, ball: Ball, size: float, decay: float) -> None:
        self.ball, self.size, self.decay = ball, size, decay

    def begin(self, state: State) -> None:
        """Nothing is accumulated yet."""
        self.sum = torch.zeros_like(state.now)

    def move(self, state: State) -> Tensor:
        """One step up, projected."""
        magnitude = state.grad.abs().flatten(1).mean(1).clamp_min(torch.finfo(state.grad.dtype).tiny)
        self.sum = self.decay * self.sum + state.grad / magnitude.view(-1, *[1] * (state.grad.dim() - 1))
        return self.ball.project(state.now + self.size * self.ball.steepest(self.sum), state.x)
