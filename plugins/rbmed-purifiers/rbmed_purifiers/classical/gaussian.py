"""Gaussian blur."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.classical.filter import Filter
from robustbench_med.errors import BadParameter

#: Radius of the kernel in sigmas, as in SciPy.
TRUNCATE = 4.0


class GaussianBlur(Filter):
    """Convolution with a Gaussian, the simplest spatial smoothing; strength 0 keeps the image.

    The kernel is truncated at 4 times ``sigma``; images are mirrored at their border.
    """

    class Params(rbmed.Params):
        sigma: float = Field(
            1.0, gt=0, le=16, description="Standard deviation in pixels at strength 1; grows linearly."
        )

    @property
    def radius(self) -> int:
        """Pixels between the centre of the kernel and its end."""
        sigma: float = self.params.sigma
        return math.ceil(TRUNCATE * sigma)

    def build(self, channels: int, size: int) -> None:
        """Check that ``size`` is larger than the kernel's radius; there are no modules."""
        if size <= self.radius:
            raise BadParameter(
                f"purifier gaussian: sigma={self.params.sigma:g} needs images of more than {self.radius} px, not {size}"
            )

    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Blurred images."""
        n, c, r = *x.shape[:2], self.radius
        offsets = torch.arange(-r, r + 1, dtype=x.dtype, device=x.device)
        # At strength 0 all weights but the middle one, exp(0), underflow to 0.
        sigma = (self.params.sigma * strength).clamp_min(1e-3)
        kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
        kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0).view(n * c, 1, 1, -1)
        # Each image has its own kernel: channels of one image with as many groups.
        planes = F.pad(x, (r, r, r, r), mode="reflect").flatten(0, 1).unsqueeze(0)
        planes = F.conv2d(F.conv2d(planes, kernel, groups=n * c), kernel.transpose(2, 3), groups=n * c)
        return planes.reshape(x.shape)
