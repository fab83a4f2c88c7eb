"""The L2 attack of Carlini & Wagner (IEEE S&P 2017): the sum of change and weighted margin, minimised by Adam."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.budget import fit, look, too_small
from rbmed_attacks.giving_up import PerImage, may_leave
from rbmed_attacks.gradients import differences, differentiate
from rbmed_attacks.losses import targeted_margin
from rbmed_attacks.nearest import Nearest, nearest_plane
from rbmed_attacks.norms import per_image
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel

#: Pixels of exactly 0 and 1 lie at infinity; they begin this close to it, as in the authors' code.
SHRINK = 1 - 1e-6


class CW(rbmed.Attack):
    """Carlini & Wagner's minimum-norm attack; L2, K >= 2 classes.

    Minimises ``|x' - x|^2 + c max(z_y - z_t, 0)`` over w with ``x' = (1 + tanh(w)) / 2``, and searches for
    the smallest weight c that still leads to a wrong answer. The target t is the class whose linearised boundary is
    nearest at the clean image, which takes K - 1 backward passes; any wrong answer counts.

    The published attack takes 10,000 steps. Far fewer do here, because the first c and the learning rate are those that
    fit linear logits, which also makes the attack independent of their scale, and because the rate falls to 0. Pixels
    near 0 and 1 hardly move in w, so where an image has many of them `FAB` finds nearer images. Reference: Carlini &
    Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017, arXiv:1608.04644.

    Raises:
        BudgetExceeded: the budget does not allow a single step.
        UsageError: the target model gives no gradient.
    """

    class Params(rbmed.Params):
        steps: int = Field(60, ge=1, description="Steps per search; the first one's gradient is shared by all.")
        searches: int = Field(5, ge=1, description="Runs, each with a weight that depends on the last one's success.")
        lr: float = Field(
            1.0, gt=0, description="First learning rate, as a share of the mean pixel change that linear logits need."
        )
        stop: Literal["auto", "never"] = Field(
            "auto",
            description="auto: images broken within eps leave the batch where the model shows the deployed decision; "
            "never: every run is finished, and finds the nearest wrong image it can.",
        )

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``; see `rbmed_attacks.nearest.Nearest.result` for which ones."""
        p, x, draws, stop = self.params, x.detach(), model.draws, model.stop_on_success
        if len(x) == 0:
            return x.clone()
        logits = look(model, x, budget)
        ranked = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
        searches, more = p.searches, p.steps - 1
        if budget.gradients is not None:
            ranked = ranked[:, : max(budget.gradients // draws // 2, 1)]
            searches, more = fit(searches, more, budget.gradients // draws - ranked.shape[1])
        if budget.queries is not None:
            searches, more = fit(searches, more, budget.queries // draws - 2, extra=1)
        if more < 0:
            raise too_small(budget)
        found = Nearest(threat, x, y, logits, stop and p.stop != "never")
        rows = (~found.within()).nonzero().squeeze(1) if stop else torch.arange(len(x), device=x.device)
        if len(rows) == 0:
            return found.result(model, may_query=False)
        gaps, slopes = differences(model.at(rows) if stop else model, x[rows], y[rows], ranked[rows])
        gap, slope, column = nearest_plane(threat, gaps, slopes)
        state = _Weights(rows, ranked[rows, column], -gap, slope)
        for _ in range(searches):
            self._descend(model, found, state, more)
            if stop:
                state.keep((~found.within()[state.rows]).nonzero().squeeze(1))
                if len(state.rows) == 0:
                    break
            state.adapt()
        return found.result(model, budget.queries is None or budget.queries >= draws * (3 + searches * (more + 1)))

    def _descend(self, model: TargetModel, found: Nearest, state: _Weights, more: int) -> None:
        """One run of Adam from the clean images for the weights in ``state``: ``more`` gradients, one forward pass."""
        p, stop = self.params, model.stop_on_success
        adam, seen = _Adam(found.x[state.rows]), model.at(state.rows) if stop else model
        missing, slope = state.missing, state.slope
        for step in range(more + 1):
            x, now = found.x[state.rows], adam.image()
            pull = per_image(state.weight * (missing > 0), x)
            adam.step(2 * (now - x) - pull * slope, p.lr * (1 - step / (more + 1)) * state.rate)
            now = adam.image()
            if step == more:  # No step follows the last image, so it needs no gradient.
                with torch.no_grad():
                    state.reached = state.reached | found.update(state.rows, now, seen(now))
                return
            y, target = found.y[state.rows], state.target
            logits, gap, slope = differentiate(seen, now, partial(_mean_margin, y, target))
            state.reached, missing = state.reached | found.update(state.rows, now, logits), -gap
            if stop and p.stop == "auto" and may_leave(step, now.device):
                stay = (~found.within()[state.rows]).nonzero().squeeze(1)
                if len(stay) == 0:
                    return
                if len(stay) < len(state.rows):
                    state.keep(stay)
                    adam.keep(stay)
                    missing, slope, seen = missing[stay], slope[stay], model.at(state.rows)


def _mean_margin(y: Tensor, target: Tensor, draws: Tensor) -> Tensor:
    """The targeted margin, averaged over the noise draws."""
    return targeted_margin(draws, y, target).mean(1)


class _Weights(PerImage):
    """The weights c of the images still attacked, and bounds of the right ones.

    Attributes:
        rows: the images' places in the batch.
        target: the class that each is directed at.
        missing, slope: at the clean image, the negative margin, (N,), and the margin's gradient, (N, C, H, W).
        weight: c, at first twice what linear logits would need; it lies between ``low`` and ``high``.
        rate: the root-mean-square change of w that linear logits would need.
        reached: bool, the latest run found a wrong answer.
    """

    def __init__(self, rows: Tensor, target: Tensor, missing: Tensor, slope: Tensor) -> None:
        self.rows, self.target, self.missing, self.slope = rows, target, missing, slope
        size = slope.flatten(1).norm(dim=1)
        way = missing.abs() / size
        self.weight = (4 * way / size).nan_to_num(1, 1e10).clamp(1e-10, 1e10)
        # A step of w moves a pixel by half of it at most.
        self.rate = (2 * way / slope[0].numel() ** 0.5).nan_to_num(0.05, 0.05).clamp(1e-8, 0.05)
        self.low, self.high = torch.zeros_like(way), torch.full_like(way, torch.inf)
        self.reached = torch.zeros_like(rows, dtype=torch.bool)

    def adapt(self) -> None:
        """Halve the interval of the weight, or look ten times higher while no weight has led to a wrong answer."""
        self.high = torch.where(self.reached, self.weight, self.high)
        self.low = torch.where(self.reached, self.low, self.weight)
        self.weight = torch.where(self.high.isinf(), self.low * 10, (self.low + self.high) / 2)
        self.reached = torch.zeros_like(self.reached)


class _Adam(PerImage):
    """Adam (Kingma & Ba 2015) over w, with a learning rate per image."""

    def __init__(self, x: Tensor) -> None:
        self.w = torch.atanh((2 * x - 1) * SHRINK)
        self.first, self.second = torch.zeros_like(x), torch.zeros_like(x)
        self.steps = 0

    def image(self) -> Tensor:
        """Images in [0, 1]."""
        return (1 + torch.tanh(self.w)) / 2

    def step(self, slope: Tensor, rate: Tensor) -> None:
        """One step down, from the slope with respect to the images, (N, C, H, W), with the learning rates (N,)."""
        slope = slope * (1 - torch.tanh(self.w).square()) / 2
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope.square()
        first, second = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
        self.w = self.w - per_image(rate, slope) * first / (second.sqrt() + 1e-8)
