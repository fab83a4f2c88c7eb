"""Images of DICOM files in their own units, and the few facts of their headers that are used.

Needs pydicom, the extra ``dicom``. No text of a header leaves this module but through `Header`, which `dicom` salts.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets import dicom_lut, files
from rbmed_datasets.names import IGNORED
from rbmed_datasets.pixels import Pixels, coloured, finite, in_colour, shallow
from robustbench_med.errors import DataError

_SUFFIXES = (".dcm", ".dicom", ".ima")
#: Characters of an error that are shown.
_LONGEST = 300
#: What tells how high and wide a pixel is, what counts first.
_SIZES = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
_INSTALL = "pip install 'rbmed-datasets[dicom]'"


@dataclass(frozen=True)
class Header:
    """Facts of a file.

    Attributes:
        patient: its PatientID, else the UID of its study; empty where it has neither.
        institution: its InstitutionName, or empty.
        frames: number of images; 0 if it holds none.
        burned: it says that text is burned into the pixels.
        uid: its SOPInstanceUID, or empty.
        table: it says by a table how its values are shown (VOI LUT), and by no window.
        pixel: size of a pixel, from row to row and from column to column; (1, 1) where it is not known.
        shape: rows and columns.
    """

    patient: str
    institution: str
    frames: int
    burned: bool
    uid: str = ""
    table: bool = False
    pixel: tuple[float, float] = (1.0, 1.0)
    shape: tuple[int, int] = (0, 0)

    @property
    def oblong(self) -> bool:
        """Its pixels are not square, by more than a pixel along a side of the image."""
        least = min(self.pixel)
        return any(round(count * size / least) != count for count, size in zip(self.shape, self.pixel, strict=True))


def is_dicom(path: Path) -> bool:
    """By the extension, or the marker at byte 128; a DICOMDIR is none."""
    if path.name.startswith(IGNORED) or path.name.upper().startswith("DICOMDIR") or not path.is_file():
        return False
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The module pydicom, with what goes wrong as one line."""
    try:
        import pydicom
    except ImportError as error:
        raise DataError(f"reading {path} needs pydicom: {_INSTALL}") from error
    try:
        with warnings.catch_warnings(), _no_log():
            warnings.simplefilter("ignore")  # on values that break the standard; they are not used
            yield pydicom
    except DataError:
        raise
    except Exception as error:  # pydicom and its decoders raise many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot read DICOM file {path}: {reason[:_LONGEST]}") from error


@contextmanager
def _no_log() -> Iterator[None]:
    """What pydicom logs is in the error that it raises, too."""
    logger, handler = logging.getLogger("pydicom"), logging.NullHandler()
    before = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(handler)


def header(path: Path) -> Header:
    """The facts of a file.

    Raises:
        DataError: it cannot be read, or pydicom is not installed.
    """
    names = ["PatientID", "StudyInstanceUID", "SOPInstanceUID", "InstitutionName", "NumberOfFrames", "Rows"]
    names += ["BurnedInAnnotation", "PhotometricInterpretation", "WindowCenter", "WindowWidth", "VOILUTSequence"]
    names += ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "Columns", *_SIZES]
    with _reading(path) as pydicom:
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(names))
        if not len(found) and not getattr(found, "file_meta", None):
            raise DataError(f"file {path} is no DICOM file")
        image = "Rows" in found and "PhotometricInterpretation" in found
        return Header(
            patient=_text(found, "PatientID") or _text(found, "StudyInstanceUID"),
            institution=_text(found, "InstitutionName"),
            frames=max(1, int(found.get("NumberOfFrames") or 1)) if image else 0,
            burned=_text(found, "BurnedInAnnotation").upper() == "YES",
            uid=_text(found, "SOPInstanceUID"),
            table=image and dicom_lut.has_table(found) and _window(found, 0) is None,
            pixel=_pixel(found, 0),
            shape=(int(found.get("Rows") or 0), int(found.get("Columns") or 0)),
        )


def _text(found: Any, name: str) -> str:
    return str(found.get(name) or "").strip()


def _pixel(found: Any, frame: int) -> tuple[float, float]:
    for place in dicom_lut.places(found, frame, "PixelMeasuresSequence"):
        for name in _SIZES:
            try:
                rows, columns = map(float, place.get(name) or ())
            except (TypeError, ValueError):
                continue
            if 0 < rows < math.inf and 0 < columns < math.inf:
                return rows, columns
    return 1.0, 1.0


def read(path: Path, channels: int, frame: int, as_shown: bool = True) -> Pixels:
    """An image of a file: rescaled, its window declared, colour as it is shown, with square pixels.

    ``as_shown``: where it declares no window, but a table (VOI LUT), the values are those of the table.

    Raises:
        DataError: it cannot be read, or its transfer syntax needs a decoder that is not installed.
    """
    with _reading(path) as pydicom:
        found = pydicom.dcmread(path)
        files.check_size(path, int(found.get("Columns") or 0), int(found.get("Rows") or 0))
        several = int(found.get("NumberOfFrames") or 1) > 1
        _require_decoder(path, found)
        values = pydicom.pixels.pixel_array(found, index=frame if several else 0)
        _refuse_upper_bits(path, found, frame if several else 0, values, pydicom)
        kind = _text(found, "PhotometricInterpretation")
        if kind == "PALETTE COLOR":
            values = pydicom.pixels.apply_color_lut(values, found)
        if values.ndim == 3:
            bits = 8 * values.dtype.itemsize if kind == "PALETTE COLOR" else int(found.BitsStored)
            made = _in_colour(path, values, bits, channels)
        else:
            made = _grey(path, found, frame, values, channels, pydicom, as_shown)
        return replace(made, values=files.square_pixels(np.ascontiguousarray(made.values), _pixel(found, frame)))


