"""Fast Adaptive Boundary attack: steps to the linearised decision boundary, kept near the image (Croce & Hein 2020)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.budget import fit, look, too_small
from rbmed_attacks.giving_up import PerImage, Reach, looks, may_leave
from rbmed_attacks.gradient_attack import choose
from rbmed_attacks.gradients import differences
from rbmed_attacks.nearest import Nearest, nearest_plane
from rbmed_attacks.norms import length, to_plane
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel


class FAB(rbmed.Attack):
    """FAB and FAB-T: the smallest change of an image that crosses the boundary; Linf, L2 and L1, K >= 2 classes.

    Untargeted, a step needs the gradients of all K - 1 logit differences, one backward pass each; with ``targeted`` a
    run looks at one wrong class only, most likely first. It does not depend on the scale of the logits. Reference:
    Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020,
    arXiv:1907.02044.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
        UsageError: the target model gives no gradient.
    """

    class Params(rbmed.Params):
        """Parameters of FAB; the defaults are the published ones, with one restart."""

        targeted: bool = Field(False, description="FAB-T: attack one wrong class after the other, most likely first.")
        n_targets: int = Field(9, ge=1, description="Wrong classes tried if targeted; at most K - 1 exist.")
        steps: int = Field(100, ge=1, description="Steps per run.")
        restarts: int = Field(1, ge=1, description="Runs for each target; the first starts at the image itself.")
        alpha_max: float = Field(0.1, ge=0, le=1, description="Largest weight of the step that starts at the image.")
        eta: float = Field(1.05, ge=1, description="How far a step goes; 1 is the linearised boundary itself.")
        beta: float = Field(0.9, gt=0, lt=1, description="What is left of the change when a wrong image is moved back.")
        stop: Literal["auto", "never", "early"] = Field(
            "auto",
            description="auto: images broken within eps leave the batch where the model shows the deployed decision; "
            "never: every run is finished, and finds the nearest wrong image it can; early: as auto, and a run also "
            "ends for images that it would not break at twice their latest pace.",
        )

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``; see `rbmed_attacks.nearest.Nearest.result` for which ones."""
        p, x, stop = self.params, x.detach(), model.stop_on_success
        if len(x) == 0:
            return x.clone()
        logits = look(model, x, budget)
        found, rows = Nearest(threat, x, y, logits, stop and p.stop != "never"), torch.arange(len(x), device=x.device)
        ranked = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
        if p.targeted:
            ranked = ranked[:, : p.n_targets]
        elif budget.gradients is not None:  # A step with fewer classes is better than none.
            ranked = ranked[:, : max(budget.gradients // model.draws, 1)]
        runs, steps = self._plan(ranked.shape[1], budget, model.draws)
        for run in range(runs):
            if stop:
                # Narrowing the stream, rather than indexing the first one anew, keeps restarts different.
                left = (~found.within()[rows]).nonzero().squeeze(1)
                rows, rng = rows[left], rng[left]
            if len(rows) == 0:
                break
            column, restart = divmod(run, p.restarts) if p.targeted else (0, run)
            against = ranked[rows, column : column + 1] if p.targeted else ranked[rows]
            start = x[rows] if restart == 0 else _around(threat, x[rows], rng)
            self._run_once(model, start, rows, against, found, steps)
        return found.result(model, budget.queries is None or budget.queries >= model.draws * (2 + 2 * runs * steps))

    def _run_once(
        self, model: TargetModel, now: Tensor, rows: Tensor, against: Tensor, found: Nearest, steps: int
    ) -> None:
        """Move along the boundary from ``now``, variants of the images ``rows``; every point is stored in ``found``."""
        p, threat, stop = self.params, found.threat, model.stop_on_success
        seen, run = model.at(rows) if stop else model, _Nearing(threat.eps, now, steps)
        for number in range(steps):
            lost = run.lost(number) if p.stop == "early" else None
            if stop and p.stop != "never" and (lost is not None or may_leave(number, now.device)):
                leave = found.within()[rows] if lost is None else found.within()[rows] | lost
                stay = (~leave).nonzero().squeeze(1)
                if len(stay) == 0:
                    return
                if len(stay) < len(rows):
                    now, rows, against = now[stay], rows[stay], against[stay]
                    run.keep(stay)
                    seen = model.at(rows)
            x = found.x[rows]
            height, normal, _ = nearest_plane(threat, *differences(seen, now, found.y[rows], against))
            # Via the plane's offset, as in the published code: the detour costs digits, and its path is to be kept.
            here = (normal * now).flatten(1).sum(1)
            offset = here - height
            heights = torch.cat((here - offset, (normal * x).flatten(1).sum(1) - offset))
            both = torch.cat((now, x)).flatten(1), torch.cat((normal, normal)).flatten(1)
            steps_down = to_plane(threat.norm, *both, heights).view(2, *now.shape)
            near, far = (length(threat, step).clamp_min(1e-8) for step in steps_down)
            weight = (near / (near + far)).clamp(0, p.alpha_max)
            now = ((now + p.eta * steps_down[0]) * (1 - weight) + (x + p.eta * steps_down[1]) * weight).clamp(0, 1)
            with torch.no_grad():
                wrong = found.update(rows, now, seen(now))
            if p.stop == "early":
                run.update(wrong, length(threat, now - x).flatten())
            now = choose(wrong, x + (now - x) * p.beta, now)

    def _plan(self, classes: int, budget: Budget, draws: int) -> tuple[int, int]:
        """Runs and steps per run that the budget allows; runs are dropped from the end before steps are."""
        p, steps = self.params, self.params.steps
        runs, gradients = (p.restarts * classes, 1) if p.targeted else (p.restarts, classes)
        if budget.gradients is not None:
            runs, steps = fit(runs, steps, budget.gradients // (draws * gradients))
        if budget.queries is not None:
            runs, steps = fit(runs, steps, (budget.queries // draws - 1) // 2)
        if steps < 1:
            raise too_small(budget)
        return runs, steps


class _Nearing(PerImage):
    """The distances, (N,), of the nearest wrong images of one run, and which images are given up."""

    def __init__(self, eps: float, x: Tensor, steps: int) -> None:
        self.eps, self.steps = eps, steps
        self.distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        self.reach: Reach | None = None

    def update(self, wrong: Tensor, distance: Tensor) -> None:
        """Store the ``distance`` of the current points, of which some are ``wrong``."""
        self.distance = torch.where(wrong, torch.minimum(distance, self.distance), self.distance)

    def lost(self, done: int) -> Tensor | None:
        """bool (N,): images to give up before another step; the first steps, which find the boundary, do not count.

        None where it is not asked.
        """
        if done not in looks(self.steps, max(self.steps // 10, 10)):
            return None
        value = self.eps - self.distance
        if self.reach is None:
            self.reach = Reach(value, self.steps, done)
            return None
        return self.reach.lost(value, done)


def _around(threat: ThreatModel, x: Tensor, rng: Stream) -> Tensor:
    """Random images at half the distance eps, clamped to [0, 1]."""
    shape = tuple(x.shape)
    noise = (2 * rng.uniform(shape) - 1 if threat.norm == "linf" else rng.normal(shape)).to(x.dtype)
    return (x + threat.eps * noise / length(threat, noise).clamp_min(1e-12) * 0.5).clamp(0, 1)
