"""Smoothing."""

from torch import Tensor
from torch.nn import functional as F

import robustbench_med as rbmed


class Example(rbmed.Purifier):
    """A moving average, blended in by strength."""

    stochastic = False

    class Params(rbmed.Params):
        """Parameters of the purifier."""

        radius: int = rbmed.Field(1, ge=1, le=8, description="Pixels averaged to each side.")

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """Smoother images in [0, 1], differentiable in ``x``."""
        r = self.params.radius
        smooth = F.avg_pool2d(F.pad(x, (r, r, r, r), mode="replicate"), 2 * r + 1, stride=1)
        return x + strength.view(-1, 1, 1, 1) * (smooth - x)
