"""The arrays of a ``.npz`` file in the layout of MedMNIST: images and labels of its parts."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustbench_med.errors import DataError

PARTS = {"train": "train", "val": "calibration", "test": "test"}
#: Fewer rows, columns or slices are those of channels.
_LEAST = 5


def read(stored: Any, path: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images, uint8 (N, H, W), in colour (N, H, W, 3), volumes (N, D, H, W); and labels, see `_labels`.

    Raises:
        DataError: an array is missing, damaged, or of another shape or type.
    """
    images, labels = _array(stored, path, f"{part}_images"), _array(stored, path, f"{part}_labels")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise DataError(f"file {path}: {part}_images are {images.dtype} {images.shape}, not uint8 (N, H, W[, 3 or D])")
    if images.ndim == 4 and 1 in (images.shape[1], images.shape[3]):  # grey with a channel of its own
        images = images[..., 0] if images.shape[3] == 1 else images[:, 0]
    elif images.ndim == 4 and (min(images.shape[1:3]) < _LEAST or images.shape[3] in (2, 4)):
        raise DataError(
            f"file {path}: {part}_images have the shape {images.shape}; images are (N, H, W) or (N, H, W, 3), with the "
            f"channels last and without opacity, and volumes (N, D, H, W) with {_LEAST} slices or more"
        )
    return images, _labels(path, part, labels, len(images))


def _array(stored: Any, path: Path, name: str) -> NDArray[Any]:
    try:
        found: NDArray[Any] = stored[name]
    except KeyError:
        raise DataError(f"file {path} has no {name}; MedMNIST has images and labels of train, val and test") from None
    except Exception as error:  # numpy, zipfile and zlib raise many kinds on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read {name} of {path}: {reason}") from error
    return found


def _labels(path: Path, part: str, labels: NDArray[Any], images: int) -> NDArray[np.int64]:
    """(N,), or 0 and 1 for each of several findings, (N, K)."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        if len(labels) != images or labels.dtype.kind not in "iub" or not np.isin(labels, (0, 1)).all():
            raise DataError(f"file {path}: {part}_labels are {labels.dtype} {labels.shape}, not 0 and 1 for each image")
        return labels.astype(np.int64)
    if labels.size != images or labels.dtype.kind not in "iu":
        raise DataError(f"file {path}: {part}_labels are {labels.dtype} {labels.shape}, not {images} whole numbers")
    if labels.min() < 0:
        raise DataError(f"file {path}: {part}_labels hold {labels.min()}; labels are whole numbers from 0")
    return labels.reshape(-1).astype(np.int64)


def is_one_hot(labels: NDArray[Any]) -> bool:
    """Whether (N, K) has exactly one 1 in each row, and at least one in each column."""
    several = labels.ndim == 2 and labels.shape[1] > 1
    return several and bool((labels.sum(axis=1) == 1).all() and labels.any(axis=0).all())


def fact(path: Path, classes: str) -> str:
    """What of a file was once read otherwise, empty for most; ``classes`` where its labels may be one-hot."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            labels = np.concatenate([stored[f"{part}_labels"] for part in PARTS])
            with zipfile.ZipFile(path) as archive, archive.open("train_images.npy") as file:
                np.lib.format.read_magic(file)
                shape = np.lib.format.read_array_header_1_0(file)[0]
    except Exception:  # noqa: BLE001 - a file that cannot be read is refused where it is read
        return ""
    told = ["grey"] if len(shape) == 4 and shape[3] == 1 else []
    told += [classes] if classes and is_one_hot(labels) else []
    return " ".join(told)
