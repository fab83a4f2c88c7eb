"""What `imagefolder` and `table` share: pictures with labels are decoded, grouped, split and checked."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets import checking, files, pixels
from rbmed_datasets.decode import decode
from rbmed_datasets.files import read_masks
from rbmed_datasets.first_look import refuse_unknown
from rbmed_datasets.folder import FolderDataset
from rbmed_datasets.grouping import Grouped, group
from rbmed_datasets.labelling import findings_of, in_grade_order, in_order, joined
from rbmed_datasets.names import printable, rejoined
from rbmed_datasets.picture_params import LabelledParams, PictureSetParams
from rbmed_datasets.scans import Scans, Task
from robustbench_med.errors import DataError

LESION_NAMES = {"yes", "tumor", "tumour", "lesion"}


@dataclass(frozen=True)
class Picture:
    """One file with what is known of it.

    Attributes:
        path: the file.
        label: name of its class; of a multi-label task its findings, `rbmed_datasets.labelling.joined`.
        split: its part of an official split, from `rbmed_datasets.splits.SPLITS`; empty without one.
        site: its hospital.
        patient: the patient's id, or None.
        masks: lesion masks, which are united.
        page: the page of the file.
    """

    path: Path
    label: str
    split: str = ""
    site: str = "all"
    patient: str | None = None
    masks: tuple[Path, ...] = ()
    page: int = 0


class PictureSet(FolderDataset):
    """Base class of data sets of image files with one label each.

    The format is read from the content, the EXIF orientation applied, the image made square. Colour is dropped unless
    ``channels=3`` (in some collections the colour mode reveals the class). Where patients are unknown, images linked by
    near-duplication form a group; the split is by patient or group.

    Raises:
        DataError: an unreadable image, an unknown class name, too few groups.
    """

    Params: ClassVar[type[PictureSetParams]] = PictureSetParams
    licence = "that of the images you bring"
    citation = "the source of the images you bring"

    @abstractmethod
    def find(self) -> Sequence[Picture]:
        """Every picture of the folder, of all classes; files are not opened."""

    def keeps_official(self) -> bool:
        """The official split, if there is one, is kept, not only reported."""
        return False

    @abstractmethod
    def facts(self) -> list[str]:
        """Notes on the folder, for which no file is opened."""

    @property
    def task(self) -> Task:
        """What labels say."""
        return self.params.task if isinstance(self.params, LabelledParams) else "multi-class"

    @cached_property
    def pictures(self) -> list[Picture]:
        """Pictures of the classes in use, in label order, with all that is known of them."""
        return self.labelled

    @cached_property
    def labelled(self) -> list[Picture]:
        """Pictures of the classes in use, in label order; test pictures after others of a class."""
        found, order = self._found, self.class_names
        if self.task == "multi-label":
            return sorted(found, key=lambda picture: picture.split == "test")
        chosen = [picture for picture in found if picture.label in order]
        return sorted(chosen, key=lambda picture: (order.index(picture.label), picture.split == "test"))

    @cached_property
    def _found(self) -> Sequence[Picture]:
        return self.find()

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in use, before merging, in label order."""
        several = self.task == "multi-label"
        labels = {picture.label for picture in self._found}
        held = {name for label in labels for name in findings_of(label)} if several else labels
        names = in_order(held | set(self.empty()))
        wanted = rejoined(self.params.classes, names) or tuple(names)
        merged = rejoined(self.params.lesion, names)
        refuse_unknown((*wanted, *merged), names, self.root)
        if twice := [name for name in wanted if wanted.count(name) > 1]:
            raise DataError(f"classes={'+'.join(wanted)} names {twice[0]!r} twice")
        if merged and not set(merged) & set(wanted):
            raise DataError(f"lesion={'+'.join(merged)} merges none of classes={'+'.join(wanted)}")
        in_grade_order(self.task, names, wanted if self.params.classes else ())
        if several and wanted and not self.params.lesion:
            return wanted
        if several:
            raise DataError(f"{self.root}: task=multi-label needs a finding or more, and no lesion=, which merges them")
        if len(set(wanted)) < 2:
            raise DataError(f"a data set needs two classes or more; {self.root} gives {', '.join(wanted) or 'none'}")
        return wanted

    def empty(self) -> Mapping[str, Path]:
        """Classes without a picture, and where they would be."""
        return {}

    @cached_property
    def merged(self) -> tuple[str, ...]:
        """Names of the classes that are merged into one."""
        return rejoined(self.params.lesion, {picture.label for picture in self._found} | set(self.empty()))

    @property
    def _classes(self) -> tuple[str, ...]:
        """Class names, in label order."""
        if not self.params.lesion:
            return self.class_names
        if set(self.merged) >= set(self.class_names):
            raise DataError(f"lesion={'+'.join(self.merged)} leaves no class without a lesion")
        return ("no lesion", "lesion")

    def files(self) -> list[Path]:
        """Every picture of the chosen classes, and their masks."""
        paths = [picture.path for picture in self.pictures]
        return list(dict.fromkeys([*paths, *(path for picture in self.pictures for path in picture.masks)]))

    def fact(self, path: Path) -> str:
        """Files of more than 8 bits were once read otherwise."""
        return "deep" if path.suffix.lower() in files.SUFFIXES and pixels.deep(path) else ""

    def name_of(self, picture: Picture) -> str:
        """A name that can be printed and stored, unique among the pictures."""
        name = printable(self.file_name(picture.path))
        return f"{name}#{picture.page}" if self.params.pages == "all" and picture.page else name

    def scans(self) -> Scans:
        """Decode every image and group near-duplicates."""
        params, names = self.params, self._classes
        items = self.items()
        official = np.array([item.split or "train" for item in items])
        given, kept = any(item.split for item in items), self.keeps_official()
        if kept and not given:
            raise DataError(f"{self.folder} has no official split (folders train and test); use split=patient")
        item_names = [self.name_of(item) for item in items]
        decoded = decode(items, item_names, self.read, params, self.progress)
        labels, kinds, kind_names = self._labels(items)
        grouped = Grouped(
            names=item_names,
            thumbnails=decoded.thumbnails,
            labels=kinds,
            classes=kind_names,
            patients=[item.patient or "" for item in items] if all(item.patient for item in items) else None,
            files=[str(item.path) for item in items],
            official=official if given else None,
            kept=kept,
        )
        groups = group(grouped, params, self.progress)
        kept_rows, on_sites = self._large_enough([item.site for item in items], groups.patients)
        masks, on_masks = self.masks(items)
        rows = kept_rows.tolist()
        return Scans(
            classes=names,
            images=decoded.images[kept_rows],
            labels=labels[kept_rows],
            patients=tuple(groups.patients[at] for at in rows),
            sites=tuple(items[at].site for at in rows),
            masks=None if masks is None else masks[kept_rows],
            notes=(*groups.notes, *on_sites, *decoded.notes, *on_masks, *self._on_order(), *self.on_files()),
            units=tuple(groups.units[at] for at in rows),
            patients_known=grouped.patients is not None,
            official=official[kept_rows] if kept else None,
            task=self.task,
        )

    def _large_enough(self, sites: Sequence[str], patients: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
        """Rows of sites with enough patients, and a note on the others."""
        held = Counter(site for site, _ in set(zip(sites, patients, strict=True)))
        small = {site: count for site, count in sorted(held.items()) if count < self.params.min_patients}
        if len(small) == len(held):
            raise DataError(
                "no site has "
                f"{rbmed.plural(self.params.min_patients, 'patient or group', 'patients or groups')} "
                f"(min_patients); found {small}"
            )
        named = ", ".join(f"{site} ({count})" for site, count in small.items())
        notes = [f"sites with fewer than {self.params.min_patients} patients or groups are left out: {named}"]
        return np.array([at for at, site in enumerate(sites) if site not in small]), notes if small else []

    def _labels(self, items: Sequence[Picture]) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
        """The labels, (N,) or of findings (N, K); and as one class of each image, (N,), with the names of these."""
        if self.task == "multi-label":
            sets = [tuple(name for name in findings_of(item.label) if name in self.class_names) for item in items]
            held = np.array([[name in own for name in self.class_names] for own in sets], dtype=np.int64)
            names = sorted(set(sets))
            return held, np.array([names.index(own) for own in sets]), tuple(joined(own) or "none" for own in names)
        lesion, order = self.merged, self.class_names
        found = [int(item.label in lesion) if lesion else order.index(item.label) for item in items]
        return np.array(found, dtype=np.int64), np.array(found, dtype=np.int64), self._classes

    def items(self) -> list[Picture]:
        """The images to decode, one for each page that is read."""
        return [
            dataclasses.replace(picture, page=page)
            for picture in self.pictures
            for page in pixels.chosen(picture.path, self.params.pages)
        ]

    def read(self, item: Picture) -> pixels.Pixels:
        """The pixels of an image."""
        return pixels.read(item.path, self.params.channels, item.page)

    def masks(self, items: Sequence[Picture]) -> tuple[NDArray[np.bool_] | None, list[str]]:
        """The lesion masks of the images, bool (N, size, size), or None; and notes for the data card."""
        names = [printable(item.path.name) for item in items]
        marks, p = [item.masks for item in items], self.params
        return read_masks(marks, names, lambda at: self.read(items[at]).values.shape, p.size, p.fit)

    def _on_order(self) -> list[str]:
        """A line where the order of the classes is not that of tools that sort by code point."""
        names = self.class_names
        if self.params.classes or self.params.lesion or list(names) == sorted(names):
            return []
        return [
            f"labels are in the order {', '.join(names)}; tools that sort by code point, as torchvision, have another "
            f"one: a model trained with them needs classes={'+'.join(sorted(names))}"
        ]

    def on_files(self) -> list[str]:
        """Notes on the files that are read."""
        counted = [(picture.path, pixels.pages(picture.path)) for picture in self.pictures]
        lines = [*self.facts(), *checking.several_pages(counted, self.params.pages)]
        parts = {picture.split for picture in self.pictures if picture.split}
        for name in self.class_names:
            own = [picture for picture in self.pictures if name in (picture.label, *findings_of(picture.label))]
            held = {picture.split for picture in own}
            lines += [f"class {name!r} has no image in the official {part} split" for part in sorted(parts - held)]
        return lines

    def lesion_class(self, classes: tuple[str, ...]) -> int | None:
        """The merged class, or the one of two that is called yes, tumor, tumour or lesion."""
        if self.task != "multi-class":
            return None
        named = [i for i, name in enumerate(classes) if name.lower() in LESION_NAMES]
        return named[0] if len(classes) == 2 and len(named) == 1 else None

    def check(self) -> list[str]:
        """Problems of every file of every chosen class."""
        found = checking.Checked(self.params.channels, self.params.window)
        found.lines += [f"class folder {path} holds no images" for path in self.empty().values()]
        with self.progress.task(f"checking {self.name}", len(self.labelled)) as task:
            for picture in self.labelled:
                folder = printable(Path(self.file_name(picture.path)).parent.as_posix())
                found.add(picture.path, self.name_of(picture), folder, picture.label, self.params.pages)
                found.lines += [line for mask in picture.masks if (line := checking.problem(mask))]
                task.advance()
        return self.checked(found)

    def checked(self, found: checking.Checked) -> list[str]:
        """The report; where no file is damaged, with what would stop a run later, as a split that is impossible."""
        if any(not line.startswith("note:") for line in found.lines):
            return found.report(self.facts())
        if found.all_blank:  # a first page that is black, of files with several, is a reason
            return found.report(self.on_files())
        try:
            self.card()
            return found.report(self.on_files())
        except DataError as error:
            return [str(error), *found.report(self.facts())]
