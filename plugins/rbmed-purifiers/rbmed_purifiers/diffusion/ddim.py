"""Strided deterministic sampling in a few steps, or in one."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import RUNTIME, STEPS, StepsParams
from rbmed_purifiers.diffusion.purifier import RangePurifier
from rbmed_purifiers.diffusion.unet import fold, unfold
from rbmed_purifiers.diffusion.walk import Move
from robustbench_med.errors import BadParameter


class DDIMParams(StepsParams):
    """Parameters of `DDIMPurifier`."""

    steps: int = Field(2, ge=1, le=20, **RUNTIME, description=STEPS)


class DDIMPurifier(RangePurifier):
    """From time t to 0 in ``steps`` deterministic steps of even length (Song et al. 2021, 2010.02502)."""

    Params = DDIMParams

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps, which add no noise."""
        return self.strided(self.times(strength), self.params.steps)


class OneStepPurifier(RangePurifier):
    """The network's estimate of the mean clean image, given the noised one (Carlini et al. 2022, 2206.10550)."""

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """A single DDIM step from t to 0 is that estimate."""
        return self.strided(self.times(strength), 1)

    def time_of(self, sigma: float) -> int:
        """The diffusion time whose noise is nearest to Gaussian noise of ``sigma`` on images in [0, 1].

        At time t an image in [-1, 1] is sqrt(alpha_bar) times itself with noise of sqrt((1 - alpha_bar) / alpha_bar),
        which is twice as large as in [0, 1] (Carlini et al. 2022, section 3).

        Raises:
            BadParameter: the network was not trained for as much noise, or as little.
        """
        known = self.schedule.alpha_bar[: self.params.train_t_max + 1].cpu()  # read back once
        levels = ((1 - known) / known).sqrt() / 2
        largest = float(levels[-1])
        if not float(levels[1]) / 2 <= sigma <= largest * (1 + 1e-6):
            raise BadParameter(
                f"denoiser {self.spec_name}: sigma={sigma:g} is outside the noise it is trained for, from "
                f"{float(levels[1]) / 2:.2g} to {largest:.3g} (train_t_max={self.params.train_t_max})"
            )
        return int((levels[1:] - sigma).abs().argmin()) + 1

    def denoise(self, noisy: Tensor, sigma: float) -> Tensor:
        """The mean clean images, in [0, 1], of images (N, C, H, W) with Gaussian noise of ``sigma``; differentiable."""
        now = torch.full((len(noisy),), self.time_of(sigma), device=noisy.device)
        signal, _ = self.schedule.levels(now)
        z = signal * fold(noisy.to(next(self.net.parameters(), noisy).dtype), self.params.fold)
        clean = self.schedule.clean(z, now, self.epsilon(z, now))
        return unfold(clean, self.params.fold).clamp(0, 1).to(noisy.dtype)
