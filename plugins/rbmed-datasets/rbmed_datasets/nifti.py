"""`nifti`: slices of volumes, labelled by label maps or class folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray
from PIL import Image

import robustbench_med as rbmed
from rbmed_datasets import cases, checking, files, intensity, pixels, tabular, volumes
from rbmed_datasets.names import matched, printable, regex, some
from rbmed_datasets.picture_params import PictureSetParams, joined_by_plus
from rbmed_datasets.pictures import Picture, PictureSet
from robustbench_med.errors import DataError

#: Values below it are not those of MRI or of images that are already scaled.
_HOUNSFIELD = -500


class NiftiParams(PictureSetParams):
    """Parameters of `Nifti`."""

    window: Annotated[str, pydantic.AfterValidator(intensity.checked)] = rbmed.Field(
        intensity.VOLUME,
        description="Values that become black and white: 'volume' (0.5 to 99.5 % of the voxels of each volume, for "
        "MRI), 'percentile' (of all volumes), 'file' (as declared by them) or CENTER/WIDTH, such as 40/400, for CT.",
    )
    pages: Literal["first", "middle", "all"] = rbmed.Field(
        "all", description="Slices of a volume: 'all' of those that 'slices' allows, the 'middle' or the 'first' one."
    )
    axis: volumes.Axis = rbmed.Field("axial", description="Slices are axial, coronal or sagittal.")
    slices: int = rbmed.Field(16, ge=0, description="At most so many slices of a volume, evenly spaced; 0: all.")
    slice_low: float = rbmed.Field(0, ge=0, le=1, description="Start of the slices used, as a share of the volume.")
    slice_high: float = rbmed.Field(1, ge=0, le=1, description="End of the slices used, as a share of the volume.")
    task: Literal["present", "largest"] = rbmed.Field(
        "present",
        description="Label of a slice from its label map: 'present', whether it shows one of 'values'; 'largest', "
        "which of them covers most of it.",
    )
    values: tuple[int, ...] = rbmed.Field((), description="Values of the label maps that count (1+2); empty: all.")
    min_area: float = rbmed.Field(
        0, ge=0, description="Slices that show a smaller area of these values, in mm2, are left out."
    )
    image: str = rbmed.Field(
        "", description="Of several images of a case, the one to use: flair, 0000; or its number in a 4-D file."
    )
    patient: str | None = rbmed.Field(
        None, description="Regular expression that finds the patient in the name of a volume. Empty: each is a patient."
    )
    site: str | None = rbmed.Field(None, description="The same for the site (hospital). Empty: one site.")
    ids: str = rbmed.Field("", description="Table in the folder with a column of file names and one of patients.")

    _regex = pydantic.field_validator("patient", "site")(regex)

    @pydantic.field_validator("values", mode="before")
    @classmethod
    def _joined_values(cls, value: Any) -> Any:
        try:
            return tuple(int(each) for each in joined_by_plus(value) or () if each != "")
        except (TypeError, ValueError):
            raise ValueError(f"{value!r}: whole numbers joined by +, such as 1+2") from None

    @pydantic.model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.slice_low >= self.slice_high:
            raise ValueError("slice_low must be below slice_high")
        if any(value < 1 for value in self.values):
            raise ValueError("values are 1 or more; 0 is the background")
        return self


@dataclass(frozen=True)
class _Slices:
    """The slices of a case that are used: pictures; how many are blank, and of too small an area."""

    pictures: list[Picture]
    blank: int
    small: int


class Nifti(PictureSet):
    """Slices of NIfTI volumes, such as those of the Medical Segmentation Decathlon, nnU-Net or BraTS.

    Volumes are turned to one orientation, that of radiologists, and slices have square pixels before they are made
    square. Slices without contrast are left out.

    Raises:
        DataError: no volumes or labels, an unreadable volume, a label map that does not lie on its image.
    """

    Params: ClassVar[type[NiftiParams]] = NiftiParams
    name = "nifti"
    revision = 1
    _left_out: Sequence[str] = ()

    @cached_property
    def _cases(self) -> cases.Found:
        return cases.find(self.folder, self.params.image)

    @property
    def _labelled_by_maps(self) -> bool:
        return self._cases.cases[0].labels is not None

    def files(self) -> list[Path]:
        """Volumes and label maps; the table of ids."""
        found = [path for case in self._cases.cases for path in (case.scan, case.labels) if path is not None]
        more = [self.folder / name for name in (self.params.ids, "dataset.json") if name]
        return [*found, *(path for path in more if path.is_file())]

    def find(self) -> list[Picture]:
        """The slices of every case, in its order."""
        found = []
        with self.progress.task("reading volumes", len(self._cases.cases)) as task:
            for case in self._cases.cases:
                found.append(self._slices(case))
                task.advance(note=case.name)
        counts: dict[str, int] = {
            "slices without contrast": sum(each.blank for each in found),
            f"slices that show less than {self.params.min_area:g} mm2": sum(each.small for each in found),
        }
        self._left_out = [f"{count} {what} are left out" for what, count in counts.items() if count]
        made = [picture for each in found for picture in each.pictures]
        if not made:
            why = "all are blank" if any(each.blank for each in found) else "see slice_low, slice_high and min_area"
            raise DataError(f"no slices of the volumes under {self.root} are left: {why}")
        return made

    def _slices(self, case: cases.Case) -> _Slices:
        params, image = self.params, self._reader.read(case.scan)
        labels = volumes.labels(case.labels, image, case.scan) if case.labels else None
        shown = replace(image, values=self._chosen(labels).astype(np.float32)) if labels is not None else None
        count, (rows, columns) = image.count(params.axis), image.pixel(params.axis)
        inside = [at for at in range(count) if params.slice_low <= (at + 0.5) / count <= params.slice_high]
        full = [at for at in inside if np.ptp(image.slice(params.axis, at)) > 0]
        kept: list[tuple[int, str]] = []
        for at in full:
            values = None if shown is None else shown.slice(params.axis, at)
            if values is None or not 0 < np.count_nonzero(values) * rows * columns < params.min_area:
                kept.append((at, case.label if values is None else self._label_of(values)))
        picked = self._spread(kept)
        patient, site = self._who[case.name]
        pictures = [
            Picture(case.scan, label, site=site, patient=patient, masks=(case.labels,) if case.labels else (), page=at)
            for at, label in picked
        ]
        return _Slices(pictures, len(inside) - len(full), len(full) - len(kept))

    def _spread(self, kept: list[tuple[int, str]]) -> list[tuple[int, str]]:
        if not kept or self.params.pages == "first":
            return kept[:1]
        if self.params.pages == "middle":
            return [kept[len(kept) // 2]]
        wanted = min(self.params.slices or len(kept), len(kept))
        return [kept[int((at + 0.5) * len(kept) / wanted)] for at in range(wanted)]

    def _chosen(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """The label map with all other values set to 0."""
        return np.where(np.isin(labels, self.params.values), labels, 0) if self.params.values else labels

    def _label_of(self, values: NDArray[np.float32]) -> str:
        if self.params.task == "present":
            return "lesion" if values.any() else "no lesion"
        counts = np.bincount(values[values > 0].astype(np.int64), minlength=1)
        return self._value_names.get(int(counts.argmax()) if counts.any() else 0, str(counts.argmax()))

    @cached_property
    def _value_names(self) -> dict[int, str]:
        """Names of values from ``dataset.json`` (Medical Segmentation Decathlon, nnU-Net)."""
        found, path = {0: "background"}, self.folder / "dataset.json"
        if not path.is_file():
            return found
        try:
            listed = json.loads(path.read_bytes())["labels"]
            for one, other in listed.items():
                value, name = (one, other) if str(one).isdecimal() else (other, one)
                found[int(value)] = str(name)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} does not say what the labels are ('labels'): {error!r}") from error
        if len(set(found.values())) < len(found):
            raise DataError(f"{path} gives one name to several labels: {found}")
        return found

    @cached_property
    def _who(self) -> dict[str, tuple[str, str]]:
        """Patient and site of each case."""
        names = [case.name for case in self._cases.cases]
        sites = matched("site", self.params.site, names) if self.params.site is not None else ["all"] * len(names)
        patients = names
        if self.params.patient is not None:
            patients = matched("patient", self.params.patient, names)
        elif self.params.ids:
            paths = [printable(self.file_name(case.scan)) for case in self._cases.cases]
            patients = tabular.ids_of(self.folder / self.params.ids, paths)
        several = len(set(sites)) > 1 and patients is not names
        ids = [f"{site}/{patient}" if several else patient for site, patient in zip(sites, patients, strict=True)]
        return dict(zip(names, zip(ids, sites, strict=True), strict=True))

    @cached_property
    def labelled(self) -> list[Picture]:
        """Slices of the classes in use, volume by volume, so that each is read once."""
        return [picture for picture in self._found if picture.label in self.class_names]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Without a lesion before with; the background first."""
        names = super().class_names
        first = [name for name in ("no lesion", self._value_names[0]) if name in names and self._labelled_by_maps]
        return names if self.params.classes else tuple(dict.fromkeys([*first, *names]))

    def items(self) -> list[Picture]:
        """Slices are known already."""
        return self.pictures

    @cached_property
    def _reader(self) -> volumes.Reader:
        return volumes.Reader(int(self.params.image) if self.params.image.isdecimal() else None)

    def read(self, item: Picture) -> pixels.Pixels:
        """The slice, with square pixels."""
        image, axis = self._reader.read(item.path), self.params.axis
        values = image.slice(axis, item.page)
        if self.params.window == intensity.VOLUME:
            values = intensity.scaled(pixels.Pixels(values), image.limits)
        values = files.square_pixels(np.ascontiguousarray(values), image.pixel(axis))
        return pixels.Pixels(pixels.coloured(values, self.params.channels), "float", image.declared)

    def masks(self, items: Sequence[Picture]) -> tuple[NDArray[np.bool_] | None, list[str]]:
        """The values that count, by area."""
        if not self._labelled_by_maps:
            return None, []
        size, fit, axis = self.params.size, self.params.fit, self.params.axis
        made = np.zeros((len(items), size, size), dtype=np.bool_)
        at_hand: tuple[Path, volumes.Volume] | None = None
        for at, item in enumerate(items):
            if at_hand is None or at_hand[0] != item.path:
                image = self._reader.read(item.path)
                labels = self._chosen(volumes.labels(item.masks[0], image, item.path))
                at_hand = item.path, replace(image, values=(labels > 0).astype(np.float32))
            area = (at_hand[1].slice(axis, item.page) * 255).astype(np.uint8)
            area = files.square_pixels(area, at_hand[1].pixel(axis), Image.Resampling.BOX)
            made[at] = files.square_mask(area, size, fit)
        return made, ["lesion masks are the label maps, where more than half of a pixel's area is covered"]

    def facts(self) -> list[str]:
        """What is left out, without opening a file."""
        return self._cases.notes

    def on_files(self) -> list[str]:
        """Volumes, slices, and what is left out."""
        params = self.params
        count = len({picture.path for picture in self.pictures})
        limit = f", at most {params.slices} of a volume" if params.slices and params.pages == "all" else ""
        used = f"{params.axis} slices: {len(self.pictures)} of {rbmed.plural(count, 'volume')} ({params.pages}{limit})"
        lines = [used, *self.facts(), *self._left_out]
        if unknown := sorted(self._reader.unoriented):
            said = ("volume does not state its", "volumes do not state their")
            whose = "its" if len(unknown) == 1 else "their"
            lines.append(f"{rbmed.plural(len(unknown), *said)} orientation, so {whose} axes do: {some(unknown)}")
        if self._reader.lowest <= _HOUNSFIELD and params.window == intensity.VOLUME:
            lines.append(
                f"values go down to {self._reader.lowest:g}: if they are Hounsfield units, window=CENTER/WIDTH "
                "(40/400, say) keeps them comparable between volumes"
            )
        return lines

    def check(self) -> list[str]:
        """Problems of every volume and label map."""
        found = checking.Checked(self.params.channels, self.params.window)
        with self.progress.task(f"checking {self.name}", len(self._cases.cases)) as task:
            for case in self._cases.cases:
                try:
                    for picture in self._slices(case).pictures:
                        found.see(self.read(picture), self.name_of(picture), case.name, picture.label)
                except DataError as error:
                    found.lines.append(str(error))
                task.advance(note=case.name)
        return self.checked(found)
