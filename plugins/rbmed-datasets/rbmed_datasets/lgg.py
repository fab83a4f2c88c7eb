"""`lgg`: FLAIR slices of patients with low-grade glioma, split by patient; the hospitals are the clients.

The collection (Buda, Saha & Mazurowski 2019, arXiv 1906.03720; images from TCGA) has one folder per patient,
``TCGA_<hospital>_<patient>_<date>``, with slices ``..._<n>.tif`` and masks ``..._<n>_mask.tif``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import pydantic

import robustbench_med as rbmed
from rbmed_datasets import checking, files, pixels
from rbmed_datasets.first_look import LEAST_PATIENTS, lgg_folders
from rbmed_datasets.folder import FolderDataset, FolderParams
from rbmed_datasets.names import IGNORED
from rbmed_datasets.scans import Scans
from robustbench_med.errors import DataError

_SLICE = re.compile(r".+_(?P<number>\d+)(?P<mask>_mask)?\.tiff?", re.IGNORECASE)


@dataclass(frozen=True)
class _Volume:
    folder: Path
    patient: str
    site: str
    slices: list[Path]  # in order of the slice number
    masks: dict[Path, Path]  # slice -> mask
    orphans: list[Path]  # masks without a slice


def _volume(folder: Path, patient: str, site: str) -> _Volume:
    slices: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    for path in folder.iterdir():
        if not path.name.startswith(IGNORED) and (match := _SLICE.fullmatch(path.name)):
            (masks if match["mask"] else slices)[int(match["number"])] = path
    return _Volume(
        folder=folder,
        patient=patient,
        site=site,
        slices=[slices[number] for number in sorted(slices)],
        masks={slices[number]: masks[number] for number in sorted(slices.keys() & masks.keys())},
        orphans=[masks[number] for number in sorted(masks.keys() - slices.keys())],
    )


class LggParams(FolderParams):
    """Parameters of `Lgg`."""

    min_patients: int = rbmed.Field(
        LEAST_PATIENTS, ge=3, description="Hospitals with fewer patients are left out (and named)."
    )
    slice_low: float = rbmed.Field(0.35, ge=0, le=1, description="Start of the slices used, as a share of the volume.")
    slice_high: float = rbmed.Field(0.85, ge=0, le=1, description="End of the slices used, as a share of the volume.")
    min_lesion_pixels: int = rbmed.Field(
        150, ge=1, description="Slices with a lesion of fewer pixels (at the original 256 px) are left out."
    )

    @pydantic.model_validator(mode="after")
    def _range_not_empty(self) -> Self:
        if self.slice_low >= self.slice_high:
            raise ValueError("slice_low must be below slice_high")
        return self


class Lgg(FolderDataset):
    """Lesion visible in this FLAIR slice: yes or no.

    Patients are ``TCGA_CS_4941``, sites the hospital codes (CS, DU, FG; EZ is too small). The label of a slice is
    whether its mask has a pixel; masks are scaled by area (more than half covered). Images are the file's 8 bits
    divided by 255.

    Raises:
        DataError: no such folder under the root, a mask is missing, an image is unreadable, or too few patients.
    """

    Params: ClassVar[type[LggParams]] = LggParams
    name = "lgg"
    licence = "CC BY-NC-SA 4.0"
    citation = (
        "Buda, Saha & Mazurowski 2019, Association of genomic subtypes of lower-grade gliomas with shape features "
        "automatically extracted by a deep learning algorithm, Computers in Biology and Medicine 109:218-225"
    )
    revision = 1

    @cached_property
    def _volumes(self) -> list[_Volume]:
        return [_volume(path, match["patient"], match["site"]) for path, match in lgg_folders(self.folder)]

    @cached_property
    def _small(self) -> dict[str, int]:
        """Hospitals that are left out, with their number of patients."""
        patients = Counter(site for _, site in {(volume.patient, volume.site) for volume in self._volumes})
        small = {site: count for site, count in sorted(patients.items()) if count < self.params.min_patients}
        if len(small) == len(patients):
            counts = ", ".join(f"{site} {count}" for site, count in small.items())
            raise DataError(
                f"no hospital under {self.folder} has "
                f"{rbmed.plural(self.params.min_patients, 'patient')} (found {counts})"
            )
        return small

    def base(self) -> Path:
        """The folder that holds the patients' folders."""
        return self._volumes[0].folder.parent

    def files(self) -> list[Path]:
        """Slices and masks of the hospitals in use."""
        used = [volume for volume in self._volumes if volume.site not in self._small]
        return [path for volume in used for path in (*volume.slices, *volume.masks.values())]

    def _candidates(self) -> Iterator[tuple[_Volume, Path, Path]]:
        """Slices of the chosen range with their masks, in order of patient and slice."""
        for volume in self._volumes:
            count = len(volume.slices)
            for rank, path in enumerate(volume.slices):
                chosen = self.params.slice_low <= (rank + 0.5) / count <= self.params.slice_high
                if volume.site in self._small or not chosen:
                    continue
                if path not in volume.masks:
                    raise DataError(f"slice {path} has no mask {path.stem}_mask.tif beside it")
                yield volume, path, volume.masks[path]

    def scans(self) -> Scans:
        """Decode the chosen slices."""
        size, fit = self.params.size, self.params.fit
        images, masks, labels, patients, sites = [], [], [], [], []
        tiny = 0
        candidates = list(self._candidates())
        with self.progress.task("reading lgg", len(candidates)) as task:
            for volume, slice_path, mask_path in candidates:
                task.advance()
                mask = files.mask(mask_path)
                if 0 < mask.sum() < self.params.min_lesion_pixels:
                    tiny += 1
                    continue
                scan = files.load(slice_path)
                if pixels.deep(slice_path):
                    raise DataError(f"slice {slice_path} has more than 8 bits a channel; the collection has 8")
                flair = scan.getchannel(1) if scan.mode == "RGB" else files.gray(scan)
                if flair.size != mask.shape[::-1]:
                    raise DataError(_size_mismatch(slice_path, flair.size, mask.shape[::-1]))
                images.append(files.square(flair, size, fit))
                masks.append(files.square_mask(mask.astype(np.uint8) * 255, size, fit))
                labels.append(int(mask.any()))
                patients.append(volume.patient)
                sites.append(volume.site)
        if not images:
            raise DataError(f"no slices under {self.folder} pass slice_low, slice_high and min_lesion_pixels")
        notes = [
            f"hospital {site} left out: {count} patient(s), fewer than {self.params.min_patients}"
            for site, count in self._small.items()
        ]
        notes.append(
            f"{rbmed.plural(tiny, 'slice')} with a lesion under {self.params.min_lesion_pixels} pixels left out"
        )
        return Scans(
            classes=("no tumour", "tumour"),
            images=np.stack(images),
            labels=np.array(labels, dtype=np.int64),
            patients=tuple(patients),
            sites=tuple(sites),
            masks=np.stack(masks),
            notes=tuple(notes),
        )

    def lesion_class(self, classes: tuple[str, ...]) -> int | None:
        """``tumour``."""
        return classes.index("tumour")

    def check(self) -> list[str]:
        """Problems of every slice and mask of every hospital."""
        lines = []
        with self.progress.task("checking lgg", len(self._volumes)) as task:
            for volume in self._volumes:
                lines += [f"slice {path} has no mask" for path in volume.slices if path not in volume.masks]
                lines += [f"mask {path} has no slice" for path in volume.orphans]
                unpaired = [*volume.orphans, *(path for path in volume.slices if path not in volume.masks)]
                lines += [line for path in unpaired if (line := checking.problem(path))]
                lines += [line for pair in volume.masks.items() for line in _pair_problems(*pair)]
                if not volume.slices:
                    lines.append(f"patient {volume.patient} has no slices")
                task.advance(note=volume.patient)
        return lines


def _pair_problems(scan: Path, mask: Path) -> list[str]:
    lines = [line for path in (scan, mask) if (line := checking.problem(path))]
    with suppress(DataError):  # an unreadable file is reported above
        size, mask_size = files.load(scan).size, files.load(mask).size
        if size != mask_size:
            lines.append(_size_mismatch(scan, size, mask_size))
    return lines


def _size_mismatch(scan: Path, size: tuple[int, int], mask_size: tuple[int, int]) -> str:
    return f"slice {scan} is {size[0]} x {size[1]} pixels, its mask {mask_size[0]} x {mask_size[1]}"
