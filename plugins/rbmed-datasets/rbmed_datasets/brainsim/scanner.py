"""Four hospitals and their scanners: from signal to 8-bit images."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rbmed_datasets.brainsim.anatomy import cosine_field
from rbmed_datasets.brainsim.atlas import Bytes, Floats

Range = tuple[float, float]


@dataclass(frozen=True)
class Hospital:
    """A hospital's scanner and patients.

    Attributes:
        name: site id.
        prevalence: share of patients with a tumour.
        mix: probability of each sequence.
        bias: strength of the coil's bias field, log units.
        matrix: acquired share of k-space along each axis.
        motion: standard deviation of the head's movement during a scan, mm.
        noise: standard deviation of the noise in each channel, share of the display window.
        window: upper end of the display window, relative to the brain's 99th percentile.
        gamma: exponent of the display curve.
        quality: JPEG quality of the export.
    """

    name: str
    prevalence: float
    mix: dict[str, float]
    bias: Range
    matrix: Range
    motion: Range
    noise: Range
    window: Range
    gamma: Range
    quality: tuple[int, int]


HOSPITALS = (
    Hospital(
        "hospital-1",
        0.60,
        {"t1": 0.15, "t1c": 0.60, "t2": 0.10, "flair": 0.15},
        bias=(0.08, 0.22),
        matrix=(0.92, 1.0),
        motion=(0.0, 0.4),
        noise=(0.008, 0.018),
        window=(0.90, 1.50),
        gamma=(0.75, 1.15),
        quality=(90, 97),
    ),
    Hospital(
        "hospital-2",
        0.45,
        {"t1": 0.10, "t1c": 0.10, "t2": 0.60, "flair": 0.20},
        bias=(0.04, 0.12),
        matrix=(0.80, 0.92),
        motion=(0.0, 0.8),
        noise=(0.015, 0.030),
        window=(0.80, 1.60),
        gamma=(0.70, 1.35),
        quality=(75, 88),
    ),
    Hospital(
        "hospital-3",
        0.55,
        {"t1": 0.10, "t1c": 0.20, "t2": 0.15, "flair": 0.55},
        bias=(0.06, 0.18),
        matrix=(0.86, 1.0),
        motion=(0.3, 1.3),
        noise=(0.012, 0.025),
        window=(0.85, 1.50),
        gamma=(0.75, 1.20),
        quality=(82, 94),
    ),
    Hospital(
        "hospital-4",
        0.40,
        {"t1": 0.35, "t1c": 0.25, "t2": 0.25, "flair": 0.15},
        bias=(0.02, 0.10),
        matrix=(0.72, 0.86),
        motion=(0.0, 0.8),
        noise=(0.025, 0.045),
        window=(0.85, 1.45),
        gamma=(0.75, 1.25),
        quality=(70, 85),
    ),
)


@dataclass(frozen=True, eq=False)
class Scan:
    """One examination's settings, and the random fields that all renders of it share.

    Attributes:
        field_of_view: mm.
        bias: multiplicative bias field on the fine grid, (H, W).
        acquired: side of the acquired k-space matrix, points.
        motion: displacement (y, x) of the head at every k-space line, mm, (2, K, S).
        noise: complex noise of unit standard deviation per channel, (K, S, S).
        sigma: standard deviation of the noise, share of the window.
        window: upper end of the display window, relative to the brain's 99th percentile.
        gamma: exponent of the display curve.
        quality: JPEG quality.
    """

    field_of_view: float
    bias: Floats
    acquired: int
    motion: Floats
    noise: NDArray[np.complex128]
    sigma: float
    window: float
    gamma: float
    quality: int


def fine_size(size: int) -> int:
    """Side of the grid the anatomy is computed on: twice the image's where the atlas has that detail, always even."""
    return max(size, min(2 * size, 192))


