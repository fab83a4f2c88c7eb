"""Which values become black and which white: one range for all images on one scale, never one for each file.

The range is that of the parameter ``window``:

- ``CENTER/WIDTH``: fixed, in units of the files, as radiologists write it (``40/400``: -160 to 240 Hounsfield units);
- ``percentile``: from the 0.5th to the 99.5th percentile of the pixels of all images on the scale;
- ``file``: what the files declare. 8 bits: 0 to 255. Unsigned integers: the full range of the bits that the largest
  value of all files needs (10, 12, 14 or 16; scanners store 12 bits in 16). Floats within [0, 1] (largest above 0.5): 0
  to 1. A range that a file states, as DICOM does. Other values, above all signed ones, declare none: percentiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pydantic
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets.pixels import Pixels

LOW, HIGH = 0.5, 99.5
#: Each volume has a range of its own; its reader has brought it to 0 and 1.
VOLUME = "volume"
_BITS = (8, 10, 12, 14, 16)
#: Pixels of each image that percentiles are computed from.
_SAMPLE = 2048
Range = tuple[float, float]


def fixed(window: str) -> Range | None:
    """The range of ``CENTER/WIDTH``; None for ``file`` and ``percentile``; for `VOLUME` 0 to 1.

    Raises:
        ValueError: the text is neither.
    """
    if window in ("file", "percentile"):
        return None
    if window == VOLUME:
        return 0.0, 1.0
    try:
        center, width = map(float, window.split("/"))
    except ValueError:
        center, width = math.nan, 0.0
    if not (math.isfinite(center) and math.isfinite(width) and width > 0):
        raise ValueError(f"{window!r} is no window: file, percentile, or CENTER/WIDTH such as 40/400 (width above 0)")
    return center - width / 2, center + width / 2


def checked(window: str) -> str:
    """``window``, if it may be one."""
    fixed(window)
    return window


def _of_pictures(window: str) -> str:
    if window == VOLUME:
        raise ValueError("'volume' is a window of volumes (nifti): here it is file, percentile, or CENTER/WIDTH")
    return checked(window)


#: A parameter ``window``.
Window = Annotated[str, pydantic.AfterValidator(_of_pictures)]


def scaled(pixels: Pixels, limits: Range) -> NDArray[np.float32]:
    """The values as float32 in [0, 1]: ``limits`` become black and white, values beyond are cut."""
    low, high = limits
    with np.errstate(over="ignore"):  # of the number that marks pixels without a value, such as -3.4e38
        made: NDArray[np.float32] = ((pixels.values - np.float32(low)) / np.float32(high - low)).astype(np.float32)
    made = made.clip(0, 1)
    return 1 - made if pixels.inverted else made


@dataclass
class _Seen:
    count: int = 0
    low: float = math.inf
    high: float = -math.inf
    declared: list[Range | None] = field(default_factory=list)
    sample: list[NDArray[Any]] = field(default_factory=list)


class Survey:
    """What the images of a data set hold, and the range of each scale that follows from it.

    Args:
        window: the parameter.
    """

    def __init__(self, window: str) -> None:
        self.window = window
        self._seen: dict[str, _Seen] = {}
        self._colour_lost = 0

    def add(self, pixels: Pixels) -> None:
        """Take note of one image."""
        seen, values = self._seen.setdefault(pixels.scale, _Seen()), pixels.values
        seen.count += 1
        self._colour_lost += pixels.colour_lost
        seen.low, seen.high = min(seen.low, float(values.min())), max(seen.high, float(values.max()))
        seen.declared.append(pixels.declared)
        flat = values.reshape(-1)
        step = max(1, flat.size // _SAMPLE)
        # A step that shares a factor with the width would take a few columns only.
        while math.gcd(step, values.shape[1] * (values.shape[2] if values.ndim == 3 else 1)) > 1:
            step += 1
        seen.sample.append(flat[::step].copy())

    def ranges(self) -> dict[str, Range]:
        """The range of each scale."""
        return {scale: self._resolved(scale)[0] for scale in self._seen}

    @property
    def plain(self) -> bool:
        """All images have 8 bits, and their own range is wanted: they need no conversion."""
        return self.window == "file" and set(self._seen) == {"8-bit"}

    def on_colour(self) -> list[str]:
        """For the data card: a line where colour was dropped."""
        count = sum(seen.count for seen in self._seen.values())
        return (
            [f"{self._colour_lost} of {rbmed.plural(count, 'image is', 'images are')} {rbmed.COLOUR_LOST}"]
            if self._colour_lost
            else []
        )

    def notes(self) -> list[str]:
        """For the data card: how values became intensities, and what may be wrong with it."""
        lines = self.on_colour()
        for scale in self._seen:
            (low, high), how = self._resolved(scale)
            on = self._on(scale)
            lines.append(f"intensities{on}: window={self.window}, {how}: {low:g} is black, {high:g} white")
            lines += self._dark(scale)
        if len(self._seen) > 1:
            kinds = ", ".join(f"{seen.count} {scale}" for scale, seen in self._seen.items())
            lines.append(f"the files store pixels in different ways ({kinds}); a classifier may learn that instead")
        return lines

    def on_darkness(self) -> list[str]:
        """For the data card: a line for each scale whose images are nearly black."""
        return [line for scale in self._seen for line in self._dark(scale)]

    def _on(self, scale: str) -> str:
        """Which images lines are about."""
        plain = len(self._seen) == 1 and scale == "8-bit"
        return "" if plain else f" of {rbmed.plural(self._seen[scale].count, f'{scale} image')}"

    def _dark(self, scale: str) -> list[str]:
        seen, (low, high) = self._seen[scale], self._resolved(scale)[0]
        bulk = float(np.percentile(np.concatenate(seen.sample), HIGH))
        if seen.low == seen.high or bulk >= low + (high - low) / 16:
            return []
        return [
            f"{HIGH:g} % of the pixels{self._on(scale)} are below {bulk:g}, a sixteenth of the range or less: the "
            "images are nearly black; consider window=percentile or window=CENTER/WIDTH"
        ]

    def _resolved(self, scale: str) -> tuple[Range, str]:
        """The range of a scale and where it comes from."""
        seen = self._seen[scale]
        if limits := fixed(self.window):
            how = f"each volume from its {LOW:g}th to its {HIGH:g}th percentile, brought to 0 and 1"
            return limits, how if self.window == VOLUME else "fixed"
        if self.window == "file":
            if own := _declared(scale, seen):
                return own
            how = "no range is declared, so from"
        else:
            how = "from"
        low, high = map(float, np.percentile(np.concatenate(seen.sample), (LOW, HIGH)))
        how += f" the {LOW:g}th to the {HIGH:g}th percentile of all images"
        if low == high:
            low, high, how = seen.low, seen.high, "lowest and highest value of all images"
        return (low, high if high > low else low + 1), how


def _declared(scale: str, seen: _Seen) -> tuple[Range, str] | None:
    stated = [limits for limits in seen.declared if limits]
    if len(stated) == seen.count:
        return (min(low for low, _ in stated), max(high for _, high in stated)), "stated in the files"
    if scale == "8-bit":
        return (0.0, 255.0), "8 bits"
    if scale == "float":
        return ((0.0, 1.0), "values within [0, 1]") if seen.low >= 0 and 0.5 < seen.high <= 1 else None
    bits = next((bits for bits in _BITS if seen.high < 1 << bits), None)
    if scale not in ("unsigned", "signed") or seen.low < 0 or bits is None:
        return None
    return (0.0, float((1 << bits) - 1)), f"{bits} bits (the largest value of all images is {seen.high:g})"


def grey(values: NDArray[Any]) -> NDArray[Any]:
    """(H, W) of (H, W) or (H, W, 3) for comparisons, of the same type."""
    if values.ndim == 2:
        return values
    mixed = values.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.rint(mixed).astype(values.dtype) if values.dtype == np.uint8 else mixed
