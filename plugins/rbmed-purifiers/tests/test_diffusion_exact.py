"""Diffusion with a known answer: normal pixels, whose exact network is a formula; and the steps of diffusers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.purifier import DiffusionPurifier
from rbmed_purifiers.diffusion.samplers import (
    DDIMPurifier,
    DDPMPurifier,
    DiffPurePurifier,
    GDMPPurifier,
    GradualPurifier,
    OneStepPurifier,
)
from rbmed_purifiers.diffusion.schedule import BETA_FIRST, BETA_LAST, TIMES, Schedule

#: Every pixel of the data is N(MEAN, SPREAD^2), in [-1, 1]; the image asked about has the value ASKED everywhere.
MEAN, SPREAD, ASKED = 0.1, 0.2, 0.4
#: Images and their side: 64 Ki pixels, each with noise of its own, so that means are known to about 0.001.
N, SIDE, TIME = 16, 64, 100
LINEAR: dict[str, Any] = {"beta_start": BETA_FIRST, "beta_end": BETA_LAST, "clip_sample": False}


class Exact(nn.Module):
    """The expected noise in a pixel, given its value."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, z: Tensor, t: Tensor) -> SimpleNamespace:
        signal, noise = self.schedule.levels(t)
        variance = (signal * SPREAD).square() + noise.square()
        return SimpleNamespace(sample=noise * (z - signal * MEAN) / variance)


def exact(cls: type[DiffusionPurifier], **params: Any) -> DiffusionPurifier:
    """Not validated: more steps than a user may ask for show where a sampler converges."""
    made = cls(cls.Params.model_construct(**{**cls.Params().model_dump(), **params}))
    made.schedule = Schedule()
    made.net = Exact(made.schedule)
    return made


def purified(made: DiffusionPurifier, strength: float = 1.0) -> Tensor:
    """What becomes of `ASKED`, in [-1, 1]."""
    x = torch.full((N, 1, SIDE, SIDE), (ASKED + 1) / 2)
    rng = rbmed.Stream.named("defense", 0, torch.arange(N))
    return made.purify(x, torch.full((N,), strength), rng) * 2 - 1


def levels(t: int) -> tuple[float, float, float]:
    """Standard deviations of signal, noise and a noised pixel at time t, from the definition of the schedule."""
    betas = torch.linspace(BETA_FIRST, BETA_LAST, TIMES, dtype=torch.float64)
    alpha_bar = float((1 - betas[:t]).prod())
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar), math.sqrt(alpha_bar * SPREAD**2 + 1 - alpha_bar)


def posterior() -> tuple[float, float]:
    """Mean of the posterior means of ASKED's noised pixels, and the standard deviation of those means."""
    signal, noise, spread = levels(TIME)
    gain = SPREAD**2 * signal / spread**2
    return MEAN + gain * signal * (ASKED - MEAN), gain * noise


def flow(mean: float, deviation: float, t: int) -> tuple[float, float]:
    """Mean and standard deviation of pixels noised to time t and taken back by the probability flow."""
    signal, noise, spread = levels(t)
    return MEAN + SPREAD * signal / spread * (mean - MEAN), SPREAD / spread * math.hypot(signal * deviation, noise)


def test_one_step_gives_the_posterior_mean() -> None:
    mean, deviation = posterior()
    out = purified(exact(OneStepPurifier, t_max=TIME))
    assert float(out.mean()) == pytest.approx(mean, abs=0.002)
    assert float(out.std()) == pytest.approx(deviation, rel=0.02)
    assert abs(mean - ASKED) > 0.1  # what the tests tell apart


