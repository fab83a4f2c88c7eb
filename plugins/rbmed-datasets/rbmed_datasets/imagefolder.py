"""`imagefolder`: any folder of class folders, near-duplicates grouped before it is split."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import pydantic

import robustbench_med as rbmed
from rbmed_datasets import files, tabular
from rbmed_datasets.layout import Labelled, find_classes, unread_note
from rbmed_datasets.names import matched, printable, regex
from rbmed_datasets.picture_params import LabelledParams
from rbmed_datasets.pictures import Picture, PictureSet
from robustbench_med.errors import DataError


class ImageFolderParams(LabelledParams):
    """Parameters of `ImageFolder`."""

    split: Literal["patient", "official"] = rbmed.Field(
        "patient", description="'patient': by patient or group; 'official': that of the folders train, val and test."
    )
    patient: str | None = rbmed.Field(
        None,
        description="Regular expression that finds the patient in the path of a file below the folder: its group "
        "'patient', else its first group, else the whole match.",
    )
    site: str | None = rbmed.Field(
        None, description="The same for the site (hospital). Empty: from folders SITE/CLASS, else one site."
    )
    ids: str = rbmed.Field(
        "", description="Table in the folder (CSV, TSV, Parquet) with a column of file names and one of patients."
    )
    test_folder: str = rbmed.Field(
        "", description="Folder of class folders that hold the test images; relative paths start at the data root."
    )

    _regex = pydantic.field_validator("patient", "site")(regex)


class ImageFolder(PictureSet):
    """Class folders of images, such as Br35H, brain-tumor-mri, BUSI or COVID-19 Radiography.

    Patients are read from the paths or from a table, or else near-duplicates are grouped. An official split is pooled
    unless ``split=official``, and the card reports its leak.

    Raises:
        DataError: no class folders, an empty class, an unreadable image, an unknown class name, too few groups.
    """

    Params: ClassVar[type[ImageFolderParams]] = ImageFolderParams
    name = "imagefolder"
    revision = 1
    later = (
        "channels",
        "window",
        "similar",
        "pages",
        "min_patients",
        "split",
        "patient",
        "site",
        "ids",
        "test_folder",
        "task",
    )

    @cached_property
    def _labelled(self) -> list[Labelled]:
        """Every class folder, classes in natural order."""
        found = find_classes(self.folder, self._test_folder)
        return sorted(found, key=lambda item: files.natural_key(item.name))

    @property
    def _used(self) -> list[Labelled]:
        return [item for item in self._labelled if item.name in self.class_names]

    @property
    def _test_folder(self) -> Path | None:
        if not self.params.test_folder:
            return None
        path = Path(os.path.normpath(self.folder / Path(self.params.test_folder).expanduser()))
        if not path.is_dir():
            raise DataError(f"--test-folder (test_folder={self.params.test_folder}) is not a folder: {path}")
        return path

    def base(self) -> Path:
        """The folder that holds the class folders, or ``Training`` and ``Testing``."""
        return self._base

    @cached_property
    def _base(self) -> Path:
        return _common(item for item in self._used if not item.foreign)

    @cached_property
    def _test_base(self) -> Path:
        return _common(item for item in self._used if item.foreign)

    def file_name(self, path: Path) -> str:
        """Its path below the collection, or below ``test_folder``, wherever that is."""
        if path.is_relative_to(self._base):
            return path.relative_to(self._base).as_posix()
        return f"test_folder/{path.relative_to(self._test_base).as_posix()}"

    def empty(self) -> dict[str, Path]:
        """Classes with an empty folder."""
        return {item.name: item.path for item in self._labelled if not item.files}

    def files(self) -> list[Path]:
        """Every image of the chosen classes, and their masks.

        Raises:
            DataError: a class folder is empty.
        """
        for item in self._used:
            if not item.files:
                raise DataError(f"class folder {item.path} holds no images ({', '.join(sorted(files.SUFFIXES))})")
        return super().files()

    def keeps_official(self) -> bool:
        """Where it was asked for, or the test images have a folder of their own."""
        return self.params.split == "official" or bool(self.params.test_folder)

    def find(self) -> list[Picture]:
        """The files of all class folders."""
        if self.params.task == "multi-label":
            raise DataError("class folders give an image one label; several findings are read by the data set 'table'")
        return [
            Picture(path, item.name, item.split, item.site or "all", masks=item.masks.get(path, ()))
            for item in self._labelled
            for path in item.files
        ]

    @cached_property
    def pictures(self) -> list[Picture]:
        """With sites and patients as they are found in names or in a table."""
        found = self.labelled
        if self.params.site is not None:
            sites = matched("site", self.params.site, [self._name(picture) for picture in found])
            found = [replace(picture, site=site) for picture, site in zip(found, sites, strict=True)]
        if self.params.patient is None and not self.params.ids:
            return found
        if self.params.patient is not None:
            patients = matched("patient", self.params.patient, [self._name(picture) for picture in found])
        else:
            patients = tabular.ids_of(self.folder / self.params.ids, [self._name(picture) for picture in found])
        several = len({picture.site for picture in found}) > 1
        # Numbers may begin anew at every site.
        return [
            replace(picture, patient=f"{picture.site}/{patient}" if several else patient)
            for picture, patient in zip(found, patients, strict=True)
        ]

    def _name(self, picture: Picture) -> str:
        return printable(self.file_name(picture.path))

    def facts(self) -> list[str]:
        """What is not read, and the sites."""
        lines = unread_note(self._used)
        if beside := [printable(path.name) for item in self._used for path in item.beside]:
            lines.append(f"folders beside those of the official split are left out: {', '.join(beside)}")
        sites = sorted({item.site for item in self._used if item.site}, key=files.natural_key)
        return [*lines, f"sites are folders: {', '.join(sites)}"] if sites else lines


def _common(found: Iterable[Labelled]) -> Path:
    """The folder that holds all class folders and masks."""
    folders: set[Path] = set()
    for item in found:
        folders |= {item.path.parent, *(path.parent for several in item.masks.values() for path in several)}
    return Path(os.path.commonpath(folders))
