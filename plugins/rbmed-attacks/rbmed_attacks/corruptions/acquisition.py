"""Worst-case acquisition: artefacts of an MRI scan whose parameters are chosen by an adversary."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.corruptions.physics import ARTEFACTS, BY_NAME, acquire, lowest
from robustbench_med import Attack, Budget, Stream, TargetModel, ThreatModel, margin
from robustbench_med.errors import BudgetExceeded


class AcquisitionParams(rbmed.Params):
    """The artefacts, their limits and the search."""

    physics: str = Field(
        "all", description=f"Artefacts, joined by +: {', '.join(BY_NAME)}; all: every one of them at once."
    )
    share: rbmed.Number = Field(1.0, gt=0, le=1, description="Share of the physical limits; the eps of the record.")
    steps: int = Field(20, ge=0, description="Gradients of each start; 0: the starts themselves, chosen at random.")
    restarts: int = Field(4, ge=1, description="Random starts; the one with the highest loss is kept.")
    start: Literal["limit", "inside"] = Field(
        "limit", description="Starts: limit (every parameter at its smallest or largest value) or inside (uniform)."
    )
    step_size: float = Field(0.25, gt=0, le=2, description="Length of the first step for each parameter in [-1, 1].")

    @field_validator("physics")
    @classmethod
    def _known(cls, text: str) -> str:
        names = text.split("+")
        if text != "all" and (unknown := [name for name in names if name not in BY_NAME]):
            raise ValueError(f"unknown artefact {unknown[0]!r}; valid: all, {', '.join(BY_NAME)}, joined by +")
        if len(set(names)) < len(names):
            raise ValueError("each artefact once")
        return text


class Acquisition(Attack):
    """Ascends the loss in the parameters of the artefacts, by the sign of the gradient, with steps that shrink.

    The parameters stay inside their physical limits, so that each image is one that the scanner could have made under
    this model of it. It is no attack in a norm: the change may be large in every pixel. It sees the target model as any
    other attack does, through the whole pipeline on the rung `full`. With ``steps=0`` it is a control: random artefacts
    of the same severity, ``restarts=1`` for the average case.
    """

    Params = AcquisitionParams

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        p = self.params
        self.own_threat = ("acquisition", float(p.share))
        if p.steps == 0:
            self.access = "none" if p.restarts == 1 else "scores"
        self.artefacts = tuple(a for a in ARTEFACTS if p.physics == "all" or a.name in p.physics.split("+"))

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Images with the worst artefacts found."""
        p, low = self.params, lowest(self.artefacts, x)
        best, height = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        if len(x) == 0:
            return best
        allowed = self._allowed(model, budget)
        for number in range(p.restarts):
            streams = rng.moment(number)
            noise, places = streams.normal(tuple(x.shape)).to(x), streams.uniform((len(x), len(low))).to(x)
            u = low + (1 - low) * (places.round() if p.start == "limit" else places)
            for step in range(p.steps + 1):
                asks = p.steps > 0 or p.restarts > 1
                if asks and allowed is not None and allowed <= 0:
                    return best
                last = step == p.steps
                u = u.detach().requires_grad_(not last)
                made = acquire(x, u, self.artefacts, threat.eps, noise).clamp(0, 1)
                if not asks:
                    return made.detach()
                with torch.set_grad_enabled(not last):
                    loss = margin(model.each(made), y).mean(1)
                allowed = None if allowed is None else allowed - 1
                better = loss.detach() > height
                best = torch.where(better[:, None, None, None], made.detach(), best)
                height = torch.where(better, loss.detach(), height)
                if last:
                    break
                (slope,) = torch.autograd.grad(loss.sum(), u)
                size = p.step_size * 0.5 ** (4 * step / max(1, p.steps))
                u = torch.maximum(u.detach() + size * slope.nan_to_num().sign(), low).clamp_max(1)
        return best

    def _allowed(self, model: TargetModel, budget: Budget) -> int | None:
        """Calls of the target model that the budget allows; each draw counts.

        Raises:
            BudgetExceeded: not one.
        """
        limits = [most for most in (budget.gradients, budget.queries) if most is not None]
        if not limits or self.access == "none":
            return None
        calls = min(limits) // model.draws
        if calls < 1:
            raise BudgetExceeded("the budget does not allow one gradient step")
        return calls
