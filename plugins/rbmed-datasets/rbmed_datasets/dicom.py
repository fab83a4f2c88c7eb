"""`dicom`: DICOM files in class folders."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from rbmed_datasets import cache, checking, dicomfile, files, pixels
from rbmed_datasets.layout import refuse_similar
from rbmed_datasets.names import printable
from rbmed_datasets.picture_params import LabelledParams
from rbmed_datasets.pictures import Picture, PictureSet
from robustbench_med.errors import DataError


class Dicom(PictureSet):
    """DICOM files below class folders, at any depth.

    Patients are the PatientIDs and sites the InstitutionNames of the headers, hashed with a salt that can be computed
    from the files alone. No other text of a header is used, and files are called by numbers, since their names may hold
    those of patients.

    Raises:
        DataError: no class folders with DICOM files, an unreadable file, pydicom or a decoder is not installed.
    """

    Params: ClassVar[type[LabelledParams]] = LabelledParams
    name = "dicom"
    revision = 1
    later = ("task",)

    @cached_property
    def _paths(self) -> dict[Path, str]:
        """Files and their class folders."""
        root = self.folder
        every = (path for path in root.rglob("*") if dicomfile.is_dicom(path))
        found = sorted(every, key=lambda path: files.natural_key(path.relative_to(root).as_posix()))
        if not found:
            raise DataError(f"no DICOM files under {root}")
        base = root
        while len(parts := {path.relative_to(base).parts[0] for path in found}) == 1 and (base / min(parts)).is_dir():
            base /= min(parts)
        loose = [path for path in found if path.parent == base]
        if loose or len(parts) < 2:
            raise DataError(f"no class folders under {base}: expected <class>/<file>.dcm, at any depth below <class>")
        labels = {path: printable(path.relative_to(base).parts[0]) for path in found}
        refuse_similar({label: base / label for label in sorted(set(labels.values()))})
        return labels

    @cached_property
    def _headers(self) -> dict[Path, dicomfile.Header]:
        return {path: dicomfile.header(path) for path in self._paths}

    @cached_property
    def _salt(self) -> bytes:
        """Digest of all files: known to those only who have them, and with them their headers."""
        named = [(self.file_name(path), path) for path in self.files()]
        return cache.content_digest(self.base(), named).encode()

    def _salted(self, what: str, text: str) -> str:
        return (
            f"{what}-{hashlib.blake2b(text.encode(), digest_size=8, key=self._salt, person=what.encode()).hexdigest()}"
        )

    def base(self) -> Path:
        """The data root."""
        return self.folder

    def files(self) -> list[Path]:
        """Every DICOM file."""
        return list(self._paths)

    def fact(self, path: Path) -> str:
        """None: there are no DICOM files that were once read otherwise."""
        return ""

    def keeps_official(self) -> bool:
        """There is none."""
        return False

    def find(self) -> list[Picture]:
        """The files that hold an image."""
        return [
            Picture(
                path,
                label,
                site=self._salted("site", header.institution) if header.institution else "all",
                patient=self._salted("patient", header.patient) if header.patient else None,
            )
            for path, label in self._paths.items()
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
        return dicomfile.read(item.path, self.params.channels, item.page)

    def facts(self) -> list[str]:
        """Files without an image."""
        without = sum(not header.frames for header in self._headers.values())
        return [f"{without} DICOM files hold no image and are left out"] if without else []

    def on_files(self) -> list[str]:
        """What headers say, in numbers."""
        used = [self._headers[picture.path] for picture in self.pictures]
        lines = [*self.facts(), "patients and sites are salted hashes of PatientID and InstitutionName"]
        if unknown := sum(not header.patient for header in used):
            lines.append(f"{unknown} files have no PatientID")
        if burned := sum(header.burned for header in used):
            lines.append(
                f"{burned} files state that text is burned into their pixels (BurnedInAnnotation): it may name "
                "patients, and a classifier may learn it"
            )
        counts = [header.frames for header in used if header.frames > 1]
        if counts and self.params.pages != "all":
            lines.append(
                f"{len(counts)} files hold several frames (at most {max(counts)}); only the {self.params.pages} one is "
                "read; pages=all reads each as an image of one patient"
            )
        return lines

    def check(self) -> list[str]:
        """Problems of every file."""
        found = checking.Checked(self.params.channels, self.params.window)
        with self.progress.task(f"checking {self.name}", len(self._paths)) as task:
            for path, label in self._paths.items():
                try:
                    if dicomfile.header(path).frames:
                        image = dicomfile.read(path, self.params.channels, 0)
                        found.see(image, printable(self.file_name(path)), label, label)
                except DataError as error:
                    found.lines.append(str(error))
                task.advance()
        return found.report([] if found.lines else self.on_files())
