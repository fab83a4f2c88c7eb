"""A purifier on the detector's autoencoder: replace the patches with the largest reconstruction error."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_detectors.autoencoder import RUNTIME, Rebuilder, RebuildParams


class MAERepair(Rebuilder, rbmed.Purifier):
    """Replaces the patches with the largest reconstruction error by their reconstruction.

    Meng & Chen (2017, arXiv:1705.09064) replace whole images; here, the masked autoencoder of He et al. (2022) replaces
    single patches. Not the repair of DRAM (Tsai et al. 2023), which adds an optimised vector to the image.
    Strength s repairs s * max_share of the patches, the last one in part: strength 0 changes nothing, and more strength
    never changes less. Deterministic.

    Differentiable in image and strength almost everywhere: through the kept pixels, the predicted pixels, and the patch
    that is repaired in part. The order of the patches is piecewise constant and has no gradient.
    """

    class Params(RebuildParams):
        max_share: float = Field(0.5, gt=0, le=1, **RUNTIME, description="Share of patches repaired at strength 1.")

    stochastic = False

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """Repaired images like ``x``, in [0, 1]; ``strength`` (N,) in [0, 1]."""
        rebuilt = self.reconstruct(x).clamp(0, 1)
        worst = self.patch_errors(x.detach(), rebuilt.detach()).argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(worst).scatter_(
            1, worst, torch.arange(worst.shape[1], device=x.device).expand_as(worst)
        )
        count = strength.clamp(0, 1) * self.params.max_share * worst.shape[1]
        part = (count[:, None] - rank).clamp(0, 1).to(x.dtype)
        grid = x.shape[-1] // self.net.patch
        weight = F.interpolate(part.view(-1, 1, grid, grid), scale_factor=float(self.net.patch), mode="nearest")
        return x.lerp(rebuilt, weight)

    def pictures(self, x: Tensor, rng: rbmed.Stream) -> dict[str, Tensor]:
        """Those of the autoencoder, and the images repaired at strength 1."""
        return {**super().pictures(x, rng), "repaired": self.purify(x, x.new_ones(len(x)), rng)}
