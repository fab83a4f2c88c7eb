"""Small-scale roughness."""

from torch import Tensor
from torch.nn import functional as F

import robustbench_med as rbmed


class Example(rbmed.Detector):
    """Mean squared difference to a smoothed copy, which is larger for perturbed images."""

    stochastic = False

    class Params(rbmed.Params):
        """Parameters of the detector."""

        radius: int = rbmed.Field(1, ge=1, le=8, description="Pixels averaged to each side.")

    def error_map(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The squared difference of each pixel, (N, H, W)."""
        r = self.params.radius
        smooth = F.avg_pool2d(F.pad(x, (r, r, r, r), mode="replicate"), 2 * r + 1, stride=1)
        return (x - smooth).square().mean(1)

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The mean of the error map, (N,); larger means more suspicious."""
        return self.error_map(x, system, rng).flatten(1).mean(1)
