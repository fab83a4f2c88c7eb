"""Settings, patients, random streams and labels of both editions; only `labels` depends on the label."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets.brainsim.atlas import atlas_digest
from rbmed_datasets.brainsim.scanner import HOSPITALS
from rbmed_datasets.brainsim.tumours import KINDS

#: Raised whenever the same settings would give other images, for each edition.
REVISION, GRADED_REVISION = 1, 1
#: Shares of the kinds in a hospital where the kind is the label; each hospital starts at another kind.
KIND_MIX = (0.44, 0.33, 0.23)


@dataclass(frozen=True)
class Common:
    """What the settings of both editions have in common."""

    edition: ClassVar[int]
    revision: ClassVar[int]
    #: Begins the name of every random stream.
    stream: ClassVar[tuple[str, ...]] = ()
    size: int = 64
    seed: int = 0
    train_patients: int = 375
    calibration_patients: int = 50
    test_patients: int = 20
    slices: int = 4
    gap: int = 3

    def patients(self, split: str) -> int:
        """Patients of each hospital in ``split``."""
        return int(getattr(self, f"{split}_patients"))

    def slices_in(self, split: str) -> int:
        """Slices of each patient in ``split``."""
        del split  # the same in all
        return self.slices

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
    facts: dict[str, object] = {"settings": asdict(settings), "revision": settings.revision, "atlas": atlas_digest()}
    if settings.edition > 1:
        facts["edition"] = settings.edition
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Settings(Common):
    """Settings of the first edition, on which its images depend; fields as in ``BrainSim.Params``."""

    edition: ClassVar[int] = 1
    revision: ClassVar[int] = REVISION
    min_cnr: float = 5.5
    min_area: float = 1500.0


@dataclass(frozen=True)
class Graded(Common):
    """Settings of the second edition, on which its images depend; fields as in ``BrainSim2.Params``."""

    edition: ClassVar[int] = 2
    revision: ClassVar[int] = GRADED_REVISION
    stream: ClassVar[tuple[str, ...]] = ("edition-2",)
    task: str = "presence"
    train_patients: int = 750
    calibration_patients: int = 100
    test_patients: int = 150
    slices: int = 2
    test_slices: int = 1
    min_radius: float = 4.0
    max_radius: float = 27.0
    min_contrast: float = 0.2
    detail: float = 2.0

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
