"""Feature squeezing: compares the predictions on an image and on copies with less detail."""

from __future__ import annotations

from typing import Self

import pydantic
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.scores import BOUNDARY, l1

#: Of the non-local mean: side of the window, and of the surroundings that are compared, in pixels, odd.
SEARCH, PATCH = 11, 3


class FeatureSqueezing(rbmed.Detector):
    """Largest L1 distance of the softmax between image and squeezed copies (Xu et al. 2018, arXiv:1704.01155), 0 to 2.

    The paper's three squeezers. The defaults are its best settings for colour images, except that the non-local mean is
    off: it costs as much as a small classifier. Deterministic.

    Gradients: that of a median is that of the selected pixel; that of the bit depth is straight-through.
    """

    class Params(rbmed.Params):
        bits: int = Field(5, ge=0, le=8, description="Bit depth of the copy with fewer grey levels; 0: no such copy.")
        median: int = Field(2, ge=0, le=9, description="Window of the median filter in pixels; 0: no such copy.")
        non_local: float = Field(
            0.0,
            ge=0,
            le=255,
            description="Strength of the non-local mean in grey levels of 255 (paper: 4); 0: no such copy.",
        )

        @pydantic.model_validator(mode="after")
        def _something(self) -> Self:
            if not (self.bits or self.median or self.non_local):
                raise ValueError("bits, median and non_local are all 0; at least one squeezer is needed")
            return self

    multi_label = "named"
    stochastic = False

    @property
    def reach(self) -> float | None:
        """That of the distance at the decision boundary."""
        return BOUNDARY["l1"]

    def score(self, x: Tensor, system: rbmed.System, rng: rbmed.Stream) -> Tensor:
        """The largest of the distances, float32 (N,)."""
        copies = self.squeezed(x)
        # One batch: the classifier is called once.
        logits: Tensor = system.classifier(torch.cat([x, *copies]))
        logits = logits.view(1 + len(copies), len(x), -1)
        return l1(logits[:1], logits[1:]).amax(0).float()

    def squeezed(self, x: Tensor) -> list[Tensor]:
        """The copies, each like ``x``."""
        p = self.params
        copies = [bit_depth(x, p.bits)] if p.bits else []
        copies += [median(x, p.median)] if p.median else []
        return copies + ([non_local_mean(x, p.non_local / 255)] if p.non_local else [])


def bit_depth(x: Tensor, bits: int) -> Tensor:
    """Images in [0, 1] rounded to 2 ** bits grey levels; the gradient passes straight through."""
    top: int = 2**bits - 1
    return (x * top).detach().round() / top + (x - x.detach())


def median(x: Tensor, size: int) -> Tensor:
    """Median of ``size`` x ``size`` pixels at each place of (N, C, H, W), mirrored at the border.

    As scipy's median_filter with mode="mirror": of an even number of pixels the upper median, and an even window
    reaches one pixel further to the left and to the top.
    """
    n, c, h, w = x.shape
    before, after = size // 2, (size - 1) // 2
    padded = F.pad(x.flatten(0, 1).unsqueeze(1), (before, after, before, after), mode="reflect")
    windows = F.unfold(padded, size).transpose(1, 2)
    middle: Tensor = windows.kthvalue(size**2 // 2 + 1, -1).values
    return middle.view(n, c, h, w)


def non_local_mean(x: Tensor, strength: float) -> Tensor:
    """Mean over a window, weighted by the similarity of the surroundings (Buades et al. 2005); like ``x`` (N, C, H, W).

    Args:
        x: images.
        strength: h; a neighbour whose surroundings differ by d (root mean square) weighs exp(-d**2 / h**2).
    """
    h, w = x.shape[-2:]
    reach = SEARCH // 2
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for dy in range(SEARCH):
        for dx in range(SEARCH):
            moved = padded[..., dy : dy + h, dx : dx + w]
            distance = (x - moved).square().mean(1, keepdim=True)
            distance = F.avg_pool2d(distance, PATCH, 1, PATCH // 2, count_include_pad=False)
            weight = torch.exp(-distance / strength**2)
            total, weights = total + weight * moved, weights + weight
    return total / weights
