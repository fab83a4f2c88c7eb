"""Wavelet shrinkage."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.classical.filter import Filter, constant, per_image

_R2, _R3 = math.sqrt(2), math.sqrt(3)
#: Low-pass filters of orthonormal wavelets (Daubechies 1988).
LOW_PASS = {
    "haar": (1 / _R2, 1 / _R2),
    "db2": tuple(value / (4 * _R2) for value in (1 + _R3, 3 + _R3, 3 - _R3, 1 - _R3)),
}


class Wavelet(Filter):
    """Soft thresholding of wavelet details (Donoho 1995, De-noising by soft-thresholding).

    An orthonormal, separable, periodic transform; images are padded with their border pixels, far enough that opposite
    borders do not interact, and to a multiple of ``2 ** levels``. Strength 0 keeps the image up to float rounding.
    """

    class Params(rbmed.Params):
        threshold: float = Field(
            0.1,
            gt=0,
            description="Soft threshold of details at strength 1, for pixels in [0, 1]; it grows linearly.",
        )
        wavelet: Literal["haar", "db2"] = Field("db2", description="Haar, or Daubechies with two vanishing moments.")
        levels: int = Field(2, ge=1, le=6, description="Levels of the decomposition; each halves the resolution.")

    def filter(self, x: Tensor, strength: Tensor) -> Tensor:
        """Images with smaller details."""
        height, width = x.shape[-2:]
        unit = 2**self.params.levels
        # The support of a coefficient of the last level.
        margin = (len(LOW_PASS[self.params.wavelet]) - 1) * unit
        padded = F.pad(x, (margin, margin + -width % unit, margin, margin + -height % unit), mode="replicate")
        filtered = self._shrunk(padded.flatten(0, 1).unsqueeze(1), self._limits(x, strength), self.params.levels)
        return filtered.reshape(padded.shape)[..., margin : margin + height, margin : margin + width]

    def _limits(self, x: Tensor, strength: Tensor) -> Tensor:
        """The threshold of each plane, (N * C, 1, 1, 1)."""
        return per_image((self.params.threshold * strength).repeat_interleave(x.shape[1]))

    def _shrunk(self, planes: Tensor, limit: Tensor, levels: int) -> Tensor:
        """Planes (M, 1, H, W) whose details of ``levels`` levels are soft-thresholded at ``limit``."""
        if levels == 0:
            return planes
        parts = analysis(planes, self.params.wavelet)
        coarse, details = parts[:, :1], parts[:, 1:]
        details = details - details.maximum(-limit).minimum(limit)
        coarse = self._shrunk(coarse, limit, levels - 1)
        return synthesis(torch.cat([coarse, details], 1), self.params.wavelet)


def analysis(planes: Tensor, wavelet: str) -> Tensor:
    """One level of the transform: (M, 1, H, W) with even sides -> (M, 4, H / 2, W / 2), the coarse image first."""
    filters = _filters(planes, wavelet)
    extra = filters.shape[-1] - 2
    return F.conv2d(F.pad(planes, (0, extra, 0, extra), mode="circular"), filters, stride=2)


def synthesis(parts: Tensor, wavelet: str) -> Tensor:
    """The inverse of `analysis`, which is its transpose."""
    filters = _filters(parts, wavelet)
    height, width, extra = 2 * parts.shape[-2], 2 * parts.shape[-1], filters.shape[-1] - 2
    planes = F.conv_transpose2d(parts, filters, stride=2)
    # Values beyond the right and lower border wrap around to the other side.
    planes = torch.cat([planes[..., :extra] + planes[..., width:], planes[..., extra:width]], -1)
    return torch.cat([planes[..., :extra, :] + planes[..., height:, :], planes[..., extra:height, :]], -2)


def _filters(like: Tensor, wavelet: str) -> Tensor:
    """The four products of low- and high-pass filters, (4, 1, L, L)."""
    low = constant(LOW_PASS[wavelet], like)
    signs = constant([1.0, -1.0], like).repeat(len(low) // 2)
    high = low.flip(0) * signs
    pair = torch.stack([low, high])
    return torch.einsum("ai,bj->abij", pair, pair).flatten(0, 1).unsqueeze(1)
