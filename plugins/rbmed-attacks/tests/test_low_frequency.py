"""Band-limited changes: what they hold, where they lie, and that they still rise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rbmed_attacks.momentum import LowFrequency, LowPass, basis
from robustbench_med import Budget, Stream, ThreatModel, margin
from robustbench_med.errors import BadParameter

EPS = {"linf": 0.05, "l2": 0.8}


def made(**params):
    return LowFrequency(LowFrequency.Params(**params))


def band(delta, frequency):
    """Share of a change's energy that lies in the lowest frequencies, by Fourier transform of its mirror images."""
    mirrored = np.block([[delta, delta[..., ::-1]], [delta[..., ::-1, :], delta[..., ::-1, ::-1]]])
    energy = np.abs(np.fft.fft2(mirrored)) ** 2
    high, wide = (int(np.ceil(frequency * size - 1e-9)) for size in delta.shape[-2:])
    rows, columns = (np.abs(np.fft.fftfreq(n, 1 / n)) for n in mirrored.shape[-2:])
    inside = (rows < high)[:, None] & (columns < wide)[None]
    return energy[..., inside].sum() / energy.sum()


@pytest.fixture(scope="module")
def attacked(convnet, images, counted):
    def run(norm, frequency, inside=True, **params):
        net, x = convnet(3), images(24)
        x = 0.2 + 0.6 * x if inside else x
        y = net(x).argmax(1)
        threat = ThreatModel(norm=norm, eps=EPS[norm])
        rng = Stream.named("attack", 0, torch.arange(24))
        model = counted(net, 24, stop=False)
        return net, x, y, threat, made(frequency=frequency, **params).run(model, x, y, threat, Budget(), rng)

    return run


@pytest.mark.parametrize("size", [7, 12, 32])
def test_the_basis_is_orthonormal(size):
    for frequency in (0.1, 0.25, 0.5, 1.0):
        waves = basis(size, frequency)
        assert len(waves) == int(np.ceil(frequency * size))
        torch.testing.assert_close(waves @ waves.T, torch.eye(len(waves), dtype=torch.float64))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("frequency", [0.1, 0.25, 0.5])
def test_a_change_holds_low_frequencies_only_and_reaches_the_rim(attacked, norm, frequency):
    """No pixel is near black or white here, so that nothing is clamped."""
    _, x, _, threat, adv = attacked(norm, frequency)
    threat.check(adv, x, tolerance=1e-6)
    delta = (adv - x).double().numpy()
    assert band(delta, frequency) > 1 - 1e-8
    assert np.linalg.norm(delta) > 0
    assert float(threat.distance(adv, x).median()) > 0.7 * threat.eps


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_clamp_alone_adds_other_frequencies(attacked, norm):
    _, x, _, threat, adv = attacked(norm, 0.25, inside=False)
    threat.check(adv, x, tolerance=1e-6)
    free = ((adv > 0) & (adv < 1)).double().mean()
    assert 0.5 < free < 1
    assert 0.8 < band((adv - x).double().numpy(), 0.25) < 1 - 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_ascend_and_a_wider_band_allows_more(attacked, norm):
    reached = []
    for frequency in (0.1, 0.25, 0.5, 1.0):
        net, x, y, _, adv = attacked(norm, frequency)
        rise = margin(net(adv), y) - margin(net(x), y)
        assert (rise > 0).all()
        reached.append(float(rise.detach().mean()))
    assert reached == sorted(reached)
    assert reached[0] < 0.8 * reached[-1]


def test_the_gradient_is_that_of_the_whole_path(images):
    """Against finite differences, with a change that is scaled and one that is not."""
    x = (0.3 + 0.4 * images(2)).double()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    for norm in ("linf", "l2"):
        for size in (0.001, 0.3):
            low = LowPass(ThreatModel(norm=norm, eps=0.02), x, 0.5)
            v = (x + size * noise).clamp(0, 1).requires_grad_()
            assert torch.autograd.gradcheck(lambda v, low=low: low(v).square().sum(), (v,), fast_mode=True, atol=1e-3)


def test_bad_shares_are_refused():
    for frequency in (0, -0.1, 1.5, float("nan")):
        with pytest.raises((BadParameter, ValueError)):
            made(frequency=frequency)
