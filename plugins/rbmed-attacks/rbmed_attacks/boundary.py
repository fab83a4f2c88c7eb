"""Wrong answers that are barely wrong: images just across the classifier's decision boundary."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import GradientAttack, State, StepRule
from rbmed_attacks.losses import Objective, untargeted
from rbmed_attacks.momentum import CosineStep
from rbmed_attacks.norms import on_sphere, per_image
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel, margin

#: Margins at which candidates lie, in logits: the smaller, the less two answers to nearly the same image can differ.
MARGINS = (0.02, 0.2, 0.5, 1.0, 2.0)
#: Halvings of the segment from the clean image to the adversarial one.
HALVINGS = 12


class Boundary(GradientAttack):
    """A gradient attack on the classifier, corrected to a small margin; the system's answers choose the margin.

    A detector that compares two answers, such as those before and after purification, can only flag an image whose
    answer is confident. After a gradient attack on what the target model differentiates, each image is moved back
    towards the clean one until it is wrong by a small margin. Of these candidates, and the uncorrected image, the one
    that the system answered wrongly in most of ``draws`` noise draws is returned. Linf, L2 and L1, K >= 2 classes.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
    """

    class Params(rbmed.Params):
        steps: int = Field(60, ge=1, description="Gradients.")
        draws: int = Field(8, ge=1, description="Noise draws on which each candidate is judged.")

    def objective(self) -> Objective:
        """The margin, since candidates are chosen by it."""
        return untargeted("margin")

    def start(self, x: Tensor, threat: ThreatModel, rng: Stream) -> Tensor:
        """A random point on the rim of the ball."""
        return on_sphere(threat, x, rng)

    def step(self, state: State, steps: int) -> StepRule:
        """Steps that shrink."""
        return CosineStep(state, steps, 0.0, 0.5 * state.threat.eps, 0.02 * state.threat.eps)

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``; uncorrected where the budget does not allow to judge the corrections."""
        judged = -(-self.params.draws // model.draws) * model.draws
        more, queries = len(MARGINS) * (HALVINGS * model.draws + judged) + judged, budget.queries
        enough = queries is None or queries - more > 2 * model.draws
        if queries is not None and enough:
            budget = replace(budget, queries=queries - more)
        best = super().run(model, x, y, threat, budget, rng)
        if len(x) == 0 or not enough:
            return best
        rate = model.success_rate(best, y, self.params.draws)
        for candidate in self._corrected(model, x, y, best):
            found = model.success_rate(candidate, y, self.params.draws)
            better = per_image(found > rate, x)
            best, rate = torch.where(better, candidate, best), torch.maximum(found, rate)
        return best

    @torch.no_grad()
    def _corrected(self, model: TargetModel, x: Tensor, y: Tensor, wrong: Tensor) -> Tensor:
        """Images between ``x`` and ``wrong``, just beyond each of `MARGINS`: (len(MARGINS), N, C, H, W).

        Where ``wrong`` does not reach a margin, the candidate is ``wrong`` itself.
        """
        each, n = len(MARGINS), len(x)
        many = model.at(torch.arange(n, device=x.device).repeat(each))
        goal = torch.tensor(MARGINS, device=x.device).repeat_interleave(n)
        clean, move, labels = x.repeat(each, 1, 1, 1), (wrong - x).repeat(each, 1, 1, 1), y.repeat(each)
        low, high = torch.zeros_like(goal), torch.ones_like(goal)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            over = margin(many(clean + per_image(middle, x) * move), labels) > goal
            low, high = torch.where(over, low, middle), torch.where(over, middle, high)
        return (clean + per_image(high, x) * move).view(each, *x.shape)
