"""Settings, patients, random streams and labels; only `labels` depends on the label."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from rbmed_datasets.brainsim.atlas import atlas_digest
from rbmed_datasets.brainsim.scanner import HOSPITALS

#: Raised whenever the same settings would give other images.
REVISION = 1


@dataclass(frozen=True)
class Settings:
    """Settings that the images depend on, besides the atlas and `REVISION`; fields as in ``BrainSim.Params``."""

    size: int = 64
    seed: int = 0
    train_patients: int = 375
    calibration_patients: int = 50
    test_patients: int = 20
    slices: int = 4
    gap: int = 3
    min_cnr: float = 5.5
    min_area: float = 1500.0

    def patients(self, split: str) -> int:
        """Patients of each hospital in ``split``."""
        return int(getattr(self, f"{split}_patients"))

    def digest(self) -> str:
        """Blake2b hex digest of everything that the images depend on."""
        facts = {"settings": asdict(self), "revision": REVISION, "atlas": atlas_digest()}
        return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16).hexdigest()


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


def generator(settings: Settings, *purpose: str | int) -> np.random.Generator:
    """The random stream for one purpose; streams of different purposes are independent."""
    key = json.dumps([settings.seed, *purpose]).encode()
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "little")))


def patients(settings: Settings, split: str) -> list[Patient]:
    """All patients of a split, hospital by hospital."""
    return [Patient(split, h, n) for h in range(len(HOSPITALS)) for n in range(settings.patients(split))]


def labels(settings: Settings, split: str) -> NDArray[np.int64]:
    """1 for patients with a tumour, in the order of `patients`; each hospital's share is exact up to rounding."""
    count = settings.patients(split)
    parts = []
    for index, hospital in enumerate(HOSPITALS):
        sick = np.arange(count) < round(hospital.prevalence * count)
        parts.append(generator(settings, "label", split, index).permutation(sick))
    return np.concatenate(parts).astype(np.int64)
