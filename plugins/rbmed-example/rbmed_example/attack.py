"""Steps along the sign of the gradient."""

import torch
from torch import Tensor

import robustbench_med as rbmed
from robustbench_med import Budget, Stream, TargetModel, ThreatModel


class Example(rbmed.Attack):
    """Signed gradient steps of equal length, each projected into the ball."""

    class Params(rbmed.Params):
        """Parameters of the attack; each becomes ``--attack example:steps=20``."""

        steps: int = rbmed.Field(10, ge=1, description="Gradient steps.")
        length: float = rbmed.Field(0.25, gt=0, le=1, description="Length of a step, as a share of eps.")

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``; nothing is random, so ``rng`` is unused."""
        x_adv = x
        for _ in range(self.params.steps):
            x_adv = x_adv.detach().requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(x_adv), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x_adv)
            x_adv = threat.project(x_adv.detach() + self.params.length * threat.eps * gradient.sign(), x)
        return x_adv
