"""`imagefolder`: any folder of class folders, near-duplicates grouped before it is split."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pydantic
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets import files, neardup
from rbmed_datasets.folder import FolderDataset, FolderParams, Scans
from rbmed_datasets.layout import Labelled, find_classes
from robustbench_med.errors import DataError

_THUMBNAIL = 64
_LESION_NAMES = {"yes", "tumor", "tumour", "lesion"}


class ImageFolderParams(FolderParams):
    """Parameters of `ImageFolder`."""

    near_duplicate_threshold: float = rbmed.Field(
        0.995, gt=0, lt=1, description="Images correlating more than this at 64 px are twins and stay in one split."
    )
    classes: tuple[str, ...] = rbmed.Field(
        (), description="Class folders to use, in label order ('no+yes' on the command line); empty: all, sorted."
    )
    lesion: tuple[str, ...] = rbmed.Field(
        (), description="Class folders merged into one class 'lesion', the others into 'no lesion'; empty: no merging."
    )

    @pydantic.field_validator("classes", "lesion", mode="before")
    @classmethod
    def _names_joined_by_plus(cls, value: Any) -> Any:
        return tuple(value.split("+")) if isinstance(value, str) else value


class ImageFolder(FolderDataset):
    """Class folders of images, such as Br35H or brain-tumor-mri.

    The format is read from the content, the EXIF orientation applied, colour dropped (in some collections the colour
    mode reveals the class), the image made square. Patients are unknown: images linked by near-duplication form a
    group, and the split is by group. An official split is pooled, and the card reports its leak.

    Raises:
        DataError: no class folders, an empty class, an unreadable image, an unknown class name, too few groups.
    """

    Params: ClassVar[type[ImageFolderParams]] = ImageFolderParams
    name = "imagefolder"
    licence = "that of the images you bring"
    citation = "the source of the images you bring"
    revision = 1

    @cached_property
    def _labelled(self) -> list[Labelled]:
        """Class folders in use, in label order; training before test within a class."""
        found = find_classes(self.folder)
        names = sorted({item.path.name for item in found}, key=files.natural_key)
        wanted = self.params.classes or names
        for name in (*wanted, *self.params.lesion):
            if name not in names:
                raise DataError(f"no class folder {name!r} under {self.folder}; there are: {', '.join(names)}")
        if len(set(wanted)) < 2:
            raise DataError(f"a data set needs two classes or more; {self.folder} gives {', '.join(wanted)}")
        chosen = [item for item in found if item.path.name in wanted]
        return sorted(chosen, key=lambda item: (wanted.index(item.path.name), item.official_test))

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """Class names, in label order."""
        names = tuple(dict.fromkeys(item.path.name for item in self._labelled))
        if not self.params.lesion:
            return names
        if set(self.params.lesion) >= set(names):
            raise DataError(f"lesion={'+'.join(self.params.lesion)} leaves no class without a lesion")
        return ("no lesion", "lesion")

    def _label(self, name: str) -> int:
        return int(name in self.params.lesion) if self.params.lesion else self._classes.index(name)

    def base(self) -> Path:
        """The folder that holds the class folders, or ``Training`` and ``Testing``."""
        return Path(os.path.commonpath([item.path.parent for item in self._labelled]))

    def files(self) -> list[Path]:
        """Every image of the chosen classes.

        Raises:
            DataError: a class folder is empty.
        """
        for item in self._labelled:
            if not item.files:
                raise DataError(f"class folder {item.path} holds no images ({', '.join(sorted(files.SUFFIXES))})")
        return [path for item in self._labelled for path in item.files]

    def scans(self) -> Scans:
        """Decode every image and group near-duplicates."""
        paths = self.files()
        images, thumbnails = self._decode(paths)
        repeats = [len(item.files) for item in self._labelled]
        labels = np.repeat([self._label(item.path.name) for item in self._labelled], repeats).astype(np.int64)
        test = np.repeat([item.official_test for item in self._labelled], repeats)
        with self.progress.task("comparing images", len(paths)) as task:
            pairs = neardup.near_duplicate_pairs(thumbnails, self.params.near_duplicate_threshold, task.advance)
        group = neardup.groups(pairs, len(paths))
        # A group is named by its first file, so that its name, and the split, do not depend on the order of the groups.
        first = np.unique(group, return_index=True)[1]
        base = self.base()
        named = [path.relative_to(base).as_posix() for path in paths]
        return Scans(
            classes=self._classes,
            images=images,
            labels=labels,
            patients=tuple(named[i] for i in first[group]),
            sites=("all",) * len(paths),
            notes=tuple(self._notes(labels, test, pairs, group)),
        )

    def _decode(self, paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Images (N, size, size) and thumbnails (N, 64, 64) for the comparison."""
        size, fit = self.params.size, self.params.fit
        images = np.empty((len(paths), size, size), dtype=np.uint8)
        thumbnails = images if size == _THUMBNAIL else np.empty((len(paths), _THUMBNAIL, _THUMBNAIL), dtype=np.uint8)
        with self.progress.task(f"reading {self.base().name}", len(paths)) as task:
            for i, path in enumerate(paths):
                image = files.gray(files.load(path))
                images[i] = files.square(image, size, fit)
                if thumbnails is not images:
                    thumbnails[i] = files.square(image, _THUMBNAIL, fit)
                task.advance()
        return images, thumbnails

    def _notes(
        self, labels: NDArray[np.int64], test: NDArray[np.bool_], pairs: NDArray[np.int64], group: NDArray[np.int64]
    ) -> list[str]:
        sizes = np.bincount(group)
        twinned = int(sizes[sizes > 1].sum())
        threshold = f"correlation > {self.params.near_duplicate_threshold:g} at {_THUMBNAIL} px"
        notes = [
            f"folder {self.base().name}: {len(labels)} images; no patient ids, so near-duplicates ({threshold}) are "
            f"kept together: {twinned} images in {int((sizes > 1).sum())} groups, the largest of {int(sizes.max())}"
        ]
        if test.any():
            leaked = neardup.twins_across(pairs, test)
            by_class = ", ".join(
                f"{name} {leaked[chosen].sum()}/{chosen.sum()}"
                for label, name in enumerate(self._classes)
                if (chosen := test & (labels == label)).any()
            )
            notes.append(
                f"the official split leaks and is not used: {leaked.sum()} of {test.sum()} official test images "
                f"({leaked.sum() / test.sum():.1%}) have a near-twin in official training ({by_class})"
            )
        mixed = np.unique(pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]])
        if len(mixed):
            notes.append(f"{len(mixed)} images have a near-twin of another class: labels contradict each other")
        return notes

    def lesion_class(self, classes: tuple[str, ...]) -> int | None:
        """The merged class, or the one of two that is called yes, tumor, tumour or lesion."""
        named = [i for i, name in enumerate(classes) if name.lower() in _LESION_NAMES]
        return named[0] if len(classes) == 2 and len(named) == 1 else None

    def check(self) -> list[str]:
        """Problems of every file of every chosen class."""
        lines = []
        with self.progress.task(f"checking {self.base().name}", len(self._labelled)) as task:
            for item in self._labelled:
                if not item.files:
                    lines.append(f"class folder {item.path} holds no images")
                lines += [line for path in item.files if (line := files.problem(path))]
                task.advance(note=item.path.name)
        return lines
