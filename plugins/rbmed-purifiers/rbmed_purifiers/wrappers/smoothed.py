"""Randomized smoothing: Gaussian noise, a denoiser, and a vote."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.bounded import bounded
from rbmed_purifiers.diffusion.samplers import OneStepPurifier
from rbmed_purifiers.wrappers.wrapper import Wrapper, WrapperParams, vote
from robustbench_med.errors import BadParameter

_RUNTIME: dict[str, Any] = {"json_schema_extra": {"runtime": True}}


class Smoothed(Wrapper):
    """A vote over noisy copies (Cohen et al. 2019, 1902.02918), each denoised first (Salman et al. 2020, 2003.01908).

    With ``one-step`` as the denoiser it is the method of Carlini et al. 2022 (2206.10550). The strength has no effect.
    `rbmed certify` certifies radii in L2 for the vote over infinitely many copies.
    """

    class Params(WrapperParams):
        sigma: rbmed.Number = Field(
            0.25, gt=0, le=10, **_RUNTIME, description="Standard deviation of the noise, for images in [0, 1]."
        )
        denoiser: str = Field(
            "one-step",
            description="Purifier of the noisy images; one-step is told the noise. none: the classifier sees the "
            "noise.",
        )
        copies: int = Field(
            8, ge=1, **_RUNTIME, description="Noisy copies that are voted on, outside of `rbmed certify`."
        )

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.votes, self.sigma = self.params.copies, float(self.params.sigma)
        self.stochastic = True
        if any(part.votes > 1 for part in self.inner()):
            raise BadParameter(f"purifier smoothed: denoiser {self.params.denoiser!r} votes itself; name one without")

    def references(self) -> list[str]:
        """The denoiser, if there is one."""
        return [] if self.params.denoiser == "none" else [self.params.denoiser]

    def build(self, channels: int, size: int) -> None:
        """Build the denoiser, which must be able to treat this much noise."""
        super().build(channels, size)
        for part in self.inner():
            if isinstance(part, OneStepPurifier):
                part.time_of(self.params.sigma)

    def purify(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """One denoised noisy copy of each image."""
        noisy = x + self.params.sigma * rng.normal(tuple(x.shape)).to(x.dtype)
        for part in self.inner():
            if isinstance(part, OneStepPurifier):
                return part.denoise(noisy, self.params.sigma)
            return self._graded(part.purify(bounded(noisy), strength.new_ones(len(x)), rng.fork("denoiser")))
        return bounded(noisy)

    def copies(self, x: Tensor, strength: Tensor, rng: rbmed.Stream) -> Tensor:
        """Copies of each image with independent noise; the first is that of `purify`."""
        n = self.params.copies
        made = self.purify(x.repeat_interleave(n, 0), strength.repeat_interleave(n), rng.repeat(n))
        return made.reshape(len(x), n, *x.shape[1:])

    def join(self, logits: Tensor) -> Tensor:
        """The vote over the copies, log-probabilities (N, K); see `rbmed_purifiers.wrappers.wrapper`."""
        return vote(logits, self.params.vote)
