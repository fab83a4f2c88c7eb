"""HopSkipJump: a search along the decision boundary that uses decisions alone (Chen et al., IEEE S&P 2020)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.budget import too_small
from rbmed_attacks.gradient_attack import choose
from rbmed_attacks.norms import length, per_image, project, to_rim
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel

#: Lengths tried for a step, each half the one before.
STRIDES = 8
#: Sides of the noise patterns tried as a start, in turn; 0 is the side of the image.
GRAINS = (0, 1, 4, 16)


class HopSkipJump(rbmed.Attack):
    """Searches for the nearest wrong image with the predicted class alone; Linf and L2, K >= 2 classes.

    A wrong image is found by blending in more and more noise and is moved back to the boundary. Then, step by step, the
    boundary's normal is estimated from the answers to small random changes, a step is taken along it, and the image is
    moved back again. Every query lies in [0, 1]. Unlike the paper, probes are 1 / sqrt(D) as long as the perturbation
    (D pixels; in float32 the paper's are lost to rounding), and noise of several grains is tried, since fine noise
    alone often gets one class only. Reference: Chen, Jordan & Wainwright, "HopSkipJumpAttack: a query-efficient
    decision-based attack", IEEE S&P 2020, arXiv:1904.02144.

    Raises:
        BudgetExceeded: the budget does not allow two queries.
    """

    class Params(rbmed.Params):
        steps: int = Field(20, ge=1, description="Steps along the boundary.")
        samples: int = Field(32, ge=2, description="Probes of the first step; step t uses sqrt(t) times as many.")
        starts: int = Field(16, ge=1, description="Blends with noise tried to find a wrong image.")
        max_queries: int = Field(2500, ge=2, description="Queries per image; no step is begun that would exceed them.")

    @torch.no_grad()
    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``.

        The nearest wrong image found, brought into the ball; ``x`` where none was found. Where the model stops on
        success, an image leaves once it is wrong inside the ball. Elsewhere a wrong image inside the ball is moved away
        from ``x`` to the rim of the ball if it is still wrong there, since one that just crossed is easily lost.
        """
        limit = self.params.max_queries
        if budget.queries is not None:
            limit = min(limit, budget.queries // model.draws)
        if limit < 2:
            raise too_small(budget, "two queries")
        if len(x) == 0:
            return x.clone()
        search = _Search(model, x.detach(), y, threat, rng, limit)
        search.start(self.params.starts)
        for step in range(1, self.params.steps + 1):
            probes = int(self.params.samples * math.sqrt(step))
            if len(search.rows) == 0 or search.left < probes + STRIDES + search.bisections + 1:
                break
            search.step(step, probes)
        return search.result()


class _Search:
    """State of the search: ``now`` on the boundary for the images ``rows``, and the nearest wrong images so far.

    The number of queries of each method does not depend on the batch, so that no image's result depends on the others.
    """

    def __init__(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, rng: Stream, limit: int) -> None:
        self.model, self.x, self.y, self.threat, self.rng, self.left = model, x, y, threat, rng, limit
        self.bisections = max(8, math.ceil(math.log2(x[0].numel())))
        self.best, self.distance = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
        self.rows = torch.arange(len(x), device=x.device)
        self.now = x

    def start(self, tries: int) -> None:
        """Blend in more and more noise until the answer is wrong, and move back to the boundary."""
        outset = self._wrong(self.x, self.rows)
        self.distance[outset] = 0
        searched, rng = ~outset, self.rng.fork("start")
        far = self.x.clone()
        for trial in range(min(tries, self.left)):
            rows = searched.nonzero().squeeze(1)
            blend = torch.lerp(self.x, self._noise(rng, GRAINS[trial % len(GRAINS)]), (trial + 1) / tries)[rows]
            wrong = self._wrong(blend, rows)
            far[rows[wrong]], searched[rows[wrong]] = blend[wrong], False
        self.rows = (~searched & ~outset).nonzero().squeeze(1)
        self._to_boundary(far[self.rows])

    def step(self, number: int, probes: int) -> None:
        """Estimate the boundary's normal by ``probes`` answers, step along it, and move back to the boundary."""
        now, x, rng = self.now, self.x[self.rows], self.rng.fork(f"step {number}")[self.rows]
        upwards = self._normal(now, probes, rng)
        direction = upwards.sign() if self.threat.norm == "linf" else _unit(upwards)
        stride = length(self.threat, now - x) / math.sqrt(number)
        found, far = torch.zeros(len(x), dtype=torch.bool, device=x.device), now
        for halvings in range(STRIDES):
            ahead = (now + stride * 0.5**halvings * direction).clamp(0, 1)
            wrong = self._wrong(ahead, self.rows) & ~found
            found, far = found | wrong, choose(wrong, ahead, far)
        self._to_boundary(far)

    def result(self) -> Tensor:
        """The nearest wrong images, inside the ball."""
        inside = project(self.threat, self.best, self.x)
        if self.model.stop_on_success or self.left < 1:
            return inside
        movable = (self.distance > 0) & (self.distance <= self.threat.eps)
        rim = choose(movable, to_rim(self.threat, self.best, self.x, self.distance), inside)
        return choose(movable & self._wrong(rim, torch.arange(len(rim), device=rim.device)), rim, inside)

    def _to_boundary(self, far: Tensor) -> None:
        """Move the wrong images ``far`` back towards the clean ones by bisection, and keep the nearest."""
        x, linf = self.x[self.rows], self.threat.norm == "linf"
        size, delta = length(self.threat, far - x), far - x
        low, high, near = torch.zeros_like(size), torch.ones_like(size), far
        for _ in range(min(self.bisections, self.left)):
            share = (low + high) / 2
            middle = x + (delta.clamp(-share * size, share * size) if linf else share * delta)
            wrong = self._wrong(middle, self.rows)
            near = choose(wrong, middle, near)
            at = wrong.view(share.shape)
            low, high = torch.where(at, low, share), torch.where(at, share, high)
        distance = length(self.threat, near - x).flatten()
        closer = distance < self.distance[self.rows]
        self.best[self.rows] = choose(closer, near, self.best[self.rows])
        self.distance[self.rows] = torch.where(closer, distance, self.distance[self.rows])
        self.now = near
        if self.model.stop_on_success:
            stay = (self.distance[self.rows] > self.threat.eps).nonzero().squeeze(1)
            self.rows, self.now = self.rows[stay], near[stay]

    def _normal(self, now: Tensor, probes: int, rng: Stream) -> Tensor:
        """The direction in which answers turn wrong: the mean of signed probes, less their mean answer (eq. 16)."""
        radius = _length(now - self.x[self.rows]) / math.sqrt(now[0].numel())
        signed, plain, answers = torch.zeros_like(now), torch.zeros_like(now), torch.zeros_like(radius)
        for _ in range(probes):
            probe = (now + radius * _unit(rng.normal(tuple(now.shape)).to(now.dtype))).clamp(0, 1)
            change = (probe - now) / radius.clamp_min(1e-12)
            answer = 2.0 * self._wrong(probe, self.rows).view(radius.shape) - 1
            signed, plain, answers = signed + answer * change, plain + change, answers + answer
        mean = answers / probes
        return torch.where(mean.abs() == 1, signed, signed - mean * plain)

    def _noise(self, rng: Stream, grain: int) -> Tensor:
        """Uniform noise in squares, ``grain`` to a side of the image, like ``x``."""
        n, channels, height, width = self.x.shape
        grid = (min(grain or height, height), min(grain or width, width))
        return F.interpolate(rng.uniform((n, channels, *grid)), size=(height, width)).to(self.x.dtype)

    def _wrong(self, images: Tensor, rows: Tensor) -> Tensor:
        """bool (M,): the target model answers ``images``, variants of the clean images ``rows``, wrongly; one query."""
        self.left -= 1
        if not self.model.stop_on_success:
            # A random target model draws its next noise only if it is queried with all of its images.
            everything = self.x.clone()
            everything[rows] = images
            answers = self.model(everything).argmax(1)[rows]
        elif len(rows) == 0:
            answers = rows
        else:
            answers = self.model.at(rows)(images).argmax(1)
        wrong: Tensor = answers != self.y[rows]
        return wrong


def _length(v: Tensor) -> Tensor:
    return per_image(v.flatten(1).square().sum(1).sqrt(), v)


def _unit(v: Tensor) -> Tensor:
    return v / _length(v).clamp_min(1e-12)
