"""The filters of feature squeezing: fewer bits per pixel, a median, a Gaussian blur."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.classical.filter import DecreasingParams, Filter, per_image
from robustbench_med.errors import BadParameter


class BitDepth(Filter):
    """Round pixels to ``2 ** bits`` equally spaced values (Xu et al. 2018, feature squeezing, 1704.01155).

    Bits fall linearly from ``bits_max`` to ``bits_min`` with strength, rounded to a whole number. The true derivative
    is 0 wherever it exists, so by default the purifier is not differentiable.
    """

    class Params(DecreasingParams):
        quantity: ClassVar[str] = "bits"

        bits_max: int = Field(8, ge=1, le=16, description="Bits per channel at strength 0; 8 keeps 8-bit images.")
        bits_min: int = Field(3, ge=1, le=16, description="Bits per channel at strength 1.")
        gradient: Literal["none", "straight"] = Field(
            "none",
            description="none: no gradient, so the rungs bpda and query attack it; straight: straight-through gradient "
            "of rounding, as bpda assumes.",
        )

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.differentiable = self.params.gradient == "straight"

    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Quantised images."""
        steps = per_image(2 ** self.params.at(strength) - 1)
        rounded = (x.detach() * steps).round() / steps
        return rounded + (x - x.detach()) if self.differentiable else rounded


class MedianFilter(Filter):
    """Median smoothing (Xu et al. 2018, feature squeezing, 1704.01155).

    ``x + strength * (median(x) - x)``: strength 0 keeps the image, 1 is the plain median filter. Images are mirrored at
    their border. The gradient is that of the pixel which is the median.
    """

    class Params(rbmed.Params):
        radius: int = Field(1, ge=1, le=5, description="The window has 2 * radius + 1 pixels on a side.")

    def build(self, channels: int, size: int) -> None:
        """Check that ``size`` is larger than the radius; there are no modules."""
        if size <= self.params.radius:
            radius = self.params.radius
            raise BadParameter(f"purifier median: radius={radius} needs images of more than {radius} px, not {size}")

    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Images moved towards their median."""
        r = self.params.radius
        windows = F.pad(x, (r, r, r, r), mode="reflect").unfold(2, 2 * r + 1, 1).unfold(3, 2 * r + 1, 1)
        return x.lerp(windows.flatten(4).median(-1).values, per_image(strength))


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
