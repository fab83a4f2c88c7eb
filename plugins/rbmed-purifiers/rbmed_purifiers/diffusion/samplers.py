"""The samplers: how a noised image becomes a clean one, step by step.

`DDPMPurifier` makes every step, as published for MedFedPure; `DDIMPurifier` a few deterministic ones and
`OneStepPurifier` one; `DiffPurePurifier` solves the reverse stochastic differential equation; `GDMPPurifier` is guided
towards the input image; `GradualPurifier` purifies several times in a row.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

import pydantic
import torch
from pydantic import Field
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.params import RUNTIME, STEPS, T_MAX, T_MIN, DiffusionParams, StepsParams
from rbmed_purifiers.diffusion.purifier import DiffusionPurifier, RangePurifier, fresh, grid
from rbmed_purifiers.diffusion.schedule import TIMES
from rbmed_purifiers.diffusion.unet import fold, unfold
from rbmed_purifiers.diffusion.walk import Move
from robustbench_med.errors import BadParameter


class DDPMPurifier(RangePurifier):
    """All t steps of the reverse chain, each with fresh noise (Ho et al. 2020, algorithm 2).

    The variance of a step is that of the posterior given the clean image (beta tilde). The chain of a batch starts at
    its largest t; images with a smaller t join at their time. The images are sorted by t, so the active ones are the
    first rows.
    """

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """One step for each time from the largest down to 1."""
        start = self.times(strength)

        def move(time: int, active: int) -> Move:
            now = torch.full((active,), time, device=start.device)

            def step(z: Tensor, _: Tensor) -> Tensor:
                rows = z[:active]
                mean, variance = self.schedule.posterior(rows, self.epsilon(rows, now), now, now - 1)
                # The noise is indexed by time, not by the number of the step: so it does not depend on the batch.
                return torch.cat([mean + variance.sqrt() * fresh(rng[:active], time, rows), z[active:]])

            return step

        times = start.tolist()  # sorted, highest first; read back once
        return [move(time, sum(each >= time for each in times)) for time in range(times[0], 0, -1)]


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


class DiffPurePurifier(RangePurifier):
    """The reverse VP-SDE by Euler-Maruyama (Nie et al. 2022, 2205.07460; Song et al. 2021, 2011.13456).

    With b the integral of beta over a step and the score -eps / sqrt(1 - alpha_bar), a step is::

        z <- z + b * (z / 2 + score) + sqrt(b) * n,    n standard normal

    The last step adds no noise, which no later step would remove (Song et al. 2021, appendix G).
    """

    class Params(StepsParams):
        """Parameters of `DiffPurePurifier`; by default the strength has no effect, as published."""

        t_min: int = Field(100, ge=1, le=TIMES, **RUNTIME, description=T_MIN)
        t_max: int = Field(100, ge=1, le=TIMES, **RUNTIME, description=T_MAX)
        steps: int = Field(20, ge=1, **RUNTIME, description="Euler-Maruyama steps; t_max steps as published.")

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps, of even length in time."""
        times = grid(self.times(strength), self.params.steps)

        def move(number: int, now: Tensor, then: Tensor) -> Move:
            alpha_bar = self.schedule.alpha_bar
            b = (alpha_bar[then] / alpha_bar[now]).log().view(-1, 1, 1, 1)
            _, noise = self.schedule.levels(now)

            def step(z: Tensor, _: Tensor) -> Tensor:
                drift = z + b * (z / 2 - self.epsilon(z, now) / noise)
                return drift if number == self.params.steps else drift + b.sqrt() * fresh(rng, number, z)

            return step

        return [move(number, now, then) for number, (now, then) in enumerate(pairwise(times), start=1)]


class GDMPPurifier(RangePurifier):
    """Guided diffusion model for purification (Wang et al. 2022, 2205.14969), with the squared distance as guide.

    A step of the strided ancestral chain to time s has posterior mean m and variance v. Let y be the input image,
    noised independently to the time before the step. The guided mean of the step is::

        m - guidance * v * grad_z |z - y|^2 = m + 2 * guidance * v * (y - z)

    Each further round noises the result of the last one again; the guide stays the input image.
    """

    class Params(StepsParams):
        steps: int = Field(10, ge=1, **RUNTIME, description="Denoising steps in each round.")
        guidance: float = Field(
            5.0, ge=0, **RUNTIME, description="Weight of the guidance towards the image; 0 is an unguided chain."
        )
        rounds: int = Field(1, ge=1, **RUNTIME, description="Number of times that an image is noised and purified.")

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps of all rounds, with a noising between one round and the next."""
        p, start = self.params, self.times(strength)
        chain, guide, again = rng.fork("chain"), rng.fork("guide"), rng.fork("again")

        def renew(number: int) -> Move:
            return lambda z, _: self.schedule.diffuse(z, start, fresh(again, number, z))

        def move(number: int, now: Tensor, then: Tensor) -> Move:
            def step(z: Tensor, image: Tensor) -> Tensor:
                mean, variance = self.schedule.posterior(z, self.epsilon(z, now), now, then)
                noised = self.schedule.diffuse(image, now, fresh(guide, number, z))
                guided: Tensor = mean + 2 * p.guidance * variance * (noised - z)
                return guided + variance.sqrt() * fresh(chain, number, z)

            return step

        made: list[Move] = []
        for number in range(p.rounds):
            made += [renew(number)] * (number > 0)
            each = enumerate(pairwise(grid(start, p.steps)), start=number * p.steps + 1)
            made += [move(step, now, then) for step, (now, then) in each]
        return made


class GradualPurifier(DiffusionPurifier):
    """Gradual noise scheduling for multi-step purification (Lee & Kim 2023, 2303.09051).

    Weak noise comes first, so that little of the image is lost while the perturbation shrinks. Each purification noises
    the result of the last one to its time and denoises it in strided deterministic steps. The strength scales the
    times; none is below 1.
    """

    class Params(DiffusionParams):
        times: tuple[Annotated[int, Field(ge=1, le=TIMES)], ...] = Field(
            (30, 30, 30, 30, 50, 50, 125, 125),
            min_length=1,
            **RUNTIME,
            description="Diffusion time of each purification at strength 1, which must not decrease.",
        )
        steps: int = Field(2, ge=1, le=20, **RUNTIME, description="Denoising steps of each purification.")

        @pydantic.model_validator(mode="after")
        def _gradual(self) -> Self:
            if list(self.times) != sorted(self.times) or self.times[-1] > self.train_t_max:
                raise ValueError(
                    f"times={list(self.times)} must not decrease nor exceed train_t_max={self.train_t_max}"
                )
            return self

    def times(self, strength: Tensor, number: int = 0) -> Tensor:
        """The diffusion time of each image in purification ``number`` (from 0), int64 (N,)."""
        share: Tensor = self.params.times[number] * strength.detach().clamp(0, 1)
        return share.round().long().clamp_min(1)

    def moves(self, strength: Tensor, rng: rbmed.Stream) -> list[Move]:
        """The steps of all purifications, with a noising between one and the next."""
        p = self.params

        def renew(number: int) -> Move:
            return lambda z, _: self.schedule.diffuse(z, self.times(strength, number), fresh(rng, number, z))

        made: list[Move] = []
        for number in range(len(p.times)):
            made += [renew(number)] * (number > 0)
            made += self.strided(self.times(strength, number), p.steps)
        return made
