"""Many images decoded: put on common intensities, made square, and checked for being blank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets import files
from rbmed_datasets.folder import PictureParams
from rbmed_datasets.intensity import Survey, fixed, grey, scaled
from rbmed_datasets.names import some
from rbmed_datasets.pixels import Pixels
from robustbench_med.errors import DataError

if TYPE_CHECKING:
    from robustbench_med.progress import Progress

#: Side of the images that are compared to find near-duplicates.
THUMBNAIL = 64
Item = TypeVar("Item")


@dataclass(frozen=True)
class Decoded:
    """What `decode` gives.

    Attributes:
        images: (N, size, size), or (N, size, size, 3) in colour: uint8 where all files have 8 bits and their own range
            is wanted, else float32 in [0, 1].
        thumbnails: grey, (N, 64, 64), of the same type.
        notes: for the data card.
    """

    images: NDArray[Any]
    thumbnails: NDArray[Any]
    notes: tuple[str, ...]


def decode(
    items: Sequence[Item],
    names: Sequence[str],
    read: Callable[[Item], Pixels],
    params: PictureParams,
    progress: Progress,
) -> Decoded:
    """Many images, read one by one and made comparable.

    Args:
        items: one for each image.
        names: of the items, for messages.
        read: the pixels of an item, all with the same number of channels.
        params: size, fit and window.
        progress: opens a progress bar.

    Raises:
        DataError: an image cannot be read, or all are blank.
    """
    survey, blank = Survey(params.window), []
    limits = fixed(params.window)
    made: list[NDArray[Any]] = []
    small: list[NDArray[Any]] = []

    def keep(values: NDArray[Any]) -> None:
        made.append(files.square(values, params.size, params.fit))
        if params.size != THUMBNAIL or values.ndim == 3:
            small.append(files.square(grey(values), THUMBNAIL, params.fit))

    with progress.task("reading images", len(items)) as task:
        for at, item in enumerate(items):
            pixels = read(item)
            survey.add(pixels)
            if pixels.values.min() == pixels.values.max():
                blank.append(names[at])
            if limits or survey.plain:
                keep(scaled(pixels, limits) if limits else pixels.values)
            task.advance()
    if len(blank) == len(items):
        raise DataError(f"every image is blank (one value in all pixels), {blank[0]} for example")
    if not (limits or survey.plain):
        # The range is known only now: all are read again rather than kept at full size and depth.
        made.clear()
        small.clear()
        ranges = survey.ranges()
        with progress.task("reading images: intensities", len(items)) as task:
            for item in items:
                pixels = read(item)
                keep(scaled(pixels, ranges[pixels.scale]))
                task.advance()
    notes = survey.notes()
    if blank:
        notes.append(
            f"{rbmed.plural(len(blank), 'image is', 'images are')} blank (one value in all pixels): {some(blank)}"
        )
    images = np.stack(made)
    return Decoded(images, np.stack(small) if small else images, tuple(notes))
