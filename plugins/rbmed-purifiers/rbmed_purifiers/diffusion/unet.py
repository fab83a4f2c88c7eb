"""The network: a U-Net with times (Ho et al. 2020) on images folded by pixel-unshuffle.

A small image has few details that need full resolution (Hoogeboom et al. 2023, 2301.11093).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import DiffusionParams
from rbmed_purifiers.diffusion.schedule import Schedule
from robustbench_med.errors import BadParameter

#: Groups of each normalization.
GROUPS = 8
#: Longest period of the sines that encode a time.
PERIOD = 10_000


def build_unet(channels: int, size: int, params: DiffusionParams, name: str) -> UNet:
    """An untrained U-Net for folded images.

    Args:
        channels: of the images.
        size: side of the images.
        params: width, levels, blocks and fold.
        name: of the purifier, for messages.

    Raises:
        BadParameter: the side is not a multiple of ``fold * 2 ** (levels - 1)``.
    """
    unit = params.fold * 2 ** (params.levels - 1)
    if size % unit:
        raise BadParameter(
            f"purifier {name}: fold={params.fold} and levels={params.levels} need an image side that is a multiple of "
            f"{unit}, not {size} px"
        )
    return UNet(channels * params.fold**2, [params.width * 2**level for level in range(params.levels)], params.blocks)


class UNet(nn.Module):
    """Predicts the noise in images at a time: (N, C, H, W) and int64 (N,) -> (N, C, H, W).

    The network of diffusers' ``UNet2DModel`` without attention: the same weights under the same names, drawn in the
    same order, and the same answers to the bit. It does without divisions by 1, and applies the first SiLU of all
    blocks to the encoded time once. Importing diffusers takes longer than all else at a start.

    Args:
        channels: of the images.
        widths: channels of each level.
        blocks: residual blocks of a level on the way down; one more on the way up.
    """

    def __init__(self, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.conv_in = _convolution(channels, widths[0])
        self.time_embedding = TimeEmbedding(widths[0], times := 4 * widths[0])
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        kept, now = [widths[0]], widths[0]  # channels of what the way up reads, the last first
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            self.down_blocks.append(Down([(now, width), *[(width, width)] * (blocks - 1)], times, last))
            kept += [width] * (blocks + (not last))
            now = width
        self.mid_block = Level([(now, now)] * 2, times)
        for level, width in enumerate(reversed(widths)):
            last, sizes = level == len(widths) - 1, []
            for _ in range(blocks + 1):
                sizes.append((now + kept.pop(), width))
                now = width
            self.up_blocks.append(Up(sizes, times, last))
        self.conv_norm_out = _norm(widths[0])
        self.conv_out = _convolution(widths[0], channels)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """The noise in images ``z`` at times ``t``."""
        time = self.time_embedding(t)
        if not self.training:  # gradients of weights are summed as diffusers sums them
            time = F.silu(time)
        z = self.conv_in(z)
        kept = [z]
        for level in self.down_blocks:
            z = level(z, time, kept)
        z = self.mid_block(z, time)
        for level in self.up_blocks:
            z = level(z, time, kept)
        noise: Tensor = self.conv_out(F.silu(self.conv_norm_out(z)))
        return noise


class TimeEmbedding(nn.Module):
    """Times as vectors: int64 (N,) -> (N, width); sines and cosines, then two layers."""

    def __init__(self, sines: int, width: int) -> None:
        super().__init__()
        self.sines = sines
        self.linear_1 = nn.Linear(sines, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """The vectors of times ``t``."""
        half = self.sines // 2
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        angle = t[:, None].float() * torch.exp(-math.log(PERIOD) * steps / half)
        waves = torch.cat([angle.cos(), angle.sin()], 1).to(self.linear_1.weight.dtype)
        vectors: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return vectors


class Level(nn.Module):
    """Residual blocks one after the other.

    Args:
        sizes: channels that go into each block, and that come out.
        times: length of an encoded time.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], times: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([Block(before, after, times) for before, after in sizes])

    def forward(self, z: Tensor, time: Tensor) -> Tensor:
        """As `Block.forward`, of all blocks."""
        for block in self.resnets:
            z = block(z, time)
        return z


