"""Lesion masks of images: read, united and made square."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rbmed_datasets import files
from robustbench_med.errors import DataError


def read_masks(
    masks: Sequence[Sequence[Path]],
    scans: Sequence[str],
    shape_of: Callable[[int], tuple[int, ...]],
    size: int,
    fit: files.Fit,
) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """The masks of every image, bool (N, size, size), None where no image has one; and notes for the data card.

    ``scans`` are the names of the images, ``shape_of`` gives height and width of one by its number. Several masks of an
    image are united; an image without one has an empty mask. A pixel is set where more than half of its area is.

    Raises:
        DataError: a mask is unreadable, or not of the size of its image.
    """
    if not any(masks):
        return None, []
    made = np.zeros((len(masks), size, size), dtype=np.bool_)
    for at, (several, scan) in enumerate(zip(masks, scans, strict=True)):
        for path in several:
            lesion = files.mask(path)
            height, width = shape_of(at)[:2]
            if lesion.shape != (height, width):
                raise DataError(
                    f"image {scan} is {width} x {height} pixels, its mask {path.name} {lesion.shape[1]} x "
                    f"{lesion.shape[0]}"
                )
            area = lesion.astype(np.uint8) * 255
            made[at] |= files.square(area, size, fit, Image.Resampling.BOX) > 127
    lacking = [scan for several, scan in zip(masks, scans, strict=True) if not several]
    notes = [f"lesion masks: {len(masks) - len(lacking)} of {len(masks)} images"]
    if lacking:
        notes[0] += f"; without a mask, {lacking[0]} for example, an image counts as without a lesion"
    return made, notes
