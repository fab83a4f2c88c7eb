"""`imagefolder`: any folder of class folders, near-duplicates grouped before it is split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pydantic

import robustbench_med as rbmed
from rbmed_datasets import checking, files, pixels
from rbmed_datasets.decode import Decoder
from rbmed_datasets.folder import FolderDataset, Scans
from rbmed_datasets.grouping import GroupingParams, Pictures, group
from rbmed_datasets.layout import Labelled, find_classes, unread_note
from rbmed_datasets.masks import read_masks
from rbmed_datasets.names import printable
from robustbench_med.errors import DataError

LESION_NAMES = {"yes", "tumor", "tumour", "lesion"}
#: One image: its file and the page in it.
Item = tuple[Path, int]


def _joined(value: Any) -> Any:
    return tuple(value.split("+")) if isinstance(value, str) else value


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None
    return value


class ClassParams(GroupingParams):
    """Parameters of data sets with named classes."""

    classes: tuple[str, ...] = rbmed.Field(
        (), description="Classes to use, in label order ('no+yes' on the command line); empty: all, sorted."
    )
    lesion: tuple[str, ...] = rbmed.Field(
        (), description="Classes merged into one class 'lesion', the others into 'no lesion'; empty: no merging."
    )
    pages: Literal["first", "middle", "all"] = rbmed.Field(
        "first", description="Of files with several pages or frames: the first, the middle one, or all, as one patient."
    )

    _split = pydantic.field_validator("classes", "lesion", mode="before")(_joined)

    def merged(self, names: Sequence[str]) -> tuple[str, ...]:
        """Class names in label order, merged as ``lesion`` says; `DataError` if none is without a lesion."""
        if not self.lesion:
            return tuple(names)
        if set(self.lesion) >= set(names):
            raise DataError(f"lesion={'+'.join(self.lesion)} leaves no class without a lesion")
        return ("no lesion", "lesion")

    def chosen(self, names: Sequence[str], where: object) -> tuple[str, ...]:
        """The classes to use of ``names``, before merging, in label order.

        Raises:
            DataError: a class does not exist, or fewer than two are left.
        """
        wanted = self.classes or tuple(names)
        for name in (*wanted, *self.lesion):
            if name not in names:
                raise DataError(f"no class folder {name!r} under {where}; there are: {', '.join(names)}")
        if len(set(wanted)) < 2:
            raise DataError(f"a data set needs two classes or more; {where} gives {', '.join(wanted)}")
        return wanted

    def order_note(self, names: Sequence[str]) -> list[str]:
        """A line where the order of the classes is not that of tools that sort by code point."""
        if self.classes or self.lesion or list(names) == sorted(names):
            return []
        ours, theirs = ", ".join(names), "+".join(sorted(names))
        return [
            f"labels are in the order {ours}; tools that sort by code point, as torchvision, have another one: a model "
            f"trained with them needs classes={theirs}"
        ]


class ImageFolderParams(ClassParams):
    """Parameters of `ImageFolder`."""

    split: Literal["patient", "official"] = rbmed.Field(
        "patient", description="'patient': by patient or group; 'official': that of the folders train, val and test."
    )
    patient: str | None = rbmed.Field(
        None,
        description="Regular expression that finds the patient in the path of a file below the folder: its group "
        "'patient', else its first group, else the whole match.",
    )
    site: str | None = rbmed.Field(
        None, description="The same for the site (hospital). Empty: from folders SITE/CLASS, else one site."
    )
    test_folder: str = rbmed.Field(
        "", description="Folder of class folders that hold the test images; relative paths start at the data root."
    )

    _regex = pydantic.field_validator("patient", "site")(lambda value: value if value is None else _regex(value))


class ImageFolder(FolderDataset):
    """Class folders of images, such as Br35H, brain-tumor-mri, BUSI or COVID-19 Radiography.

    The format is read from the content, the EXIF orientation applied, the image made square. Colour is dropped unless
    ``channels=3`` (in some collections the colour mode reveals the class). Patients are read from the paths, or else
    images linked by near-duplication form a group; the split is by patient or group. An official split is pooled unless
    ``split=official``, and the card reports its leak.

    Raises:
        DataError: no class folders, an empty class, an unreadable image, an unknown class name, too few groups.
    """

    Params: ClassVar[type[ImageFolderParams]] = ImageFolderParams
    name = "imagefolder"
    licence = "that of the images you bring"
    citation = "the source of the images you bring"
    revision = 1
    later = ("channels", "window", "similar", "pages", "split", "patient", "site", "test_folder")

    @cached_property
    def _labelled(self) -> list[Labelled]:
        """Class folders in use, in label order; training before test within a class."""
        found = find_classes(self.folder, self._test_folder)
        names = sorted({item.name for item in found}, key=files.natural_key)
        wanted = self.params.chosen(names, self.folder)
        chosen = [item for item in found if item.name in wanted]
        return sorted(chosen, key=lambda item: (wanted.index(item.name), item.split == "test"))

    @property
    def _test_folder(self) -> Path | None:
        if not self.params.test_folder:
            return None
        path = Path(os.path.normpath(self.folder / Path(self.params.test_folder).expanduser()))
        if not path.is_dir():
            raise DataError(f"test_folder={self.params.test_folder} of data set {self.name!r} is not a folder: {path}")
        return path

    @property
    def _names(self) -> tuple[str, ...]:
        """Names of the class folders, in label order."""
        return tuple(dict.fromkeys(item.name for item in self._labelled))

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """Class names, in label order."""
        classes: tuple[str, ...] = self.params.merged(self._names)
        return classes

    def _label(self, name: str) -> int:
        return int(name in self.params.lesion) if self.params.lesion else self._classes.index(name)

    @cached_property
    def _base(self) -> Path:
        return _common(item for item in self._labelled if not item.foreign)

    def base(self) -> Path:
        """The folder that holds the class folders, or ``Training`` and ``Testing``."""
        return self._base

    def file_name(self, path: Path) -> str:
        """Its path below the collection, or below ``test_folder``, wherever that is."""
        base = self.base()
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
        return f"test_folder/{path.relative_to(self._test_base).as_posix()}"

    @cached_property
    def _test_base(self) -> Path:
        return _common(item for item in self._labelled if item.foreign)

    def files(self) -> list[Path]:
        """Every image of the chosen classes, and their masks.

        Raises:
            DataError: a class folder is empty.
        """
        for item in self._labelled:
            if not item.files:
                raise DataError(f"class folder {item.path} holds no images ({', '.join(sorted(files.SUFFIXES))})")
        masks = (path for item in self._labelled for several in item.masks.values() for path in several)
        return [*(path for item in self._labelled for path in item.files), *masks]

    def fact(self, path: Path) -> str:
        """Files of more than 8 bits were once read otherwise."""
        return "deep" if pixels.deep(path) else ""

    def scans(self) -> Scans:
        """Decode every image and group near-duplicates."""
        self.files()
        owner, items = self._items()
        names = [self._name(path, page) for path, page in items]
        params = self.params
        decoder = Decoder(self._read, params.size, params.fit, params.window, self.progress, "reading images")
        decoded = decoder.decode(items, names)
        labels = np.array([self._label(item.name) for item in owner], dtype=np.int64)
        official = np.array([item.split or "train" for item in owner])
        sites = self._sites(owner, items)
        kept = params.split == "official" or bool(params.test_folder)
        if kept and not any(item.split for item in owner):
            raise DataError(f"{self.folder} has no official split (folders train and test); use split=patient")
        pictures = Pictures(
            names=names,
            thumbnails=decoded.thumbnails,
            labels=labels,
            classes=self._classes,
            patients=self._patients(items, sites),
            files=[str(path) for path, _ in items],
            official=official if any(item.split for item in owner) else None,
            kept=kept,
        )
        groups = group(pictures, params, self.progress)
        masks, mask_notes = read_masks(
            [item.masks.get(path, ()) for item, (path, _) in zip(owner, items, strict=True)],
            [path for path, _ in items],
            params.size,
            params.fit,
        )
        notes = [*groups.notes, *decoded.notes, *mask_notes, *params.order_note(self._names), *self._notes()]
        return Scans(
            classes=self._classes,
            images=decoded.images,
            labels=labels,
            patients=groups.patients,
            sites=sites,
            masks=masks,
            notes=tuple(notes),
            units=groups.units,
            official=official if kept else None,
        )

    def _items(self) -> tuple[list[Labelled], list[Item]]:
        """The images with their class folders."""
        owner, items = [], []
        for item in self._labelled:
            for path in item.files:
                for page in pixels.chosen(path, self.params.pages):
                    owner.append(item)
                    items.append((path, page))
        return owner, items

    def _read(self, item: Item) -> pixels.Pixels:
        return pixels.read(item[0], self.params.channels, item[1])

    def _name(self, path: Path, page: int = 0) -> str:
        name = printable(self.file_name(path))
        return f"{name}#{page}" if self.params.pages == "all" and page else name

    def _sites(self, owner: Sequence[Labelled], items: Sequence[Item]) -> tuple[str, ...]:
        if self.params.site is None:
            return tuple(item.site or "all" for item in owner)
        return tuple(self._found("site", self.params.site, items))

    def _patients(self, items: Sequence[Item], sites: Sequence[str]) -> list[str] | None:
        """Patient ids; numbers may begin anew at every site."""
        if self.params.patient is None:
            return None
        found = self._found("patient", self.params.patient, items)
        if len(set(sites)) == 1:
            return found
        return [f"{site}/{patient}" for site, patient in zip(sites, found, strict=True)]

    def _found(self, what: str, expression: str, items: Iterable[Item]) -> list[str]:
        """What a regular expression finds in each path; `DataError` names one where it finds nothing."""
        pattern, found, lost = re.compile(expression), [], []
        group = what if what in pattern.groupindex else min(pattern.groups, 1)
        for path, _ in items:
            match = pattern.search(self._name(path))
            if match and match[group]:
                found.append(match[group])
            else:
                lost.append(self._name(path))
        if lost:
            raise DataError(f"{what}={expression} finds nothing in {len(lost)} paths, {lost[0]!r} for example")
        return found

    def _notes(self) -> list[str]:
        """Facts about the folders and files, without reading pixels."""
        counted = [(path, pixels.pages(path)) for item in self._labelled for path in item.files]
        lines = [*unread_note(self._labelled), *checking.several_pages(counted, self.params.pages)]
        parts = {item.split for item in self._labelled if item.split}
        for name in self._names:
            held = {item.split for item in self._labelled if item.name == name and item.files}
            lines += [f"class {name!r} has no image in the official {part} split" for part in sorted(parts - held)]
        sites = sorted({item.site for item in self._labelled if item.site}, key=files.natural_key)
        if sites:
            lines.append(f"sites are folders: {', '.join(sites)}")
        return lines

    def lesion_class(self, classes: tuple[str, ...]) -> int | None:
        """The merged class, or the one of two that is called yes, tumor, tumour or lesion."""
        return lesion_class(classes)

    def check(self) -> list[str]:
        """Problems of every file of every chosen class."""
        found = checking.Checked(self.params.channels, self.params.window)
        with self.progress.task(f"checking {printable(self.base().name)}", len(self._labelled)) as task:
            for item in self._labelled:
                if not item.files:
                    found.lines.append(f"class folder {item.path} holds no images")
                folder = printable(self.file_name(item.path))
                for path in item.files:
                    found.add(path, self._name(path), folder, item.name, self.params.pages)
                    found.lines += [line for mask in item.masks.get(path, ()) if (line := checking.problem(mask))]
                task.advance(note=item.name)
        if any(not line.startswith("note:") for line in found.lines):
            return found.report(unread_note(self._labelled))
        try:
            owner, items = self._items()
            self._patients(items, self._sites(owner, items))
        except DataError as error:
            found.lines.append(str(error))
        return found.report(self._notes())


def _common(found: Iterable[Labelled]) -> Path:
    """The folder that holds all class folders and masks."""
    folders: set[Path] = set()
    for item in found:
        folders |= {item.path.parent, *(path.parent for several in item.masks.values() for path in several)}
    return Path(os.path.commonpath(folders))


def lesion_class(classes: Sequence[str]) -> int | None:
    """The one of two classes that is called yes, tumor, tumour or lesion."""
    named = [i for i, name in enumerate(classes) if name.lower() in LESION_NAMES]
    return named[0] if len(classes) == 2 and len(named) == 1 else None
