"""Artefacts of an MRI acquisition as differentiable functions of a few parameters with stated physical limits.

Each artefact takes images (N, C, H, W), parameters u (N, k) and a ``share`` of its limits. At u = 0 it returns the
images themselves, bit for bit: what it changes is added to them. Everything is written from the physics of the signal,
for images in [0, 1] whose rows are phase-encoding lines; only the real part of the reconstructed image is kept, as a
phase-sensitive reconstruction does.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


class Artefact(ABC):
    """One artefact.

    Attributes:
        name: as in ``acquisition:physics=...``.
        limit: what u = 1 means at a share of 1, for people.
        low: smallest value of each parameter, 0 or -1; the largest is 1.
    """

    name: str
    limit: str
    low: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self.low)


class KSpaceArtefact(Artefact):
    """An artefact that multiplies the k-space of an image."""

    @abstractmethod
    def factor(self, u: Tensor, share: float, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Real and imaginary part, (N, H, W), 1 and 0 at u = 0; in the order of `torch.fft.fftfreq`."""


class ImageArtefact(Artefact):
    """An artefact that is written in image space."""

    @abstractmethod
    def apply(self, x: Tensor, u: Tensor, share: float, noise: Tensor) -> Tensor:
        """The images with the artefact; ``noise`` (N, C, H, W) is standard normal and fixed for each image."""


def _frequencies(n: int, like: Tensor) -> Tensor:
    """Cycles per image, (n,)."""
    frequencies: Tensor = torch.fft.fftfreq(n, 1 / n, device=like.device).to(like.dtype)
    return frequencies


def _grid(n: int, like: Tensor) -> Tensor:
    """Places from -1 to 1, (n,)."""
    return torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype)


class BiasField(ImageArtefact):
    """Smooth multiplicative inhomogeneity of the receive coil: exp of a polynomial of degree 3 (Sled et al. 1998)."""

    name, limit = "bias-field", "factor between 1/1.5 and 1.5"
    powers = tuple((i, j) for i in range(4) for j in range(4) if 0 < i + j <= 3)
    low = (-1.0,) * len(powers)

    def apply(self, x: Tensor, u: Tensor, share: float, noise: Tensor) -> Tensor:
        """The field's logarithm is at most log 1.5 times the share, since each term is within [-1, 1]."""
        rows, columns = _grid(x.shape[2], x), _grid(x.shape[3], x)
        terms = torch.stack([rows[:, None] ** i * columns[None] ** j for i, j in self.powers])
        weights = u / u.abs().sum(1, keepdim=True).clamp_min(1)
        field = math.log(1.5) * share * torch.einsum("nk,khw->nhw", weights, terms)
        lit: Tensor = x * field.exp()[:, None]
        return lit


