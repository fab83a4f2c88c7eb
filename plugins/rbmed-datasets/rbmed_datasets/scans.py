"""All images of a folder, decoded, before they are divided into splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Task = Literal["multi-class", "multi-label", "ordinal"]


@dataclass(frozen=True)
class Scans:
    """All images of a folder, decoded.

    Attributes:
        classes: class names, in label order.
        images: (N, H, W), in colour (N, H, W, 3); uint8, or float32 in [0, 1].
        labels: int64 (N,); of a multi-label task 0 and 1, (N, K).
        patients: (N,) patient or group ids.
        sites: (N,) site ids.
        masks: bool (N, H, W), or None.
        notes: facts for the data card.
        units: (N,) ids of what stays in one split; None for the patients.
        patients_known: ids are of patients; False where they are of groups of similar images.
        official: (N,) split of each image, from `SPLITS`, if the one of the data set is to be kept.
        task: what labels say.
    """

    classes: tuple[str, ...]
    images: NDArray[Any]
    labels: NDArray[np.int64]
    patients: tuple[str, ...]
    sites: tuple[str, ...]
    masks: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    units: tuple[str, ...] | None = None
    official: NDArray[np.str_] | None = None
    patients_known: bool = True
    task: Task = "multi-class"
