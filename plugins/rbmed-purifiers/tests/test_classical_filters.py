"""Median, bit depth, total variation, Gaussian and wavelet against SciPy and against answers known in closed form."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from scipy import ndimage
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.classical.squeezing import BitDepth, GaussianBlur, MedianFilter
from rbmed_purifiers.classical.tv import TotalVariation, _adjoint, _gradient
from rbmed_purifiers.classical.wavelet import LOW_PASS, Wavelet, analysis, synthesis
from rbmed_purifiers.controls import ClampPurifier, Identity
from robustbench_med.errors import BadParameter


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def apply(purifier: rbmed.Purifier, x: Tensor, strength: float | list[float] = 1.0) -> Tensor:
    levels = torch.tensor(strength if isinstance(strength, list) else [strength] * len(x))
    return purifier.purify(x, levels, rbmed.Stream.named("test", 0, torch.arange(len(x))))


# --- median ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1, 2])
def test_median_is_that_of_scipy(radius: int) -> None:
    x = noise(2, 3, 13, 16)
    expected = ndimage.median_filter(x.numpy(), size=(1, 1, 2 * radius + 1, 2 * radius + 1), mode="mirror")
    assert torch.equal(apply(MedianFilter(MedianFilter.Params(radius=radius)), x), torch.from_numpy(expected))


def test_median_is_blended_in_by_strength() -> None:
    x = noise(1, 1, 12, 12).expand(3, -1, -1, -1)
    none, half, full = apply(MedianFilter(), x, [0.0, 0.5, 1.0])
    assert torch.equal(none, x[0])
    torch.testing.assert_close(half, (none + full) / 2)


def test_median_gradient_is_that_of_the_median_pixel() -> None:
    x = noise(1, 1, 5, 5).requires_grad_()
    (slope,) = torch.autograd.grad(apply(MedianFilter(), x)[0, 0, 2, 2], x)
    window = x.detach()[0, 0, 1:4, 1:4]
    assert torch.equal(slope[0, 0, 1:4, 1:4], (window == window.median()).float())
    assert slope.sum() == 1


# --- bit depth ---------------------------------------------------------------------------------------------------


def test_bit_depth_leaves_equally_spaced_values() -> None:
    x = torch.tensor([0.0, 0.1, 0.16, 0.17, 0.49, 0.51, 0.84, 1.0]).view(1, 1, 2, 4)
    two = apply(BitDepth(BitDepth.Params(bits_min=2)), x)
    torch.testing.assert_close(two.flatten() * 3, torch.tensor([0.0, 0, 0, 1, 1, 2, 3, 3]))
    one = apply(BitDepth(BitDepth.Params(bits_min=1)), x)
    assert one.flatten().tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_bits_fall_with_strength_and_eight_bits_keep_an_eight_bit_image() -> None:
    x = (noise(1, 1, 32, 32) * 255).round().div(255).expand(3, -1, -1, -1)
    weak, half, strong = apply(BitDepth(BitDepth.Params(bits_min=2)), x, [0.0, 0.5, 1.0])
    torch.testing.assert_close(weak, x[0], rtol=0, atol=1e-7)
    assert len(half.unique()) == 32
    assert len(strong.unique()) == 4


def test_bit_depth_has_a_gradient_only_when_asked() -> None:
    x = noise(2, 1, 8, 8).requires_grad_()
    plain, straight = BitDepth(), BitDepth(BitDepth.Params(gradient="straight"))
    assert not plain.differentiable
    assert not apply(plain, x).requires_grad
    assert straight.differentiable
    assert torch.equal(torch.autograd.grad(apply(straight, x).sum(), x)[0], torch.ones_like(x))
    torch.testing.assert_close(apply(straight, x.detach()), apply(plain, x))


def test_bits_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="bits_min <= bits_max, not 9, 8"):
        BitDepth.Params(bits_min=9)


# --- Gaussian ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.75])
def test_gaussian_is_that_of_scipy(sigma: float) -> None:
    x = noise(2, 3, 17, 20).double()
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="mirror", truncate=4.0)
    torch.testing.assert_close(
        apply(GaussianBlur(GaussianBlur.Params(sigma=sigma)), x), torch.from_numpy(expected), rtol=0, atol=1e-12
    )


def test_each_image_has_its_own_sigma() -> None:
    x = noise(1, 2, 16, 16).double().expand(3, -1, -1, -1)
    none, half, full = apply(GaussianBlur(), x, [0.0, 0.5, 1.0])
    assert torch.equal(none, x[0])
    # SciPy ends the kernel of sigma 0.5 after 2 pixels, this one after 4.
    for image, sigma, bound in ((half, 0.5, 1e-3), (full, 1.0, 1e-12)):
        expected = ndimage.gaussian_filter(x[0].numpy(), (0, sigma, sigma), mode="mirror")
        torch.testing.assert_close(image, torch.from_numpy(expected), rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("purifier", "message"),
    [
        (GaussianBlur(GaussianBlur.Params(sigma=3)), "sigma=3 needs images of more than 12 px, not 12"),
        (MedianFilter(MedianFilter.Params(radius=5)), "radius=5 needs images of more than 5 px, not 5"),
    ],
)
def test_images_smaller_than_the_window_are_refused(purifier: rbmed.Purifier, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        purifier.build(1, int(message.rpartition(" ")[2]))


# --- total variation ---------------------------------------------------------------------------------------------


def objective(u: Tensor, x: Tensor, weight: float) -> float:
    return float((u - x).square().sum() / 2 + weight * _gradient(u).square().sum(0).sqrt().sum())


def test_a_step_loses_height_by_the_weight_over_the_width_of_its_sides() -> None:
    """min_a,b n a^2 / 2 + m b^2 / 2 + w (1 - a - b): the sides of n and m pixels move by w / n and w / m."""
    n, m, weight = 4, 8, 0.4
    x = torch.cat([torch.zeros(n), torch.ones(m)]).expand(1, 1, 6, n + m)
    for image in (x, x.transpose(2, 3)):
        flat = apply(TotalVariation(TotalVariation.Params(weight=weight, steps=2000)), image)
        flat = flat if image is x else flat.transpose(2, 3)
        expected = torch.cat([torch.full((n,), weight / n), torch.full((m,), 1 - weight / m)]).expand_as(x)
        torch.testing.assert_close(flat, expected, rtol=0, atol=1e-3)


def test_total_variation_attains_the_minimum() -> None:
    """The objective falls with the steps, and no small change of the result lowers it."""
    x, weight = noise(1, 1, 12, 12).double(), 0.1
    made = {n: apply(TotalVariation(TotalVariation.Params(weight=weight, steps=n)), x) for n in (1, 5, 20, 1000)}
    values = [objective(u, x, weight) for u in made.values()]
    assert objective(x, x, weight) > values[0] > values[1] > values[2] > values[3]
    assert values[2] < 1.01 * values[3], "20 steps come close"
    for seed in range(20):
        change = (noise(1, 1, 12, 12, seed=seed).double() - 0.5) * 1e-2
        assert objective(made[1000] + change, x, weight) > values[3]


def test_divergence_is_the_transpose_of_the_gradient() -> None:
    u, field = noise(2, 1, 5, 7).double(), _gradient(noise(2, 1, 5, 7, seed=1).double())
    torch.testing.assert_close((_gradient(u) * field).sum(), (u * _adjoint(field)).sum())


def test_total_variation_at_strength_0_keeps_the_image_and_its_gradient() -> None:
    x = noise(2, 1, 8, 8).requires_grad_()
    same = apply(TotalVariation(), x, 0.0)
    assert torch.equal(same, x)
    torch.testing.assert_close(torch.autograd.grad(same.sum(), x)[0], torch.ones_like(x))


def test_unrolled_gradient_agrees_with_finite_differences() -> None:
    x = (noise(1, 1, 6, 6).double() * 0.6 + 0.2).requires_grad_()
    for purifier in (TotalVariation(), Wavelet(), GaussianBlur(GaussianBlur.Params(sigma=0.8)), MedianFilter()):
        assert torch.autograd.gradcheck(lambda images, p=purifier: apply(p, images, 0.7), x)


# --- wavelet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wavelet", sorted(LOW_PASS))
@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_wavelet_at_strength_0_reconstructs_perfectly(wavelet: str, size: tuple[int, int]) -> None:
    x = noise(2, 3, *size).double()
    for levels in (1, 3):
        same = apply(Wavelet(Wavelet.Params(wavelet=wavelet, levels=levels)), x, 0.0)
        torch.testing.assert_close(same, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("wavelet", sorted(LOW_PASS))
def test_wavelet_transform_is_orthonormal(wavelet: str) -> None:
    planes = noise(64, 1, 8, 8).double()
    parts = analysis(planes, wavelet)
    torch.testing.assert_close(parts.flatten(1) @ parts.flatten(1).T, planes.flatten(1) @ planes.flatten(1).T)
    torch.testing.assert_close(synthesis(parts, wavelet), planes)


def test_haar_details_are_differences_of_neighbours() -> None:
    ((coarse, right, down, both),) = analysis(torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]]), "haar")
    assert coarse.item() == pytest.approx((1 + 2 + 4 + 8) / 2)
    assert abs(right.item()) == pytest.approx((2 + 8 - 1 - 4) / 2)
    assert abs(down.item()) == pytest.approx((4 + 8 - 1 - 2) / 2)
    assert abs(both.item()) == pytest.approx((1 + 8 - 2 - 4) / 2)


def test_db2_has_no_details_of_a_plane() -> None:
    """Two vanishing moments: away from the periodic seam, linear functions lie in the coarse image."""
    ramp = torch.arange(16.0).double()
    details = analysis((ramp[:, None] + 2 * ramp).view(1, 1, 16, 16), "db2")[:, 1:, :7, :7]
    torch.testing.assert_close(details, torch.zeros_like(details), rtol=0, atol=1e-10)
    assert analysis((ramp[:, None] + 2 * ramp).view(1, 1, 16, 16), "haar")[:, 1:].abs().max() > 0.5


def test_details_below_the_threshold_vanish_and_others_lose_it() -> None:
    """One level of Haar on blocks of 2 x 2 whose only detail is +-d: it shrinks by the threshold, or to nothing."""
    for detail, left in ((0.3, 0.2), (0.05, 0.0)):
        block = torch.tensor([[1.0, -1.0], [1.0, -1.0]]) * detail / 2
        x = 0.5 + block.repeat(4, 4).view(1, 1, 8, 8)
        shrunk = apply(Wavelet(Wavelet.Params(wavelet="haar", levels=1, threshold=0.1)), x)
        torch.testing.assert_close(shrunk - 0.5, (x - 0.5) * left / detail, rtol=0, atol=1e-6)


@pytest.mark.parametrize("wavelet", sorted(LOW_PASS))
def test_opposite_borders_do_not_meet(wavelet: str) -> None:
    """Black on the left, white on the right: shrinking may smear the edge in the middle, not the borders."""
    x = torch.cat([torch.zeros(24), torch.ones(24)]).expand(1, 1, 16, 48)
    for image in (x, x.transpose(2, 3)):
        change = (apply(Wavelet(Wavelet.Params(wavelet=wavelet, threshold=0.5)), image) - image).abs()
        change = change if image is x else change.transpose(2, 3)
        assert change[..., :12].max() < 1e-6
        assert change[..., -12:].max() < 1e-6


# --- controls ----------------------------------------------------------------------------------------------------


def test_identity_and_clamp_change_nothing_bit_for_bit() -> None:
    x = noise(4, 3, 9, 11)
    for control in (Identity(), ClampPurifier()):
        assert not control.stochastic
        for strength in (0.0, 1.0):
            assert torch.equal(apply(control, x, strength), x)


@pytest.mark.parametrize("control", [Identity(), ClampPurifier()])
def test_black_and_white_pixels_keep_their_gradient(control: rbmed.Purifier) -> None:
    x = torch.tensor([0.0, 0.5, 1.0]).expand(1, 1, 3, 3).clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(apply(control, x).sum(), x)[0], torch.ones_like(x))


def test_only_clamp_brings_invalid_images_back() -> None:
    x = noise(2, 1, 8, 8) * 3 - 1
    assert torch.equal(apply(Identity(), x), x)
    assert torch.equal(apply(ClampPurifier(), x), x.clamp(0, 1))
