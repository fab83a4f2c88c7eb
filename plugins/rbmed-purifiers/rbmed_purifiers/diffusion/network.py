"""The U-Net of denoising diffusion models (Ho et al. 2020).

Names, initial weights and arithmetic are those of diffusers' ``UNet2DModel`` without attention, whose import takes
longer than most commands do: it brings transformers, torchvision and torch's compiler. A test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Groups of every normalisation.
GROUPS = 8
#: Images from which on a nearest-neighbour resize of channels-last maps may fail.
LARGE = 64


def _convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1)


class TimeEmbedding(nn.Module):
    """Times, int64 (N,), -> (N, ``width``): cosines and sines, and two layers."""

    def __init__(self, waves: int, width: int) -> None:
        super().__init__()
        self.waves = waves
        self.linear_1 = nn.Linear(waves, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """The embedding of each time."""
        half = self.waves // 2
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
        angles = t[:, None].float() * exponent.exp()[None, :]
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.linear_1.weight.dtype)
        found: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return found


class Block(nn.Module):
    """Two convolutions, between which the time is added, and a way around them."""

    def __init__(self, before: int, after: int, times: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, before)
        self.conv1 = _convolution(before, after)
        self.time_emb_proj = nn.Linear(times, after)
        self.norm2 = nn.GroupNorm(GROUPS, after)
        self.conv2 = _convolution(after, after)
        self.conv_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Maps (N, C, H, W) at embedded times (N, T) -> (N, ``after``, H, W)."""
        hidden: Tensor = self.conv1(F.silu(self.norm1(x)))
        hidden = hidden + self.time_emb_proj(F.silu(time))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x.contiguous() if self.training else x)
        return x + hidden


class Resize(nn.Module):
    """Half or twice the resolution, and a convolution."""

    def __init__(self, channels: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = _convolution(channels, channels, 1 if up else 2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) -> (N, C, 2 H, 2 W) or (N, C, H / 2, W / 2)."""
        if self.up:
            x = F.interpolate(x.contiguous() if len(x) >= LARGE else x, scale_factor=2.0, mode="nearest")
        found: Tensor = self.conv(x)
        return found


class Down(nn.Module):
    """A level on the way down: blocks, and unless it is the last half the resolution."""

    def __init__(self, before: int, after: int, times: int, blocks: int, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Block(after if at else before, after, times) for at in range(blocks))
        self.downsamplers = nn.ModuleList([] if last else [Resize(after, up=False)])

    def forward(self, x: Tensor, time: Tensor) -> list[Tensor]:
        """The maps after each step, the last of which go on."""
        found = [x]
        found += [x := block(x, time) for block in self.resnets]
        found += [x := resize(x) for resize in self.downsamplers]
        return found[1:]


class Up(nn.Module):
    """A level on the way up, each of its blocks with maps that were stored on the way down."""

    def __init__(self, below: int, after: int, above: int, times: int, blocks: int, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            Block((after if at else below) + (after if at < blocks - 1 else above), after, times)
            for at in range(blocks)
        )
        self.upsamplers = nn.ModuleList([] if last else [Resize(after, up=True)])

    def forward(self, x: Tensor, stored: list[Tensor], time: Tensor) -> Tensor:
        """The maps of the level above; takes those that it used off ``stored``."""
        for block in self.resnets:
            x = block(torch.cat([x, stored.pop()], dim=1), time)
        for resize in self.upsamplers:
            x = resize(x)
        return x


class Middle(nn.Module):
    """Two blocks on the lowest level."""

    def __init__(self, channels: int, times: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Block(channels, channels, times) for _ in range(2))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Maps (N, C, H, W) -> the same shape."""
        for block in self.resnets:
            x = block(x, time)
        return x


class UNet(nn.Module):
    """Images with noise (N, C, H, W) at times (N,) -> the noise in them, of the same shape.

    Args:
        channels: C.
        widths: channels of each level, from the finest on.
        blocks: of each level on the way down; there is one more on the way up.
    """

    def __init__(self, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        times, lowest = 4 * widths[0], len(widths) - 1
        self.conv_in = _convolution(channels, widths[0])
        self.time_embedding = TimeEmbedding(widths[0], times)
        self.down_blocks = nn.ModuleList(
            Down(widths[max(0, at - 1)], width, times, blocks, at == lowest) for at, width in enumerate(widths)
        )
        middle = Middle(widths[-1], times)
        self.up_blocks = nn.ModuleList(
            Up(widths[min(at + 1, lowest)], widths[at], widths[max(0, at - 1)], times, blocks + 1, at == 0)
            for at in range(lowest, -1, -1)
        )
        self.mid_block = middle
        self.conv_norm_out = nn.GroupNorm(GROUPS, widths[0])
        self.conv_out = _convolution(widths[0], channels)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """The predicted noise."""
        time = self.time_embedding(t)
        stored = [self.conv_in(z)]
        for down in self.down_blocks:
            stored += down(stored[-1], time)
        x = self.mid_block(stored[-1], time)
        for up in self.up_blocks:
            x = up(x, stored, time)
        found: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return found