class Motion(KSpaceArtefact):
    """Rigid translations of the patient between groups of phase-encoding lines (Fourier shift theorem).

    The group with the centre of k-space is the reference: moving all of it moves the image and is no artefact.
    """

    name, limit, groups = "motion", "2 % of the field of view in each direction", 8
    low = (-1.0,) * 2 * (groups - 1)

    def factor(self, u: Tensor, share: float, height: int, width: int) -> tuple[Tensor, Tensor]:
        """A phase ramp for each group of lines."""
        ky, kx = _frequencies(height, u), _frequencies(width, u)
        group = ((ky + height // 2) * self.groups / height).long().clamp(0, self.groups - 1)
        centre = height // 2 * self.groups // height  # of frequency 0, the first; nothing is read back
        moves = 0.02 * share * u.view(len(u), self.groups - 1, 2)
        moves = torch.cat([moves[:, :centre], torch.zeros_like(moves[:, :1]), moves[:, centre:]], 1)[:, group]
        angle = -2 * math.pi * (moves[..., :1] * ky[:, None] + moves[..., 1:] * kx)
        return angle.cos(), angle.sin()


class Ghost(KSpaceArtefact):
    """Nyquist ghost: even and odd lines of an echo train differ in phase and by a shift of the readout."""

    name, limit = "ghost", "0.3 rad between even and odd lines, and 0.5 % of the field of view"
    low = (-1.0, -1.0)

    def factor(self, u: Tensor, share: float, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Opposite phases for even and odd lines."""
        ky, kx = _frequencies(height, u), _frequencies(width, u)
        sign = torch.where(ky.long() % 2 == 0, 1.0, -1.0).to(u.dtype)[:, None]
        angle = share * sign * (0.15 * u[:, 0, None, None] + 2 * math.pi * 0.0025 * u[:, 1, None, None] * kx)
        return angle.cos(), angle.sin()


class Gibbs(KSpaceArtefact):
    """Ringing of a smaller acquisition matrix: high frequencies are missing, and the edge of k-space is sharp."""

    name, limit = "gibbs", "half of the matrix in each direction"
    low = (0.0, 0.0)

    def factor(self, u: Tensor, share: float, height: int, width: int) -> tuple[Tensor, Tensor]:
        """A cut whose place follows u; its edge is one line wide, so that the place has a gradient."""
        kept = [self._kept(_frequencies(n, u), n, share * u[:, at, None]) for at, n in enumerate((height, width))]
        both = kept[0][:, :, None] * kept[1][:, None]
        return both, torch.zeros_like(both)

    @staticmethod
    def _kept(frequency: Tensor, n: int, u: Tensor) -> Tensor:
        edge, onset = n / 2 * (1 - 0.5 * u), u * 20
        onset = torch.where(onset < 1, onset, 1.0)  # clamp has no slope at 0, from where a search must be able to leave
        return 1 - onset * torch.sigmoid(frequency.abs() - edge)


class Spikes(ImageArtefact):
    """Spike noise: single wrong points of k-space, each of which is a stripe pattern over the whole image."""

    name, limit, spikes = "spikes", "two stripe patterns, each 6 % of the intensity range", 2
    #: Of each spike: amplitude, phase, and both frequencies.
    low = (0.0, -1.0, -1.0, -1.0) * spikes

    def apply(self, x: Tensor, u: Tensor, share: float, noise: Tensor) -> Tensor:
        """Cosines of up to a quarter of the image's lines."""
        rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) / n for n in x.shape[2:])
        total = torch.zeros_like(x)
        for spike in u.view(len(u), self.spikes, 4).unbind(1):
            amplitude, phase, up, across = spike.unbind(1)
            ky, kx = (x.shape[axis] / 4 * k[:, None, None] for axis, k in ((2, up), (3, across)))
            angle = 2 * math.pi * (ky * rows[:, None] + kx * columns) + math.pi * phase[:, None, None]
            total = total + (0.06 * share * amplitude[:, None, None] * angle.cos())[:, None]
        return x + total


class KSpaceNoise(ImageArtefact):
    """Thermal noise of the receiver, which is Gaussian in k-space and so in the image."""

    name, limit = "kspace-noise", "standard deviation of 8 % of the intensity range"
    low = (0.0,)

    def apply(self, x: Tensor, u: Tensor, share: float, noise: Tensor) -> Tensor:
        """The size is the parameter; the noise itself is fixed, so that it is no perturbation of single pixels."""
        return x + 0.08 * share * u[:, :, None, None] * noise


#: In the order in which they happen: coil, readout, reconstruction, receiver.
ARTEFACTS: tuple[Artefact, ...] = (BiasField(), Motion(), Ghost(), Gibbs(), Spikes(), KSpaceNoise())
BY_NAME = {artefact.name: artefact for artefact in ARTEFACTS}


def lowest(artefacts: Sequence[Artefact], like: Tensor) -> Tensor:
    """The smallest parameters of all artefacts, (k,)."""
    return torch.tensor([low for artefact in artefacts for low in artefact.low], dtype=like.dtype, device=like.device)


def acquire(x: Tensor, u: Tensor, artefacts: Sequence[Artefact], share: float, noise: Tensor) -> Tensor:
    """Images as acquired with all artefacts, not clamped; differentiable in ``x`` and ``u``.

    Args:
        x: images (N, C, H, W).
        u: parameters of the artefacts one after another, (N, k), each from its ``low`` to 1.
        artefacts: in the order of `ARTEFACTS`.
        share: of the physical limits.
        noise: standard normal, (N, C, H, W).
    """
    sizes = [artefact.size for artefact in artefacts]
    parts = dict(zip((artefact.name for artefact in artefacts), torch.split(u, sizes, 1), strict=True))
    image = x
    for artefact in artefacts:
        if isinstance(artefact, BiasField):
            image = artefact.apply(image, parts[artefact.name], share, noise)
    factors = [
        artefact.factor(parts[artefact.name], share, *x.shape[2:])
        for artefact in artefacts
        if isinstance(artefact, KSpaceArtefact)
    ]
    if factors:
        real, imaginary = factors[0]
        for one, other in factors[1:]:
            real, imaginary = real * one - imaginary * other, real * other + imaginary * one
        space = torch.fft.fft2(image)
        up, across = (real - 1)[:, None], imaginary[:, None]
        change = torch.complex(space.real * up - space.imag * across, space.real * across + space.imag * up)
        image = image + torch.fft.ifft2(change).real
    for artefact in artefacts:
        if isinstance(artefact, ImageArtefact) and not isinstance(artefact, BiasField):
            image = artefact.apply(image, parts[artefact.name], share, noise)
    return image
