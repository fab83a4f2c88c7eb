"""Auto-PGD: gradient ascent with momentum whose step is halved when progress stalls (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import GradientAttack, State, StepRule, choose
from rbmed_attacks.losses import Loss, Objective, targeted, untargeted
from rbmed_attacks.norms import on_sphere, per_image, sparse_sign, steepest
from robustbench_med import Field, Stream, ThreatModel


class APGD(GradientAttack):
    """Auto-PGD, untargeted or against the most likely wrong classes in turn; Linf, L2 and L1, K >= 2 classes.

    With ``targeted`` each run is directed at one class. References: Croce & Hein, "Reliable
    evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", ICML 2020,
    arXiv:2003.01690; L1: Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
    ICML 2021, arXiv:2103.01208.

    Raises:
        BadParameter: ``dlr`` on fewer than 3 classes (targeted: 4).
        BudgetExceeded: the budget does not allow a single step.
    """

    class Params(rbmed.Params):
        """Parameters of Auto-PGD; the defaults are the published ones."""

        steps: int = Field(100, ge=1, description="Gradients per run; the step-size schedule scales with them.")
        restarts: int = Field(1, ge=1, description="Random starts, for each target if targeted.")
        loss: Loss = Field(
            "auto",
            description="What is maximised: ce, dlr (3 classes or more, targeted 4), margin, vote (the majority over "
            "noise draws); auto is margin for 2 classes and ce for more, if targeted margin for 2 or 3 classes and dlr "
            "for more.",
        )
        rho: float = Field(
            0.75, gt=0, lt=1, description="Halve the step if fewer than this share of steps helped; L1 does not use it."
        )
        targeted: bool = Field(False, description="Attack one wrong class after the other, most likely first.")
        n_targets: int = Field(9, ge=1, description="Wrong classes tried if targeted; at most K - 1 exist.")
        stop: Literal["auto", "never", "early"] = Field(
            "auto",
            description="auto: broken images leave the batch where the target model shows the deployed decision; "
            "never: every run is finished; early: as auto, and a run also ends for images that it would not break at "
            "twice their latest pace.",
        )

        @model_validator(mode="after")
        def _has_form(self) -> Self:
            if self.targeted and self.loss == "ce":
                raise ValueError("loss 'ce' has no targeted form; use 'dlr' (4 classes or more) or 'margin'")
            return self

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        p = self.params
        self.restarts, self.targets, self.finish = p.restarts, p.n_targets if p.targeted else 0, p.stop == "never"
        self.early = p.stop == "early"

    def objective(self) -> Objective:
        """The loss, in its targeted form if ``targeted``."""
        return targeted(self.params.loss) if self.params.targeted else untargeted(self.params.loss)

    def start(self, x: Tensor, threat: ThreatModel, rng: Stream) -> Tensor:
        """A random point on the rim of the ball."""
        return on_sphere(threat, x, rng)

    def step(self, state: State, steps: int) -> StepRule:
        """With momentum in Linf and L2, sparse in L1."""
        return SparseAutoStep(state, steps) if state.threat.norm == "l1" else AutoStep(state, steps, self.params.rho)


class AutoStep(StepRule):
    """Auto-PGD's step: momentum, and per image a step size that is halved at checkpoints.

    Checkpoints come after 22 % of the steps and then at intervals shorter by 3 % each, down to 6 %. At a checkpoint
    an image's step is halved, and it returns to its best point, if fewer than ``rho`` of the steps raised the loss,
    or if neither the step nor the best loss has changed since the last checkpoint.
    """

    def __init__(self, state: State, steps: int, rho: float) -> None:
        self.rho, self.since, self.first = rho, 0, True
        self.interval, self.shorter, self.shortest = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
        self.size = torch.full_like(state.loss, 2 * state.threat.eps, dtype=state.now.dtype)
        self.before, self.best_grad = state.now, state.grad
        self.rises, self.best_then = torch.zeros_like(state.loss), state.loss
        # The published code compares the first step with 0, not with the loss at the start; kept for exact parity.
        self.last_loss = torch.zeros_like(state.loss)
        self.halved = torch.ones_like(state.broken)

    def next(self, state: State) -> Tensor:
        """A projected gradient step, mixed with the last move."""
        now, keep = state.now, 1.0 if self.first else 0.75
        self.first = False
        # In place, since these passes over the images are most of what an attack does outside the model.
        step = state.project(steepest(state.threat, state.grad).mul_(per_image(self.size, now)).add_(now))
        step = step.sub_(now).mul_(keep).add_(now).add_((now - self.before).mul_(1 - keep))
        self.before = now
        return step

    def learn(self, state: State) -> None:
        """Count the steps that helped, and at a checkpoint halve the step of images that make no progress."""
        self.best_grad = choose(state.improved, state.grad, self.best_grad)
        self.rises = self.rises + (state.loss > self.last_loss)
        self.last_loss = state.loss
        self.since += 1
        if self.since < self.interval:
            return
        oscillates = self.rises <= self.since * self.rho
        stuck = ~self.halved & (self.best_then >= state.best_loss)
        self.halved, self.best_then = oscillates | stuck, state.best_loss
        self.size = torch.where(self.halved, self.size / 2, self.size)
        state.now = choose(self.halved, state.best, state.now)
        state.grad = choose(self.halved, self.best_grad, state.grad)
        self.rises = torch.zeros_like(self.rises)
        self.since, self.interval = 0, max(self.interval - self.shorter, self.shortest)


class SparseAutoStep(StepRule):
    """Auto-PGD's step in L1: the signs of the largest slopes, of a total length of eps at first.

    Every 4 % of the steps an image learns how many pixels its best point changes: two thirds of them take part in its
    next steps. If that number fell by 5 % or more, its step grows to eps again and it returns to its best point; else
    the step shrinks by 1.5, down to eps / 10.
    """

    def __init__(self, state: State, steps: int) -> None:
        self.interval, self.since = max(int(0.04 * steps), 1), 0
        self.size = torch.full_like(state.loss, state.threat.eps, dtype=state.now.dtype)
        self.share = torch.full_like(self.size, 0.2)
        self.changed = torch.full_like(self.size, state.now[0].numel())
        self.best_grad = state.grad

    def next(self, state: State) -> Tensor:
        """A sparse step."""
        return state.now + per_image(self.size, state.now) * sparse_sign(state.grad, self.share)

    def learn(self, state: State) -> None:
        """At a checkpoint, set how many pixels take part, and how far they go."""
        self.best_grad = choose(state.improved, state.grad, self.best_grad)
        self.since += 1
        if self.since < self.interval:
            return
        self.since, eps = 0, state.threat.eps
        changed = (state.best != state.x).flatten(1).sum(1).to(self.size.dtype)
        sparser = changed / self.changed < 0.95
        self.share, self.changed = changed / state.now[0].numel() / 1.5, changed
        self.size = torch.where(sparser, eps, (self.size / 1.5).clamp_min(eps / 10))
        state.now = choose(sparser, state.best, state.now)
        state.grad = choose(sparser, self.best_grad, state.grad)
