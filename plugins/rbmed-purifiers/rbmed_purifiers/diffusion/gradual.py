"""Several purifications in a row, at times that do not decrease."""

from __future__ import annotations

from typing import Annotated, Self

import pydantic
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import RUNTIME, DiffusionParams
from rbmed_purifiers.diffusion.purifier import DiffusionPurifier, fresh
from rbmed_purifiers.diffusion.schedule import TIMES
from rbmed_purifiers.diffusion.walk import Move


class GradualPurifier(DiffusionPurifier):
    """Gradual noise scheduling for multi-step purification (Lee & Kim 2023, 2303.09051).

    Weak noise comes first, so that little of the image is lost while the perturbation shrinks. Each purification noises
    the result of the last one to its time and denoises it in strided deterministic steps. The strength scales the
    times; none is below 1.
    """

    class Params(DiffusionParams):
        times: tuple[Annotated[int, Field(ge=1, le=TIMES)], ...] = Field(
            (30, 30, 30, 30, 50, 50, 125, 125),
            min_length=1,
            **RUNTIME,
            description="Diffusion time of each purification at strength 1, which must not decrease.",
        )
        steps: int = Field(2, ge=1, le=20, **RUNTIME, description="Denoising steps of each purification.")

        @pydantic.model_validator(mode="after")
        def _gradual(self) -> Self:
            if list(self.times) != sorted(self.times) or self.times[-1] > self.train_t_max:
                raise ValueError(
                    f"times={list(self.times)} must not decrease nor exceed train_t_max={self.train_t_max}"
                )
            return self

    def times(self, strength: Tensor, number: int = 0) -> Tensor:
        """The diffusion time of each image in purification ``number`` (from 0), int64 (N,)."""
        share: Tensor = self.params.times[number] * strength.detach().clamp(0, 1)
        return share.round().long().clamp_min(1)

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps of all purifications, with a noising between one and the next."""
        p = self.params

        def renew(number: int) -> Move:
            return lambda z, _: self.schedule.diffuse(z, self.times(strength, number), fresh(rng, number, z))

        made: list[Move] = []
        for number in range(len(p.times)):
            made += [renew(number)] * (number > 0)
            made += self.strided(self.times(strength, number), p.steps)
        return made