@pytest.mark.parametrize(
    ("cls", "params"),
    [
        (DDPMPurifier, {}),
        (DiffPurePurifier, {"steps": TIME, "t_min": TIME}),
        (GDMPPurifier, {"steps": TIME, "t_min": TIME, "guidance": 0}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_stochastic_samplers_draw_from_the_posterior(cls: type[DiffusionPurifier], params: dict[str, Any]) -> None:
    """Their pixels have its mean, and its variance on top of that of the means."""
    _, noise, spread = levels(TIME)
    mean, deviation = posterior()
    out = purified(exact(cls, t_max=TIME, **params))
    assert float(out.mean()) == pytest.approx(mean, abs=0.003)
    assert float(out.std()) == pytest.approx(math.hypot(deviation, SPREAD * noise / spread), rel=0.02)


def test_ddim_follows_the_probability_flow() -> None:
    """The more steps, the closer."""
    mean, deviation = flow(ASKED, 0, TIME)
    off = {}
    for steps in (5, 20, 80):
        out = purified(exact(DDIMPurifier, t_max=TIME, steps=steps))
        off[steps] = max(abs(float(out.mean()) - mean) / abs(mean), abs(float(out.std()) - deviation) / deviation)
    assert off[80] < 0.01
    assert off[80] < 0.5 * off[20] < 0.25 * off[5]


def test_gradual_purification_is_one_flow_after_another() -> None:
    times, (mean, deviation) = (40, 60, 80), (ASKED, 0.0)
    for t in times:
        mean, deviation = flow(mean, deviation, t)
    out = purified(exact(GradualPurifier, times=times, steps=80))
    assert float(out.mean()) == pytest.approx(mean, abs=0.003)
    assert float(out.std()) == pytest.approx(deviation, rel=0.02)


def test_guidance_draws_towards_the_image() -> None:
    means = [float(purified(exact(GDMPPurifier, t_max=TIME, guidance=g)).mean()) for g in (0, 5, 20)]
    assert MEAN < means[0] < means[1] - 0.02 < means[2] - 0.05 < ASKED


def test_more_rounds_take_the_image_further_to_the_data() -> None:
    once, thrice = (float(purified(exact(GDMPPurifier, t_max=TIME, rounds=rounds)).mean()) for rounds in (1, 3))
    assert MEAN < thrice < once - 0.02 < ASKED


@pytest.mark.parametrize(
    "made",
    [
        exact(DDPMPurifier, t_min=20, t_max=60),
        exact(DDIMPurifier),
        exact(OneStepPurifier),
        exact(DiffPurePurifier, t_min=30),
        exact(GDMPPurifier),
        exact(GradualPurifier),
    ],
    ids=lambda made: type(made).__name__,
)
def test_more_strength_is_more_change(made: DiffusionPurifier) -> None:
    changes = [float((purified(made, strength) - ASKED).square().mean()) for strength in (0.0, 0.5, 1.0)]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("time", [50, 100])
def test_ddim_steps_equal_those_of_diffusers(time: int) -> None:
    """With one time for the batch, the vectorised update is `DDIMScheduler.step`, eta 0 and no clipping."""
    made = DDIMPurifier(DDIMPurifier.Params(width=8, levels=2, fold=1, t_min=time, t_max=time, steps=5))
    made.build(1, 16)
    made.requires_grad_(False)
    x, rng = torch.rand(3, 1, 16, 16), rbmed.Stream.named("defense", 0, torch.arange(3))
    reference = DDIMScheduler(TIMES, **LINEAR, set_alpha_to_one=True)
    reference.set_timesteps(TIMES * 5 // time)  # a stride of time / 5
    z = reference.add_noise(x * 2 - 1, rng[:].normal(tuple(x.shape)), torch.tensor(time - 1))
    for left in range(5, 0, -1):
        now = time * left // 5
        z = reference.step(made.net(z, torch.full((3,), now)).sample, now - 1, z).prev_sample
    clean = made.purify(x, torch.zeros(3), rng[:])
    torch.testing.assert_close(clean, z.add(1).div(2).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("time", [1, 2, 150])
def test_ancestral_steps_equal_those_of_diffusers(time: int) -> None:
    z, eps = torch.randn(2, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    reference = DDPMScheduler(TIMES, **LINEAR)
    expected = reference.step(eps, time - 1, z, generator=torch.Generator().manual_seed(1)).prev_sample
    now = torch.full((2,), time)
    mean, variance = Schedule().posterior(z, eps, now, now - 1)
    torch.testing.assert_close(mean + variance.sqrt() * noise, expected, atol=2e-5, rtol=0)
