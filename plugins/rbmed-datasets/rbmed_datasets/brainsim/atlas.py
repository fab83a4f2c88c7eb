"""The tissue atlas: grey matter, white matter, the brain's outline, and resampling.

Derived from ICBM152-2009 by ``tools/build_brainsim_atlas.py``; its notice is ``data/NOTICE``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

#: Empty border around the maps, mm: room for skull and scalp.
PAD = 34


@dataclass(frozen=True, eq=False)
class Atlas:
    """Maps at 1 mm, axes (slice, y, x), y towards the face, x towards the right.

    Attributes:
        gm: grey matter, 255 meaning 1.
        wm: white matter.
        csf: cerebrospinal fluid inside the brain's outline; the three add up to 255 there.
        origin: position (z, y, x) of the first voxel, mm from the anterior commissure.
    """

    gm: Bytes
    wm: Bytes
    csf: Bytes
    origin: tuple[int, int, int]

    @lru_cache(maxsize=256)  # noqa: B019 - one atlas lives as long as the process
    def distance(self, index: int) -> NDArray[np.float32]:
        """Signed distance to the brain's outline in one slice, mm: negative inside, shape (Y, X)."""
        from scipy import ndimage  # only where images are rendered: its import takes as long as planning

        inside = (self.gm[index].astype(np.int64) + self.wm[index] + self.csf[index]) >= 128
        outer, inner = ndimage.distance_transform_edt(~inside), ndimage.distance_transform_edt(inside)
        smooth: Floats = ndimage.gaussian_filter(outer - inner, 2.0)
        return smooth.astype(np.float32)


def atlas_bytes() -> bytes:
    """The shipped file."""
    return files(__package__).joinpath("data", "atlas.npz").read_bytes()


@cache
def atlas_digest() -> str:
    """Blake2b hex digest of the shipped file."""
    return hashlib.blake2b(atlas_bytes(), digest_size=16).hexdigest()


@cache
def load_atlas() -> Atlas:
    """The shipped atlas, padded by `PAD` mm in the plane."""
    with files(__package__).joinpath("data", "atlas.npz").open("rb") as file, np.load(file, allow_pickle=False) as data:
        z, y, x = (int(v) for v in data["origin"])
        border = ((0, 0), (PAD, PAD), (PAD, PAD))
        gm, wm, csf = (np.pad(data[name], border) for name in ("gm", "wm", "csf"))
    return Atlas(gm, wm, csf, (z, y - PAD, x - PAD))


@dataclass(frozen=True)
class Lattice:
    """Positions among atlas voxels: four neighbours and their bilinear weights, each (4, 1 or K, H, W)."""

    index: NDArray[np.intp]
    weight: Floats

    @classmethod
    def at(cls, y: Floats, x: Floats, shape: tuple[int, int]) -> Lattice:
        """Lattice of voxel coordinates ``y``, ``x`` (1 or K, H, W) in planes of ``shape`` (Y, X)."""
        rows, columns = shape
        y, x = np.clip(y, 0, rows - 1.001), np.clip(x, 0, columns - 1.001)
        top, left = y.astype(np.intp), x.astype(np.intp)
        fy, fx = y - top, x - left
        first = top * columns + left
        index = np.stack([first, first + 1, first + columns, first + columns + 1])
        weight = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx])
        return cls(index, weight)

    def sample(self, planes: NDArray[np.float32]) -> Floats:
        """Values of ``planes`` (K, Y, X, C) at the points, a lattice of one plane serving all K: (C, K, H, W)."""
        count, rows, columns, channels = planes.shape
        offset = (np.arange(count) * rows * columns)[:, None, None]
        flat = planes.reshape(-1, channels)
        total = np.zeros((count, *self.index.shape[2:], channels))
        for index, weight in zip(self.index, self.weight, strict=True):
            total += np.take(flat, index + offset, axis=0) * weight[..., None]
        return np.ascontiguousarray(np.moveaxis(total, -1, 0))
