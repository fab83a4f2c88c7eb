"""`dicom`: DICOM files in class folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets import cache, checking, dicom_table, dicomfile, files, pixels
from rbmed_datasets.first_look import dicom_files
from rbmed_datasets.labelling import findings_of
from rbmed_datasets.layout import refuse_similar
from rbmed_datasets.names import printable
from rbmed_datasets.picture_params import LabelledParams
from rbmed_datasets.pictures import Picture, PictureSet
from robustbench_med.errors import DataError, NothingFound


class DicomParams(LabelledParams):
    """Parameters of `Dicom`."""

    table: str = rbmed.Field(
        "",
        description="Table (CSV, TSV, Parquet) in the data root that labels files by SOPInstanceUID, path or name, and "
        "may name their masks; in place of class folders.",
    )
    label: str = rbmed.Field("", description="Its column of the label, or columns of 0 and 1 joined by '+'.")
    separator: str = rbmed.Field(
        "|", min_length=1, description="Characters between the findings in one column, where task=multi-label."
    )


class Dicom(PictureSet):
    """DICOM files below class folders, at any depth, or labelled by a table.

    Patients are the PatientIDs and sites the InstitutionNames of the headers, hashed with a salt that can be computed
    from the files alone. No other text of a header is used, and files are called by numbers, since their names may hold
    those of patients.

    Raises:
        DataError: no class folders with DICOM files, an unreadable file, pydicom or a decoder is not installed.
    """

    Params: ClassVar[type[DicomParams]] = DicomParams
    name = "dicom"
    revision = 2
    later = ("task", "table", "label", "separator")

    @cached_property
    def _paths(self) -> dict[Path, str]:
        """Files and their class folders."""
        root = self.folder
        found = sorted(dicom_files(root), key=lambda path: files.natural_key(path.relative_to(root).as_posix()))
        if not found:
            raise NothingFound("DICOM files", root)
        if self.params.table:
            return dict.fromkeys(found, "")
        if self.task == "multi-label":
            raise DataError("class folders give an image one label; name a table with several: table=FILE.csv")
        base = root
        while len(parts := {path.relative_to(base).parts[0] for path in found}) == 1 and (base / min(parts)).is_dir():
            base /= min(parts)
        loose = [path for path in found if path.parent == base]
        if loose or len(parts) < 2:
            raise DataError(
                f"no class folders under {base}: expected <class>/<file>.dcm, at any depth below <class>, or a table: "
                "table=FILE.csv"
            )
        labels = {path: printable(path.relative_to(base).parts[0]) for path in found}
        refuse_similar({label: base / label for label in sorted(set(labels.values()))})
        return labels

    @cached_property
    def _headers(self) -> dict[Path, dicomfile.Header]:
        return {path: dicomfile.header(path) for path in self._paths}

    @cached_property
    def _listed(self) -> tuple[dict[Path, dicom_table.Listed], list[str]]:
        """What the table says of files, or the class folders; and notes."""
        if not self.params.table:
            return {path: dicom_table.Listed(label) for path, label in self._paths.items()}, []
        path, p = self.folder / self.params.table, self.params
        if not path.is_file():
            raise DataError(f"there is no table {path} (table={p.table})")
        found, notes = dicom_table.listed(path, self.folder, self._headers, p, p.label, p.separator)
        held = {listed.label for listed in found.values()}
        several = self.task == "multi-label"
        refuse_similar(
            {name: f"table {path}" for label in sorted(held) for name in (findings_of(label) if several else (label,))}
        )
        return found, notes

    @cached_property
    def _salt(self) -> bytes:
        """Digest of all files: known to those only who have them, and with them their headers."""
        named = [(self.file_name(path), path) for path in self._paths]
        return cache.content_digest(self.base(), named).encode()

    def _salted(self, what: str, text: str) -> str:
        return (
            f"{what}-{hashlib.blake2b(text.encode(), digest_size=8, key=self._salt, person=what.encode()).hexdigest()}"
        )

    def files(self) -> list[Path]:
        """Every DICOM file, with the table and its masks."""
        if not self.params.table:
            return list(self._paths)
        masks = [mask for listed in self._listed[0].values() for mask in listed.masks]
        return list(dict.fromkeys([self.folder / self.params.table, *self._paths, *masks]))

    def fact(self, path: Path) -> str:
        """Files that are shown by a table, or whose pixels are not square, were once read otherwise."""
        header = self._headers.get(path)
        told = {"voi-lut": header.table, "square": header.oblong} if header is not None else {}
        return " ".join(name for name, holds in told.items() if holds)

    def find(self) -> list[Picture]:
        """The files that hold an image."""
        return [
            Picture(
                path,
                listed.label,
                masks=listed.masks,
                site=self._salted("site", header.institution) if header.institution else "all",
                patient=self._salted("patient", header.patient) if header.patient else None,
            )
            for path, listed in self._listed[0].items()
            if (header := self._headers[path]).frames
        ]

    @cached_property
    def _numbers(self) -> dict[Path, int]:
        return {path: at for at, path in enumerate(self._paths)}

    def name_of(self, picture: Picture) -> str:
        """Its number, in the natural order of the paths."""
        return f"file {self._numbers[picture.path]}" + (f"#{picture.page}" if picture.page else "")

    def items(self) -> list[Picture]:
        """An item for each frame that is read."""
        made: list[Picture] = []
        for picture in self.pictures:
            frames = self._headers[picture.path].frames
            chosen = {"first": range(1), "middle": range(frames // 2, frames // 2 + 1), "all": range(frames)}
            made += [replace(picture, page=page) for page in chosen[self.params.pages]]
        return made

    def read(self, item: Picture) -> pixels.Pixels:
        """The frame."""
        return dicomfile.read(item.path, self.params.channels, item.page, self.params.window == "file")

    def masks(self, items: Sequence[Picture]) -> tuple[NDArray[np.bool_] | None, list[str]]:
        """The masks, whose pixels are those of the files."""
        used, p = [self._headers[item.path] for item in items], self.params
        return files.read_masks(
            [item.masks for item in items],
            [self.name_of(item) for item in items],
            lambda at: used[at].shape,
            p.size,
            p.fit,
            lambda at: used[at].pixel,
        )

    def facts(self) -> list[str]:
        """Files without an image."""
        without = sum(not header.frames for header in self._headers.values())
        lines = [f"{without} DICOM files hold no image and are left out"] if without else []
        return [*lines, *self._listed[1]]

    def on_files(self) -> list[str]:
        """What headers say, in numbers."""
        used = [self._headers[picture.path] for picture in self.pictures]
        lines = [*self.facts(), "patients and sites are salted hashes of PatientID and InstitutionName"]
        if unknown := sum(not header.patient for header in used):
            lines.append(rbmed.plural(unknown, "file has no PatientID", "files have no PatientID"))
        if burned := sum(header.burned for header in used):
            lines.append(
                f"{rbmed.plural(burned, 'file states', 'files state')} that text is burned into "
                f"{'its' if burned == 1 else 'their'} pixels (BurnedInAnnotation): it may name "
                "patients, and a classifier may learn it"
            )
        if self.params.window == "file" and (tables := sum(header.table for header in used)):
            lines.append(
                f"{rbmed.plural(tables, 'file says', 'files say')} by a table of "
                f"{'its' if tables == 1 else 'their'} own how values are shown (VOI LUT), which is applied; "
                "window=percentile and window=CENTER/WIDTH take the values without it"
            )
        if oblong := sum(header.oblong for header in used):
            lines.append(
                f"{rbmed.plural(oblong, 'file has', 'files have')} pixels that are not square (PixelSpacing) and "
                f"{'is' if oblong == 1 else 'are'} made so"
            )
        counts = [header.frames for header in used if header.frames > 1]
        if counts and self.params.pages != "all":
            lines.append(
                f"{rbmed.plural(len(counts), 'file holds', 'files hold')} several frames (at most "
                f"{max(counts)}); only the {self.params.pages} one is "
                "read; pages=all reads each as an image of one patient"
            )
        return lines

    def check(self) -> list[str]:
        """Problems of every file."""
        found = checking.Checked(self.params.channels, self.params.window)
        paths = self._paths  # a folder without DICOM files holds something else, and no problem of this data set
        try:
            labels = {path: listed.label for path, listed in self._listed[0].items()}
        except DataError as error:
            return [str(error)]
        with self.progress.task(f"checking {self.name}", len(self._paths)) as task:
            for path in paths:
                label = labels.get(path, "")
                try:
                    if dicomfile.header(path).frames:
                        image = dicomfile.read(path, self.params.channels, 0, self.params.window == "file")
                        found.see(image, printable(self.file_name(path)), label, label)
                except DataError as error:
                    found.lines.append(str(error))
                task.advance()
        return found.report() if found.lines else self.checked(found)
