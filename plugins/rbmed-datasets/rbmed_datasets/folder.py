"""A data set read from the user's folder: decoded once, split, and cached by digest."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets import cache
from rbmed_datasets.splits import SPLITS, gaps, split_by_patient
from robustbench_med.errors import DataError


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

    @pydantic.model_validator(mode="after")
    def _training_images_left(self) -> Self:
        if self.calibration_fraction + self.test_fraction >= 1:
            raise ValueError("calibration_fraction + test_fraction must be below 1; the rest is for training")
        return self


@dataclass(frozen=True)
class Scans:
    """All images of a folder, decoded.

    Attributes:
        classes: class names, in label order.
        images: uint8 (N, H, W).
        labels: int64 (N,).
        patients: (N,) patient or group ids.
        sites: (N,) site ids.
        masks: bool (N, H, W), or None.
        notes: facts for the data card.
    """

    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    patients: tuple[str, ...]
    sites: tuple[str, ...]
    masks: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()


class FolderDataset(rbmed.Dataset):
    """Base class of `Lgg` and `ImageFolder`, which find and decode the files; it splits and caches the images.

    ``revision`` is raised when the same files and parameters would give other images, labels or splits.
    """

    Params: ClassVar[type[FolderParams]] = FolderParams
    name: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    revision: ClassVar[int]

    @abstractmethod
    def base(self) -> Path:
        """The folder that file names are relative to, so that moving the data set does not change its digest."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The files of the data set; they enter the digest."""

    @abstractmethod
    def scans(self) -> Scans:
        """Decode everything; called once per digest."""

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
        content = cache.content_digest(self.base(), self.files())
        return cache.digest_of(self.name, self.revision, self.params.model_dump_json(), content)

    @cached_property
    def _card(self) -> rbmed.DataCard:
        stored = self._stored("classes", "notes")
        classes = tuple(stored["classes"].tolist())
        return rbmed.DataCard(
            name=self.name,
            classes=classes,
            channels=1,
            size=self.params.size,
            licence=self.licence,
            citation=self.citation,
            digest=self._digest,
            lesion_class=self.lesion_class(classes),
            notes=tuple(stored["notes"].tolist()),
        )

    def card(self) -> rbmed.DataCard:
        """The data card; the first call for a folder and parameters decodes the images, later ones read the cache."""
        return self._card

    def split(self, name: str) -> rbmed.Split:
        """The split ``train``, ``calibration`` or ``test``."""
        if name not in SPLITS:
            raise DataError(f"data set {self.name!r} has no split {name!r}; valid: {', '.join(SPLITS)}")
        fields = ("images", "labels", "patients", "sites", "masks")
        images, labels, patients, sites, masks = self._stored(*(f"{name}.{key}" for key in fields)).values()
        return rbmed.Split(
            images=torch.from_numpy(images).to(torch.float32).div_(255).unsqueeze(1),
            labels=torch.from_numpy(labels),
            patients=tuple(patients.tolist()),
            sites=tuple(sites.tolist()),
            masks=torch.from_numpy(masks).unsqueeze(1) if len(masks) else None,
        )

    def _stored(self, *names: str) -> dict[str, NDArray[Any]]:
        """Arrays from the cache, computed first if they are missing or damaged."""
        path = rbmed.home() / "datasets" / f"{self.name}-{self._digest}.npz"
        stored = cache.read(path, names)
        if stored is None:
            arrays = self._arrays()
            cache.save(path, arrays)
            stored = {name: arrays[name] for name in names}
        return stored

    def _arrays(self) -> dict[str, NDArray[Any]]:
        scans, params = self.scans(), self.params
        held_out = (params.calibration_fraction, params.test_fraction)
        shares = (1 - sum(held_out), *held_out)
        splits = split_by_patient(scans.patients, scans.sites, scans.labels, shares, params.seed)
        notes = [*scans.notes, *gaps(splits, scans.sites, scans.labels, scans.classes)]
        arrays: dict[str, NDArray[Any]] = {"classes": np.array(scans.classes), "notes": np.array(notes, dtype=np.str_)}
        for name in SPLITS:
            rows = np.flatnonzero(splits == name)
            arrays |= {
                f"{name}.images": scans.images[rows],
                f"{name}.labels": scans.labels[rows],
                f"{name}.patients": np.asarray(scans.patients)[rows],
                f"{name}.sites": np.asarray(scans.sites)[rows],
                f"{name}.masks": np.empty(0, dtype=np.bool_) if scans.masks is None else scans.masks[rows],
            }
        return arrays
