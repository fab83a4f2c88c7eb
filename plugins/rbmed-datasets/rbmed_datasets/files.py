"""Reading an untrusted image file: format by content, bounded size, upright, grey, square."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from robustbench_med.errors import DataError

Fit = Literal["pad", "squash"]

# Only raster decoders: Pillow would otherwise pass EPS files, whatever their extension, to Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
SUFFIXES = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jfif": "JPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
#: Limit on an image's size: the header of a file of a few kB can claim gigapixels.
MAX_PIXELS = 64_000_000


def natural_key(name: str) -> tuple[tuple[tuple[bool, int, str], ...], str]:
    """Sort key that orders ``y2.jpg`` before ``y10.jpg``; case matters only between otherwise equal names."""
    parts = [part for part in re.split("([0-9]+)", name.casefold()) if part]
    return tuple((False, int(part), "") if part.isdecimal() else (True, 0, part) for part in parts), name


def images_in(folder: Path) -> list[Path]:
    """The image files directly in ``folder`` (by extension, any case), in natural order; hidden files are left out."""
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    return sorted(found, key=lambda path: natural_key(path.name))


def load(path: Path) -> Image.Image:
    """Decode ``path`` by its content, not by its extension, and apply its EXIF orientation.

    Raises:
        DataError: the file is missing, not an image, damaged, or larger than `MAX_PIXELS`.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"image {path} is {image.width} x {image.height} pixels; at most {MAX_PIXELS} allowed")
            image.load()
            return ImageOps.exif_transpose(image)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"image {path} is too large: {error}; at most {MAX_PIXELS} pixels allowed") from error
    except UnidentifiedImageError as error:
        raise DataError(f"file {path} is not an image; known formats: {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise almost anything (SyntaxError, struct.error) on damaged files.
        raise DataError(f"cannot read image {path}: {error}") from error


def gray(image: Image.Image) -> Image.Image:
    """``image`` as mode L (uint8); transparency is laid over black.

    Images of more than 8 bits are divided by their largest value, because scanners store 12 bits in 16.
    """
    if image.mode[0] in "IF":
        values = np.asarray(image, dtype=np.float64).clip(min=0)
        return Image.fromarray(np.rint(values * (255 / max(values.max(initial=0), 1e-12))).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image.convert("L")


def square(
    image: Image.Image, size: int, fit: Fit, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[np.uint8]:
    """A mode L image as uint8 (size, size), averaged over the covered area where it shrinks.

    ``pad`` keeps the proportions and fills with black, ``squash`` stretches.
    """
    shape = (size, size)
    fitted = ImageOps.pad(image, shape, method=resample, color=0) if fit == "pad" else image.resize(shape, resample)
    return np.asarray(fitted, dtype=np.uint8)


def wrong_extension(path: Path) -> str | None:
    """One line if the format of ``path`` is not that of its extension, else None."""
    with Image.open(path, formats=FORMATS) as image:
        actual = "JPEG" if image.format == "MPO" else image.format
    if actual == SUFFIXES.get(path.suffix.lower()):
        return None
    return f"note: {path} holds {actual} content, not what its extension says; it is read anyway"


def problem(path: Path) -> str | None:
    """One line on a problem of ``path``, or None; a line that starts with ``note:`` is harmless."""
    try:
        load(path)
    except DataError as error:
        return str(error)
    return wrong_extension(path)
