"""`dicom`: how stored values become brightness, by rescaling, windows, padding and tables of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from rbmed_datasets import dicomfile
from rbmed_datasets.dicom import Dicom
from robustbench_med.errors import DataError

pytestmark = pytest.mark.usefixtures("cache_home")
Write = Callable[..., Path]


def make(root: Path, **params: object) -> Dicom:
    return Dicom(Dicom.Params(**{"size": 16, **params}), root)


def noise(seed: int, shape: tuple[int, ...] = (20, 20), top: int = 1000) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape, dtype=np.int16)


def test_white_is_lowest_in_monochrome1(tmp_path: Path, write: Write) -> None:
    for at in range(8):
        values = np.random.default_rng(at).integers(0, 256, (16, 16), dtype=np.uint8)
        write(
            tmp_path / "one" / "ab"[at % 2] / f"{at}.dcm",
            values,
            PhotometricInterpretation="MONOCHROME1",
            PatientID=str(at),
        )
        write(tmp_path / "two" / "ab"[at % 2] / f"{at}.dcm", 255 - values, PatientID=str(at))
    one, two = (make(tmp_path / name) for name in ("one", "two"))
    first, second = (
        sorted(
            tuple(image.flatten().tolist())
            for part in ("train", "calibration", "test")
            for image in data.split(part).images
        )
        for data in (one, two)
    )
    assert first == second
    deep = write(
        tmp_path / "deep.dcm", noise(0).astype(np.uint16), PhotometricInterpretation="MONOCHROME1", BitsStored=12
    )
    pixels = dicomfile.read(deep, 3, 0)
    assert (pixels.inverted, pixels.declared, pixels.values.shape) == (True, (0.0, 4095.0), (20, 20, 3))


def test_an_inverted_rescale_turns_black_and_white(tmp_path: Path, write: Write) -> None:
    for at in range(8):
        write(tmp_path / "up" / "ab"[at % 2] / f"{at}.dcm", noise(at), RescaleSlope=1, RescaleIntercept=0)
        write(tmp_path / "down" / "ab"[at % 2] / f"{at}.dcm", noise(at), RescaleSlope=-1, RescaleIntercept=1000)
    up, down = (make(tmp_path / name, window="500/1000").split("train").images for name in ("up", "down"))
    assert (up + down - 1).abs().max() < 0.01


def test_padding_outside_of_the_scan_takes_no_part_of_the_range(tmp_path: Path, write: Write) -> None:
    values = noise(0, top=1000) - np.int16(900)
    padded = np.pad(values, 3, constant_values=-2000)
    path = write(tmp_path / "a.dcm", padded, PixelPaddingValue=-2000)
    read = dicomfile.read(path, 1, 0).values
    np.testing.assert_array_equal(read[3:-3, 3:-3], values)
    assert read.min() == read[0, 0] == values.min()
    inverted = write(tmp_path / "b.dcm", padded, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    assert dicomfile.read(inverted, 1, 0).values[0, 0] == values.max(), "black, where white is the lowest value"
    ranged = write(tmp_path / "c.dcm", padded, PixelPaddingValue=-3000, PixelPaddingRangeLimit=-1500)
    assert dicomfile.read(ranged, 1, 0).values.min() == values.min()


def test_floats_within_0_and_1_are_not_nearly_black(tmp_path: Path, write: Write) -> None:
    for at in range(8):
        values = np.random.default_rng(at).random((16, 16)).astype(np.float32)
        path = write(tmp_path / "ab"[at % 2] / f"{at}.dcm", values, PatientID=str(at))
        made = pydicom.dcmread(path)
        made.FloatPixelData = made.PixelData
        for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(made, name)
        made.save_as(path)
    data = make(tmp_path)
    assert "values within [0, 1]: 0 is black, 1 white" in " ".join(data.card().notes)
    assert 0.4 < float(data.split("train").images.mean()) < 0.6


def lut(first: int, entries: list[int], bits: int = 8) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(entries), first, bits], entries
    item["LUTDescriptor"].VR, item["LUTData"].VR = "SS" if first < 0 else "US", "US"
    return Sequence([item])


#: Shows -100 to 99 by a curve, dark ones darker, in 8 bits.
CURVE = [round(255 * (at / 199) ** 2) for at in range(200)]


@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
def test_a_table_of_the_file_says_how_its_values_are_shown(tmp_path: Path, kind: str, write: Write) -> None:
    values = noise(0, top=1400)  # beyond 8 bits, and beyond the table on both sides
    fields = {"RescaleSlope": 1, "RescaleIntercept": -400, "VOILUTSequence": lut(-100, CURVE)}
    path = write(tmp_path / "a.dcm", values, PhotometricInterpretation=kind, **fields)
    expected = np.array(CURVE)[(values.astype(int) - 400 + 100).clip(0, 199)]
    pixels = dicomfile.read(path, 1, 0)
    np.testing.assert_array_equal(pixels.values, expected)
    assert (pixels.declared, pixels.inverted) == ((0.0, 255.0), kind == "MONOCHROME1")
    np.testing.assert_array_equal(dicomfile.read(path, 1, 0, as_shown=False).values, values.astype(np.float32) - 400)
    windowed = write(tmp_path / "b.dcm", values, WindowCenter=40, WindowWidth=400, **fields)
    assert dicomfile.read(windowed, 1, 0).declared == (-160.0, 239.0)
    assert [dicomfile.header(each).table for each in (path, windowed)] == [True, False]


def test_tables_of_bytes_and_damaged_ones(tmp_path: Path, write: Write) -> None:
    values = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    table = lut(0, list(range(4095, 4095 - 256 * 16, -16)), bits=12)  # an inverse, of a file of 8 bits
    packed = np.array(table[0].LUTData, dtype="<u2").tobytes()
    table[0].LUTData = packed
    table[0]["LUTData"].VR = "OW"
    path = write(tmp_path / "a.dcm", values, VOILUTSequence=table)
    np.testing.assert_array_equal(dicomfile.read(path, 3, 0).values[..., 1], 4095 - 16.0 * values)
    short = lut(0, [0, 1, 2], bits=8)
    short[0].LUTDescriptor = [256, 0, 8]
    with pytest.raises(DataError, match=r"file .*b.dcm: its VOI LUT has 3 entries of 8 bits, not 256"):
        dicomfile.read(write(tmp_path / "b.dcm", values, VOILUTSequence=short), 1, 0)


def test_the_card_counts_files_with_a_table_and_a_fixed_window_does_without(tmp_path: Path, write: Write) -> None:
    for at in range(8):
        write(tmp_path / "ab"[at % 2] / f"{at}.dcm", noise(at), PatientID=str(at), VOILUTSequence=lut(0, CURVE))
    shown, plain = make(tmp_path), make(tmp_path, window="500/1000")
    assert "8 files say by a table of their own how values are shown (VOI LUT)" in " ".join(shown.card().notes)
    assert "VOI LUT" not in " ".join(plain.card().notes)
    assert "0 is black, 255 white" in " ".join(shown.card().notes)
    assert float(shown.split("train").images.mean()) > 0.8 > float(plain.split("train").images.mean())


@pytest.mark.parametrize("field", ["PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"])
def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, field: str, write: Write) -> None:
    for at in range(8):
        write(tmp_path / "ab"[at % 2] / f"{at}.dcm", noise(at, (10, 20)), PatientID=str(at), **{field: [2, 1]})
    path = next(tmp_path.rglob("0.dcm"))
    assert dicomfile.read(path, 1, 0).values.shape == (20, 20)
    assert dicomfile.read(path, 3, 0).values.shape == (20, 20, 3)
    data = make(tmp_path)
    assert "8 files have pixels that are not square (PixelSpacing) and are made so" in data.card().notes
    for image in data.split("train").images:
        assert image[0, 0].max() > 0, "nothing is padded"
    before = data.card().digest
    for at in range(8):  # 0.7 and 0.7001 mm are no more than rounding
        write(tmp_path / "ab"[at % 2] / f"{at}.dcm", noise(at, (10, 20)), PatientID=str(at), PixelSpacing=[0.7001, 0.7])
    assert make(tmp_path).card().digest != before
    assert dicomfile.read(path, 1, 0).values.shape == (10, 20)
    assert not dicomfile.header(path).oblong


def test_sizes_of_pixels_that_say_nothing_are_left_out(tmp_path: Path, write: Write) -> None:
    for sizes in ([0, 1], [1], []):
        path = write(tmp_path / "a.dcm", noise(0, (10, 20)), PixelSpacing=sizes)
        assert dicomfile.read(path, 1, 0).values.shape == (10, 20)
    path = write(tmp_path / "a.dcm", noise(0, (10, 20)), PixelSpacing=[1000, 1])
    with pytest.raises(DataError, match="too long for square pixels"):
        dicomfile.read(path, 1, 0)


def test_a_mask_lies_on_its_image_where_pixels_are_not_square(tmp_path: Path, write: Write) -> None:
    lesion = np.zeros((10, 20), dtype=np.int16)
    lesion[2:5, 4:10] = 255
    Image.fromarray(lesion.astype(np.uint8)).save(tmp_path / "mask.png")
    for at in range(8):
        write(tmp_path / f"{at}.dcm", lesion * 8 + noise(at, lesion.shape), PatientID=f"p{at}", PixelSpacing=[2, 1])
    rows = "\n".join(f"{at}.dcm,{'ab'[at % 2]},{'mask.png' if at < 7 else ''}" for at in range(8))
    (tmp_path / "x.csv").write_text(f"file,label,mask\n{rows}", encoding="utf-8")
    data = make(tmp_path, table="x.csv", size=20)
    split = data.split("train")
    assert split.masks is not None
    held = split.masks.flatten(1).any(1)
    shown, area = split.images[held][:, 0], split.masks[held].reshape(-1, 20, 20)
    assert shown[area].mean() > 2 * shown[~area].mean()
    assert area.flatten(1).sum(1).tolist() == [36] * int(held.sum())
    assert any("without a mask, file 7 for example" in note for note in data.card().notes), "no name of a file"


def test_values_in_the_upper_bits_of_words_are_refused(tmp_path: Path, write: Write) -> None:
    values = noise(0, top=4096).astype(np.uint16)
    shifted = write(tmp_path / "a.dcm", values << 4, BitsStored=12, HighBit=15)
    with pytest.raises(DataError, match=r"a\.dcm has its 12 bits up to bit 15 of a word"):
        dicomfile.read(shifted, 1, 0)
    overlay = write(tmp_path / "b.dcm", values | 0x8000, BitsStored=12, HighBit=11)
    assert (dicomfile.read(overlay, 1, 0).values == values).all(), "an overlay is none of the image"
