"""JPEG: the pixels of Pillow, and a gradient that helps an attack."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

import robustbench_med as rbmed
from rbmed_purifiers.classical.jpeg import JPEG


def photos(n: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth images with some noise, 8 bits per channel, some pixels black or white."""
    chance = torch.Generator().manual_seed(height * width + channels)
    coarse = torch.rand(n, channels, height // 6 + 1, width // 6 + 1, generator=chance)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear") * 1.4 - 0.2
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=chance)).clamp(0, 1).mul(255).round() / 255


def compressed(x: Tensor, quality_at_0: int = 100, quality_at_1: int = 25, strength: float = 0.0, **kw: Any) -> Tensor:
    purifier = JPEG(JPEG.Params(quality_max=quality_at_0, quality_min=quality_at_1, **kw))
    levels = torch.full((len(x),), strength)
    return purifier.purify(x, levels, rbmed.Stream.named("test", 0, torch.arange(len(x))))


def by_pillow(image: Tensor, quality: int) -> Tensor:
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(file, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(file)).reshape(pixels.shape)
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1) / 255


@pytest.mark.parametrize("size", [(32, 32), (20, 20), (37, 29), (31, 50)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_pillow(channels: int, size: tuple[int, int]) -> None:
    x = photos(3, channels, *size)
    for quality in (95, 75, 50, 25, 5):
        expected = torch.stack([by_pillow(image, quality) for image in x])
        # Decoders may round differently, so that a pixel is 1 off, or a coefficient falls to the other side.
        apart = (compressed(x, quality, 1) - expected).abs() * 255
        assert (apart < 0.5).float().mean() > 0.97, f"quality {quality}"
        assert apart.mean() < 0.1, f"quality {quality}"
        assert (expected - x).abs().mean() * 255 > 1, "the compression changes images, so that equality says something"


def test_quality_100_only_rounds_grey_images() -> None:
    x = photos(3, 1, 32, 32)
    assert (compressed(x, 100) - x).abs().max() <= 1.01 / 255


def test_quality_falls_with_strength_for_each_image_alone() -> None:
    purifier = JPEG(JPEG.Params(quality_max=90, quality_min=10))
    assert purifier.params.at(torch.tensor([0.0, 0.25, 1.0])).tolist() == [90, 70, 10]
    x = photos(1, 3, 24, 24).expand(3, -1, -1, -1)
    mixed = purifier.purify(x, torch.tensor([0.0, 0.25, 1.0]), rbmed.Stream.named("test", 0, torch.arange(3)))
    for image, quality in zip(mixed, (90, 70, 10), strict=True):
        assert (image - by_pillow(x[0], quality)).abs().mean() * 255 < 0.1


def test_other_numbers_of_channels_are_coded_as_grey_planes() -> None:
    x = photos(2, 2, 20, 20)
    planes = compressed(x.flatten(0, 1).unsqueeze(1), 40, 1).view_as(x)
    assert torch.equal(compressed(x, 40, 1), planes)


@pytest.mark.parametrize("gradient", ["soft", "straight"])
@pytest.mark.parametrize("channels", [1, 3])
def test_following_the_gradient_changes_the_decoded_image_as_wanted(channels: int, gradient: str) -> None:
    """Ascent on the decoded image's inner product with a pattern of low frequency raises it."""
    x = photos(2, channels, 16, 16) * 0.5 + 0.25
    pattern = F.interpolate(torch.randn(2, channels, 3, 3, generator=torch.Generator().manual_seed(1)), size=(16, 16))

    def value(images: Tensor) -> Tensor:
        return (compressed(images, 60, 1, gradient=gradient) * pattern).sum()

    moved = x.clone()
    for _ in range(10):
        moved.requires_grad_()
        (slope,) = torch.autograd.grad(value(moved), moved)
        assert slope.isfinite().all()
        moved = (moved.detach() + 0.004 * slope.sign()).clamp(x - 0.03, x + 0.03)
    best = (0.03 * pattern.abs()).sum()
    assert value(moved) - value(x) > 0.5 * best


def test_soft_gradient_of_a_coefficient_is_three_times_its_squared_distance() -> None:
    """A constant block has one coefficient, its mean: the derivative of the whole is that of rounding it."""
    level = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    x = (140 / 255 + level).expand(1, 1, 8, 8)
    decoded = compressed(x, 50, 1)
    (slope,) = torch.autograd.grad(decoded.mean(), level)
    coefficient = (140 - 128) * 8 / 16  # 16 is the step of the mean at quality 50
    assert coefficient == 6.0
    assert slope.item() == pytest.approx(0.0, abs=1e-9)
    (slope,) = torch.autograd.grad(compressed(x, 60, 1).mean(), level)
    distance = (140 - 128) * 8 / 13 - 7
    assert slope.item() == pytest.approx(3 * distance**2, rel=1e-6)


def test_qualities_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="quality_min <= quality_max, not 50, 20"):
        JPEG.Params(quality_max=20, quality_min=50)
