"""Derive the tissue atlas that brainsim ships from the ICBM152-2009 maps inside nilearn's wheel.

    python tools/build_brainsim_atlas.py [nilearn-0.14.1-py3-none-any.whl]

Without an argument the wheel is downloaded with pip. The same wheel gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

WHEEL = "nilearn==0.14.1"
MEMBER = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
TARGET = Path(__file__).parents[1] / "plugins/rbmed-datasets/rbmed_datasets/brainsim/data/atlas.npz"
#: Lowest and highest axial slice kept, mm above the anterior commissure: 107 slices.
Z_RANGE = (-36, 70)
#: The brain envelope is closed over gaps of twice this radius (sulci, fissures), mm.
CLOSING = 8


def read_map(wheel: zipfile.ZipFile, tissue: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The uint8 volume of ``tissue`` with axes (x, y, z) at 1 mm, and the position of its first voxel, mm."""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(wheel.read(MEMBER.format(tissue))))
    return np.asarray(image.dataobj, dtype=np.uint8), np.asarray(image.affine[:3, 3], dtype=np.float64)


def envelope(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The smooth outline of the brain in one slice, ventricles and sulci included."""
    margin = 3 * CLOSING
    padded = np.pad(inside, margin)
    grown = ndimage.distance_transform_edt(~padded) <= CLOSING
    closed = ndimage.distance_transform_edt(grown) > CLOSING
    filled = ndimage.binary_fill_holes(closed | padded)
    smooth = ndimage.gaussian_filter(filled.astype(np.float64), 2.0) > 0.5
    return smooth[margin:-margin, margin:-margin]


def build(path: Path) -> dict[str, NDArray[np.generic]]:
    """Grey matter, white matter and CSF as uint8 (slice, y, x), with the position of the first voxel in mm."""
    with zipfile.ZipFile(path) as wheel:
        (gm, origin), (wm, _), (t1, _) = (read_map(wheel, tissue) for tissue in ("gm", "wm", "t1"))
    first = int(Z_RANGE[0] - origin[2])
    keep = slice(first, first + Z_RANGE[1] - Z_RANGE[0] + 1)
    gm, wm, t1 = (volume[:, :, keep].transpose(2, 1, 0) for volume in (gm, wm, t1))
    brain = np.stack([envelope(part) for part in (t1 > 20) | (gm.astype(int) + wm > 128)])
    # Below 2 % a probability is registration haze; dropping it halves the file.
    gm, wm = (np.where(brain & (volume >= 5), volume, 0) for volume in (gm, wm))
    csf = np.where(brain, np.clip(255 - gm.astype(int) - wm, 0, 255), 0)
    rows, columns = (np.flatnonzero(brain.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    corner = np.array([Z_RANGE[0], origin[1] + rows[0], origin[0] + columns[0]], dtype=np.int64)
    maps = {name: np.ascontiguousarray(m[box], dtype=np.uint8) for name, m in (("gm", gm), ("wm", wm), ("csf", csf))}
    return {**maps, "origin": corner}


def download(folder: Path) -> Path:
    """Fetch the wheel with pip."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", str(folder), WHEEL],
        check=True,
    )
    return next(folder.glob("nilearn-*.whl"))


def main() -> None:
    """Write the atlas and print its digest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=TARGET)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        maps = build(options.wheel or download(Path(folder)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out, allow_pickle=False, **maps)
    digest = hashlib.blake2b(options.out.read_bytes(), digest_size=16).hexdigest()
    print(f"{options.out}: {maps['gm'].shape}, {options.out.stat().st_size / 2**20:.2f} MiB, blake2b {digest}")


if __name__ == "__main__":
    main()
