"""Momentum iterative FGSM (Dong et al., CVPR 2018)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import GradientAttack, State, StepRule
from rbmed_attacks.norms import per_image, steepest
from robustbench_med import Field


class MIFGSM(GradientAttack):
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
        loss: Literal["auto", "ce", "bce", "margin", "vote"] = Field(
            "auto", description="What is maximised; auto is margin for 2 classes and ce for more."
        )

    def step(self, state: State, steps: int) -> StepRule:
        """Steps that add up to eps."""
        return MomentumStep(state, state.threat.eps / steps, self.params.decay)


class MomentumStep(StepRule):
    """Steepest steps of one length along the decaying sum of the gradients, each scaled to a mean magnitude of 1."""

    def __init__(self, state: State, size: float, decay: float) -> None:
        self.size, self.decay, self.sum = size, decay, torch.zeros_like(state.now)

    def next(self, state: State) -> Tensor:
        """One step up."""
        magnitude = state.grad.abs().flatten(1).mean(1).clamp_min(torch.finfo(state.grad.dtype).tiny)
        self.sum = self.decay * self.sum + state.grad / per_image(magnitude, state.grad)
        return state.now + self.size * steepest(state.threat, self.sum)
