"""The masked autoencoder itself: a small vision transformer, and its masks, the same for every image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustbench_med as rbmed


class MaskedAutoencoder(nn.Module):
    """Masked autoencoder (He et al. 2022) on square images.

    The encoder sees visible patches only; the decoder sees them and a mask token at every hidden position.

    Args:
        channels: image channels.
        size: side of the images in pixels, a multiple of ``patch``.
        patch: side of a patch in pixels.
        width: encoder width, a multiple of 4 and of ``heads``.
        depth: encoder blocks.
        decoder_width: decoder width, a multiple of 4 and of ``heads``.
        decoder_depth: decoder blocks.
        heads: attention heads of every block.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        patch: int,
        width: int,
        depth: int,
        decoder_width: int,
        decoder_depth: int,
        heads: int,
    ) -> None:
        super().__init__()
        from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed  # seconds: `rbmed plan` needs no network
        from timm.models.vision_transformer import Block

        self.patch = patch
        grid = size // patch
        self.patches = grid**2
        pixels = channels * patch**2
        self.embed = nn.Linear(pixels, width)
        self.encoder = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)), nn.LayerNorm(width))
        self.bridge = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.randn(decoder_width) * 0.02)
        blocks = (Block(decoder_width, heads, qkv_bias=True) for _ in range(decoder_depth))
        self.decoder = nn.Sequential(*blocks, nn.LayerNorm(decoder_width), nn.Linear(decoder_width, pixels))
        self.place: Tensor
        self.decoder_place: Tensor
        # Fixed, so recomputed rather than stored.
        self.register_buffer("place", build_sincos2d_pos_embed([grid, grid], width), persistent=False)
        self.register_buffer("decoder_place", build_sincos2d_pos_embed([grid, grid], decoder_width), persistent=False)

    def split(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> patches (N, L, C * patch**2), row by row."""
        return F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)

    def join(self, patches: Tensor, size: int) -> Tensor:
        """The inverse of `split`."""
        return F.fold(patches.transpose(1, 2), size, self.patch, stride=self.patch)

    def forward(self, patches: Tensor, visible: Tensor) -> Tensor:
        """Predict every patch from some of them.

        Args:
            patches: (N, L, P).
            visible: int64 (N, V), positions of the patches that the encoder sees.

        Returns:
            Predictions (N, L, P); only those at hidden positions are meaningful.
        """
        seen = self.embed(patches.gather(1, _spread(visible, patches))) + self.place[visible]
        code = self.bridge(self.encoder(seen))
        tokens = self.mask_token.to(code.dtype).expand(len(code), self.patches, -1)
        tokens = tokens.scatter(1, _spread(visible, code), code)
        predictions: Tensor = self.decoder(tokens + self.decoder_place)
        return predictions


def _spread(index: Tensor, like: Tensor) -> Tensor:
    """An index (N, V) repeated over the last axis of ``like``, for gather and scatter."""
    return index.unsqueeze(-1).expand(-1, -1, like.shape[-1])


def complementary(patches: int, passes: int, ratio: float, sets: int = 1) -> tuple[Tensor, Tensor]:
    """Sets of complementary masks; those of one set hide every patch equally often (within one).

    Each pass hides a window of one fixed circular permutation of the patches; the windows start evenly spaced. Every
    set has its own permutation; more sets do not change the first ones.

    Args:
        patches: L, patches of an image.
        passes: masks in a set.
        ratio: share of patches that a mask hides.
        sets: number of sets.

    Returns:
        Places of the visible patches, int64 (sets * passes, V), and float32 (sets * passes, L), 1 where a patch is
        hidden; sets one after another.
    """
    hide = min(patches - 1, math.ceil(ratio * patches))
    orders = _shuffled("mae-masks", sets, patches)
    starts = torch.arange(passes) * patches // passes
    shifted = orders[:, (starts[:, None] + torch.arange(patches)) % patches].flatten(0, 1)
    hidden = torch.zeros(len(shifted), patches).scatter(1, shifted[:, :hide], 1.0)
    return shifted[:, hide:], hidden


def independent(patches: int, masks: int, visible: int) -> tuple[Tensor, Tensor]:
    """Independent random masks that leave ``visible`` patches; more masks do not change the first ones.

    Returns:
        As `complementary`: int64 (masks, visible) and float32 (masks, L).
    """
    order = _shuffled("dram-masks", masks, patches)
    hidden = torch.zeros(masks, patches).scatter(1, order[:, visible:], 1.0)
    return order[:, :visible], hidden


def _shuffled(name: str, rows: int, patches: int) -> Tensor:
    """``rows`` fixed permutations of the patches, int64 (rows, L)."""
    return rbmed.Stream.named(name, 0, torch.arange(rows)).uniform((rows, patches)).argsort(1)
