"""Runs of a gradient attack over restarts and target classes, and what is returned of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rbmed_attacks.gradient_attack import Mover, ascend, choose
from rbmed_attacks.losses import Objective, margin
from robustbench_med import Budget, Stream, TargetModel
from robustbench_med.errors import BudgetExceeded


@dataclass(frozen=True)
class Search:
    """What an attack wants done; `run` does as much of it as the budget allows.

    Attributes:
        objective: what is climbed.
        start: the first iterates, from clean images and a stream.
        mover: builds the mover of a run of that many steps.
        steps: gradients per run, >= 1.
        restarts: runs per target, >= 1.
        targets: wrong classes tried in turn, most likely first; 0 means an untargeted objective.
        finish: broken images stay in the batch until their run ends.
    """

    objective: Objective
    start: Callable[[Tensor, Stream], Tensor]
    mover: Callable[[int], Mover]
    steps: int
    restarts: int = 1
    targets: int = 0
    finish: bool = False

    def run(self, model: TargetModel, x: Tensor, y: Tensor, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``.

        Where the model stops on success, an image that is wrong from the outset is returned as it is, a broken one
        as it was when it broke (with ``finish``: as it last was broken), and no later run touches either. Every other
        image is returned at its highest loss over all runs; runs with different targets are compared by the margin.

        Raises:
            BudgetExceeded: the budget does not allow a single step.
        """
        x, stop = x.detach(), model.stop_on_success
        best, score = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        rows, ranked = torch.arange(len(x), device=x.device), y[:, None]
        looks = stop or self.targets > 0
        if len(x) == 0:
            return best
        if looks:
            with torch.no_grad():
                logits = model(x)
            if self.targets:
                ranked = _most_likely_wrong(logits, y, self.targets)
            if stop:
                rows = (logits.argmax(1) == y).nonzero().squeeze(1)
                rng = rng[rows]
        for column, steps in self._runs(ranked.shape[1], budget, int(looks), model.draws):
            if len(rows) == 0:
                break
            part = x[rows]
            found = ascend(
                model.at(rows) if stop else model,
                part,
                y[rows],
                ranked[rows, column],
                self.start(part, rng),
                self.objective,
                self.mover(steps),
                steps,
                leave=stop and not self.finish,
            )
            now = (margin(found.logits, y[rows]) if self.targets else found.loss).to(score.dtype)
            better = now > score[rows]
            if stop:
                # Narrowing the stream, rather than indexing the first one anew, keeps restarts different.
                best[rows] = choose(found.broken, found.wrong, choose(better, found.best, best[rows]))
                score[rows] = torch.where(better, now, score[rows])
                left = (~found.broken).nonzero().squeeze(1)
                rows, rng = rows[left], rng[left]
            else:
                best, score = choose(better, found.best, best), torch.where(better, now, score)
        return best

    def _runs(self, targets: int, budget: Budget, looks: int, draws: int) -> Iterator[tuple[int, int]]:
        """(target column, steps) of each run that the budget allows.

        A run of full length is worth more than several short ones, since its schedule needs the steps; hence runs are
        dropped from the end first, and shortened only when not even one fits. A budget counts noise draws; one call of
        the target model spends ``draws`` of them.
        """
        runs, steps = self.restarts * targets, self.steps
        if budget.gradients is not None:
            runs, steps = _fit(runs, steps, budget.gradients // draws, 0)
        if budget.queries is not None:
            runs, steps = _fit(runs, steps, budget.queries // draws - looks, 1)
        if steps < 1:
            raise BudgetExceeded(f"the budget of {budget} does not allow one gradient step per image")
        for run in range(runs):
            yield run // self.restarts, steps


def _fit(runs: int, steps: int, limit: int, extra: int) -> tuple[int, int]:
    """How many runs of how many steps, ``steps + extra`` passes each, stay within ``limit`` passes."""
    runs = max(1, min(runs, limit // (steps + extra)))
    return runs, min(steps, limit // runs - extra)


def _most_likely_wrong(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """The ``count`` most likely wrong classes, at most K - 1, most likely first: int64 (N, min(count, K - 1))."""
    wrong = logits.scatter(1, y[:, None], -torch.inf)
    return wrong.topk(min(count, logits.shape[1] - 1), dim=1).indices
