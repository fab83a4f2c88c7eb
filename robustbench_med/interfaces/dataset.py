"""Data sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustbench_med.interfaces.component import Component
from robustbench_med.interfaces.tasks import Task
from robustbench_med.progress import Progress, Silent


class Dataset(Component, ABC):
    """A data set, split by patient group into train, calibration and test.

    Args:
        params: the validated parameters.
        root: folder of the user's images for data sets that need one (the harness resolves it), else None.
        progress: opens progress bars for slow preparation.
    """

    def __init__(self, params: Any = None, root: Path | None = None, progress: Progress | None = None) -> None:
        super().__init__(params)
        self.root = root
        self.progress = progress or Silent()

    @abstractmethod
    def card(self) -> DataCard:
        """The data card; cached by the data set, so that frequent calls are cheap."""

    @abstractmethod
    def split(self, name: str) -> Split:
        """The split ``train``, ``calibration`` or ``test``; only that split is prepared."""

    def sites_of(self, split: str) -> tuple[str, ...]:
        """The site of each image of a split; override it where that is known before the images are prepared."""
        return self.split(split).sites

    def check(self) -> list[str]:
        """Check every file; return one line per problem. Used by ``rbmed data check``."""
        return []


@dataclass(frozen=True)
class Split:
    """Images and their annotations, in memory.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,); of a multi-label task 0 and 1, int64 (N, K).
        patients: (N,) tuple of patient ids; no patient is in two splits.
        sites: (N,) tuple of site (hospital) ids.
        masks: bool (N, 1, H, W), the lesion, or None.
        counterfactuals: float32 like ``images``, the same scan without its lesion, or None.
        lesions: measurements of the lesions, named as in `robustbench_med.interfaces.lesions`; float32 (N,), NaN where
            there is no lesion. Results are also reported by them. Empty if the data set has none.
    """

    images: Tensor
    labels: Tensor
    patients: tuple[str, ...]
    sites: tuple[str, ...]
    masks: Tensor | None = None
    counterfactuals: Tensor | None = None
    lesions: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Tensor) -> Split:
        """The images at ``index`` (int64), in that order."""
        rows = index.tolist()
        return Split(
            images=self.images[index],
            labels=self.labels[index],
            patients=tuple(self.patients[i] for i in rows),
            sites=tuple(self.sites[i] for i in rows),
            masks=None if self.masks is None else self.masks[index],
            counterfactuals=None if self.counterfactuals is None else self.counterfactuals[index],
            lesions={name: values[index] for name, values in self.lesions.items()},
        )

    def by_site(self) -> dict[str, Split]:
        """One split per site, sites in sorted order."""
        names = sorted(set(self.sites))
        return {
            name: self.select(torch.tensor([i for i, site in enumerate(self.sites) if site == name])) for name in names
        }


@dataclass(frozen=True)
class Fold:
    """Which part of a cross-validation a data set is.

    Attributes:
        number: of the fold whose patients are the test split, from 0.
        of: how many folds there are; over all of them every patient is tested once.
        pool: digest of the cross-validation; equal for its folds.
    """

    number: int
    of: int
    pool: str


@dataclass(frozen=True)
class DataCard:
    """Description of a data set, shown by `rbmed data show` and stored in every record.

    Attributes:
        name: registry name.
        classes: class names, in label order; of a multi-label task the findings, of an ordinal one the grades from
            the lowest.
        channels: image channels.
        size: side of the square images in pixels.
        licence: terms of the images.
        citation: what to cite.
        digest: blake2b hex digest that changes whenever the images, labels or splits change.
        synthetic: True for simulated images; stated wherever the data set is named.
        lesion_class: index of the class that means 'lesion present' (sensitivity counts it), or None.
        notes: further facts, such as a site that was left out and the reason.
        patients_known: images of one patient have one patient id; False where ids were guessed, or are of images.
        task: ``multi-class`` (two classes are one kind of it), ``multi-label`` or ``ordinal``.
        fold: of which cross-validation the test split is a part; None for a single split.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    size: int
    licence: str
    citation: str
    digest: str
    synthetic: bool = False
    lesion_class: int | None = None
    notes: tuple[str, ...] = ()
    patients_known: bool = True
    task: Task = "multi-class"
    fold: Fold | None = None


#: In a note of a card: the split that came with the images is not the one in use, so that a model that was trained on
#: it is tested on some of the same images.
SPLIT_NOT_USED = "is not used (split=official keeps it)"
#: In a note of a card: colour is dropped, so that a model that was trained with it gets other images than it knows.
COLOUR_LOST = "in colour, read as grey (the data set's channels=3 keeps it)"
SPLITS = ("train", "calibration", "test")
