"""Volumes of NIfTI files: upright slices with square pixels, and the label maps that belong to them.

Axes are those of DICOM: the first runs from right to left, the second from front to back, the third from head to foot.
A slice is shown as radiologists see it, with the patient's left at the right.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from rbmed_datasets.intensity import HIGH, LOW, Range
from rbmed_datasets.names import IGNORED
from rbmed_datasets.pixels import finite
from robustbench_med.errors import DataError

SUFFIXES = (".nii", ".nii.gz")
Axis = Literal["axial", "coronal", "sagittal"]
_ACROSS: dict[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
#: The header of a small file can claim any size.
_MOST = 1 << 29
_LARGEST_LABEL = (1 << 16) - 1


@dataclass(frozen=True)
class Volume:
    """A volume in the axes of this module.

    Attributes:
        values: float32 (X, Y, Z).
        spacing: mm between voxels along each axis.
        affine: from voxels to mm, (4, 4).
        oriented: the file states how it lies in space.
        declared: the range that the file declares for display, or None.
    """

    values: NDArray[np.float32]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    oriented: bool
    declared: Range | None = None

    @cached_property
    def limits(self) -> Range:
        """From the 0.5th to the 99.5th percentile, or, where they are equal, from the lowest to the highest value."""
        low, high = map(float, np.percentile(self.values, (LOW, HIGH)))
        return (low, high) if low < high else (float(self.values.min()), float(self.values.max()) + 1e-6)

    def count(self, axis: Axis) -> int:
        """Number of slices across ``axis``."""
        return int(self.values.shape[_ACROSS[axis]])

    def slice(self, axis: Axis, at: int) -> NDArray[np.float32]:
        """Slice ``at``, counted from the head, the front or the right; one pixel for each voxel."""
        found: NDArray[np.float32] = np.take(self.values, [at], axis=_ACROSS[axis]).squeeze(_ACROSS[axis]).T
        return found

    def pixel(self, axis: Axis) -> tuple[float, float]:
        """Mm between the rows and between the columns of a slice."""
        across = _ACROSS[axis]
        columns, rows = (self.spacing[each] for each in range(3) if each != across)
        return rows, columns


@dataclass
class Reader:
    """Reads volumes and keeps the last one, because slices of one follow each other.

    Attributes:
        frame: of files with four dimensions.
        lowest: the lowest value that was seen.
        unoriented: files that do not state how they lie in space.
    """

    frame: int | None
    lowest: float = 0.0
    unoriented: set[str] = field(default_factory=set)
    _last: tuple[Path, Volume] | None = None

    def read(self, path: Path) -> Volume:
        """See `read`."""
        if self._last is None or self._last[0] != path:
            volume = read(path, self.frame)
            self.lowest = min(self.lowest, float(volume.values.min()))
            if not volume.oriented:
                self.unoriented.add(path.name)
            self._last = path, volume
        return self._last[1]


def stem(path: Path) -> str:
    """The name without ``.nii`` or ``.nii.gz``."""
    return path.name[: path.name.lower().rindex(".nii")]


def is_volume(path: Path) -> bool:
    """By the extension."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(IGNORED) and path.is_file()


@contextmanager
def _no_log() -> Iterator[None]:
    """Without what nibabel logs of each header that it mends; the orientation that is unknown then is a note."""
    logger = logging.getLogger("nibabel.global")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def read(path: Path, frame: int | None = None, remedy: str = "") -> Volume:
    """The volume of a file; of a file with four dimensions the one numbered ``frame``, from 0.

    ``remedy`` says what to do about a file of several where none can be chosen.

    Raises:
        DataError: no NIfTI file, damaged, too large, not a volume, or a voxel is NaN or infinite.
    """
    try:
        with _no_log():
            image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):
            raise DataError(f"volume {path} is no NIfTI file")
        values = _values(path, image, frame, remedy)
    except DataError:
        raise
    except Exception as error:  # nibabel and gzip raise many kinds on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read volume {path}: {reason}") from error
    affine = np.asarray(image.affine, dtype=np.float64)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not (np.isfinite(affine).all() and (spacing > 0).all() and abs(np.linalg.det(affine)) > 1e-9):
        raise DataError(f"volume {path} has no valid affine (voxel sizes {spacing.tolist()})")
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt("LPI"))
    affine = affine @ orientations.inv_ornt_aff(turn, values.shape)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return Volume(
        values=np.ascontiguousarray(orientations.apply_orientation(finite(values, path), turn)),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        affine=affine,
        oriented=bool(image.header["sform_code"] or image.header["qform_code"]),
        declared=_declared(image),
    )


def _declared(image: nib.Nifti1Image) -> Range | None:
    low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _values(path: Path, image: nib.Nifti1Image, frame: int | None, remedy: str) -> NDArray[Any]:
    shape = image.shape
    if not shape or min(shape) < 1 or np.prod(shape, dtype=float) > _MOST:
        raise DataError(f"volume {path} has {' x '.join(map(str, shape))} voxels; 1 to {_MOST} are read")
    if image.get_data_dtype().kind not in "fiu":
        raise DataError(f"volume {path} has voxels of type {image.get_data_dtype()}; numbers are read")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4):
        raise DataError(f"volume {path} has {len(shape)} dimensions ({' x '.join(map(str, shape))}); 3 are read")
    if len(shape) == 3:
        return np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
    if frame is None or frame >= shape[3]:
        remedy = remedy or f"choose one with image=0 to {shape[3] - 1}"
        raise DataError(f"volume {path} has {shape[3]} images in one file; {remedy}")
    return np.asarray(image.dataobj[..., frame], dtype=np.float32).reshape(shape[:3])


def labels(path: Path, image: Volume, scan: Path) -> NDArray[np.int64]:
    """The label map ``path`` of ``image``, whole numbers from 0, (X, Y, Z).

    Raises:
        DataError: see `read`; or it holds other numbers, or does not lie on the image.
    """
    found = read(path, None, "keep one label map in each file")
    if found.values.shape != image.values.shape:
        sizes = [" x ".join(map(str, each.values.shape)) for each in (found, image)]
        raise DataError(f"label map {path} has {sizes[0]} voxels, its image {scan.name} {sizes[1]}")
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    corners[:, :3] *= np.array(found.values.shape) - 1
    apart = float(np.abs((found.affine - image.affine) @ corners.T)[:3].max())
    if apart > min(image.spacing):
        raise DataError(f"label map {path} lies up to {apart:.3g} mm beside its image {scan.name}")
    if (found.values != np.rint(found.values)).any() or found.values.min() < 0 or found.values.max() > _LARGEST_LABEL:
        raise DataError(f"label map {path} holds values that are no labels (whole numbers from 0 to {_LARGEST_LABEL})")
    return found.values.astype(np.int64)
