"""Strided deterministic sampling in a few steps."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import RUNTIME, STEPS, StepsParams
from rbmed_purifiers.diffusion.purifier import RangePurifier
from rbmed_purifiers.diffusion.walk import Move


class DDIMParams(StepsParams):
    """Parameters of `DDIMPurifier`."""

    steps: int = Field(2, ge=1, le=20, **RUNTIME, description=STEPS)


class DDIMPurifier(RangePurifier):
    """From time t to 0 in ``steps`` deterministic steps of even length (Song et al. 2021, 2010.02502)."""

    Params = DDIMParams

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps, which add no noise."""
        return self.strided(self.times(strength), self.params.steps)
