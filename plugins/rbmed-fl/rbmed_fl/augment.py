"""Augmentation of a whole batch at once, on its device, with a given generator."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def augment(x: Tensor, shift: float, jitter: float, generator: Generator) -> Tensor:
    """Flip, shift and change brightness and contrast of each image on its own.

    Args:
        x: images (N, C, H, W) in [0, 1].
        shift: largest shift, as a share of the side.
        jitter: largest relative change of contrast, and largest absolute change of brightness.
        generator: on the device of ``x``.

    Returns:
        Tensor like ``x``, in [0, 1]. Shifts repeat the border.
    """
    n, _, height, width = x.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, 1, generator=generator, device=x.device) * (high - low) + low

    def source(side: int) -> Tensor:
        reach = round(side * shift)
        moved = torch.randint(-reach, reach + 1, (n, 1), generator=generator, device=x.device)
        return (torch.arange(side, device=x.device) + moved).clamp(0, side - 1)

    rows, columns = source(height), source(width)
    columns = torch.where(uniform(0, 1) < 0.5, width - 1 - columns, columns)
    # One gather for both: the channel axis moves last because it is between two index tensors.
    image = torch.arange(n, device=x.device)[:, None, None]
    x = x[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)

    if not jitter:
        return x
    contrast, brightness = (v[:, :, None, None] for v in (uniform(1 - jitter, 1 + jitter), uniform(-jitter, jitter)))
    mean = x.mean((1, 2, 3), keepdim=True)
    return ((x - mean) * contrast + mean + brightness).clamp(0, 1)


def add_noise(x: Tensor, largest: float, generator: Generator) -> Tensor:
    """Add Gaussian noise to images (N, C, H, W) in [0, 1], its sigma drawn per image from [0, ``largest``]."""
    sigma = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) * largest
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return (x + noise * sigma).clamp(0, 1)
