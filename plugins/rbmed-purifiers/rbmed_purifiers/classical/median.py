"""Median filter."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.classical.filter import Filter, per_image
from robustbench_med.errors import BadParameter


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
