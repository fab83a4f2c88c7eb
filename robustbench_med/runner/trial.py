"""What an attack asks, tried on a system that never gives way, and what an answer takes, tried on a few images."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustbench_med.attacks.access import target_for
from robustbench_med.attacks.query_counter import QueryCounter
from robustbench_med.attacks.target_model import View
from robustbench_med.defenses.pipeline import Pipeline
from robustbench_med.errors import BudgetExceeded
from robustbench_med.interfaces import Attack, Classifier
from robustbench_med.interfaces.random import Stream
from robustbench_med.interfaces.threat import Budget, ThreatModel
from robustbench_med.runtime.isolation import isolated

#: Seconds after which a trial of calls has seen enough.
ENOUGH = 0.2


@dataclass(frozen=True)
class Calls:
    """What an attack asks of one image.

    Attributes:
        gradients: backward passes; each noise draw counts.
        queries: forward passes, those of the gradients among them.
        draws: noise draws in each call.
        seconds: time of the attack's own work on one batch, answers not counted.
    """

    gradients: int
    queries: int
    draws: int
    seconds: float


#: Of the grey images that are attacked in a rehearsal.
GREY = 0.1


class Steadfast(Classifier):
    """Calls dark images class 0 and bright ones class 1: a boundary that exists, and lies outside the ball.

    Args:
        num_classes: K; the other classes never win.
        boundary: mean intensity at which the answer turns.
        stochastic: be treated as a system whose answers are noisy.
    """

    def __init__(self, num_classes: int, boundary: float, stochastic: bool) -> None:
        super().__init__()
        self.boundary, self.stochastic = boundary, stochastic
        self.behind = nn.Parameter(torch.arange(num_classes - 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, K)."""
        bright = 10 * (x.flatten(1).mean(1, keepdim=True) - self.boundary)
        return torch.cat([-bright, bright - self.behind], 1)


def rehearse(
    attack: Attack, access: str, threat: ThreatModel, budget: Budget, shape: torch.Size, num_classes: int, draws: int
) -> Calls:
    """Let the attack run on a system that never gives way, and count: no image takes more calls than this.

    Args:
        attack: any attack.
        access: its rung; only ``query`` matters, which gives no gradient.
        threat: norm and eps.
        budget: what it may spend.
        shape: of an image, (C, H, W).
        num_classes: as the adversary sees them.
        draws: noise draws in each call; 1 for a system without noise.

    Raises:
        Exception: whatever the attack raises.
    """
    images, y = torch.full((2, *shape), GREY), torch.zeros(2, dtype=torch.int64)
    # How far the ball reaches in mean intensity; a random image has one of 0.5, and some attacks start from there.
    reach = threat.eps / {"linf": 1.0, "l2": shape.numel() ** 0.5, "l1": shape.numel()}[threat.norm]
    system = Pipeline(Steadfast(num_classes, GREY + min(1.2 * reach, 0.35), stochastic=draws > 1))
    counter = QueryCounter(images, y, threat, budget, watch=False)
    rng = Stream.named("rehearsal", 0, torch.arange(len(images)))
    seen = target_for(View(system, counter, eot=draws), "query" if access == "query" else "oblivious", rng)
    start = time.perf_counter()
    with isolated(0), suppress(BudgetExceeded):  # the harness ends it there too
        attack.run(seen, images.clone(), y, threat, budget, rng)
    seconds = time.perf_counter() - start
    return Calls(int(counter.gradients.max()), int(counter.queries.max()), draws, seconds)


def per_image(call: Callable[[int], object], few: int, most: int, device: torch.device) -> float:
    """Seconds that ``call(n)`` takes for each of its ``n`` images: a few at first, more while that is quick.

    Args:
        call: works on that many images.
        few: images to begin with.
        most: images that are worked on at once in earnest.
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

    n = min(few, most)
    timed(n)  # the first is slow: memory is allocated and kernels are chosen
    while (seconds := timed(n)) < ENOUGH and n < most:
        n = min(most, 4 * n)
    return seconds / n
