"""One patient's head: pose, shape, ventricles, atrophy, skull and scalp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rbmed_datasets.brainsim.atlas import Atlas, Floats, Lattice
from rbmed_datasets.brainsim.signal import Sequence, Tissue

#: Centre of the brain in atlas coordinates (y, x), and of the lateral ventricles, mm.
CENTRE = (-18.0, 0.0)
VENTRICLES = (-14.0, 0.0)
#: Axial levels the examined band may take, mm: from above the orbits to below the vertex.
Z_BAND = (-8.0, 46.0)
#: Shells outside the brain, from inside to outside, with their range of thickness in mm.
SHELLS = (
    ("csf", 0.8, 2.2),
    ("bone", 1.2, 2.0),
    ("marrow", 1.2, 3.0),
    ("bone", 1.2, 2.0),
    ("muscle", 0.5, 2.5),
    ("fat", 2.0, 5.5),
    ("muscle", 1.0, 1.6),
)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A patient's head, relative to the atlas.

    Attributes:
        levels: atlas slice index of every examined slice, (K,).
        rotation: in the plane, radians.
        scale: (y, x), patient over atlas.
        shift: (y, x), mm.
        flip: mirrored left to right.
        warp: cosine coefficients of a smooth displacement, mm, (2, M, M).
        ventricle: local magnification of the ventricles; 0 for none.
        atrophy: shrinkage of the brain inside its skull; 0 for none.
        shells: thickness of every shell of `SHELLS`, mm.
        lopsided: cosine coefficients of the relative thickness of the shells, (M, M).
        texture: cosine coefficients of the relative signal of the tissue, (K, T, T).
    """

    levels: tuple[int, ...]
    rotation: float
    scale: tuple[float, float]
    shift: tuple[float, float]
    flip: bool
    warp: Floats
    ventricle: float
    atrophy: float
    shells: tuple[float, ...]
    lopsided: Floats
    texture: Floats


def draw_anatomy(rng: np.random.Generator, atlas: Atlas, slices: int, gap: int) -> Anatomy:
    """A patient with ``slices`` examined slices, ``gap`` mm apart (the middle one inside `Z_BAND`)."""
    middle = rng.uniform(*Z_BAND) - atlas.origin[0]
    first = int(np.clip(round(middle - gap * (slices - 1) / 2), 0, len(atlas.gm) - 1 - gap * (slices - 1)))
    order = np.arange(4)
    decay = 1.0 / (1.0 + order[:, None] ** 2 + order[None, :] ** 2)
    decay[0, 0] = 0.0  # the shift is drawn separately
    fine = np.arange(20)
    rolloff = np.exp(-((fine[:, None] ** 2 + fine[None, :] ** 2) / 14.0**2))
    scale = 1 + rng.uniform(-0.07, 0.07, 2)
    shift = rng.uniform(-5, 5, 2)
    return Anatomy(
        levels=tuple(range(first, first + gap * slices, gap)),
        rotation=float(np.deg2rad(rng.uniform(-5, 5))),
        scale=(float(scale[0]), float(scale[1])),
        shift=(float(shift[0]), float(shift[1])),
        flip=bool(rng.random() < 0.5),
        warp=4.5 * decay * rng.standard_normal((2, 4, 4)),
        ventricle=float(rng.uniform(-0.10, 0.38)),
        atrophy=float(rng.uniform(0.0, 0.05)),
        shells=tuple(float(rng.uniform(low, high)) for _, low, high in SHELLS),
        lopsided=0.5 * decay * rng.standard_normal((4, 4)),
        texture=0.006 * rolloff * rng.standard_normal((slices, 20, 20)),
    )


def cosine_field(coefficients: Floats, size: int) -> Floats:
    """The smooth field of cosine ``coefficients`` (..., M, M) on a square grid: (..., size, size)."""
    order = np.arange(coefficients.shape[-1])
    basis = np.cos(np.pi * (np.arange(size)[:, None] + 0.5) * order / size)
    return np.asarray(basis @ coefficients @ basis.T)


