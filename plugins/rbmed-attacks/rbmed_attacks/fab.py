"""Fast Adaptive Boundary attack: steps to the linearised decision boundary, kept near the image (Croce & Hein 2020)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.gradient_attack import choose
from rbmed_attacks.losses import margin
from rbmed_attacks.norms import Ball, to_plane
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel
from robustbench_med.errors import BudgetExceeded, UsageError


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
        beta: float = Field(0.9, gt=0, lt=1, description="What is left of the change when a wrong image is drawn back.")
        stop: Literal["auto", "never"] = Field(
            "auto",
            description="auto: images broken within eps leave the batch where the model shows the deployed decision; "
            "never: every run is finished, and finds the nearest wrong image it can.",
        )

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``; see `Nearest.offer` for which ones."""
        p, x, stop = self.params, x.detach(), model.stop_on_success
        if len(x) == 0:
            return x.clone()
        logits = look(model, x, budget)
        met, rows = Nearest(Ball.of(threat), x, y, logits), torch.arange(len(x), device=x.device)
        ranked = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
        if p.targeted:
            ranked = ranked[:, : p.n_targets]
        elif budget.gradients is not None:  # Rather a step that looks at fewer classes than none.
            ranked = ranked[:, : max(budget.gradients // model.draws, 1)]
        runs, steps = self._plan(ranked.shape[1], budget, model.draws)
        for run in range(runs):
            if stop:
                # Narrowing the stream, rather than indexing the first one anew, keeps restarts different.
                left = (~met.within()[rows]).nonzero().squeeze(1)
                rows, rng = rows[left], rng[left]
            if len(rows) == 0:
                break
            column, restart = divmod(run, p.restarts) if p.targeted else (0, run)
            against = ranked[rows, column : column + 1] if p.targeted else ranked[rows]
            start = x[rows] if restart == 0 else _around(met.ball, x[rows], rng)
            self._walk(model, start, rows, against, met, steps)
        return met.offer(model, budget.queries is None or budget.queries >= model.draws * (2 + 2 * runs * steps))

    def _walk(self, model: TargetModel, now: Tensor, rows: Tensor, against: Tensor, met: Nearest, steps: int) -> None:
        """Walk along the boundary from ``now``, variants of the images ``rows``, and tell ``met`` of every point."""
        p, ball, stop = self.params, met.ball, model.stop_on_success
        seen = model.at(rows) if stop else model
        for _ in range(steps):
            if stop and p.stop == "auto":
                stay = (~met.within()[rows]).nonzero().squeeze(1)
                if len(stay) == 0:
                    return
                if len(stay) < len(rows):
                    now, rows, against = now[stay], rows[stay], against[stay]
                    seen = model.at(rows)
            x = met.x[rows]
            height, normal, _ = nearest_plane(ball, *differences(seen, now, met.y[rows], against))
            # Via the plane's offset, as in the published code: the detour costs digits, and its path is to be kept.
            here = (normal * now).flatten(1).sum(1)
            offset = here - height
            heights = torch.cat((here - offset, (normal * x).flatten(1).sum(1) - offset))
            both = torch.cat((now, x)).flatten(1), torch.cat((normal, normal)).flatten(1)
            steps_down = to_plane(ball.norm, *both, heights).view(2, *now.shape)
            near, far = (ball.length(step).clamp_min(1e-8) for step in steps_down)
            weight = (near / (near + far)).clamp(0, p.alpha_max)
            now = ((now + p.eta * steps_down[0]) * (1 - weight) + (x + p.eta * steps_down[1]) * weight).clamp(0, 1)
            with torch.no_grad():
                wrong = met.take(rows, now, seen(now))
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
            raise BudgetExceeded(f"the budget of {budget} does not allow one gradient step per image")
        return runs, steps


class Nearest:
    """What a search for the smallest change has met, for each of N images.

    Attributes:
        ball, x, y: the threat, the clean images and their labels.
        image: the nearest wrong image, (N, C, H, W); the last one seen where none was wrong.
        distance: its distance, (N,); infinite where none was wrong.
        inside: the image of the ball with the largest margin, (N, C, H, W), and that ``margin``, (N,).
    """

    def __init__(self, ball: Ball, x: Tensor, y: Tensor, logits: Tensor) -> None:
        self.ball, self.x, self.y = ball, x, y
        self.image, self.inside, self.margin = x.clone(), x.clone(), margin(logits, y)
        self.distance = torch.zeros_like(self.margin).masked_fill_(logits.argmax(1) == y, torch.inf)

    def within(self) -> Tensor:
        """bool (N,): a wrong image was met inside the ball."""
        return self.distance <= self.ball.eps

    def take(self, rows: Tensor, images: Tensor, logits: Tensor) -> Tensor:
        """Take in what the model says of ``images``, variants of the clean images ``rows``: bool, which are wrong."""
        y, distance, before = self.y[rows], self.ball.length(images - self.x[rows]).flatten(), self.distance[rows]
        wrong, value = logits.argmax(1) != y, margin(logits, y)
        closer = wrong & (distance < before)
        self.image[rows] = choose(closer | before.isinf(), images, self.image[rows])
        self.distance[rows] = torch.where(closer, distance, before)
        higher = (value > self.margin[rows]) & (distance <= self.ball.eps)
        self.inside[rows] = choose(higher, images, self.inside[rows])
        self.margin[rows] = torch.where(higher, value, self.margin[rows])
        return wrong

    def offer(self, model: TargetModel, ask: bool) -> Tensor:
        """An image of the ball for each clean one.

        Where the model stops on success: the nearest wrong image, brought into the ball if it lies outside. Elsewhere
        a small margin is easily lost, so it is the image with the largest margin that was met inside, or, if ``ask``
        allows one more query, the nearest wrong image moved away to the rim of the ball, if its margin is larger.
        """
        if model.stop_on_success:
            return choose(self.within(), self.image, self.ball.project(self.image, self.x))
        if not ask:
            return self.inside
        far = (self.ball.eps / self.distance.clamp_min(1e-12)).clamp_min(1).view(-1, *[1] * (self.x.dim() - 1))
        rim = self.ball.project(self.x + (self.image - self.x) * far, self.x)
        with torch.no_grad():
            value = margin(model(rim), self.y)
        return choose(value > self.margin, rim, self.inside)


def look(model: TargetModel, x: Tensor, budget: Budget) -> Tensor:
    """The logits (N, K) of the clean images, which cost one query.

    Raises:
        BudgetExceeded: the budget does not allow it.
    """
    if budget.queries is not None and budget.queries < model.draws:
        raise BudgetExceeded(f"the budget of {budget} does not allow one query per image")
    with torch.no_grad():
        logits: Tensor = model(x)
        return logits


def fit(runs: int, steps: int, limit: int) -> tuple[int, int]:
    """How many runs of how many steps stay within ``limit`` steps: runs are dropped before steps are."""
    runs = max(1, min(runs, limit // max(steps, 1)))
    return runs, min(steps, limit // runs)


def differences(model: TargetModel, x: Tensor, y: Tensor, against: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the classes ``against``, (N, M), minus the true one, and their gradients, (N, M, C, H, W)."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        gaps = logits.gather(1, against) - logits.gather(1, y[:, None])
    last, gradients = against.shape[1] - 1, []
    for column in range(last + 1):
        gap, gradient = gaps[:, column].sum(), None
        if gap.requires_grad:
            gradient = torch.autograd.grad(gap, x, retain_graph=column < last, allow_unused=True)[0]
        if gradient is None:
            raise UsageError(
                "the target model gives no gradient to the images; use an attack that needs scores or decisions"
            )
        gradients.append(gradient.nan_to_num_(0, 0, 0))
    return gaps.detach(), torch.stack(gradients, 1)


def nearest_plane(ball: Ball, gaps: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of M linearised boundaries, the nearest one's value (N,), gradient (N, C, H, W) and index (N,)."""
    flat = gradients.flatten(2)
    if ball.norm == "linf":
        slope = flat.abs().sum(2)
    else:
        slope = flat.square().sum(2).sqrt() if ball.norm == "l2" else flat.abs().amax(2)
    nearest = (gaps.abs() / (1e-12 + slope)).argmin(1)
    image = torch.arange(len(gaps), device=gaps.device)
    return gaps[image, nearest], gradients[image, nearest], nearest


def _around(ball: Ball, x: Tensor, rng: Stream) -> Tensor:
    """Random images at half the distance eps, clamped to [0, 1]."""
    shape = tuple(x.shape)
    noise = (2 * rng.uniform(shape) - 1 if ball.norm == "linf" else rng.normal(shape)).to(x.dtype)
    return (x + ball.eps * noise / ball.length(noise).clamp_min(1e-12) * 0.5).clamp(0, 1)
