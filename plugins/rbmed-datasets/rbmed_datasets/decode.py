"""Many images decoded: put on common intensities, made square, and checked for being blank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets import files
from rbmed_datasets.intensity import Survey, fixed, grey, scaled
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


@dataclass(frozen=True)
class Decoder(Generic[Item]):
    """Reads images one by one and makes them comparable.

    Attributes:
        read: the pixels of an item, all with the same number of channels.
        size, fit, window: parameters of the data set.
        progress: opens a progress bar.
        title: of the progress bar.
    """

    read: Callable[[Item], Pixels]
    size: int
    fit: files.Fit
    window: str
    progress: Progress
    title: str

    def decode(self, items: Sequence[Item], names: Sequence[str]) -> Decoded:
        """All images; ``names`` of the items are for messages.

        Raises:
            DataError: an image cannot be read, or all are blank.
        """
        survey, blank = Survey(self.window), []
        limits = fixed(self.window)
        made: list[NDArray[Any]] = []
        small: list[NDArray[Any]] = []
        with self.progress.task(self.title, len(items)) as task:
            for at, item in enumerate(items):
                pixels = self.read(item)
                survey.add(pixels)
                if pixels.values.min() == pixels.values.max():
                    blank.append(names[at])
                if limits or survey.plain:
                    self._keep(scaled(pixels, limits) if limits else pixels.values, made, small)
                task.advance()
        if len(blank) == len(items):
            raise DataError(f"every image is blank (one value in all pixels), {blank[0]} for example")
        if not (limits or survey.plain):
            # The range is known only now: all are read again rather than kept at full size and depth.
            made, small, ranges = [], [], survey.ranges()
            with self.progress.task(f"{self.title}: intensities", len(items)) as task:
                for item in items:
                    pixels = self.read(item)
                    self._keep(scaled(pixels, ranges[pixels.scale]), made, small)
                    task.advance()
        notes = survey.notes()
        if blank:
            notes.append(f"{len(blank)} images are blank (one value in all pixels): {some(blank)}")
        images = np.stack(made)
        return Decoded(images, np.stack(small) if small else images, tuple(notes))

    def _keep(self, values: NDArray[Any], made: list[NDArray[Any]], small: list[NDArray[Any]]) -> None:
        made.append(files.square(values, self.size, self.fit))
        if self.size != THUMBNAIL or values.ndim == 3:
            small.append(files.square(grey(values), THUMBNAIL, self.fit))


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
