"""A detector that knows nothing. A defense that does as well with it owes nothing to its own detector."""

from __future__ import annotations

from torch import Tensor

import robustbench_med as rbmed


class RandomDetector(rbmed.Detector):
    """Scores drawn uniformly from [0, 1)."""

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """One random number per image, float32 (N,)."""
        return rng.uniform((len(x),))
