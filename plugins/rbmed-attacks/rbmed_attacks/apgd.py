"""Auto-PGD: gradient ascent with momentum whose step is halved when progress stalls (Croce & Hein, ICML 2020)."""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import Mover, State, choose
from rbmed_attacks.losses import Loss, targeted, untargeted
from rbmed_attacks.norms import Ball, sparse_sign
from rbmed_attacks.search import Search
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel


class APGD(rbmed.Attack):
    """Auto-PGD, untargeted or against the most likely wrong classes in turn; Linf, L2 and L1, K >= 2 classes.

    With ``targeted`` each run climbs towards one class, most likely first. References: Croce & Hein, "Reliable
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
        stop: Literal["auto", "never"] = Field(
            "auto",
            description="auto: broken images leave the batch where the target model shows the deployed decision; "
            "never: every run is finished.",
        )

        @model_validator(mode="after")
        def _has_form(self) -> Self:
            if self.targeted and self.loss == "ce":
                raise ValueError("loss 'ce' has no targeted form; use 'dlr' (4 classes or more) or 'margin'")
            return self

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``; see `rbmed_attacks.search.Search.run` for which ones."""
        p, ball = self.params, Ball.of(threat)
        return Search(
            objective=targeted(p.loss) if p.targeted else untargeted(p.loss),
            start=ball.on_sphere,
            mover=lambda steps: Sparse(ball, steps) if ball.norm == "l1" else Momentum(ball, steps, p.rho),
            steps=p.steps,
            restarts=p.restarts,
            targets=p.n_targets if p.targeted else 0,
            finish=p.stop == "never",
        ).run(model, x, y, budget, rng)


class Momentum(Mover):
    """Auto-PGD's step: momentum, and per image a step size that is halved at checkpoints.

    Checkpoints come after 22 % of the steps and then at intervals shorter by 3 % each, down to 6 %. At a checkpoint
    an image's step is halved, and it returns to its best point, if fewer than ``rho`` of the steps raised the loss,
    or if neither the step nor the best loss has changed since the last checkpoint.
    """

    def __init__(self, ball: Ball, steps: int, rho: float) -> None:
        self.ball, self.rho = ball, rho
        self.interval = max(int(0.22 * steps), 1)
        self.shorter = max(int(0.03 * steps), 1)
        self.shortest = max(int(0.06 * steps), 1)
        self.since = 0
        self.first = True

    def begin(self, state: State) -> None:
        """Start with steps of 2 eps."""
        loss = state.loss
        self.size = torch.full_like(loss, 2 * self.ball.eps, dtype=state.now.dtype)
        self.before, self.best_grad = state.now, state.grad
        if self.ball.norm == "linf":
            self.low, self.high = (state.x - self.ball.eps).clamp_(0, 1), (state.x + self.ball.eps).clamp_(0, 1)
        self.rises, self.best_then = torch.zeros_like(loss), loss
        # The published code compares the first step with 0, not with the loss at the start; kept for exact parity.
        self.last_loss = torch.zeros_like(loss)
        self.halved = torch.ones_like(state.broken)

    def move(self, state: State) -> Tensor:
        """A projected gradient step, mixed with the last move, projected again."""
        now, x, ball = state.now, state.x, self.ball
        keep = 1.0 if self.first else 0.75
        self.first = False
        size = self.size.view(-1, *[1] * (now.dim() - 1))
        # In place, since these passes over the images are most of what an attack does outside the model.
        step = self._project(ball.steepest(state.grad).mul_(size).add_(now), x)
        step = step.sub_(now).mul_(keep).add_(now).add_((now - self.before).mul_(1 - keep))
        self.before = now
        return self._project(step, x)

    def _project(self, v: Tensor, x: Tensor) -> Tensor:
        """As `Ball.project`, in place in Linf, where the ends of each pixel's interval are kept."""
        return v.clamp_(self.low, self.high) if self.ball.norm == "linf" else self.ball.project(v, x)

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


class Sparse(Mover):
    """Auto-PGD's step in L1: the signs of the largest slopes, of a total length of eps at first.

    Every 4 % of the steps an image learns how many pixels its best point changes: two thirds of them take part in its
    next steps. If that number fell by 5 % or more, its step grows to eps again and it returns to its best point; else
    the step shrinks by 1.5, down to eps / 10.
    """

    def __init__(self, ball: Ball, steps: int) -> None:
        self.ball = ball
        self.interval = max(int(0.04 * steps), 1)
        self.since = 0

    def begin(self, state: State) -> None:
        """Start with steps of eps, shared by a fifth of the pixels."""
        self.size = torch.full_like(state.loss, self.ball.eps, dtype=state.now.dtype)
        self.share = torch.full_like(self.size, 0.2)
        self.changed = torch.full_like(self.size, state.now[0].numel())
        self.best_grad = state.grad

    def move(self, state: State) -> Tensor:
        """A projected sparse step."""
        size = self.size.view(-1, *[1] * (state.now.dim() - 1))
        return self.ball.project(state.now + size * sparse_sign(state.grad, self.share), state.x)

    def learn(self, state: State) -> None:
        """At a checkpoint, set how many pixels take part, and how far they go."""
        self.best_grad = choose(state.improved, state.grad, self.best_grad)
        self.since += 1
        if self.since < self.interval:
            return
        self.since = 0
        changed = (state.best != state.x).flatten(1).sum(1).to(self.size.dtype)
        sparser = changed / self.changed < 0.95
        self.share, self.changed = changed / state.now[0].numel() / 1.5, changed
        self.size = torch.where(sparser, self.ball.eps, (self.size / 1.5).clamp_min(self.ball.eps / 10))
        state.now = choose(sparser, state.best, state.now)
        state.grad = choose(sparser, self.best_grad, state.grad)
