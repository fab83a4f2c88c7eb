"""Square Attack: random search with local changes, guided by scores alone (Andriushchenko et al., ECCV 2020)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_attacks.budget import fit, look, too_small
from rbmed_attacks.giving_up import Reach, looks, may_leave
from rbmed_attacks.gradient_attack import choose
from rbmed_attacks.norms import length, project, unit
from robustbench_med import Budget, Field, Stream, TargetModel, ThreatModel, margin

#: After how many proposals the share of changed pixels is halved.
SCHEDULE = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
#: Proposals whose random numbers are drawn in one call, since a call costs as much as a small forward pass.
BLOCK = 64


class Square(rbmed.Attack):
    """Random search over squares that raises the margin; Linf, L2 and L1, K >= 2 classes, no gradients.

    Positions and signs are drawn for each image by itself; the published code draws positions once for the batch.
    Reference: Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random
    search", ECCV 2020, arXiv:1912.00049; L1: Croce & Hein 2021, arXiv:2103.01208.

    Attributes:
        known: the largest margin of each image that attacks with a gradient have found, (N,). Where broken images
            leave the batch, so do those that a run will not break, see `rbmed_attacks.giving_up`, if it also lags
            behind these margins: where it does not, the gradient may be masked. None: every run is finished.

    Raises:
        BudgetExceeded: the budget does not allow a single proposal.
    """

    known: Tensor | None = None

    class Params(rbmed.Params):  # the defaults are those of AutoAttack
        queries: int = Field(5000, ge=1, description="Proposals per run; each is one query.")
        p_init: float = Field(0.8, gt=0, le=1, description="Share of the pixels that the first proposals change.")
        restarts: int = Field(1, ge=1, description="Random starts.")
        resc_schedule: bool = Field(
            False, description="Compress the schedule of 10,000 proposals into `queries`; AutoAttack does not."
        )

    def run(self, model: TargetModel, x: Tensor, y: Tensor, threat: ThreatModel, budget: Budget, rng: Stream) -> Tensor:
        """Adversarial images like ``x``.

        Where the model stops on success, broken images are returned as they broke, and images that are wrong from the
        outset as they are. Any other is returned at its largest margin.
        """
        p, x, stop = self.params, x.detach(), model.stop_on_success
        best, score = x.clone(), torch.full((len(x),), -torch.inf, device=x.device)
        if len(x) == 0:
            return best
        runs, proposals = p.restarts, p.queries
        if budget.queries is not None:
            runs, proposals = fit(runs, proposals, budget.queries // model.draws - int(stop), extra=1)
        if proposals < 1:
            raise too_small(budget, "one proposal")
        rows = torch.arange(len(x), device=x.device)
        if stop:
            rows = (look(model, x, budget).argmax(1) == y).nonzero().squeeze(1)
        for run in range(runs):
            if len(rows) == 0:
                break
            part = model.at(rows) if stop else model
            known = self.known[rows] if stop and self.known is not None else None
            with torch.no_grad():
                # A stream of its own for each run: how far the last one got depends on the image.
                found, value, broken = self._run_once(
                    part, x[rows], y[rows], threat, proposals, rng[rows].fork(f"run {run}"), known
                )
            better = value > score[rows]
            best[rows] = choose(better, found, best[rows])
            score[rows] = torch.where(better, value.to(score.dtype), score[rows])
            if stop:
                rows = rows[(~broken).nonzero().squeeze(1)]
        return best

    def _run_once(
        self,
        model: TargetModel,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        proposals: int,
        rng: Stream,
        known: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One run: for each image the last one accepted, its margin, and whether it is wrong."""
        propose: Proposal = Squares(threat) if threat.norm == "linf" else Bumps(threat)
        channels, height, width = x.shape[1:]
        now, rows = propose.start(x, rng), torch.arange(len(x), device=x.device)
        logits, seen = model(now), model
        value, wrong = margin(logits, y), logits.argmax(1) != y
        found, reached, broken = now.clone(), value.clone(), wrong.clone()
        drawn = value  # Replaced at the first proposal.
        reach = Reach(value, proposals)
        places = () if known is None else looks(proposals, max(proposals // 20, 250))
        for number in range(proposals):
            lost = known is not None and number in places
            if model.stop_on_success and (lost or may_leave(number, x.device)):
                leave = wrong
                if known is not None and lost:
                    leave = wrong | (reach.lost(value, number) & (value < known))
                stay = (~leave).nonzero().squeeze(1)
                if len(stay) < len(rows):
                    found[rows], reached[rows], broken[rows] = now, value, wrong
                    if len(stay) == 0:
                        return found, reached, broken
                    rows, now, value, wrong = rows[stay], now[stay], value[stay], wrong[stay]
                    reach.keep(stay)
                    known = None if known is None else known[stay]
                    x, y, rng, drawn, seen = x[stay], y[stay], rng[stay], drawn[stay], model.at(rows)
            if number % BLOCK == 0:
                drawn = rng.uniform((len(rows), BLOCK, propose.numbers + channels))
            # The published schedule is that of 10,000 proposals.
            place = number * 10000 // proposals if self.params.resc_schedule else number
            share = self.params.p_init / 2 ** bisect_left(SCHEDULE, place)
            side = min(propose.side(share * height * width), height, width)
            new = propose.move(now, x, side, drawn[:, number % BLOCK])
            logits = seen(new)
            gain = margin(logits, y)
            better = gain > value
            if model.stop_on_success:
                better = better & ~wrong  # a broken image has its result
            now, value = choose(better, new, now), torch.where(better, gain, value)
            wrong = torch.where(better, logits.argmax(1) != y, wrong)
        found[rows], reached[rows], broken[rows] = now, value, wrong
        return found, reached, broken


class Proposal(ABC):
    """Random starts and changes. ``numbers`` counts the random numbers of a change, besides one per channel."""

    numbers: int

    def __init__(self, threat: ThreatModel) -> None:
        self.threat = threat

    @abstractmethod
    def side(self, pixels: float) -> int:
        """Side of a window of about so many pixels."""

    @abstractmethod
    def start(self, x: Tensor, rng: Stream) -> Tensor:
        """Random images of the ball around ``x``."""

    @abstractmethod
    def move(self, now: Tensor, x: Tensor, side: int, numbers: Tensor) -> Tensor:
        """The next images, from uniform ``numbers`` (N, self.numbers + C)."""


class Squares(Proposal):
    """Linf: vertical stripes first, then squares of one colour, each channel at one end of its range."""

    numbers = 2

    def side(self, pixels: float) -> int:
        """At least 1."""
        return max(round(math.sqrt(pixels)), 1)

    def start(self, x: Tensor, rng: Stream) -> Tensor:
        """Every column of every channel at x - eps or x + eps."""
        n, channels, _, width = x.shape
        return (x + self.threat.eps * _sign(rng.uniform((n, channels, 1, width)))).clamp_(0, 1)

    def move(self, now: Tensor, x: Tensor, side: int, numbers: Tensor) -> Tensor:
        """A square of ``side`` pixels is moved by 2 eps, and so to the end of the range."""
        square = _window(now, side, _corner(now, side, numbers[:, :2]))
        moved = now + square * (2 * self.threat.eps * _sign(numbers[:, 2:])[:, :, None, None])
        return project(self.threat, moved, x)


class Bumps(Proposal):
    """L2 and L1: a grid of bumps first, then the change of one window is moved into another one, with a new bump."""

    numbers = 5

    def __init__(self, threat: ThreatModel) -> None:
        # Rounding errors of many pixels add up in L1.
        super().__init__(threat if threat.norm == "l2" else replace(threat, eps=threat.eps * (1 - 1e-6)))

    def side(self, pixels: float) -> int:
        """At least 3, and odd."""
        return max(round(math.sqrt(pixels)), 3) // 2 * 2 + 1

    def start(self, x: Tensor, rng: Stream) -> Tensor:
        """Five by five bumps, each with a sign per channel."""
        n, channels, height, width = x.shape
        side = max(height // 5, 1)
        first = max((height - 5 * side) // 2, 0)
        down, across = (height - first) // side, (width - first) // side
        numbers = rng.uniform((n, down * across, 1 + channels))
        bumps = self._bumps(side, numbers[..., 0], numbers[..., 1:])
        grid = bumps.view(n, down, across, channels, side, side).permute(0, 3, 1, 4, 2, 5)
        delta = torch.zeros_like(x)
        delta[:, :, first : first + down * side, first : first + across * side] = grid.reshape(
            n, channels, down * side, across * side
        )
        return self._inside(delta, x)

    def move(self, now: Tensor, x: Tensor, side: int, numbers: Tensor) -> Tensor:
        """One window gets a bump on top, with the norm that was left and that of a second window, which is cleared."""
        eps, delta, channels = self.threat.eps, now - x, x.shape[1]
        corner, second = _corner(now, side, numbers[:, :2]), _corner(now, side, numbers[:, 2:4])
        there = _window(now, side, second)
        at = _indices(now, side, corner)
        old = delta[at]
        bump = self._bumps(side, numbers[:, 4], numbers[:, 5:]) + old / (1e-12 + self._size(old))
        both = self._size(delta * (_window(now, side, corner) | there))
        if self.threat.norm == "l2":
            free = (eps**2 - length(self.threat, delta) ** 2).clamp_min(0)
            bump = bump / (1e-12 + self._size(bump)) * (free / channels + both**2).sqrt()
        else:
            free = (eps - length(self.threat, delta)).clamp_min(0)
            bump = bump / (1e-12 + self._size(bump)) * (free / channels + both) * channels
        delta = delta.masked_fill(there, 0)
        delta[at] = bump
        return self._inside(delta, x)

    def _inside(self, delta: Tensor, x: Tensor) -> Tensor:
        """``x + delta``, brought to the rim of the ball (L1: into the ball) and into [0, 1]."""
        if self.threat.norm == "l1":
            return project(self.threat, x + delta, x)
        return (x + unit(self.threat, delta) * self.threat.eps).clamp_(0, 1)

    def _size(self, v: Tensor) -> Tensor:
        """Norm of each channel, (N, C, 1, 1)."""
        if self.threat.norm == "l1":
            return v.abs().sum((-2, -1), keepdim=True)
        return v.square().sum((-2, -1), keepdim=True).sqrt()

    def _bumps(self, side: int, turn: Tensor, signs: Tensor) -> Tensor:
        """Bumps (..., C, side, side), turned where ``turn`` (...) > 0.5, with the signs of ``signs`` (..., C) - 0.5."""
        bump = _bump(side, self.threat.norm).to(signs, non_blocking=True)
        turned = torch.where(turn[..., None, None] > 0.5, bump.T, bump)
        return turned[..., None, :, :] * _sign(signs)[..., None, None]


def _sign(uniform: Tensor) -> Tensor:
    """Random signs from uniform numbers."""
    return (2 * uniform - 1).sign()


def _corner(images: Tensor, side: int, uniform: Tensor) -> Tensor:
    """Row and column, int64 (N, 2), where windows begin; like the published code it leaves out the last place."""
    height, width = images.shape[2:]
    return torch.stack((uniform[:, 0] * (height - side), uniform[:, 1] * (width - side)), 1).long()


def _window(images: Tensor, side: int, corner: Tensor) -> Tensor:
    """bool (N, 1, H, W): the window of ``side`` pixels that begins at each image's ``corner``."""
    height, width = images.shape[2:]
    row = torch.arange(height, device=images.device) - corner[:, :1]
    column = torch.arange(width, device=images.device) - corner[:, 1:]
    row, column = (row >= 0) & (row < side), (column >= 0) & (column < side)
    return row[:, None, :, None] & column[:, None, None, :]


def _indices(images: Tensor, side: int, corner: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Indices of the same windows, for reading and writing (N, C, side, side)."""
    n, channels = images.shape[:2]
    image = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    along = torch.arange(side, device=images.device)
    row, column = corner[:, :1] + along, corner[:, 1:] + along
    return image, channel, row[:, None, :, None], column[:, None, None, :]


@lru_cache(maxsize=64)
def _bump(side: int, norm: str) -> Tensor:
    """Two pyramids of opposite sign, one above the other, of norm 1: (side, side)."""
    upper = side // 2
    bump = torch.cat((_pyramid(upper, side, norm), -_pyramid(side - upper, side, norm)))
    return bump / _norm(bump, norm)


def _pyramid(height: int, width: int, norm: str) -> Tensor:
    """Nested rectangles around the middle, the k-th adding 1 / k**2 (L1: 1 / k**4), of norm 1: (height, width)."""
    top, left = height // 2, width // 2
    pyramid = torch.zeros(height, width)
    for ring in range(max(top, left) + 1):
        rows = slice(max(top - ring, 0), top + ring + 1)
        columns = slice(max(left - ring, 0), left + ring + 1)
        pyramid[rows, columns] += 1 / (ring + 1) ** (2 if norm == "l2" else 4)
    return pyramid / _norm(pyramid, norm)


def _norm(v: Tensor, norm: str) -> Tensor:
    return v.square().sum().sqrt() if norm == "l2" else v.abs().sum()
