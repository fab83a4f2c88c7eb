"""The pixels of one image of a file in the file's own units: 8 bits stay 8 bits, anything deeper stays what it is.

`read` is for image files. Data sets of other formats make `Pixels` themselves and share the rest: the range that
becomes black and white (`rbmed_datasets.intensity`), the square and the cache (`rbmed_datasets.decode`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

import robustbench_med as rbmed
from rbmed_datasets import files
from robustbench_med.errors import DataError

#: Modes of Pillow that hold no colour.
_GREY_MODES = ("1", "L", "LA", "La")
#: Pixels along each side that tell whether an image is in colour.
_SAMPLED = 64
#: Luma of ITU-R BT.601, as Pillow's mode L.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
#: TIFF tags.
_ORIENTATION, _PHOTOMETRIC, _BITS, _SAMPLE_FORMAT, _DEPTH = 274, 262, 258, 339, 32997
_SIGNED, _UNSIGNED, _PALETTE = 2, 1, 3
#: What Pillow makes of a PNG with 16 bits in each of several channels: it drops the lower half.
_HALVED = {"RGB;16B": 3, "RGBA;16B": 4, "LA;16B": 2}


@dataclass(frozen=True)
class Pixels:
    """One image in the units of its file.

    Attributes:
        values: (H, W) or (H, W, 3); uint8 for images of 8 bits, else float32 (all finite).
        scale: images of one scale share the range that becomes black and white: '8-bit', 'unsigned', 'signed', 'float',
            or the name of a series.
        declared: the range that the file declares for display, (black, white), or None.
        inverted: white is the lowest value.
        colour_lost: the file is in colour, and the values are grey.
    """

    values: NDArray[Any]
    scale: str = "8-bit"
    declared: tuple[float, float] | None = None
    inverted: bool = False
    colour_lost: bool = False


def read(path: Path, channels: int = 1, page: int = 0) -> Pixels:
    """The image ``page`` of a file, upright; colour becomes grey with one channel, grey is repeated for three.

    Raises:
        DataError: the file is missing, not an image, damaged, too large, or a pixel is NaN or infinite.
    """
    found = _tiff(path, page) if _needs_tifffile(path) else _pillow(path, page)
    if isinstance(found, Image.Image):
        try:
            return shallow(found, channels)
        except ValueError as error:  # a colour space that Pillow does not convert
            raise DataError(f"cannot read image {path}: {error}") from error
    values, scale, inverted = found
    values = finite(values, path)
    lost = channels == 1 and in_colour(values)
    return Pixels(coloured(values, channels), scale, inverted=inverted, colour_lost=lost)


def shallow(image: Image.Image, channels: int) -> Pixels:
    """An image of 8 bits a channel; raises ValueError for a colour space that Pillow does not convert."""
    made = files.gray(image) if channels == 1 else files.colour(image)
    lost = channels == 1 and image.mode not in _GREY_MODES and in_colour(np.asarray(_sampled(image)))
    return Pixels(np.asarray(made, dtype=np.uint8), colour_lost=lost)


def in_colour(values: NDArray[Any]) -> bool:
    """Whether (H, W) or (H, W, 1 to 4 channels) shows colour; a few marks on a grey scan do not, nor a JPEG's noise."""
    if values.ndim != 3 or values.shape[2] < 3:
        return False
    rows, columns = (max(1, side // _SAMPLED) for side in values.shape[:2])
    colours = values[::rows, ::columns, :3].astype(np.float32)
    apart = np.ptp(colours, axis=2) > colours.max(initial=0) / 16
    return bool(apart.mean() > 0.05)


def _sampled(image: Image.Image) -> Image.Image:
    """A few of its pixels, in RGB."""
    return files.colour(image.resize((_SAMPLED, _SAMPLED), Image.Resampling.NEAREST))


def finite(values: NDArray[Any], where: object) -> NDArray[np.float32]:
    """``values`` as float32.

    Raises:
        DataError: some are NaN, infinite, or too large for float32; the message begins with ``image`` and ``where``.
    """
    with np.errstate(over="ignore"):
        made = values.astype(np.float32)
    if bad := int(made.size - np.isfinite(made).sum()):
        lost = "not finite (NaN or infinite)" if not np.isfinite(values).all() else "beyond 3.4e38 (float32)"
        raise DataError(f"image {where} has {rbmed.plural(bad, 'pixel that is', 'pixels that are')} {lost}")
    return made


def coloured(values: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """``values``, (H, W) or (H, W, 1 to 4 channels), as (H, W) for one channel, else (H, W, 3); a fourth is opacity."""
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values = values[..., :-1] * (values[..., -1:] / max(float(values[..., -1].max(initial=0)), 1e-12))
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 2:
        return values if channels == 1 else np.repeat(values[..., None], 3, axis=2)
    return (values @ _LUMA).astype(np.float32) if channels == 1 else values


def pages(path: Path) -> int:
    """Number of images in the file: pages of a TIFF, frames of an animation; previews of a photograph do not count."""
    if _needs_tifffile(path):
        with _opened_tiff(path) as file:
            return len(file.pages)
    with files.opened(path) as image:
        return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


def chosen(path: Path, which: str) -> Sequence[int]:
    """Numbers of the images of a file that are read: the ``first``, the ``middle`` one or ``all``."""
    if which == "first":
        return (0,)
    count = pages(path)
    return range(count) if which == "all" else (count // 2,)


def deep(path: Path) -> bool:
    """Whether the file holds more than 8 bits a channel, or is not one that Pillow knows; reads the header only."""
    try:
        with files.opened(path) as image:
            tags = getattr(image, "tag_v2", {})
            wide = image.mode[0] in "IF" or _rawmode(image) in _HALVED
            return wide or max(_several(tags.get(_BITS, 1))) > 8 or _SIGNED in _several(tags.get(_SAMPLE_FORMAT, 1))
    except DataError:
        return True


_Deep = tuple[NDArray[Any], str, bool]


def _pillow(path: Path, page: int) -> Image.Image | _Deep:
    """An image of 8 bits upright, or the values of a deeper one with their scale and whether white is the lowest."""
    with files.opened(path) as image:
        image.seek(page)
        if count := _HALVED.get(_rawmode(image)):
            whole = _both_halves(path, image, count)
            return _upright(whole, int(image.getexif().get(_ORIENTATION, 1))), "unsigned", False
        tags = getattr(image, "tag_v2", {})
        image.load()
        upright = ImageOps.exif_transpose(image)
        wide, signed = max(_several(tags.get(_BITS, 8))), _SIGNED in _several(tags.get(_SAMPLE_FORMAT, _UNSIGNED))
        if upright.mode[0] not in "IF":
            if signed and upright.mode == "L":
                return np.asarray(upright).view(np.int8), "signed", False
            return upright
        values = np.asarray(upright)
        if tags and wide == 32 and not signed and upright.mode == "I":
            values = values.view(np.uint32)
        scale = "float" if upright.mode == "F" else "signed" if signed else "unsigned"
        return values, scale, tags.get(_PHOTOMETRIC) == 0


def _several(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) and value else (int(value or 0),)


def _rawmode(image: Image.Image) -> str:
    tile = getattr(image, "tile", None)
    if image.format != "PNG" or not tile:
        return ""
    args = tile[0][3]
    return str(args if isinstance(args, str) else args[0] if args else "")


def _both_halves(path: Path, image: Any, count: int) -> NDArray[np.uint16]:
    """16 bits of each channel: Pillow decodes one byte of every sample, so it is asked for one, then for the other."""
    if count == 2:  # grey and opacity fill a whole number of 32 bits
        tile = image.tile[0]
        image._mode, image.tile = "I", [tile._replace(args="I;32B")]
        whole = np.asarray(image).view(np.uint32)
        return np.stack([whole >> 16, whole & 0xFFFF], axis=-1).astype(np.uint16)
    high = np.asarray(image).astype(np.uint16)
    with Image.open(path, formats=("PNG",)) as again:
        tile = again.tile[0]
        again.tile = [tile._replace(args=str(tile.args).replace("16B", "16L"))]
        low = np.asarray(again)
    both: NDArray[np.uint16] = (high << 8) | low
    return both


def _upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rows and columns in the order in which EXIF orientation ``orientation`` shows them."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _needs_tifffile(path: Path) -> bool:
    """A TIFF that Pillow does not know, or whose colours it would cut to 8 bits."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                return False
        with Image.open(path, formats=("TIFF",)) as image:
            tags = getattr(image, "tag_v2", {})
            if max(_several(tags.get(_DEPTH, 1))) > 1:  # a volume in one page, of which Pillow shows the first plane
                return True
            return image.mode[0] not in "IFL1P" and max(_several(tags.get(_BITS, 8))) > 8
    except (OSError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return path.is_file()
    except Exception:  # noqa: BLE001 - Pillow's decoders raise almost anything; tifffile says what is wrong
        return True


@contextmanager
def _opened_tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except DataError:
        raise
    except Exception as error:  # as Pillow, tifffile raises almost anything on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot read image {path}: {reason}") from error


def _tiff(path: Path, page: int) -> _Deep:
    with _opened_tiff(path) as file:
        one = file.pages[page]
        if not isinstance(one, tifffile.TiffPage):
            one = one.aspage()
        files.check_size(path, one.imagewidth, one.imagelength)
        if one.samplesperpixel not in (1, 2, 3, 4) or one.imagedepth != 1:
            raise DataError(
                f"image {path} has {one.samplesperpixel} channels and {one.imagedepth} planes; 1 to 4 and 1 are read"
            )
        if one.samplesperpixel in (2, 4) and not set(one.extrasamples) & {1, 2}:
            raise DataError(
                f"image {path} has {one.samplesperpixel} channels, none of which is said to be opacity, and it is not "
                "clear what they show; save the one to use, or three, as the image"
            )
        if one.photometric == _PALETTE:
            raise DataError(f"image {path} has a palette of more than 256 colours; save it as grey, or in colour")
        values = one.asarray()
        if values.ndim == 3 and one.planarconfig == 2:
            values = np.moveaxis(values, 0, -1)
        turned = one.tags.get(_ORIENTATION)
        values = _upright(values, int(turned.value) if turned else 1)
        scale = {"f": "float", "i": "signed"}.get(values.dtype.kind, "unsigned")
        if values.dtype.kind not in "fiu":
            raise DataError(f"image {path} has pixels of type {values.dtype}; numbers are read")
        return values, scale, one.photometric == 0
