"""A control. If a defense is as good with it, its own detector contributes nothing."""

from __future__ import annotations

from torch import Tensor

import robustbench_med as rbmed


class RandomDetector(rbmed.Detector):
    """Scores drawn uniformly from [0, 1)."""

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """One random number per image, float32 (N,)."""
        return rng.uniform((len(x),))
