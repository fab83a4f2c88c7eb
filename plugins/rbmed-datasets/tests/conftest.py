"""Folders of drawn images in the usual layouts, and a separate cache for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Scan = NDArray[np.uint8]


def draw_scan(seed: int | tuple[int, ...], lesion: bool = False, side: int = 64) -> Scan:
    """A head: an ellipse with smooth texture of its own, and a bright disc if there is a lesion. uint8 (side, side)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    waves = rng.normal(size=(12, 4))
    texture = sum(a * np.sin(8 * b * x + 8 * c * y + 6 * d) for a, b, c, d in waves)
    head = (x / 0.8) ** 2 + (y / 0.9) ** 2 < 1
    values = head * (110 + 30 * texture)
    values[_disc(x, y) & lesion] = 240
    return values.clip(0, 255).astype(np.uint8)


def _disc(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (x - 0.2) ** 2 + (y - 0.1) ** 2 < 0.3**2


def draw_mask(side: int = 64) -> Scan:
    """The disc of `draw_scan`, 0 or 255."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    return (_disc(x, y) * 255).astype(np.uint8)


def write_classes(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Class folders ``root/<class>/<class><n>.png`` of unrelated scans; classes called yes get a lesion."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            scan = draw_scan((seed, len(name), i), lesion=name == "yes")
            Image.fromarray(scan).save(root / name / f"{name}{i}.png")
    return root


def write_lgg(root: Path, patients: dict[str, int], slices: int = 12, side: int = 64, colour: bool = False) -> Path:
    """Patients per hospital, each with ``slices`` slices; those from 40 to 70 % of the volume have a lesion."""
    seed = 0
    for site, count in patients.items():
        for number in range(count):
            name = f"TCGA_{site}_{4000 + number}_20000101"
            (root / name).mkdir(parents=True)
            for rank in range(slices):
                seed += 1
                lesion = 0.4 < (rank + 0.5) / slices < 0.7
                flair = draw_scan(seed, lesion, side)
                image = np.stack([flair // 3, flair, flair // 2], axis=-1) if colour else flair
                Image.fromarray(image).save(root / name / f"{name}_{rank + 1}.tif")
                mask = Image.fromarray(draw_mask(side) * lesion)
                mask.convert("L" if colour else "1").save(root / name / f"{name}_{rank + 1}_mask.tif")
    return root


def write_dicom(path: Path, values: NDArray[Any], **fields: object) -> Path:
    """A CT of (H, W) or (frames, H, W)."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    made.Rows, made.Columns = values.shape[-2:]
    if values.ndim == 3:
        made.NumberOfFrames = len(values)
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8 * values.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(values.dtype.kind == "i")
    for name, value in fields.items():
        setattr(made, name, value)
    made.PixelData = values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def write() -> Callable[..., Path]:
    """Writes a DICOM file."""
    return write_dicom


@pytest.fixture
def scan() -> Callable[..., Scan]:
    return draw_scan


@pytest.fixture
def class_folders() -> Callable[..., Path]:
    return write_classes


@pytest.fixture
def lgg_folders() -> Callable[..., Path]:
    return write_lgg


@pytest.fixture
def cache_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("RBMED_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def shared_data() -> Path:
    path = Path(__file__).parents[4] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"real images not found: no folder {path}")
    return path