class Down(Level):
    """A level on the way down, whose images are halved behind the blocks except at the last one."""

    downsamplers: nn.ModuleList | None

    def __init__(self, sizes: Sequence[tuple[int, int]], times: int, last: bool) -> None:
        super().__init__(sizes, times)
        self.downsamplers = None if last else nn.ModuleList([Resize(sizes[-1][1], "down")])

    def forward(self, z: Tensor, time: Tensor, kept: list[Tensor]) -> Tensor:  # type: ignore[override]
        """As `Level.forward`; what each part gives is added to ``kept``."""
        for block in self.resnets:
            z = block(z, time)
            kept.append(z)
        if self.downsamplers is not None:
            z = self.downsamplers[0](z)
            kept.append(z)
        return z


class Up(Level):
    """A level on the way up, whose images are doubled behind the blocks except at the last one."""

    upsamplers: nn.ModuleList | None

    def __init__(self, sizes: Sequence[tuple[int, int]], times: int, last: bool) -> None:
        super().__init__(sizes, times)
        self.upsamplers = None if last else nn.ModuleList([Resize(sizes[-1][1], "up")])

    def forward(self, z: Tensor, time: Tensor, kept: list[Tensor]) -> Tensor:  # type: ignore[override]
        """As `Level.forward`; each block also reads the last of ``kept``, and removes it."""
        for block in self.resnets:
            z = block(torch.cat([z, kept.pop()], 1), time)
        return z if self.upsamplers is None else self.upsamplers[0](z)


class Block(nn.Module):
    """A residual block of two convolutions; the time is added between them."""

    def __init__(self, before: int, after: int, times: int) -> None:
        super().__init__()
        self.norm1 = _norm(before)
        self.conv1 = _convolution(before, after)
        self.time_emb_proj = nn.Linear(times, after)
        self.norm2 = _norm(after)
        self.conv2 = _convolution(after, after)
        self.conv_shortcut = nn.Conv2d(before, after, 1) if before != after else None

    def forward(self, z: Tensor, time: Tensor) -> Tensor:
        """Feature maps (N, before, H, W), and times (N, times) as `UNet.forward` gives them -> (N, after, H, W)."""
        time = self.time_emb_proj(F.silu(time) if self.training else time)
        change: Tensor = self.conv1(F.silu(self.norm1(z))) + time[:, :, None, None]
        change = self.conv2(F.silu(self.norm2(change)))
        if self.conv_shortcut is not None:
            # As diffusers does while it trains: another layout sums in another order.
            z = self.conv_shortcut(z.contiguous() if self.training else z)
        return z + change


class Resize(nn.Module):
    """Halves images in a convolution, or doubles them before one."""

    def __init__(self, width: int, way: str) -> None:
        super().__init__()
        self.up = way == "up"
        self.conv = _convolution(width, width, 1 if self.up else 2)

    def forward(self, z: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        resized: Tensor = self.conv(F.interpolate(z, scale_factor=2.0, mode="nearest") if self.up else z)
        return resized


def _convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels)


def fold(x: Tensor, side: int) -> Tensor:
    """Images in [0, 1] as the network's input: in [-1, 1], squares of ``side`` x ``side`` pixels as channels."""
    return F.pixel_unshuffle(x * 2 - 1, side)


def unfold(z: Tensor, side: int) -> Tensor:
    """The inverse of `fold`, not clamped."""
    return F.pixel_shuffle(z, side).add(1).div(2)


class NoiseLearner(rbmed.Learner):
    """Mean squared error of the predicted noise at times drawn from 1..train_t_max (Ho et al. 2020, eq. 14).

    Later times are left out, because purification does not use them.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, params: DiffusionParams) -> None:
        super().__init__()
        self.net, self.schedule, self.params = net, schedule, params

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss of images in [0, 1] (N, C, H, W); labels are not used."""
        clean = fold(x, self.params.fold)
        t = torch.randint(1, self.params.train_t_max + 1, (len(x),), device=x.device)
        eps = torch.randn_like(clean)
        return F.mse_loss(self.net(self.schedule.diffuse(clean, t, eps), t).float(), eps)
