"""Reading an untrusted image file: format by content, bounded size, upright, grey, square."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

import robustbench_med as rbmed
from rbmed_datasets.names import IGNORED
from robustbench_med.errors import DataError

Fit = Literal["pad", "squash"]

# Only raster decoders: Pillow would otherwise pass EPS files, whatever their extension, to Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pbm": "PPM",
    ".pgm": "PPM",
    ".png": "PNG",
    ".pnm": "PPM",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
#: Limit on an image's size: the header of a file of a few kB can claim gigapixels.
MAX_PIXELS = 64_000_000
#: Largest side of an image whose pixels were made square.
_LONGEST = 4096
#: Folders that systems keep beside the user's own, in lower case; those that begin with one of `_HIDDEN` are such, too.
_OF_SYSTEMS = {"system volume information", "lost+found", "#recycle"}
_HIDDEN = (*IGNORED, "__", "@", "$")


def natural_key(name: str) -> tuple[tuple[tuple[bool, int, str], ...], str]:
    """Sort key that orders ``y2.jpg`` before ``y10.jpg``; case matters only between otherwise equal names."""
    parts = [part for part in re.split("([0-9]+)", name.casefold()) if part]
    return tuple((False, int(part), "") if part.isdecimal() else (True, 0, part) for part in parts), name


def is_hidden(folder: str) -> bool:
    """Whether a folder of this name is hidden, or made by a system: ``__MACOSX``, ``@eaDir``, ``$RECYCLE.BIN``."""
    return folder.startswith(_HIDDEN) or folder.lower() in _OF_SYSTEMS


def images_in(folder: Path) -> list[Path]:
    """The image files directly in ``folder`` (by extension, any case) but those `IGNORED`, in natural order.

    Links to files that are not there are among them: an image is missing, which is said where it is read.
    """
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(IGNORED)
        and (path.is_file() or (path.is_symlink() and not path.exists()))
    )
    return sorted(found, key=lambda path: natural_key(path.name))


def check_size(path: Path, width: int, height: int) -> None:
    """Raise `DataError` for more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise DataError(f"image {path} is {width} x {height} pixels; at most {MAX_PIXELS} allowed")


