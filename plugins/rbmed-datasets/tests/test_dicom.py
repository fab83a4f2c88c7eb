"""`dicom` on files that are written here and on those that come with pydicom."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.data import get_testdata_file

from rbmed_datasets import dicomfile
from rbmed_datasets.dicom import Dicom
from robustbench_med.errors import DataError
from robustbench_med.testing import cases

pytestmark = pytest.mark.usefixtures("cache_home")
Write = Callable[..., Path]
SPLITS = ("train", "calibration", "test")


def make(root: Path, **params: object) -> Dicom:
    return Dicom(Dicom.Params(**{"size": 16, **params}), root)


def noise(seed: int, shape: tuple[int, ...] = (20, 20), top: int = 1000) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape, dtype=np.int16)


@pytest.fixture
def hospital(tmp_path: Path, write: Write) -> Path:
    for at in range(12):
        fields = {
            "PatientID": f"SECRET{at // 2}",
            "PatientName": "Doe^Jane",
            "InstitutionName": f"Clinic {'AB'[at // 6]}",
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "WindowCenter": 40,
            "WindowWidth": 400,
            "BurnedInAnnotation": "YES" if at == 3 else "NO",
        }
        write(tmp_path / "ct" / ("benign", "malignant")[at % 2] / f"Doe_Jane_{at}", noise(at, top=2000), **fields)
    return tmp_path / "ct"


def everything(data: Dicom, field: str) -> list[Any]:
    return [value for name in SPLITS for value in getattr(data.split(name), field)]


def test_patients_and_sites_are_salted_and_no_text_of_a_header_is_kept(hospital: Path, write: Write) -> None:
    data = make(hospital)
    patients, sites = everything(data, "patients"), everything(data, "sites")
    assert (len(patients), len(set(patients)), len(set(sites))) == (12, 6, 2)
    text = repr((data.card(), patients, sites))
    assert not [word for word in ("SECRET", "Doe", "Jane", "Clinic") if word in text]
    assert "1 file states that text is burned into its pixels" in text
    assert make(hospital).card().digest == data.card().digest
    write(hospital / "benign" / "new.dcm", noise(99), PatientID="SECRET0", InstitutionName="Clinic A")
    assert not set(everything(make(hospital), "patients")) & set(patients), "another salt for other files"


def test_without_patients_no_name_of_a_file_is_kept(tmp_path: Path, write: Write) -> None:
    for at in range(8):
        write(tmp_path / "ab"[at % 2] / f"Doe_{at}.dcm", noise(at))
    data = make(tmp_path)
    assert not data.card().patients_known
    assert "Doe" not in repr((data.card(), everything(data, "patients")))


def test_rescaled_and_windowed(hospital: Path) -> None:
    note = " ".join(make(hospital).card().notes)
    assert "window=file, stated in the files: -160 is black, 239 white" in note
    path = next(path for path in hospital.rglob("*_0"))
    pixels = dicomfile.read(path, 1, 0)
    np.testing.assert_array_equal(pixels.values, noise(0, top=2000).astype(np.float32) - 1024)
    assert "fixed: -100 is black, 100 white" in " ".join(make(hospital, window="0/200").card().notes)


def test_frames(tmp_path: Path, write: Write) -> None:
    for at in range(8):
        write(tmp_path / "ab"[at % 2] / f"{at}.dcm", noise(at, (5, 20, 20)), PatientID=f"P{at}")
    assert len(everything(make(tmp_path), "labels")) == 8
    assert "8 files hold several frames (at most 5)" in " ".join(make(tmp_path).card().notes)
    every = make(tmp_path, pages="all")
    assert (len(everything(every, "labels")), len(set(everything(every, "patients")))) == (40, 8)
    np.testing.assert_array_equal(dicomfile.read(tmp_path / "a" / "0.dcm", 1, 3).values, noise(0, (5, 20, 20))[3])


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("CT_small.dcm", (128, 128), np.float32),
        ("MR_small.dcm", (64, 64), np.float32),
        ("JPEG2000.dcm", (1024, 256), np.float32),
        ("JPEGLSNearLossless_08.dcm", (45, 10), np.uint8),
        ("SC_rgb_rle.dcm", (100, 100, 3), np.uint8),
        ("SC_rgb_jpeg_dcmtk.dcm", (100, 100, 3), np.uint8),
        ("SC_rgb_rle_16bit_2frame.dcm", (100, 100, 3), np.float32),
        ("examples_palette.dcm", (350, 800, 3), np.float32),
        ("rtdose.dcm", (10, 10), np.float32),
    ],
)
def test_files_that_come_with_pydicom(name: str, shape: tuple[int, ...], dtype: type) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    pixels = dicomfile.read(path, 3 if len(shape) == 3 else 1, 0)
    assert (pixels.values.shape, pixels.values.dtype) == (shape, dtype)
    assert pixels.values.min() < pixels.values.max()
    grey = dicomfile.read(path, 1, 0)
    assert grey.values.shape == shape[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pydicom.dcmread(path)
    if found.PhotometricInterpretation == "RGB" and dtype == np.uint8:
        np.testing.assert_array_equal(pixels.values, found.pixel_array)


def test_faults_are_one_line(hospital: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = hospital / "benign" / "bad.dcm"
    bad.write_bytes(b"no image at all")
    with pytest.raises(DataError, match=r"bad\.dcm") as caught:
        make(hospital).card()
    assert "\n" not in str(caught.value)
    assert [line for line in make(hospital).check() if not line.startswith("note:")] == [str(caught.value)]
    bad.write_bytes(next(hospital.rglob("*_0")).read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cannot read DICOM file .*bad\.dcm"):
        make(hospital).card()
    bad.unlink()
    broken = str(get_testdata_file("JPEG-lossy.dcm", download=False))
    with pytest.raises(DataError, match=r"cannot read DICOM file .*JPEG-lossy\.dcm: Unable to decode") as caught:
        dicomfile.read(Path(broken), 1, 0)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(DataError, match=r"pixels in Explicit VR Little Endian, which need a decoder: pip install"):
        make(hospital).card()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match="needs pydicom: pip install"):
        make(hospital).card()


def test_folders(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match="no DICOM files under"):
        make(tmp_path).card()
    write(tmp_path / "a.dcm", noise(0))
    with pytest.raises(DataError, match="no class folders under"):
        make(tmp_path).card()


def test_conformance(hospital: Path) -> None:
    chosen = [case for case in cases("rbmed-datasets", {"dataset/dicom": "size=16"}, hospital) if "dicom" in str(case)]
    assert chosen
    for case in chosen:
        assert not case.check.on(case.subject).faults, str(case)
    assert torch.stack(everything(make(hospital), "images")).max() <= 1


# --- labels from a table ---


@pytest.fixture
def pacs(tmp_path: Path, write: Write) -> tuple[Path, list[str]]:
    """Files in one folder without a class, and their SOPInstanceUIDs."""
    folder, uids = tmp_path / "pacs", []
    for at in range(12):
        path = write(folder / f"study{at // 2}" / f"IM{at:04}", noise(at), PatientID=f"SECRET{at // 2}")
        uids.append(str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID))
    return folder, uids


def test_a_table_labels_files_by_uid_path_or_name(pacs: tuple[Path, list[str]]) -> None:
    folder, uids = pacs
    for column, names in (
        ("SOPInstanceUID", uids),
        ("file", [f"study{at // 2}\\IM{at:04}" for at in range(12)]),
        ("image", [f"IM{at:04}" for at in range(12)]),
    ):
        rows = [f"{name},{('benign', 'malignant')[at % 2]}" for at, name in enumerate(names)]
        (folder / "labels.csv").write_text(f"{column},diagnosis\n" + "\n".join(rows[:11]), encoding="utf-8")
        card = make(folder, table="labels.csv").card()
        assert card.classes == ("benign", "malignant")
        assert "1 DICOM file has no row in the table and is left out" in card.notes
        assert not any("SECRET" in line or uids[0] in line for line in card.notes)


def test_a_table_may_give_several_findings_and_masks(pacs: tuple[Path, list[str]]) -> None:
    folder, uids = pacs
    (folder / "masks").mkdir()
    rows = []
    for at, uid in enumerate(uids):
        mask = np.zeros((20, 20), dtype=np.uint8)
        mask[5:15, 5:15] = 255 * (at % 2)
        Image.fromarray(mask).save(folder / "masks" / f"{at}.png")
        rows.append(f"{uid},{at % 2},{int(at % 3 == 0)},{f'masks/{at}.png' if at % 2 else ''}")
    (folder / "x.csv").write_text("uid,Mass,Edema,mask\n" + "\n".join(rows), encoding="utf-8")
    data = make(folder, table="x.csv", label="Mass+Edema", task="multi-label")
    assert (data.card().task, data.card().classes) == ("multi-label", ("Edema", "Mass"))
    for name in SPLITS:
        split = data.split(name)
        assert split.masks is not None
        assert torch.equal(split.masks.flatten(1).any(1), split.labels[:, 1] == 1)
    assert all(line.startswith("note:") for line in data.check())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1.2.3.4,a", "IM0001,b"], r"1 row of table .*x.csv names no DICOM file under .*: line 2"),
        (["IM0000,a", "IM0000,b", "IM0001,b"], "line 3 says otherwise of its file than an earlier line"),
        (["IM0000,a|b", "IM0001,b"], "line 2 gives several labels to an image"),
    ],
)
def test_faults_of_a_table_are_one_line(pacs: tuple[Path, list[str]], rows: list[str], message: str) -> None:
    folder, _ = pacs
    (folder / "x.csv").write_text("file,label\n" + "\n".join(rows), encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        make(folder, table="x.csv").card()
    assert make(folder, table="x.csv").check() == [str(caught.value)]


def test_a_slope_of_0_an_image_without_pixels_and_one_cut_off_are_named(tmp_path: Path, write: Write) -> None:
    for at in range(8):
        write(tmp_path / "ab"[at % 2] / f"{at}.dcm", noise(at), **({"RescaleSlope": 0} if at == 3 else {}))
    with pytest.raises(DataError, match=r"3.dcm has RescaleSlope 0"):
        make(tmp_path).card()
    write(tmp_path / "b" / "3.dcm", noise(3))
    found = pydicom.dcmread(tmp_path / "b" / "3.dcm")
    del found.PixelData
    found.save_as(tmp_path / "b" / "3.dcm")
    with pytest.raises(DataError, match=r"cannot read DICOM file .*3.dcm: .*no pixel data"):
        make(tmp_path).card()
    path = write(tmp_path / "b" / "3.dcm", noise(3))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"cannot read DICOM file .*3.dcm: .*less than expected"):
        make(tmp_path).card()


def test_a_folder_without_dicom_files_is_none_of_this_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no DICOM files under"):
        make(tmp_path).check()


def test_one_patient_for_all_files_is_a_problem_of_the_check(tmp_path: Path, write: Write) -> None:
    for at in range(8):
        write(tmp_path / "ab"[at % 2] / f"{at}.dcm", noise(at), PatientID="Anonymous")
    problems = [line for line in make(tmp_path).check() if not line.startswith("note:")]
    assert len(problems) == 1
    assert "has 1 patient(s)" in problems[0]
