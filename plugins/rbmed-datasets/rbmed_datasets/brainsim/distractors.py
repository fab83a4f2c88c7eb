"""Findings that are not tumours, in patients with and without one.

White-matter lesions, lacunes and vessels are drawn in atlas space, so that they follow the patient's anatomy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets.brainsim.anatomy import Anatomy
from rbmed_datasets.brainsim.atlas import Atlas

#: Channels of the painted volume.
KINDS = ("gliosis", "lacune", "vessel")
Paint = NDArray[np.float32]


def _blob(
    plane: Paint,
    channel: int,
    levels: NDArray[np.intp],
    centre: NDArray[np.float64],
    radii: tuple[float, float, float],
    strength: float,
) -> None:
    """Add an ellipsoid with a soft border; ``centre`` (z, y, x) in voxels, ``radii`` in mm."""
    z, y, x = centre
    reach = int(max(radii[1:]) * 1.6) + 2
    rows = np.arange(max(int(y) - reach, 0), min(int(y) + reach + 1, plane.shape[1]))
    columns = np.arange(max(int(x) - reach, 0), min(int(x) + reach + 1, plane.shape[2]))
    away = (
        ((levels - z) / radii[0])[:, None, None] ** 2
        + ((rows - y) / radii[1])[:, None] ** 2
        + ((columns - x) / radii[2]) ** 2
    )
    value = (strength * np.clip(1.5 - away, 0, 1)).astype(np.float32)
    window = plane[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, channel]
    np.maximum(window, value, out=window)


def _pick(rng: np.random.Generator, allowed: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """``count`` random voxels (y, x) of ``allowed``, (count, 2); none if no voxel is allowed."""
    rows, columns = np.nonzero(allowed)
    if not len(rows):
        return np.empty((0, 2), dtype=np.intp)
    chosen = rng.integers(0, len(rows), count)
    return np.stack([rows[chosen], columns[chosen]], axis=1)


def paint(rng: np.random.Generator, atlas: Atlas, anatomy: Anatomy) -> Paint:
    """Fractions of `KINDS` in the examined slices: (K, Y, X, 3) in [0, 1]."""
    levels = np.asarray(anatomy.levels, dtype=np.intp)
    middle = int(levels[len(levels) // 2])
    gm, wm, csf, distance = atlas.gm[middle], atlas.wm[middle], atlas.csf[middle], atlas.distance(middle)
    plane = np.zeros((len(levels), *gm.shape, len(KINDS)), dtype=np.float32)

    def place(channel: int, where: NDArray[np.bool_], count: int, low: float, high: float, tall: float) -> None:
        for y, x in _pick(rng, where, count):
            centre = np.array([rng.uniform(levels[0], levels[-1]), y, x], dtype=np.float64)
            a, b = rng.uniform(low, high, 2)
            _blob(plane, channel, levels, centre, (tall * a, a, b), float(rng.uniform(0.6, 1.0)))

    place(0, (wm > 200) & (distance < -18), int(rng.poisson(rng.choice([0.5, 3.0, 8.0]))), 1.5, 4.0, 1.5)
    place(1, (wm > 120) & (distance < -25), int(rng.poisson(0.5)), 1.2, 2.8, 1.5)
    place(2, (csf > 90) & (distance > -14) & (distance < -1), int(rng.integers(8, 18)), 0.9, 1.7, 4.0)
    place(2, (csf > 128) & (distance < -38), int(rng.integers(0, 5)), 1.2, 2.6, 3.0)
    _sinus(plane, rng, atlas, levels)
    np.minimum(plane[..., 1], 1 - plane[..., 0], out=plane[..., 1])
    return plane


def _sinus(plane: Paint, rng: np.random.Generator, atlas: Atlas, levels: NDArray[np.intp]) -> None:
    """The superior sagittal sinus, behind and in front on the midline of every slice."""
    column = -atlas.origin[2] + rng.uniform(-1.5, 1.5)
    width, height = rng.uniform(2.5, 4.5), rng.uniform(2.0, 3.5)
    for k, level in enumerate(levels):
        rows = np.flatnonzero(atlas.distance(int(level))[:, round(column)] < 0)
        for row, size in ((rows[0] + 1, 1.0), (rows[-1] - 1, 0.5)):
            centre = np.array([level, row, column], dtype=np.float64)
            _blob(plane[k : k + 1], 2, levels[k : k + 1], centre, (1.0, size * height, size * width), 1.0)