def load(path: Path) -> Image.Image:
    """Decode ``path`` by its content, not by its extension, and apply its EXIF orientation.

    Raises:
        DataError: see `opened`.
    """
    with opened(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image of ``path``, known by its content; to be decoded inside.

    Raises:
        DataError: the file is missing, not an image, damaged, or larger than `MAX_PIXELS`.
    """
    try:
        # As a file, not as a name: of a file that it maps into memory, Pillow confuses the sides if it is turned.
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            check_size(path, image.width, image.height)
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        target = "is a link to a file that is not there; fetch it first" if path.is_symlink() else "is missing"
        raise DataError(f"image {path} {target}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"image {path} is too large: {error}; at most {MAX_PIXELS} pixels allowed") from error
    except UnidentifiedImageError as error:
        raise DataError(f"file {path} is not an image; known formats: {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise almost anything (SyntaxError, struct.error) on damaged files.
        raise DataError(f"cannot read image {path}: {error}") from error


def gray(image: Image.Image) -> Image.Image:
    """``image``, of 8 bits a channel, as mode L (uint8); transparency is laid over black."""
    return _opaque(image).convert("L")


def colour(image: Image.Image) -> Image.Image:
    """``image``, of 8 bits a channel, as mode RGB; transparency is laid over black."""
    return _opaque(image).convert("RGB")


def mask(path: Path) -> NDArray[np.bool_]:
    """The lesion of a mask, bool (H, W): every pixel above 0, in a JPEG, whose zeros are not exact, above 127.

    Raises:
        DataError: see `opened`.
    """
    with opened(path) as image:
        least = 127 if image.format in ("JPEG", "MPO") else 0
    image = load(path)
    return np.asarray(image if image.mode[0] in "IF" else gray(image)) > least


def _opaque(image: Image.Image) -> Image.Image:
    """Mode 1, L or RGB."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image if image.mode in ("1", "L", "RGB") else image.convert("RGB")


def square(
    values: NDArray[Any] | Image.Image, size: int, fit: Fit, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[Any]:
    """An image as (size, size) or (size, size, 3), averaged over the covered area where it shrinks.

    ``pad`` keeps the proportions and fills with black, ``squash`` stretches. uint8 stays uint8, and float32, in [0, 1],
    float32.
    """
    if isinstance(values, Image.Image):
        values = np.asarray(values, dtype=np.uint8)
    if values.dtype != np.uint8 and values.ndim == 3:  # Pillow has no floats in colour
        return np.stack([square(values[..., at], size, fit, resample) for at in range(values.shape[2])], axis=-1)
    image, shape = Image.fromarray(values), (size, size)
    fitted = ImageOps.pad(image, shape, method=resample, color=0) if fit == "pad" else image.resize(shape, resample)
    made = np.asarray(fitted)
    return made if made.dtype == np.uint8 else made.clip(0, 1)


def square_pixels(
    values: NDArray[Any], pixel: tuple[float, float], resample: Image.Resampling = Image.Resampling.BILINEAR
) -> NDArray[Any]:
    """An image, (H, W) or (H, W, 3), with pixels as wide as high, the smaller of the two sizes.

    Args:
        values: the image.
        pixel: size of a pixel, from row to row and from column to column.
        resample: how pixels between others are made.

    Raises:
        DataError: it would be too long.
    """
    rows, columns = pixel
    least = min(pixel)
    height, width = round(values.shape[0] * rows / least), round(values.shape[1] * columns / least)
    if (height, width) == values.shape[:2]:
        return values
    if max(height, width) > _LONGEST:
        size = f"{values.shape[1]} x {values.shape[0]} pixels of {columns:g} x {rows:g} mm"
        raise DataError(f"a slice of {size} is too long for square pixels ({max(height, width)}, at most {_LONGEST})")
    if values.ndim == 3 and values.dtype != np.uint8:  # Pillow has no floats in colour
        return np.stack([square_pixels(values[..., at], pixel, resample) for at in range(values.shape[2])], axis=-1)
    return np.asarray(Image.fromarray(values).resize((width, height), resample))


def square_mask(area: NDArray[np.uint8], size: int, fit: Fit) -> NDArray[np.bool_]:
    """A mask, 0 and 255, as (size, size): set where more than half of a pixel's area is."""
    return square(area, size, fit, Image.Resampling.BOX) > 127


def wrong_extension(path: Path) -> str | None:
    """One line if the format of ``path`` is not that of its extension, else None."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            actual = "JPEG" if image.format == "MPO" else image.format
    except (OSError, SyntaxError):  # a TIFF that only tifffile reads
        actual = "TIFF"
    if actual == SUFFIXES.get(path.suffix.lower()):
        return None
    return f"note: {path} holds {actual} content, not what its extension says; it is read anyway"


def read_masks(
    masks: Sequence[Sequence[Path]],
    scans: Sequence[str],
    shape_of: Callable[[int], tuple[int, ...]],
    size: int,
    fit: Fit,
    pixel_of: Callable[[int], tuple[float, float]] = lambda at: (1.0, 1.0),
) -> tuple[NDArray[np.bool_] | None, list[str]]:
    """The masks of every image, bool (N, size, size), None where no image has one; and notes for the data card.

    ``scans`` are the names of the images, ``shape_of`` gives height and width of one in its file by its number, and
    ``pixel_of`` the size of its pixels. Several masks of an image are united; an image without one has an empty mask. A
    pixel is set where more than half of its area is.

    Raises:
        DataError: a mask is unreadable, or not of the size of its image.
    """
    if not any(masks):
        return None, []
    made = np.zeros((len(masks), size, size), dtype=np.bool_)
    for at, (several, scan) in enumerate(zip(masks, scans, strict=True)):
        for path in several:
            lesion = mask(path)
            height, width = shape_of(at)[:2]
            if lesion.shape != (height, width):
                raise DataError(
                    f"image {scan} is {width} x {height} pixels, its mask {path.name} {lesion.shape[1]} x "
                    f"{lesion.shape[0]}"
                )
            area = square_pixels(lesion.astype(np.uint8) * 255, pixel_of(at), Image.Resampling.BOX)
            made[at] |= square_mask(area, size, fit)
    lacking = [scan for several, scan in zip(masks, scans, strict=True) if not several]
    notes = [f"lesion masks: {len(masks) - len(lacking)} of {rbmed.plural(len(masks), 'image')}"]
    if lacking:
        notes[0] += f"; without a mask, {lacking[0]} for example, an image counts as without a lesion"
    return made, notes