def _require_decoder(path: Path, found: Any) -> None:
    from pydicom.pixels import get_decoder

    syntax = found.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(f"DICOM file {path} has pixels that pydicom does not decode ({syntax.name})") from None
    if not decoder.is_available:
        raise DataError(f"DICOM file {path} has pixels in {syntax.name}, which need a decoder: {_INSTALL}")


def _refuse_upper_bits(path: Path, found: Any, frame: int, values: NDArray[Any], pydicom: Any) -> None:
    """Refuse values in the upper bits of words, as old files have them: pydicom takes what the lower bits hold."""
    stored, high = (int(found.get(name) or 0) for name in ("BitsStored", "HighBit"))
    if not 0 < stored <= high < 8 * values.dtype.itemsize:
        return
    if (pydicom.pixels.pixel_array(found, index=frame, correct_unused_bits=False) != values).any():
        raise DataError(
            f"DICOM file {path} has its {stored} bits up to bit {high} of a word (HighBit), where the standard has bit "
            f"{stored - 1}; write it anew, with its values shifted"
        )


def _in_colour(path: Path, values: NDArray[Any], bits: int, channels: int) -> Pixels:
    if values.dtype == np.uint8:
        from PIL import Image

        return shallow(Image.fromarray(values), channels)
    top, values = float((1 << bits) - 1), finite(values, path)
    lost = channels == 1 and in_colour(values)
    return Pixels(coloured(values, channels), "unsigned", (0.0, top), colour_lost=lost)


def _grey(
    path: Path, found: Any, frame: int, values: NDArray[Any], channels: int, pydicom: Any, as_shown: bool
) -> Pixels:
    inverted = _text(found, "PhotometricInterpretation") == "MONOCHROME1"
    slope = _number(found, frame, "PixelValueTransformationSequence", "RescaleSlope")
    intercept = _number(found, frame, "PixelValueTransformationSequence", "RescaleIntercept")
    if slope == 0:
        raise DataError(f"DICOM file {path} has RescaleSlope 0, with which all of its pixels would be equal")
    rescaled = "ModalityLUTSequence" in found or (slope or 1.0, intercept or 0.0) != (1.0, 0.0)
    values = _without_padding(found, values, inverted)
    window, bits = _window(found, frame), int(found.get("BitsStored") or 0)
    kind = values.dtype.kind
    whole = kind == "u"
    table = as_shown and window is None and dicom_lut.has_table(found)
    if values.dtype == np.uint8 and not rescaled and window is None and not table:
        most = (1 << bits) - 1
        plain = most - values if inverted else values
        plain = plain if bits == 8 else np.rint(plain * (255 / most)).astype(np.uint8)
        return Pixels(np.repeat(plain[..., None], 3, axis=2) if channels == 3 else plain)
    if "ModalityLUTSequence" in found:
        values = pydicom.pixels.apply_modality_lut(values, found)
    elif rescaled:
        values = values * (1.0 if slope is None else slope) + (intercept or 0.0)
    if table and (made := dicom_lut.shown(finite(np.asarray(values), path), found, frame)):
        return Pixels(coloured(made[0], channels), "shown", (0.0, made[1]), inverted)
    declared = window or ((0.0, float((1 << bits) - 1)) if whole and not rescaled else None)
    scale = "rescaled" if rescaled else {"u": "unsigned", "f": "float"}.get(kind, "signed")
    return Pixels(coloured(finite(np.asarray(values), path), channels), scale, declared, inverted)


def _without_padding(found: Any, values: NDArray[Any], inverted: bool) -> NDArray[Any]:
    """Pixels outside of what the scanner saw (PixelPaddingValue) as dark as the darkest of the others."""
    first = next((found[name].value for name in ("PixelPaddingValue", "FloatPixelPaddingValue") if name in found), None)
    if not isinstance(first, int | float):
        return values
    last = found.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int | float) else first))
    outside = (values >= low) & (values <= high)
    if not outside.any() or outside.all():
        return values
    seen = values[~outside]
    return np.where(outside, seen.max() if inverted else seen.min(), values)


def _number(found: Any, frame: int, group: str, name: str) -> float | None:
    """A number of an image, from itself or the functional groups of an enhanced file."""
    for place in dicom_lut.places(found, frame, group):
        value = place.get(name)
        if value is not None and value != "":
            several = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
            return float(several[0]) if len(several) else None
    return None


def _window(found: Any, frame: int) -> tuple[float, float] | None:
    """The values that the first window of an image shows black and white, as the standard defines it (PS3.3 C.11.2)."""
    center = _number(found, frame, "FrameVOILUTSequence", "WindowCenter")
    width = _number(found, frame, "FrameVOILUTSequence", "WindowWidth")
    if center is None or width is None or not math.isfinite(center) or not 1 < width < math.inf:
        return None
    if _text(found, "VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID"):
        return center - width / 2, center + width / 2
    return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
