"""Total-variation denoising."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.classical.filter import Filter, per_image


class TotalVariation(Filter):
    """argmin_u 1/2 ||u - x||^2 + strength * weight * TV(u) (Rudin, Osher & Fatemi 1992; Guo et al. 2018, 1711.00117).

    TV is isotropic, of each channel alone, by forward differences. Solved in the dual by projected gradients
    (Chambolle 2004) with the momentum of Beck & Teboulle 2009. Strength 0 keeps the image.
    """

    class Params(rbmed.Params):
        weight: float = Field(0.1, gt=0, description="Weight of the total variation at strength 1; it grows linearly.")
        steps: int = Field(
            20, ge=1, description="Steps of the minimisation; gradients are unrolled through all of them."
        )

    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Images with less total variation."""
        weight = per_image(self.params.weight * strength)
        dual = ahead = torch.zeros_like(x).expand(2, *x.shape)
        momentum = 1.0
        for _ in range(self.params.steps):
            # 1/8: the inverse of the largest eigenvalue of gradient and divergence.
            stepped = _projected(ahead + _gradient(x - _adjoint(ahead)) / 8, weight)
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            ahead = stepped + (momentum - 1) / following * (stepped - dual)
            dual, momentum = stepped, following
        return x - _adjoint(dual)


def _gradient(u: Tensor) -> Tensor:
    """Forward differences (2, N, C, H, W), down and right; 0 at the last row and column."""
    return torch.stack([F.pad(u.diff(dim=-2), (0, 0, 0, 1)), F.pad(u.diff(dim=-1), (0, 1))])


def _adjoint(field: Tensor) -> Tensor:
    """The transpose of `_gradient`: minus the divergence of a field that is 0 at the last row and column."""
    down, right = field
    return -F.pad(down, (0, 0, 1, 0)).diff(dim=-2) - F.pad(right, (1, 0)).diff(dim=-1)


def _projected(field: Tensor, radius: Tensor) -> Tensor:
    """The nearest field whose vectors are at most ``radius`` long."""
    # The root of 0 has no derivative: lengths start at 1e-12.
    length = field.square().sum(0).clamp_min(1e-24).sqrt()
    return field * (radius / length).clamp(max=1)
