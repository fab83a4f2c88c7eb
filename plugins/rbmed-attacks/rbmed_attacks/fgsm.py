"""The fast gradient sign method (Goodfellow et al., ICLR 2015)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.budget import too_small
from rbmed_attacks.gradient_attack import choose
from rbmed_attacks.gradients import differentiate
from rbmed_attacks.losses import untargeted
from rbmed_attacks.norms import project, steepest
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel


class FGSM(rbmed.Attack):
    """One steepest step of length eps from the image; Linf (sign) and L2 (direction), K >= 2 classes.

    Costs one gradient. Where the model stops on success, an image that is wrong from the outset is returned as it is.
    Reference: Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015, arXiv:1412.6572.

    Raises:
        BudgetExceeded: the budget does not allow one gradient.
    """

    class Params(rbmed.Params):
        loss: Literal["auto", "ce", "bce", "margin"] = Field(
            "auto", description="What is maximised; auto is margin for 2 classes and ce for more."
        )

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``, one step away."""
        if budget.gradients == 0 or budget.queries == 0:
            raise too_small(budget)
        if len(x) == 0:
            return x.clone()
        objective = untargeted(self.params.loss)
        logits, _, gradient = differentiate(model, x, lambda logits: objective(logits, y, y))
        moved = project(threat, x + threat.eps * steepest(threat, gradient), x)
        return choose(logits.argmax(1) != y, x, moved) if model.stop_on_success else moved
