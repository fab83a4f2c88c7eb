"""The loop that all iterative gradient attacks share; an attack adds its start, its loss and its step.

Everything in the loop is a tensor over the images that are still attacked; the only value read back from the device
is, every few steps where broken images leave, which of them remain.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.budget import fit, look, too_small
from rbmed_attacks.giving_up import PerImage, Reach, lags, looks, may_leave
from rbmed_attacks.gradients import differentiate, forward
from rbmed_attacks.losses import Objective, level, untargeted
from rbmed_attacks.norms import per_image, project
from robustbench_med import Budget, Stream, TargetModel, ThreatModel, margin


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Per image: ``yes`` where the mask (N,) holds, else ``no``; it may be one of them, not a copy."""
    # On the CPU reading the mask costs nothing, and most masks hold nowhere; a compiled step cannot branch on values.
    if mask.device.type == "cpu" and not torch.compiler.is_compiling():
        if not mask.any():
            return no
        if mask.all():
            return yes
    return torch.where(per_image(mask, yes), yes, no)


class GradientAttack(rbmed.Attack):
    """Gradient ascent from a start inside the ball, restarted, and directed at one wrong class after the other.

    A subclass has the parameters ``steps`` (gradients per run, >= 1) and ``loss``, and defines `step`.

    Attributes:
        restarts: runs per target class, >= 1.
        targets: wrong classes attacked in turn, most likely first; 0 for an untargeted loss.
        finish: broken images stay in the batch until their run ends.
        early: where broken images leave the batch, so do those that will not be broken in this run, see
            `rbmed_attacks.giving_up`.
        warm: the first run begins at the worst images that earlier attacks have found, where there are any.
        keep_last: of a target model that draws noise the last iterate is returned: the highest loss there was may have
            been the draws of a lucky moment.
    """

    restarts = 1
    targets = 0
    finish = False
    early = False
    warm = False
    keep_last = False

    def objective(self) -> Objective:
        """The loss that is maximised."""
        return untargeted(self.params.loss)

    def start(self, x: Tensor, threat: ThreatModel, rng: Stream) -> Tensor:
        """The first iterates of a run, like the clean images ``x``, which they are by default."""
        return x

    def also(self, model: TargetModel, y: Tensor) -> Callable[[Tensor], Tensor] | None:
        """A second term of the loss: a function from images (N, C, H, W) to values (N,); None, as is usual: none."""
        return None

    @abstractmethod
    def step(self, state: State, steps: int) -> StepRule:
        """The step of a run of ``steps`` steps, whose start was evaluated in ``state``."""

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``.

        Where the model stops on success, an image that is wrong from the outset is returned as it is, a broken one
        as it was when it broke (with ``finish``: as it last was broken), and no later run touches either. Every other
        image is returned at its highest loss over all runs; runs with different targets are compared by the margin.

        Raises:
            BudgetExceeded: the budget does not allow a single step.
        """
        x, stop = x.detach(), model.stop_on_success
        best, score = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        if len(x) == 0:
            return best
        rows, ranked = torch.arange(len(x), device=x.device), y[:, None]
        first_look = stop or self.targets > 0
        if first_look:
            logits = look(model, x)
            if self.targets:
                wrong = logits.scatter(1, y[:, None], -torch.inf)
                ranked = wrong.topk(min(self.targets, logits.shape[1] - 1), dim=1).indices
            if stop:
                rows = (logits.argmax(1) == y).nonzero().squeeze(1)
                rng = rng[rows]
        runs, steps = self._plan(ranked.shape[1], budget, int(first_look), model.draws)
        for run in range(runs):
            if len(rows) == 0:
                break
            part, target = model.at(rows) if stop else model, ranked[rows, run // self.restarts]
            warm = part.start if self.warm and run == 0 else None
            begin = self.start(x[rows], threat, rng) if warm is None else warm
            found = self.run_once(part, x[rows], y[rows], target, threat, steps, begin)
            value = (margin(found.best_logits, y[rows]) if self.targets else found.best_loss).to(score.dtype)
            better = value > score[rows]
            if stop:
                best[rows] = choose(found.broken, found.wrong, choose(better, found.best, best[rows]))
                score[rows] = torch.where(better, value, score[rows])
                left = (~found.broken).nonzero().squeeze(1)
                # Narrowing the stream, rather than indexing the first one anew, keeps restarts different.
                rows, rng = rows[left], rng[left]
            else:
                best, score = choose(better, found.best, best), torch.where(better, value, score)
        return best

    def run_once(
        self, model: TargetModel, x: Tensor, y: Tensor, target: Tensor, threat: ThreatModel, steps: int, begin: Tensor
    ) -> Found:
        """One run of ``steps`` >= 1 steps from the images ``begin``: ``steps`` gradients and one more forward pass.

        The target model may answer differently at each call: loss, logits and gradient of an iterate come from the
        same pass, and no iterate is evaluated twice. Where the model stops on success, and unless ``finish``, an image
        leaves the batch after its first wrong answer, which is its result; with ``early`` also when it is given up.
        """
        objective, part, leave = self.objective(), model, model.stop_on_success and not self.finish
        state = State(threat, x, y, target, begin, self.keep_last and model.random, leave and lags(x.device))

        def loss_of(draws: Tensor) -> Tensor:
            return objective(draws, state.y, state.target)

        state.begin(*differentiate(model, state.now, loss_of, self.also(model, y)))
        step, found = self.step(state, steps), Found.of(state)
        if leave and self.early:
            state.reach = Reach(level(self.params.loss, state.best_loss, self.targets == 0, state.classes), steps)
        for number in range(1, steps + 1):
            if leave and (may_leave(number - 1, x.device) or state.lost is not None):
                stay = (~state.broken if state.lost is None else ~(state.broken | state.lost)).nonzero().squeeze(1)
                state.lost = None
                if len(stay) < len(state.rows):
                    found.store(state)
                    if len(stay) == 0:
                        return found
                    state.keep(stay)
                    step.keep(stay)
                    part = model.at(state.rows)
            state.now = state.project(step.next(state))
            if number == steps:  # No step follows the last iterate, so it needs no gradient.
                state.update(*forward(part, state.now, loss_of, self.also(part, state.y)))
            else:
                logits, loss, state.grad = differentiate(part, state.now, loss_of, self.also(part, state.y))
                state.update(logits, loss)
                step.learn(state)
                if state.reach is not None and number in looks(steps, max(steps // 10, 10)):
                    now = level(self.params.loss, state.best_loss, self.targets == 0, state.classes)
                    state.lost = state.reach.lost(now, number)
        found.store(state)
        return found

    def _plan(self, targets: int, budget: Budget, spent: int, draws: int) -> tuple[int, int]:
        """Runs, and steps of each run, that the budget allows after ``spent`` queries of the clean images.

        A run of full length is worth more than several short ones, since its schedule needs the steps; hence runs are
        dropped from the end first, and shortened only when not even one fits. A budget counts noise draws; one call of
        the target model spends ``draws`` of them.
        """
        runs, steps = self.restarts * targets, int(self.params.steps)
        if budget.gradients is not None:
            runs, steps = fit(runs, steps, budget.gradients // draws)
        if budget.queries is not None:
            runs, steps = fit(runs, steps, budget.queries // draws - spent, extra=1)
        if steps < 1:
            raise too_small(budget)
        return runs, steps


class State(PerImage):
    """The images still in a run.

    Attributes:
        threat: norm and eps.
        rows: the images' places in the batch with which the run began, int64 (M,).
        x, y, target: clean images, true classes, and the classes that a targeted loss is directed at.
        now, loss, grad: the current iterate, (M, C, H, W), its loss, (M,), and gradient.
        reach, lost: follows what images may still reach, and bool (M,), those given up; None where none is.
        improved: bool (M,), the current iterate has the highest loss so far; with ``keep_last`` always.
        best, best_loss, best_logits, wrong, broken: as in `Found`; with ``first`` the ``wrong`` one is the first.
    """

    def __init__(
        self,
        threat: ThreatModel,
        x: Tensor,
        y: Tensor,
        target: Tensor,
        now: Tensor,
        keep_last: bool = False,
        first: bool = False,
    ) -> None:
        self.threat, self.rows, self.keep_last = threat, torch.arange(len(x), device=x.device), keep_last
        self.x, self.y, self.target, self.now, self.first = x, y, target, now, first
        self.reach: Reach | None = None
        self.lost: Tensor | None = None
        if threat.norm == "linf":
            self.low, self.high = (x - threat.eps).clamp_(0, 1), (x + threat.eps).clamp_(0, 1)

    @property
    def classes(self) -> int:
        """How many classes the target model has."""
        return self.best_logits.shape[1]

    def begin(self, logits: Tensor, loss: Tensor, grad: Tensor) -> None:
        """Store the target model's answer to the start."""
        self.loss, self.grad = loss, grad
        self.best, self.best_loss, self.best_logits, self.wrong = self.now, loss, logits, self.now
        self.broken = logits.argmax(1) != self.y
        self.improved = torch.ones_like(self.broken)

    def update(self, logits: Tensor, loss: Tensor) -> None:
        """Store the target model's answer to the current iterate."""
        wrong = logits.argmax(1) != self.y
        self.wrong = choose(wrong & ~self.broken if self.first else wrong, self.now, self.wrong)
        self.broken = self.broken | wrong
        self.loss, self.improved = loss, loss > self.best_loss
        if self.keep_last:
            self.improved = torch.ones_like(self.improved)
        self.best = choose(self.improved, self.now, self.best)
        self.best_loss = choose(self.improved, loss, self.best_loss)
        self.best_logits = choose(self.improved, logits, self.best_logits)

    def project(self, v: Tensor) -> Tensor:
        """As `rbmed_attacks.norms.project`; in Linf in place, with each pixel's bounds computed once per run."""
        return v.clamp_(self.low, self.high) if self.threat.norm == "linf" else project(self.threat, v, self.x)


class StepRule(PerImage, ABC):
    """The step of an attack. Tensors it holds per image are narrowed when images leave."""

    @abstractmethod
    def next(self, state: State) -> Tensor:
        """The next iterate before projection, a new tensor, from ``state.now`` and ``state.grad``."""

    def learn(self, state: State) -> None:
        """Called after the new iterate was evaluated; may change ``state.now`` and ``state.grad``."""


@dataclass
class Found:
    """What a run found for each image.

    Attributes:
        best: the image at the highest loss, (N, C, H, W).
        best_loss: that loss, (N,).
        best_logits: the target model's logits there, (N, K).
        wrong: the latest iterate with a wrong answer; the start where there was none.
        broken: bool (N,), some iterate had a wrong answer.
    """

    best: Tensor
    best_loss: Tensor
    best_logits: Tensor
    wrong: Tensor
    broken: Tensor

    @classmethod
    def of(cls, state: State) -> Found:
        """A copy of what ``state`` holds."""
        return cls(*(getattr(state, field.name).clone() for field in fields(cls)))

    def store(self, state: State) -> None:
        """Write the images still in the run to their places."""
        for field in fields(self):
            getattr(self, field.name)[state.rows] = getattr(state, field.name)
