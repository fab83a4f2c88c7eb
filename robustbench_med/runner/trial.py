"""Trials for cost estimates: passes of an attack, counted on a robust toy system, and the time of a pass."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_med.attacks.access import Oblivious, target_for
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import TargetSettings
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import BudgetExceeded, UsageError
from robustbench_med.interfaces.attack import Attack
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.interfaces.training import Classifier
from robustbench_med.runtime.isolation import isolated

#: Seconds of a first call that is not repeated.
LONG = 0.5
#: Seconds after which a trial of calls ends.
ENOUGH = 0.2
#: Seconds after which passes are counted no more.
PATIENCE = 20.0
#: Share of a cell's passes that a trial may take, and images that it begins with.
SHARE, FEW = 1 / 20, 8


@dataclass(frozen=True)
class Calls:
    """What an attack spends on one image.

    Attributes:
        gradients: backward passes; each noise draw counts.
        queries: forward passes, those of the gradients among them.
        draws: noise draws in each call.
        seconds: time of the attack itself on one batch, without the passes.
    """

    gradients: int
    queries: int
    draws: int
    seconds: float

    @property
    def figures(self) -> tuple[float, float, float]:
        """Gradients, queries and seconds."""
        return float(self.gradients), float(self.queries), self.seconds


#: Intensity of the images that are attacked in a trial.
GREY = 0.1


class RobustToy(Classifier):
    """Predicts class 0 for dark images and class 1 for bright ones, with a boundary outside the ball.

    Args:
        num_classes: K; the other classes never win.
        boundary: mean intensity at which the prediction changes.
        stochastic: treat the predictions as random.
    """

    def __init__(self, num_classes: int, boundary: float, stochastic: bool) -> None:
        super().__init__()
        self.boundary, self.stochastic = boundary, stochastic
        self.until = time.perf_counter() + PATIENCE
        self.behind = nn.Parameter(torch.arange(num_classes - 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, K).

        Raises:
            UsageError: it has answered for `PATIENCE`.
        """
        if time.perf_counter() > self.until:
            raise UsageError(f"its passes on one image are too many to be counted in {PATIENCE:g} s")
        bright = 10 * (x.flatten(1).mean(1, keepdim=True) - self.boundary)
        return torch.cat([-bright, bright - self.behind], 1)


def count_calls(
    attack: Attack, access: str, threat: ThreatModel, budget: Budget, shape: torch.Size, num_classes: int, draws: int
) -> Calls:
    """Count the passes of an attack on a system that it cannot break: no image takes more.

    Args:
        attack: any attack.
        access: its rung; ``query`` gives no gradient, all others are treated alike.
        threat: norm and eps.
        budget: what it may spend.
        shape: of an image, (C, H, W).
        num_classes: as the adversary sees them.
        draws: noise draws in each call; 1 for a system without noise.

    Raises:
        UsageError: that takes longer than `PATIENCE`.
        Exception: whatever the attack raises.
    """
    images, y = torch.full((2, *shape), GREY), torch.zeros(2, dtype=torch.int64)
    # The ball's radius in mean intensity; a random image, from which some attacks start, has 0.5.
    size = {"linf": 1.0, "l2": shape.numel() ** 0.5, "l1": shape.numel()}.get(threat.norm)
    reach = 1.0 if size is None else threat.eps / size
    system = Pipeline(RobustToy(num_classes, GREY + min(1.2 * reach, 0.35), stochastic=draws > 1))
    counter = QueryCounter(images, y, threat, budget, watch=False)
    rng = Stream.named("rehearsal", 0, torch.arange(len(images)))
    settings = TargetSettings(system, counter, eot=draws, clean=_clean)
    target = target_for(settings, "query", rng) if access == "query" else _Trial(settings, rng)
    start = time.perf_counter()
    with isolated(0), suppress(BudgetExceeded):  # it ends there in a cell too
        attack.run(target, images.clone(), y, threat, budget, rng)
    seconds = time.perf_counter() - start
    return Calls(int(counter.gradients.max()), int(counter.queries.max()), draws, seconds)


class _Trial(Oblivious):
    """The rung `oblivious`, with a feature at each layer that an attack may name."""

    def read(self, x: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """The mean intensity."""
        return [x.flatten(1).mean(1, keepdim=True)] * max(1, len(layers))


def _clean(layers: Sequence[str]) -> tuple[list[Tensor], Tensor]:
    """Two images of each of two classes."""
    return [torch.tensor([[0.0], [0.1], [0.9], [1.0]])] * max(1, len(layers)), torch.tensor([0, 0, 1, 1])


def per_image(call: Callable[[int], object], most: int, uses: float, device: torch.device) -> float:
    """Seconds that ``call(n)`` takes for each of its ``n`` images, tried on a small share of what a cell will take.

    Args:
        call: works on that many images.
        most: images per batch in the cell.
        uses: images that the cell passes through the call, each as often as it does; a twentieth of that is tried.
        device: where it works.
    """

    def timed(n: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        call(n)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    # The first is slow, since memory is allocated and kernels are chosen, which matters where a call is short.
    if (first := timed(1)) > LONG:
        return first
    left = uses * SHARE
    n = max(1, min(FEW, most, int(left)))
    spent, left = timed(n), left - n
    best = spent / n
    while spent < ENOUGH and n <= left:
        if n < (more := min(most, 4 * n)) <= left:  # larger batches are faster
            n, spent, best = more, 0.0, math.inf
        once, left = timed(n), left - n
        # The fastest: what other programs do meanwhile slows single calls down.
        best, spent = min(best, once / n), spent + once
    return best
