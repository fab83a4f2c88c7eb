"""Corruptions of fixed severity, in batches: the families of MedMNIST-C, written anew from its descriptions.

Di Salvo et al. 2024 (MedMNIST-C, arXiv:2406.17536) adapt the corruptions of Hendrycks & Dietterich 2019
(arXiv:1903.12261) to medical images. A severity is a number from 0 to 5, between the whole ones interpolated; at 0 the
images are returned bit for bit. The amounts are ours, chosen for small images in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rbmed_attacks.corruptions.physics import BY_NAME, acquire, lowest
from robustbench_med import Stream
from robustbench_med.errors import NotDefined

#: Images (N, C, H, W) in [0, 1], an amount, and streams -> corrupted images, not clamped.
Change = Callable[[Tensor, float, Stream], Tensor]


#: Quantisation table of ITU T.81, annex K.1.
_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def jpeg(x: Tensor, loss: float) -> Tensor:
    """Images (N, C, H, W) in [0, 1], each channel compressed by JPEG at quality 100 - ``loss``, not clamped."""
    quality = max(1.0, 100 - loss)
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    table = x.new_tensor(_TABLE).view(8, 8).mul(scale).round().clamp(1, 255)
    places = torch.arange(8, dtype=x.dtype, device=x.device)
    basis = torch.cos(math.pi / 8 * (places[None] + 0.5) * places[:, None]) / 2
    basis[0] /= math.sqrt(2)
    height, width = x.shape[2:]
    padded = F.pad(x * 255 - 128, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)
    coefficients = basis @ blocks @ basis.T
    blocks = basis.T @ ((coefficients / table).round() * table) @ basis
    image = blocks.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)[..., :height, :width]
    return (image + 128) / 255


def _gaussian(x: Tensor, amount: float, rng: Stream) -> Tensor:
    return x + amount * rng.normal(tuple(x.shape)).to(x)


def _speckle(x: Tensor, amount: float, rng: Stream) -> Tensor:
    return x + amount * x * rng.normal(tuple(x.shape)).to(x)


def _impulse(x: Tensor, amount: float, rng: Stream) -> Tensor:
    """Salt and pepper on a share ``amount`` of the pixels."""
    chance = rng.uniform((len(x), 1, *x.shape[2:])).to(x)
    return torch.where(chance < amount / 2, 0.0, torch.where(chance > 1 - amount / 2, 1.0, x))


def _shot(x: Tensor, amount: float, rng: Stream) -> Tensor:
    """Poisson noise of 1 / ``amount`` photons at full intensity, by its normal approximation above ten of them."""
    photons = x.clamp_min(0) / amount
    many = photons + photons.sqrt() * rng.normal(tuple(x.shape)).to(x)
    return many.round().clamp_min(0) * amount


def _pixelate(x: Tensor, amount: float, rng: Stream) -> Tensor:
    """Fewer pixels, by a factor ``amount`` in each direction."""
    small = [max(1, round(side / amount)) for side in x.shape[2:]]
    return F.interpolate(F.interpolate(x, small, mode="area"), x.shape[2:], mode="nearest")


def _filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """Images convolved with a kernel (N, k, k) each, mirrored at the border."""
    n, c, r = *x.shape[:2], kernels.shape[-1] // 2
    weights = (kernels / kernels.sum((1, 2), keepdim=True)).repeat_interleave(c, 0)[:, None]
    planes = F.pad(x, (r, r, r, r), mode="reflect").flatten(0, 1)[None]
    return F.conv2d(planes, weights, groups=n * c).view(x.shape)


def _offsets(x: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    most = min(math.ceil(radius + 1), min(x.shape[2:]) - 1)
    steps = torch.arange(-most, most + 1, device=x.device, dtype=x.dtype)
    return steps[:, None], steps[None]


def _defocus(x: Tensor, amount: float, rng: Stream) -> Tensor:
    """A disk of radius ``amount`` pixels with a soft edge."""
    down, across = _offsets(x, amount)
    disk = torch.sigmoid(4 * (amount - (down.square() + across.square()).sqrt()))
    return _filtered(x, disk.expand(len(x), *disk.shape))


def _motion(x: Tensor, amount: float, rng: Stream) -> Tensor:
    """A line of ``amount`` pixels to each side in a random direction."""
    down, across = _offsets(x, amount)
    angle = math.pi * rng.uniform((len(x), 1, 1)).to(x)
    along = angle.cos() * across + angle.sin() * down
    beside = angle.cos() * down - angle.sin() * across
    return _filtered(x, torch.exp(-2 * beside.square()) * torch.sigmoid(4 * (amount - along.abs())))


def _zoom(x: Tensor, amount: float, rng: Stream) -> Tensor:
    """The mean of images magnified by 1 to 1 + ``amount``."""
    total = torch.zeros_like(x)
    for scale in torch.linspace(1, 1 + amount, 8).tolist():
        theta = torch.tensor([[1 / scale, 0, 0], [0, 1 / scale, 0]], dtype=x.dtype, device=x.device)
        places = F.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
        total = total + F.grid_sample(x, places, padding_mode="border", align_corners=False)
    return total / 8


def _signs(x: Tensor, rng: Stream) -> Tensor:
    return torch.where(rng.uniform((len(x), 1, 1, 1)).to(x) < 0.5, -1.0, 1.0).to(x.dtype)


def _brightness(x: Tensor, amount: float, rng: Stream) -> Tensor:
    return x + amount * _signs(x, rng)


def _contrast(x: Tensor, amount: float, rng: Stream) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return mean + (x - mean) * (1 + amount) ** _signs(x, rng)


def _gamma(x: Tensor, amount: float, rng: Stream) -> Tensor:
    return x.clamp(0, 1) ** ((1 + amount) ** _signs(x, rng))


def _saturate(x: Tensor, amount: float, rng: Stream) -> Tensor:
    if x.shape[1] != 3:
        raise NotDefined("corruption saturate needs images of three colours")
    grey = (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return grey + (x - grey) * (1 + amount) ** _signs(x, rng)


def _corner(x: Tensor, amount: float, rng: Stream) -> Tensor:
    """Black corners, as a round field of view leaves them: of radius 1.42 - ``amount`` half sides."""
    rows, columns = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in x.shape[2:])
    far = (rows[:, None].square() + columns[None].square()).sqrt()
    return torch.where(far > 1.42 - amount, 0.0, x)


def _physics(name: str) -> Change:
    """An artefact of an acquisition at a share ``amount`` of its limits, its parameters at random limits."""

    def change(x: Tensor, amount: float, rng: Stream) -> Tensor:
        artefact = (BY_NAME[name],)
        low = lowest(artefact, x)
        noise, places = rng.normal(tuple(x.shape)).to(x), rng.uniform((len(x), len(low))).to(x)
        # Parameters from 0 on are sizes, which the severity sets.
        places = torch.where(low == 0, 1.0, places)
        return acquire(x, low + (1 - low) * places.round(), artefact, amount, noise)

    return change


#: By name: kind, amounts at the severities 1 to 5, and the change.
FAMILIES: dict[str, tuple[str, tuple[float, ...], Change]] = {
    "gaussian-noise": ("noise", (0.02, 0.04, 0.07, 0.11, 0.16), _gaussian),
    "speckle-noise": ("noise", (0.06, 0.12, 0.2, 0.3, 0.45), _speckle),
    "impulse-noise": ("noise", (0.005, 0.015, 0.03, 0.06, 0.1), _impulse),
    "shot-noise": ("noise", (0.002, 0.005, 0.012, 0.025, 0.05), _shot),
    "jpeg": ("digital", (60.0, 70.0, 80.0, 90.0, 95.0), lambda x, amount, _: jpeg(x, amount)),
    "pixelate": ("digital", (1.25, 1.5, 2.0, 2.7, 3.5), _pixelate),
    "defocus-blur": ("blur", (0.4, 0.8, 1.3, 1.9, 2.6), _defocus),
    "motion-blur": ("blur", (0.5, 1.0, 1.7, 2.6, 3.6), _motion),
    "zoom-blur": ("blur", (0.03, 0.06, 0.1, 0.15, 0.2), _zoom),
    "brightness": ("colour", (0.04, 0.08, 0.13, 0.19, 0.26), _brightness),
    "contrast": ("colour", (0.1, 0.25, 0.5, 0.9, 1.5), _contrast),
    "gamma": ("colour", (0.1, 0.2, 0.4, 0.7, 1.0), _gamma),
    "saturate": ("colour", (0.2, 0.5, 1.0, 2.0, 4.0), _saturate),
    "black-corner": ("task", (0.1, 0.2, 0.3, 0.4, 0.5), _corner),
    **{name: ("physics", (0.2, 0.4, 0.6, 0.8, 1.0), _physics(name)) for name in BY_NAME},
}
#: What the amounts are at severity 0, where that is not 0.
_START = {"pixelate": 1.0}


def corrupted(x: Tensor, name: str, severity: float, rng: Stream) -> Tensor:
    """Corrupted images in [0, 1]; ``x`` itself at severity 0.

    Args:
        x: images (N, C, H, W) in [0, 1].
        name: of `FAMILIES`.
        severity: from 0 to 5.
        rng: one stream for each image.

    Raises:
        NotDefined: the corruption is not defined for these images.
    """
    if severity == 0:
        return x
    _, amounts, change = FAMILIES[name]
    points = (_START.get(name, 0.0), *amounts)
    below = min(int(severity), len(amounts) - 1)
    amount = points[below] + (severity - below) * (points[below + 1] - points[below])
    return change(x, amount, rng).clamp(0, 1)
