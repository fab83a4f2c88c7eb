"""DiffPure: solve the reverse stochastic differential equation from one fixed time."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import RUNTIME, T_MAX, T_MIN, StepsParams
from rbmed_purifiers.diffusion.purifier import RangePurifier, fresh, grid
from rbmed_purifiers.diffusion.schedule import TIMES
from rbmed_purifiers.diffusion.walk import Move


class DiffPurePurifier(RangePurifier):
    """The reverse VP-SDE by Euler-Maruyama (Nie et al. 2022, 2205.07460; Song et al. 2021, 2011.13456).

    With b the integral of beta over a step and the score -eps / sqrt(1 - alpha_bar), a step is::

        z <- z + b * (z / 2 + score) + sqrt(b) * n,    n standard normal

    The last step adds no noise, which no later step would remove (Song et al. 2021, appendix G).
    """

    class Params(StepsParams):
        """Parameters of `DiffPurePurifier`; by default the strength has no effect, as published."""

        t_min: int = Field(100, ge=1, le=TIMES, **RUNTIME, description=T_MIN)
        t_max: int = Field(100, ge=1, le=TIMES, **RUNTIME, description=T_MAX)
        steps: int = Field(20, ge=1, **RUNTIME, description="Euler-Maruyama steps; t_max steps as published.")

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps, of even length in time."""
        times = grid(self.times(strength), self.params.steps)

        def move(number: int, now: Tensor, then: Tensor) -> Move:
            alpha_bar = self.schedule.alpha_bar
            b = (alpha_bar[then] / alpha_bar[now]).log().view(-1, 1, 1, 1)
            _, noise = self.schedule.levels(now)

            def step(z: Tensor, _: Tensor) -> Tensor:
                drift = z + b * (z / 2 - self.epsilon(z, now) / noise)
                return drift if number == self.params.steps else drift + b.sqrt() * fresh(rng, number, z)

            return step

        return [move(number, now, then) for number, (now, then) in enumerate(pairwise(times), start=1)]
