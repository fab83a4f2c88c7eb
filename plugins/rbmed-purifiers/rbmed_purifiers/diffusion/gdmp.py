"""Guided purification: every denoising step is guided towards the input image."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import RUNTIME, StepsParams
from rbmed_purifiers.diffusion.purifier import RangePurifier, fresh, grid
from rbmed_purifiers.diffusion.walk import Move


class GDMPPurifier(RangePurifier):
    """Guided diffusion model for purification (Wang et al. 2022, 2205.14969), with the squared distance as guide.

    A step of the strided ancestral chain to time s has posterior mean m and variance v. Let y be the input image,
    noised independently to the time before the step. The guided mean of the step is::

        m - guidance * v * grad_z |z - y|^2 = m + 2 * guidance * v * (y - z)

    Each further round noises the result of the last one again; the guide stays the input image.
    """

    class Params(StepsParams):
        steps: int = Field(10, ge=1, **RUNTIME, description="Denoising steps in each round.")
        guidance: float = Field(
            5.0, ge=0, **RUNTIME, description="Weight of the guidance towards the image; 0 is an unguided chain."
        )
        rounds: int = Field(1, ge=1, **RUNTIME, description="Number of times that an image is noised and purified.")

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps of all rounds, with a noising between one round and the next."""
        p, start = self.params, self.times(strength)
        chain, guide, again = rng.fork("chain"), rng.fork("guide"), rng.fork("again")

        def renew(number: int) -> Move:
            return lambda z, _: self.schedule.diffuse(z, start, fresh(again, number, z))

        def move(number: int, now: Tensor, then: Tensor) -> Move:
            def step(z: Tensor, image: Tensor) -> Tensor:
                mean, variance = self.schedule.posterior(z, self.epsilon(z, now), now, then)
                noised = self.schedule.diffuse(image, now, fresh(guide, number, z))
                guided: Tensor = mean + 2 * p.guidance * variance * (noised - z)
                return guided + variance.sqrt() * fresh(chain, number, z)

            return step

        made: list[Move] = []
        for number in range(p.rounds):
            made += [renew(number)] * (number > 0)
            each = enumerate(pairwise(grid(start, p.steps)), start=number * p.steps + 1)
            made += [move(step, now, then) for step, (now, then) in each]
        return made
