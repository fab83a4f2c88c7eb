"""What lies in a folder that a user named: each data set's first look at it, which imports no torch.

The functions called ``look_...`` are the `finder` of a data set (`robustbench_med.plugins.specs.DatasetSpec`): a run
calls them before it loads large libraries. They return the names of the clients where the folders tell them, else None.
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rbmed_datasets.names import IGNORED, rejoined, split_at_plus
from robustbench_med.errors import DataError, NothingFound

SUFFIXES_OF_TABLES = (".csv", ".tsv", ".parquet")
_BOOKS = (".xlsx", ".xls", ".ods")
_PATIENT = re.compile(r"(?P<patient>TCGA_(?P<site>[A-Z0-9]{2})_[A-Z0-9]{4})_\d{8}")
_LGG = (".", "kaggle_3m", "lgg", "lgg/kaggle_3m", "lgg-mri-segmentation/kaggle_3m")
#: Hospitals of `lgg` with fewer patients are left out, unless a parameter says otherwise.
LEAST_PATIENTS = 5


def look_for_classes(place: Path, params: Mapping[str, Any]) -> Sequence[str] | None:
    """Of `imagefolder`: there are class folders with images."""
    from rbmed_datasets.layout import find_classes

    found = find_classes(place)
    if "test_folder" not in params:
        names = list(dict.fromkeys(item.name for item in found))
        for key in {"classes", "lesion"} & params.keys():
            refuse_unknown(rejoined(split_at_plus(str(params[key])), names), names, place)
    return None if {"site", "test_folder"} & params.keys() else sorted({item.site or "all" for item in found})


def refuse_unknown(asked: Iterable[str], names: Collection[str], place: Path | None) -> None:
    """Raise `DataError` for a class that is not there."""
    for name in asked:
        if name not in names:
            raise DataError(f"no class {name!r} in {place}; there are: {', '.join(names)}")


def look_for_patients(place: Path, params: Mapping[str, Any]) -> Sequence[str] | None:
    """Of `lgg`: there are folders of patients."""
    patients: dict[str, set[str]] = defaultdict(set)
    for _, match in lgg_folders(place):
        patients[match["site"]].add(match["patient"])
    least = int(params.get("min_patients", LEAST_PATIENTS))
    return sorted(site for site, known in patients.items() if len(known) >= least)


def look_for_volumes(place: Path, params: Mapping[str, Any]) -> None:
    """Of `nifti`: there are volumes."""
    from rbmed_datasets.cases import scans_and_maps

    scans_and_maps(place)


def look_for_dicom(place: Path, params: Mapping[str, Any]) -> None:
    """Of `dicom`: there is a DICOM file."""
    if next(dicom_files(place), None) is None:
        raise NothingFound("DICOM files", place)


def look_for_medmnist(place: Path, params: Mapping[str, Any]) -> None:
    """Of `medmnist`: there is a file of it, unless one is named or downloaded."""
    if place.is_dir() and not {"file", "download"} & params.keys():
        medmnist_files(place)


def look_for_table(place: Path, params: Mapping[str, Any]) -> None:
    """Of `table`: there is a table."""
    if place.is_dir() and "file" in params and not (path := place / str(params["file"])).is_file():
        raise DataError(f"there is no table {path} (file={params['file']})")
    if place.is_dir() and "file" not in params:
        table_files(place)


def lgg_folders(root: Path) -> list[tuple[Path, re.Match[str]]]:
    """The folders of `lgg`, each with what its name says: ``patient`` and ``site``.

    Raises:
        NothingFound: there are none.
    """
    for place in _LGG:
        base = root / place
        found = sorted(base.glob("TCGA_*_*_*/")) if base.is_dir() else []
        named = [(path, match) for path in found if (match := _PATIENT.fullmatch(path.name)) and path.is_dir()]
        if named:
            return named
    raise NothingFound(
        "LGG patients",
        root,
        ": expected folders TCGA_<hospital>_<patient>_<date> with <folder>_<n>.tif and <folder>_<n>_mask.tif "
        "there, in kaggle_3m/ or in lgg/kaggle_3m/",
    )


def dicom_files(root: Path) -> Iterator[Path]:
    """Every DICOM file below a folder."""
    from rbmed_datasets.dicomfile import is_dicom

    return (path for path in root.rglob("*") if is_dicom(path))


def medmnist_files(root: Path) -> list[Path]:
    """The files of MedMNIST in a folder.

    Raises:
        NothingFound: there are none.
    """
    found = sorted(path for path in root.glob("*.npz") if path.is_file() and is_medmnist(path))
    if not found:
        raise NothingFound("file of MedMNIST (.npz)", root)
    return found


def is_medmnist(path: Path) -> bool:
    """Whether a file has the arrays of MedMNIST."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"train_images.npy", "test_labels.npy"} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def table_files(root: Path) -> list[Path]:
    """The tables in a folder.

    Raises:
        DataError: there are none.
    """
    every = list(root.iterdir())
    found = [path for path in every if path.suffix.lower() in SUFFIXES_OF_TABLES]
    found = sorted(path for path in found if path.is_file() and not path.name.startswith(IGNORED))
    if found:
        return found
    if books := [path.name for path in every if path.suffix.lower() in _BOOKS]:
        raise DataError(f"{root / min(books)} is a workbook of Excel; save the sheet as CSV")
    raise NothingFound(f"table ({', '.join(SUFFIXES_OF_TABLES)})", root)
