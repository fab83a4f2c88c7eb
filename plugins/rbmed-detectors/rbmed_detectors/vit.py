"""The masked autoencoder itself: a small vision transformer that predicts hidden patches from visible ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Each token asks all others (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, L, W) -> the same shape."""
        n, length, width = x.shape
        split = self.qkv(x).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        answers = F.scaled_dot_product_attention(*split.unbind(0))
        found: Tensor = self.proj(answers.transpose(1, 2).reshape(n, length, width))
        return found


class Mlp(nn.Module):
    """Two layers on each token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, L, W) -> the same shape."""
        found: Tensor = self.fc2(self.act(self.fc1(x)))
        return found


class Block(nn.Module):
    """A block of a vision transformer, with the names, initial weights and arithmetic of timm's.

    Importing timm takes longer than most commands do. A test compares the two.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, L, W) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        found: Tensor = x + self.mlp(self.norm2(x))
        return found


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
        self.patch = patch
        grid = size // patch
        self.patches = grid**2
        pixels = channels * patch**2
        self.embed = nn.Linear(pixels, width)
        self.encoder = nn.Sequential(*(Block(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.bridge = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.randn(decoder_width) * 0.02)
        blocks = (Block(decoder_width, heads) for _ in range(decoder_depth))
        self.decoder = nn.Sequential(*blocks, nn.LayerNorm(decoder_width), nn.Linear(decoder_width, pixels))
        self.place: Tensor
        self.decoder_place: Tensor
        # Fixed, so recomputed rather than stored.
        self.register_buffer("place", _places(grid, width), persistent=False)
        self.register_buffer("decoder_place", _places(grid, decoder_width), persistent=False)

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


def _places(grid: int, width: int) -> Tensor:
    """Sines and cosines of the row and of the column of each patch of a ``grid`` x ``grid``, (L, ``width``)."""
    bands = 1.0 / 10000.0 ** (torch.arange(width // 4).float() / (width // 4))
    side = torch.arange(grid).float()
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    angles = torch.stack([rows.flatten(), columns.flatten()], 1).unsqueeze(-1) * bands
    return torch.stack([angles.sin(), angles.cos()], 1).flatten(1)
