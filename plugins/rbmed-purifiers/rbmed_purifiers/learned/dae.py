"""Denoising autoencoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.bounded import bounded
from robustbench_med.errors import BadParameter


class DAE(rbmed.Purifier):
    """Denoising autoencoder (Vincent et al. 2008), the reformer of MagNet (Meng & Chen 2017, 1705.09064).

    ``x + strength * (denoised(x) - x)``: strength 0 keeps the image, 1 is the network's output. The network predicts
    the change, not the image, so it need not reproduce details.
    """

    class Params(rbmed.Params):
        width: int = Field(16, ge=4, description="Channels at full resolution; twice as many at half resolution.")
        depth: int = Field(2, ge=1, description="Residual blocks at half resolution.")
        noise: float = Field(
            0.1, gt=0, le=1, description="Training images get Gaussian noise whose sigma is drawn from [0, noise]."
        )
        training: str = Field(
            "fedavg:rounds=10,local_epochs=2,batch_size=32,lr=2e-3,autocast=true",
            description="Strategy that trains it over the clients.",
        )

    stochastic = False
    net: Denoiser

    def build(self, channels: int, size: int) -> None:
        """Create the network; ``size`` must be even."""
        if size % 2:
            raise BadParameter(f"purifier dae: the image side must be even, not {size} px")
        self.net = Denoiser(channels, self.params.width, self.params.depth)

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """Images moved towards the denoised ones, clamped to [0, 1]; ``rng`` is not used."""
        change: Tensor = strength.to(x.dtype).clamp(0, 1).view(-1, 1, 1, 1) * self.net(x)
        return bounded(x + change)

    def learner(self, system: rbmed.System) -> DenoisingLearner:
        """The network with its denoising loss."""
        return DenoisingLearner(self.net, self.params.noise)

    @torch.no_grad()
    def pictures(self, x: Tensor, rng: rbmed.Stream) -> dict[str, Tensor]:
        """Clean images, with noise, and denoised."""
        noisy = (x + self.params.noise / 2 * rng.normal(tuple(x.shape))).clamp(0, 1)
        denoised = self.purify(noisy, x.new_ones(len(x)), rng)
        return {"clean": x, f"with noise of sigma {self.params.noise / 2:g}": noisy, "denoised": denoised}


class DenoisingLearner(rbmed.Learner):
    """Squared error of the denoised images."""

    def __init__(self, net: nn.Module, noise: float) -> None:
        super().__init__()
        self.net, self.noise = net, noise

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean squared error against the clean images; ``y`` is ignored."""
        sigma = self.noise * torch.rand(len(x), 1, 1, 1, device=x.device)
        noisy = (x + sigma * torch.randn_like(x)).clamp(0, 1)
        return F.mse_loss(noisy + self.net(noisy), x)


class Denoiser(nn.Module):
    """Images (N, C, H, W) -> the change that denoises them: down to half resolution, up again, with a skip."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(_Block(2 * width) for _ in range(depth))
        self.up = nn.Sequential(nn.Conv2d(2 * width, 4 * width, 1), nn.PixelShuffle(2))
        self.last = nn.Conv2d(2 * width, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The change, of any sign."""
        fine = F.silu(self.first(x * 2 - 1))
        coarse = self.down(fine)
        for block in self.blocks:
            coarse = block(coarse)
        change: Tensor = self.last(torch.cat([fine, F.silu(self.up(coarse))], 1))
        return change


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.conv2(F.silu(self.conv1(F.silu(x))))
        return changed
