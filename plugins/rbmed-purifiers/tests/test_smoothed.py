"""Randomized smoothing: the noise, the denoiser that is told it, and the copies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.diffusion.samplers import OneStepPurifier
from robustbench_med.errors import BadParameter
from robustbench_med.testing import toy_images

SIZE = 16
TINY = "one-step:width=8,levels=2"


def purifier(text: str) -> rbmed.Purifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: rbmed.Purifier = rbmed.load_component("purifier", text)
        made.build(1, SIZE)
    return made.eval().requires_grad_(False)


def grey(n: int) -> tuple[Tensor, Tensor, rbmed.Stream]:
    _, rng = toy_images(n, size=SIZE)
    return torch.full((n, 1, SIZE, SIZE), 0.5), torch.ones(n), rng


def test_without_denoiser_the_noise_has_the_declared_size_and_is_fresh() -> None:
    made, (x, strength, rng) = purifier("smoothed:sigma=0.05,denoiser=none,copies=5"), grey(6)
    assert (made.sigma, made.votes, made.stochastic, made.inner()) == (0.05, 5, True, ())
    noise = made.copies(x, strength, rng[:]) - 0.5
    assert float(noise.std()) == pytest.approx(0.05, rel=0.02)
    assert abs(float(noise.mean())) < 0.002
    flat = noise.flatten(0, 1).flatten(1)
    overlap = (flat @ flat.T / flat.norm(dim=1)[:, None] / flat.norm(dim=1)).fill_diagonal_(0).abs().max()
    assert float(overlap) < 0.3
    torch.testing.assert_close(made.copies(x, strength, rng[:])[:, 0], made.purify(x, strength, rng[:]))


def test_the_strength_changes_nothing() -> None:
    made, (x, strength, rng) = purifier(f"smoothed:sigma=0.2,denoiser=[{TINY}]"), grey(3)
    assert torch.equal(made.purify(x, strength, rng[:]), made.purify(x, 0 * strength, rng[:]))


@pytest.mark.parametrize("sigma", [0.02, 0.12, 0.25, 0.35])
def test_the_denoiser_is_told_the_diffusion_time_of_the_noise(sigma: float) -> None:
    part = purifier(TINY)
    assert isinstance(part, OneStepPurifier)
    alpha = float(part.schedule.alpha_bar[part.time_of(sigma)])
    assert math.sqrt((1 - alpha) / alpha) / 2 == pytest.approx(sigma, rel=0.05 if sigma < 0.1 else 0.01)


def test_a_perfect_noise_prediction_gives_the_clean_image() -> None:
    """The formula of the estimate, with a network that knows the noise."""
    part, sigma = purifier(TINY), 0.2
    assert isinstance(part, OneStepPurifier)
    x, rng = toy_images(4, size=SIZE)
    noise = sigma * rng.normal(tuple(x.shape))
    now = torch.full((4,), part.time_of(sigma))
    signal, level = part.schedule.levels(now)

    def known(z: Tensor, t: Tensor) -> Tensor:
        assert torch.equal(t, now)
        clean = torch.nn.functional.pixel_unshuffle(x * 2 - 1, part.params.fold)
        return (z - signal * clean) / level

    part.epsilon = known  # type: ignore[method-assign]
    torch.testing.assert_close(part.denoise(x + noise, sigma), x, rtol=0, atol=1e-5)


def test_any_purifier_can_denoise_and_gradients_follow_it() -> None:
    x, strength, rng = grey(3)
    smooth = purifier("smoothed:sigma=0.1,denoiser=[gaussian:sigma=1]")
    rough = purifier("smoothed:sigma=0.1,denoiser=none")
    assert smooth.purify(x, strength, rng[:]).std() < 0.5 * rough.purify(x, strength, rng[:]).std()
    for text, has in (("gaussian:sigma=1", True), (TINY, True), ("bit-depth", False)):
        made = purifier(f"smoothed:sigma=0.1,denoiser=[{text}]")
        assert made.differentiable == has
        assert made.purify(x.clone().requires_grad_(), strength, rng[:]).requires_grad == has


def test_the_vote_is_over_the_copies() -> None:
    made = purifier("smoothed:denoiser=none,copies=3")
    logits = torch.tensor([[[2.0, 0, 0], [2, 0, 0], [0, 0, 9]]])
    assert made.join(logits).argmax(1).tolist() == [0]
    assert purifier("smoothed:denoiser=none,copies=3,vote=mean").join(10 * logits).shape == (1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smoothed:sigma=0", "sigma='0'"),
        ("smoothed:sigma=-0.1", "sigma='-0.1'"),
        ("smoothed:sigma=nan", "sigma='nan'"),
        ("smoothed:copies=0", "copies='0' .* valid: int >= 1"),
        ("smoothed:denoiser=[majority:purifier=[ddim],copies=2]", "votes itself; name one without"),
        (f"smoothed:sigma=0.6,denoiser=[{TINY}]", r"sigma=0.6 is outside the noise it is trained for, .* to 0.36"),
        (f"smoothed:sigma=0.0001,denoiser=[{TINY}]", "sigma=0.0001 is outside the noise it is trained for"),
    ],
)
def test_what_cannot_be_smoothed_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        purifier(text)
