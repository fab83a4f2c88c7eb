"""Parameters, patients, random streams and labels of both editions; only `labels` depends on the label."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from rbmed_datasets.brainsim.atlas import atlas_digest
from rbmed_datasets.brainsim.scanner import HOSPITALS
from rbmed_datasets.brainsim.tumours import KINDS
from robustbench_med import Params

#: Raised whenever the same settings would give other images, for each edition.
REVISION, GRADED_REVISION = 1, 1
#: Shares of the kinds in a hospital where the kind is the label; each hospital starts at another kind.
KIND_MIX = (0.44, 0.33, 0.23)


class Common(Params):
    """What the settings of both editions have in common; every field changes the images."""

    edition: ClassVar[int]
    revision: ClassVar[int]
    #: Begins the name of every random stream.
    stream: ClassVar[tuple[str, ...]] = ()
    size: int = Field(64, ge=32, le=224, multiple_of=2, description="Side of the images in pixels (even).")
    seed: int = Field(0, ge=0, description="Seed of all patients and scans.")
    gap: int = Field(3, ge=1, le=4, description="Distance between a patient's slices in mm.")

    def patients(self, split: str) -> int:
        """Patients of each hospital in ``split``."""
        return int(getattr(self, f"{split}_patients"))

    @abstractmethod
    def slices_in(self, split: str) -> int:
        """Slices of each patient in ``split``."""

    def classes_of(self, hospital: int, count: int) -> list[int]:
        """Labels of ``count`` patients of a hospital, with a tumour first; shares are exact up to rounding."""
        sick = round(HOSPITALS[hospital].prevalence * count)
        return [1] * sick + [0] * (count - sick)

    def kinds(self, label: int) -> tuple[str, ...]:
        """Kinds of tumour that a patient with this label may have; none for a healthy one."""
        return KINDS if label else ()

    def digest(self) -> str:
        """Blake2b hex digest of everything that the images depend on."""
        return _digest(self)


@cache
def _digest(settings: Common) -> str:
    """See `Common.digest`, which is asked several times for each cell of a plan."""
    facts: dict[str, object] = {
        "settings": settings.model_dump(),
        "revision": settings.revision,
        "atlas": atlas_digest(),
    }
    if settings.edition > 1:
        facts["edition"] = settings.edition
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


class Settings(Common):
    """First edition: large tumours of high contrast."""

    edition: ClassVar[int] = 1
    revision: ClassVar[int] = REVISION
    train_patients: int = Field(375, ge=1, description="Training patients of each hospital.")
    calibration_patients: int = Field(50, ge=1, description="Calibration patients of each hospital.")
    test_patients: int = Field(20, ge=1, description="Test patients of each hospital.")
    slices: int = Field(4, ge=1, le=8, description="Slices of each patient.")
    min_cnr: float = Field(
        5.5, ge=0, le=12, description="Least contrast-to-noise ratio of a tumour against the same scan without it."
    )
    min_area: float = Field(
        1500.0, ge=0, le=3000, description="Least area visibly changed by a tumour in each slice, mm^2."
    )

    def slices_in(self, split: str) -> int:
        """The same in all splits."""
        return self.slices


class Graded(Common):
    """Second edition: tumours of graded size and contrast."""

    edition: ClassVar[int] = 2
    revision: ClassVar[int] = GRADED_REVISION
    stream: ClassVar[tuple[str, ...]] = ("edition-2",)
    task: Literal["presence", "kind"] = Field(
        "presence",
        description="presence: tumour or not; kind: glioma, meningioma or metastasis, all with a tumour.",
    )
    train_patients: int = Field(750, ge=1, description="Training patients of each hospital.")
    calibration_patients: int = Field(100, ge=1, description="Calibration patients of each hospital.")
    test_patients: int = Field(150, ge=1, description="Test patients of each hospital.")
    slices: int = Field(2, ge=1, le=4, description="Slices of each training and calibration patient.")
    test_slices: int = Field(1, ge=1, le=4, description="Slices of each test patient.")
    min_radius: float = Field(4.0, ge=3, le=27, description="Least radius of a tumour, mm.")
    max_radius: float = Field(27.0, ge=3, le=27, description="Largest radius of a tumour, mm.")
    min_contrast: float = Field(
        0.2, gt=0, le=1, description="Least contrast of a tumour against the same scan without it, of [0, 1]."
    )
    detail: float = Field(
        2.0,
        ge=0,
        le=10,
        description="Least product of contrast and radius in mm: small tumours have more contrast.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_radius > self.max_radius:
            raise ValueError(f"min_radius={self.min_radius:g} is larger than max_radius={self.max_radius:g}")
        span = (max(self.slices, self.test_slices) - 1) * self.gap
        if span > self.min_radius:
            raise ValueError(
                f"slices over {span} mm: a tumour of min_radius={self.min_radius:g} mm may miss some; use fewer "
                f"slices, a smaller gap or a larger min_radius"
            )
        return self

    def slices_in(self, split: str) -> int:
        """Slices of each patient in ``split``."""
        return self.test_slices if split == "test" else self.slices

    def classes_of(self, hospital: int, count: int) -> list[int]:
        """Where the kind is the label, each kind in turn."""
        if self.task == "presence":
            return super().classes_of(hospital, count)
        shares = np.roll(KIND_MIX, hospital)
        edges = np.rint(np.cumsum([0.0, *shares]) * count).astype(int)
        return np.repeat(np.arange(len(KINDS)), np.diff(edges)).tolist()

    def kinds(self, label: int) -> tuple[str, ...]:
        """Where the kind is the label, that one."""
        return (KINDS[label],) if self.task == "kind" else super().kinds(label)


@dataclass(frozen=True)
class Patient:
    """A patient: hospital index and running number in the split."""

    split: str
    hospital: int
    number: int

    @property
    def site(self) -> str:
        """The hospital's name."""
        return HOSPITALS[self.hospital].name

    @property
    def id(self) -> str:
        """Unique over all splits."""
        return f"{self.site}/{self.split}-{self.number:04d}"


def generator(settings: Common, *purpose: str | int) -> np.random.Generator:
    """The random stream for one purpose; streams of different purposes are independent."""
    key = json.dumps([settings.seed, *settings.stream, *purpose]).encode()
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "little")))


def patients(settings: Common, split: str) -> list[Patient]:
    """All patients of a split, hospital by hospital."""
    return [Patient(split, h, n) for h in range(len(HOSPITALS)) for n in range(settings.patients(split))]


def labels(settings: Common, split: str) -> NDArray[np.int64]:
    """The label of every patient, in the order of `patients`; each hospital's shares are exact up to rounding."""
    count = settings.patients(split)
    parts = []
    for index in range(len(HOSPITALS)):
        ordered = np.array(settings.classes_of(index, count), dtype=np.int64)
        parts.append(generator(settings, "label", split, index).permutation(ordered))
    return np.concatenate(parts)
