"""A data set read from the user's folder: decoded once, split, and cached by digest."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets import cache
from rbmed_datasets.intensity import Window
from rbmed_datasets.scans import Scans, Task
from rbmed_datasets.splits import SPLITS, fold_of, gaps, official, split_by_patient
from robustbench_med.errors import DataError

#: Raised when what is cached changes: images, notes.
_FORMAT = 4
#: What is stored of the images of each split; with folds, of all together.
_FIELDS = ("images", "labels", "patients", "sites", "masks")
_ALL = "all"


class FolderParams(rbmed.Params):
    """Parameters of all data sets that are read from a folder."""

    size: int = rbmed.Field(64, ge=16, le=512, description="Side of the square images in pixels.")
    fit: Literal["pad", "squash"] = rbmed.Field(
        "pad", description="How a scan becomes square: 'pad' with black, keeping proportions, or 'squash'."
    )
    seed: int = rbmed.Field(0, ge=0, description="Seed of the split by patient.")
    calibration_fraction: float = rbmed.Field(0.2, gt=0, lt=1, description="Share of the images for calibration.")
    test_fraction: float = rbmed.Field(
        0.2, gt=0, lt=1, description="Share of the images for test; the rest is for training."
    )
    folds: int = rbmed.Field(
        0,
        ge=0,
        le=1000,
        description="Cross-validation: the patients of each site are divided over so many folds, each of which is the "
        "test split once (`fold`); `rbmed run` without `fold` runs all. 0: one split.",
    )
    fold: int | None = rbmed.Field(None, ge=0, description="The fold that is the test split, from 0.")

    @pydantic.model_validator(mode="after")
    def _one_fold(self) -> Self:
        if self.folds in (1, 2):
            raise ValueError(
                f"folds={self.folds} leaves too few patients to train on; valid: 3 or more, 0 for one split"
            )
        if self.folds and self.fold is None:
            raise ValueError(
                f"folds={self.folds} needs fold=0 to fold={self.folds - 1} (rbmed run without it runs all)"
            )
        if self.fold is not None and self.fold >= self.folds:
            known = f"valid: 0 to {self.folds - 1}" if self.folds else "it needs folds=K, the number of folds"
            raise ValueError(f"fold={self.fold}: {known}")
        if self.folds and "test_fraction" in self.model_fields_set:
            raise ValueError(f"test_fraction has no meaning with folds={self.folds}: each fold is tested once")
        return self

    @pydantic.model_validator(mode="after")
    def _training_images_left(self) -> Self:
        test = 1 / self.folds if self.folds else self.test_fraction
        if self.calibration_fraction + test >= 1:
            tested = f"1/{self.folds} (folds={self.folds})" if self.folds else "test_fraction"
            raise ValueError(f"calibration_fraction + {tested} must be below 1; the rest is for training")
        return self


class PictureParams(FolderParams):
    """Parameters of data sets whose files may be in colour or of any depth."""

    channels: Literal[1, 3] = rbmed.Field(
        1, description="1: grey; 3: colour, for histology, skin or fundus images (grey files are repeated)."
    )
    window: Window = rbmed.Field(
        "file",
        description="Values that become black and white, the same for all files: 'file' (as declared by them), "
        "'percentile' (0.5 to 99.5 of all pixels) or CENTER/WIDTH, such as 40/400 for Hounsfield units.",
    )

    @pydantic.field_validator("channels", mode="before")
    @classmethod
    def _number_as_text(cls, value: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class FolderDataset(rbmed.Dataset):
    """Base class of data sets that find and decode the user's files; it splits and caches the images.

    ``revision`` is raised when the same files and parameters would give other images, labels or splits. ``later`` are
    parameters that were added since: at their defaults they leave the digest as it was. Those ``outside`` do not change
    what is read.
    """

    Params: ClassVar[type[FolderParams]] = FolderParams
    name: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    revision: ClassVar[int]
    later: ClassVar[tuple[str, ...]] = ()
    outside: ClassVar[tuple[str, ...]] = ()

    def base(self) -> Path:
        """The folder that file names are relative to, so that moving the data set does not change its digest."""
        return self.folder

    def file_name(self, path: Path) -> str:
        """The name of a file in the digest, and in ids."""
        return path.relative_to(self.base()).as_posix()

    @abstractmethod
    def files(self) -> list[Path]:
        """The files of the data set; they enter the digest."""

    @abstractmethod
    def scans(self) -> Scans:
        """Decode everything; called once per digest, for all folds together."""

    @abstractmethod
    def lesion_class(self, classes: tuple[str, ...]) -> int | None:
        """Index of the class that means 'lesion present', or None."""

    @property
    def folder(self) -> Path:
        """The root the user gave.

        Raises:
            DataError: no root was given, or it is not a folder.
        """
        if self.root is None:
            raise DataError(
                f"data set {self.name!r} reads the user's images: give --data-root FOLDER or set RBMED_DATA"
            )
        if not self.root.is_dir():
            raise DataError(f"data root {self.root} of data set {self.name!r} is not a folder")
        return self.root

    @cached_property
    def _digest(self) -> str:
        return self._digest_without()

    def _digest_without(self, *more: str) -> str:
        """The digest, of all parameters but ``more``."""
        fields = type(self.params).model_fields
        later = (*self.later, "folds", "fold")
        unset = {key for key in later if getattr(self.params, key) == fields[key].default}.union(self.outside, more)
        return cache.digest_of(self.name, self.revision, self.params.model_dump_json(exclude=unset), self._content)

    @cached_property
    def _content(self) -> str:
        named = [(self.file_name(path), path) for path in self.files()]
        return cache.content_digest(self.base(), named, self.fact)

    @property
    def _fold(self) -> rbmed.Fold | None:
        number, of = self.params.fold, self.params.folds
        return None if number is None else rbmed.Fold(number, of, self._digest_without("fold"))

    def fact(self, path: Path) -> str:
        """A fact about a file that enters the digest with its bytes; see `rbmed_datasets.cache.content_digest`."""
        return ""

    @cached_property
    def _card(self) -> rbmed.DataCard:
        stored = self._stored("classes", "notes", "patients_known", "task")
        classes = tuple(stored["classes"].tolist())
        notes = tuple(stored["notes"].tolist())
        return rbmed.DataCard(
            name=self.name,
            classes=classes,
            channels=getattr(self.params, "channels", 1),
            size=self.params.size,
            licence=self.licence,
            citation=self.citation,
            digest=self._digest,
            lesion_class=self.lesion_class(classes),
            notes=notes if self.params.fold is None else (*notes, *self._fold_notes(classes)),
            patients_known=bool(stored["patients_known"]),
            task=cast("Task", str(stored["task"])),
            fold=self._fold,
        )

    def card(self) -> rbmed.DataCard:
        """The data card; the first call for a folder and parameters decodes the images, later ones read the cache."""
        return self._card

    def split(self, name: str) -> rbmed.Split:
        """The split ``train``, ``calibration`` or ``test``."""
        if name not in SPLITS:
            raise DataError(f"data set {self.name!r} has no split {name!r}; valid: {', '.join(SPLITS)}")
        part = name if self.params.fold is None else _ALL
        found = self._stored(*(f"{part}.{field}" for field in _FIELDS))
        if self.params.fold is not None:
            rows = np.flatnonzero(self._fold_splits == name)
            found = {key: values[rows] if len(values) else values for key, values in found.items()}
        images, labels, patients, sites, masks = found.values()
        return rbmed.Split(
            images=_tensor(images),
            labels=torch.from_numpy(labels),
            patients=tuple(patients.tolist()),
            sites=tuple(sites.tolist()),
            masks=torch.from_numpy(masks).unsqueeze(1) if len(masks) else None,
        )

    @cached_property
    def _fold_splits(self) -> NDArray[np.str_]:
        """The split of each image in this fold."""
        params = self.params
        assert params.fold is not None
        units, sites, labels = self._stored(f"{_ALL}.units", f"{_ALL}.sites", f"{_ALL}.labels").values()
        return fold_of(
            params.fold, params.folds, units.tolist(), sites.tolist(), labels, params.calibration_fraction, params.seed
        )

    def _fold_notes(self, classes: tuple[str, ...]) -> list[str]:
        """Facts about this fold for the data card."""
        sites, labels = self._stored(f"{_ALL}.sites", f"{_ALL}.labels").values()
        fold, last = self.params.fold, self.params.folds - 1
        return [
            f"fold {fold} of 0 to {last}: over all, each patient or group is tested once",
            *gaps(self._fold_splits, sites.tolist(), labels, classes),
        ]

    def _stored(self, *names: str) -> dict[str, NDArray[Any]]:
        """Arrays from the cache, computed first if they are missing or damaged."""
        path = rbmed.home() / "datasets" / f"{self.name}-{self._digest_without('fold')}-{_FORMAT}.npz"
        stored = cache.read(path, names)
        if stored is None:
            arrays = self._arrays()
            cache.save(path, arrays)
            stored = {name: arrays[name] for name in names}
        return stored

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """What is stored: the images of each split, or undivided, so that one file serves all folds."""
        scans = self.scans()
        units = scans.patients if scans.units is None else scans.units
        labels, sites = scans.labels, scans.sites
        fields = {
            "images": scans.images,
            "labels": labels,
            "patients": np.asarray(scans.patients),
            "sites": np.asarray(sites),
            "masks": np.empty(0, dtype=np.bool_) if scans.masks is None else scans.masks,
        }
        arrays: dict[str, NDArray[Any]] = {
            "classes": np.array(scans.classes),
            "notes": np.array(scans.notes, dtype=np.str_),
            "patients_known": np.array(scans.patients_known),
            "task": np.array(scans.task),
        }
        if self.params.folds:
            if scans.official is not None:
                raise DataError(
                    f"folds={self.params.folds} of data set {self.name!r} divides all patients anew, but its official "
                    "split is kept; give folds=0, or leave the official split out (imagefolder: split=patient and no "
                    "test_folder, table: split=-)"
                )
            fields["units"] = np.asarray(units)
            return arrays | {f"{_ALL}.{key}": values for key, values in fields.items()}
        splits = self._splits(scans, units)
        arrays["notes"] = np.array([*scans.notes, *gaps(splits, sites, labels, scans.classes)], dtype=np.str_)
        for name in SPLITS:
            rows = np.flatnonzero(splits == name)
            arrays |= {f"{name}.{key}": values[rows] if len(values) else values for key, values in fields.items()}
        return arrays

    def _splits(self, scans: Scans, units: tuple[str, ...]) -> NDArray[np.str_]:
        """The split of each image, without folds."""
        params, calibration = self.params, self.params.calibration_fraction
        if scans.official is not None:
            given = scans.official
            return official(given, scans.patients, units, scans.sites, scans.labels, calibration, params.seed)
        shares = (1 - calibration - params.test_fraction, calibration, params.test_fraction)
        return split_by_patient(units, scans.sites, scans.labels, shares, params.seed)


def _tensor(images: NDArray[Any]) -> torch.Tensor:
    """Float32 (N, C, H, W) in [0, 1] of images as in `Scans`."""
    made = torch.from_numpy(images)
    made = made.to(torch.float32).div_(255) if images.dtype == np.uint8 else made
    return made.unsqueeze(1) if made.ndim == 3 else made.permute(0, 3, 1, 2).contiguous()
