"""Steepest steps of one length: FGSM, PGD, the setting of Lee & Kim, and MI-FGSM."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.budget import too_small
from rbmed_attacks.gradient_attack import GradientAttack, State, StepRule, choose
from rbmed_attacks.gradients import differentiate
from rbmed_attacks.losses import untargeted
from rbmed_attacks.norms import in_ball, per_image, project, steepest
from robustbench_med import Budget, Field, Number, Stream, TargetModel, ThreatModel

Length = Annotated[Number, Field(gt=0, allow_inf_nan=False)]


class PGD(GradientAttack):
    """Projected gradient descent with a fixed step; Linf, L2 and L1, K >= 2 classes.

    The random start is uniform in the ball. Unlike the first version of 2018, which returned the last iterate, it
    returns a broken image where it broke and any other at its highest loss. Reference: Madry
    et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, arXiv:1706.06083.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
    """

    class Params(rbmed.Params):
        steps: int = Field(10, ge=1, description="Gradients per run.")
        step_size: Length | None = Field(
            None,
            description="Length of a step in pixel values of [0, 1], such as 1/255; default 2.5 eps/steps.",
        )
        random_start: bool = Field(True, description="Start at a random point of the ball, not at the image.")
        restarts: int = Field(1, ge=1, description="Random starts.")
        loss: Literal["auto", "ce", "bce", "margin", "vote"] = Field(
            "auto",
            description="What is maximised: ce, margin, vote (of the noise draws); auto is margin for 2 classes and ce "
            "for more.",
        )

        @model_validator(mode="after")
        def _restarts_differ(self) -> Self:
            if self.restarts > 1 and not self.random_start:
                raise ValueError("restarts > 1 need random_start=true, or every run would be the same")
            return self

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.restarts = self.params.restarts

    def start(self, x: Tensor, threat: ThreatModel, rng: Stream) -> Tensor:
        """A random point of the ball, or the image."""
        return in_ball(threat, x, rng) if self.params.random_start else x

    def step(self, state: State, steps: int) -> StepRule:
        """Steps of ``step_size``."""
        return FixedStep(self.params.step_size or 2.5 * state.threat.eps / steps)


class LeeKim(GradientAttack):
    """PGD with EOT as Lee & Kim run it on purifiers: 200 steps of 0.007 at eps 8/255, 20 noise draws, from the image.

    For another eps the step is that share of it, 0.223 eps. In L2 the published code steps along the sign, this one
    along the gradient. Like `PGD` it returns the iterate at the highest loss. Reference: Lee & Kim, "Robust evaluation
    of diffusion-based adversarial purification", ICCV 2023, arXiv:2303.09051.

    Attributes:
        eot: noise draws to average where the target model is random.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
    """

    eot: int | None = 20

    class Params(rbmed.Params):
        steps: int = Field(200, ge=1, description="Gradients.")
        loss: Literal["auto", "ce", "bce", "margin", "vote"] = Field(
            "auto", description="What is maximised; auto is the published ce, but margin for 2 classes."
        )

    def step(self, state: State, steps: int) -> StepRule:
        """The published share of eps, whatever the number of steps."""
        return FixedStep(0.007 / (8 / 255) * state.threat.eps)


class FixedStep(StepRule):
    """Steepest steps of one length."""

    def __init__(self, size: float) -> None:
        self.size = size

    def next(self, state: State) -> Tensor:
        """One step up."""
        return state.now + self.size * steepest(state.threat, state.grad)


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