@dataclass(frozen=True, eq=False)
class ScanGrid:
    """The scanner's grid: position (y, x) of every point, mm from its centre, (H, W); the first row is anterior."""

    y: Floats
    x: Floats

    @classmethod
    def square(cls, size: int, field_of_view: float) -> ScanGrid:
        """A grid of ``size`` x ``size`` points over ``field_of_view`` mm."""
        axis = ((np.arange(size) + 0.5) / size - 0.5) * field_of_view
        y, x = np.meshgrid(-axis, axis, indexing="ij")
        return cls(y, x)


def linear(anatomy: Anatomy, y: Floats | float, x: Floats | float) -> tuple[Floats, Floats]:
    """Map a displacement in the scanner, mm, to a displacement in the atlas."""
    cosine, sine = np.cos(anatomy.rotation), np.sin(anatomy.rotation)
    across = -1.0 if anatomy.flip else 1.0
    atlas_y = (cosine * y + sine * x) / anatomy.scale[0]
    atlas_x = across * (cosine * x - sine * y) / anatomy.scale[1]
    return np.asarray(atlas_y), np.asarray(atlas_x)


def to_scanner(anatomy: Anatomy, y: float, x: float) -> tuple[float, float]:
    """Position in the scanner of a point of the atlas, mm; the smooth warp (a few mm) is left out."""
    cosine, sine = np.cos(anatomy.rotation), np.sin(anatomy.rotation)
    a, b = (y - CENTRE[0]) * anatomy.scale[0], (x - CENTRE[1]) * anatomy.scale[1] * (-1.0 if anatomy.flip else 1.0)
    return float(cosine * a - sine * b) + anatomy.shift[0], float(sine * a + cosine * b) + anatomy.shift[1]


def head_coordinates(anatomy: Anatomy, grid: ScanGrid) -> tuple[Floats, Floats]:
    """Atlas coordinates (y, x) in mm of every grid point, (1, H, W): affine and smooth warp."""
    y, x = linear(anatomy, grid.y - anatomy.shift[0], grid.x - anatomy.shift[1])
    bend = cosine_field(anatomy.warp, len(grid.y))
    return (y + CENTRE[0] + bend[0])[None], (x + CENTRE[1] + bend[1])[None]


def brain_lattice(anatomy: Anatomy, atlas: Atlas, y: Floats, x: Floats) -> Lattice:
    """Atlas lattice of the tissue at head coordinates ``y``, ``x``, with atrophy and wider ventricles."""
    y, x = (1 + anatomy.atrophy) * (y - CENTRE[0]) + CENTRE[0], (1 + anatomy.atrophy) * (x - CENTRE[1]) + CENTRE[1]
    dy, dx = y - VENTRICLES[0], x - VENTRICLES[1]
    pull = anatomy.ventricle * np.exp(-(dy**2 + dx**2) / (2 * 24.0**2))
    return voxel_lattice(atlas, y - pull * dy, x - pull * dx)


def voxel_lattice(atlas: Atlas, y: Floats, x: Floats) -> Lattice:
    """Lattice of atlas positions in mm."""
    return Lattice.at(y - atlas.origin[1], x - atlas.origin[2], atlas.gm.shape[1:])


def step(depth: Floats, width: float) -> Floats:
    """0 to 1 as ``depth`` (mm) passes 0, over ``width`` mm: the share of a voxel on the inner side of a border."""
    return np.clip(depth / width + 0.5, 0.0, 1.0)


def head_signal(
    anatomy: Anatomy, distance: Floats, tissues: dict[str, Tissue], sequence: Sequence
) -> tuple[Floats, Floats]:
    """Skull and scalp, given the signed ``distance`` (K, H, W) to the brain's outline in mm.

    Returns:
        The signal of everything outside the brain, and the share of each voxel inside it, both (K, H, W).
    """
    relative = distance / np.clip(1 + cosine_field(anatomy.lopsided, distance.shape[-1]), 0.4, 1.8)
    edges = np.concatenate([[0.0], np.cumsum(anatomy.shells)])
    levels = [sequence.signal(tissues[name]) for name, _, _ in SHELLS]
    # Each border adds the change of signal from one shell to the next, from the outside in.
    jumps = np.diff([0.0, *levels[::-1], 0.0])
    total = np.zeros_like(distance)
    for edge, jump in zip(edges[::-1], jumps, strict=True):
        total += jump * step(edge - relative, 1.4)
    return total, step(-relative, 1.4)