def draw_scan(rng: np.random.Generator, hospital: Hospital, size: int, slices: int) -> Scan:
    """Settings of one examination of ``slices`` slices at ``size`` px."""
    order = np.arange(4)
    decay = 1.0 / (1.0 + order[:, None] ** 2 + order[None, :] ** 2)
    decay[0, 0] = 0.0
    strength = 2 * rng.uniform(*hospital.bias)
    bias = np.exp(strength * cosine_field(decay * rng.standard_normal((4, 4)), fine_size(size)))
    # A few sudden movements: segments of neighbouring k-space lines share a position.
    segments = 6
    positions = rng.uniform(*hospital.motion) * rng.standard_normal((2, slices, segments))
    lines = (np.arange(size) * segments) // size
    return Scan(
        field_of_view=float(rng.uniform(208, 226)),
        bias=bias,
        acquired=2 * max(8, round(size * float(rng.uniform(*hospital.matrix)) / 2)),
        motion=positions[:, :, lines],
        noise=rng.standard_normal((slices, size, size)) + 1j * rng.standard_normal((slices, size, size)),
        sigma=float(rng.uniform(*hospital.noise)),
        window=float(rng.uniform(*hospital.window)),
        gamma=float(rng.uniform(*hospital.gamma)),
        quality=int(rng.integers(hospital.quality[0], hospital.quality[1] + 1)),
    )


def k_space(signal: Floats, size: int) -> NDArray[np.complex128]:
    """The central ``size`` x ``size`` points of k-space of fine images (K, F, F), scaled for images of that size."""
    from scipy import fft  # only where images are rendered, as in `image_of`

    fine = signal.shape[-1]
    low = (fine - size) // 2
    spectrum = fft.fftshift(fft.fft2(signal), axes=(-2, -1))[..., low : low + size, low : low + size]
    return np.asarray(spectrum * (size / fine) ** 2)


def image_of(spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Complex images of a centred k-space."""
    from scipy import fft

    return np.asarray(fft.ifft2(fft.ifftshift(spectrum, axes=(-2, -1))))


def half_pixel(fine: int, size: int) -> NDArray[np.complex128]:
    """The phase ramp (size, size) that moves a cropped spectrum from fine to coarse pixel centres."""
    k = np.arange(size) - size // 2
    ramp = np.exp(2j * np.pi * k * (0.5 / size - 0.5 / fine))
    return np.asarray(ramp[:, None] * ramp[None, :])


def resample(fraction: Floats, size: int) -> Floats:
    """Fine maps (K, F, F) at ``size`` px, without scanner effects."""
    return np.asarray(image_of(k_space(fraction, size) * half_pixel(fraction.shape[-1], size)).real)


def acquire(signal: Floats, scan: Scan, ceiling: float) -> Bytes:
    """Scan fine signal (K, F, F) and export it as 8-bit images (K, S, S).

    ``ceiling`` is the signal displayed as white. It comes from the scan without a tumour, so that the window does not
    depend on the label.
    """
    size, fine = scan.noise.shape[-1], signal.shape[-1]
    k = np.arange(size) - size // 2
    shift_y, shift_x = scan.motion / scan.field_of_view
    # Lines are phase-encoded along the first axis: line i was acquired with the head at motion[:, :, i].
    ghost = np.exp(-2j * np.pi * (k * shift_y)[:, :, None]) * np.exp(-2j * np.pi * shift_x[:, :, None] * k)
    # Hann-like roll-off over the outer fifth of the acquired matrix, as vendors apply against ringing.
    edge = np.clip((scan.acquired / 2 - np.abs(k)) / (0.2 * scan.acquired / 2), 0, 1)
    taper = np.sin(np.pi / 2 * edge)
    spectrum = k_space(signal * scan.bias, size) * half_pixel(fine, size) * ghost * (taper[:, None] * taper)
    magnitude = np.abs(image_of(spectrum) / ceiling + scan.sigma * scan.noise)
    shown = np.clip(magnitude, 0, 1) ** scan.gamma
    eight_bit = np.floor(255 * shown + 0.5).astype(np.uint8)
    return np.stack([_jpeg(image, scan.quality) for image in eight_bit])


def _jpeg(image: Bytes, quality: int) -> Bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as file:
        return np.asarray(file, dtype=np.uint8)
