"""JPEG compression of each channel by itself: 8 x 8 cosine transform and the luminance table of the standard."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

#: Quantisation table of ITU T.81, annex K.1.
_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def jpeg(x: Tensor, loss: float) -> Tensor:
    """Images (N, C, H, W) in [0, 1] after compression at quality 100 - ``loss``, not clamped."""
    quality = max(1.0, 100 - loss)
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    table = x.new_tensor(_TABLE).view(8, 8).mul(scale).round().clamp(1, 255)
    places = torch.arange(8, dtype=x.dtype, device=x.device)
    basis = torch.cos(math.pi / 8 * (places[None] + 0.5) * places[:, None]) / 2
    basis[0] /= math.sqrt(2)
    height, width = x.shape[2:]
    padded = F.pad(x * 255 - 128, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)
    coefficients = basis @ blocks @ basis.T
    blocks = basis.T @ ((coefficients / table).round() * table) @ basis
    image = blocks.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)[..., :height, :width]
    return (image + 128) / 255
