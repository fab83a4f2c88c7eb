"""One-step denoising: the fast path."""

from __future__ import annotations

from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.purifier import RangePurifier
from rbmed_purifiers.diffusion.walk import Move


class OneStepPurifier(RangePurifier):
    """The network's estimate of the mean clean image, given the noised one (Carlini et al. 2022, 2206.10550)."""

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """A single DDIM step from t to 0 is that estimate."""
        return self.strided(self.times(strength), 1)
