"""The forward process: signal and noise at each diffusion time, and single denoising steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Steps of the forward process and its linear noise schedule, as published.
TIMES, BETA_FIRST, BETA_LAST = 1000, 1e-4, 2e-2


class Schedule(nn.Module):
    """A linear beta schedule (Ho et al. 2020), without weights or saved state.

    Times t are int64 (N,) and count from 1, as in the papers; t = 0 is the clean image. ``alpha_bar[t]`` is the share
    of the clean image's variance that remains at time t. ``z`` are images in [-1, 1] with noise, (N, C, H, W);
    ``eps`` is the noise in them, of variance 1.
    """

    alpha_bar: Tensor

    def __init__(self) -> None:
        super().__init__()
        betas = torch.linspace(BETA_FIRST, BETA_LAST, TIMES)
        self.register_buffer("alpha_bar", torch.cat([torch.ones(1), (1 - betas).cumprod(0)]), persistent=False)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Standard deviations of signal and noise at times ``t``, each (N, 1, 1, 1)."""
        alpha = self.alpha_bar[t].view(-1, 1, 1, 1)
        return alpha.sqrt(), (1 - alpha).sqrt()

    def diffuse(self, z: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Clean images ``z`` with noise, as at times ``t``."""
        signal, noise = self.levels(t)
        return signal * z + noise * eps

    def clean(self, z: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """The clean images, given the noise."""
        signal, noise = self.levels(t)
        return (z - noise * eps) / signal

    def jump(self, z: Tensor, eps: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """The deterministic step of DDIM (Song et al. 2021, 2010.02502) from times ``now`` to earlier ones.

        diffusers' DDIMScheduler.step takes one time for the whole batch. Here each image has its own time, so the same
        update is implemented for a vector of times.
        """
        return self.diffuse(self.clean(z, now, eps), then, eps)

    def posterior(self, z: Tensor, eps: Tensor, now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, like ``z``, and variance, (N, 1, 1, 1), of the images at earlier times ``then``, given the noise.

        Of q(z_then | z_now, clean image), Ho et al. 2020, eq. 7; ``now`` must be 1 or more.
        """
        before, after = (self.alpha_bar[t].view(-1, 1, 1, 1) for t in (now, then))
        beta = 1 - before / after
        mean = after.sqrt() * beta * self.clean(z, now, eps) + (before / after).sqrt() * (1 - after) * z
        return mean / (1 - before), beta * (1 - after) / (1 - before)
