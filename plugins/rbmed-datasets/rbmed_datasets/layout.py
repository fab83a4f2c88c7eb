"""Finds the class folders of an image collection in the layouts that collections have."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rbmed_datasets.files import images_in, is_hidden, natural_key
from rbmed_datasets.names import printable
from robustbench_med.errors import DataError, NothingFound

#: Names of the parts of official splits, in any case.
OFFICIAL = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "calibration"),
    **dict.fromkeys(("test", "testing"), "test"),
}
#: Their folders: ``train``, ``Training_Set``, ``test-images``.
_PART_OF_SPLIT = re.compile(
    rf"({'|'.join(sorted(OFFICIAL, key=len, reverse=True))})[ _-]?(set|split|data|images?|imgs?)?"
)
_IMAGES = {"image", "images", "img", "imgs"}
_MASKS = {"mask", "masks"}
_MASK = re.compile(r"(?P<scan>.+?)[ _-](?:masks?|segmentation|seg)(?:[ _-]?\d+)?", re.IGNORECASE)
_LGG = re.compile(r"TCGA_[A-Z0-9]{2}_[A-Z0-9]{4}_\d{8}")
#: Folders that divide a collection without saying anything about the images.
_PART = re.compile(r"(?:.*[ _-])?(?:images?|imgs?|masks?|parts?|batch|batches|fold|chunk)[ _-]?\d*", re.IGNORECASE)


@dataclass(frozen=True)
class Labelled:
    """The files of one class folder.

    Attributes:
        path: the class folder; its name is the class.
        files: its images, in natural order.
        split: the official split that it is in, ``train``, ``calibration`` or ``test``; empty without one.
        site: the folder of the hospital that it is in; empty without one.
        masks: the lesion masks of an image, which are united.
        unread: files in it that are neither image nor mask, and subfolders.
        foreign: it is in the separate folder of test images.
        named: the class, where it is not the name of the folder, which is that of a part of a split.
        beside: folders with images beside those of the official split, which are no part of it.
    """

    path: Path
    files: tuple[Path, ...]
    split: str = ""
    site: str = ""
    masks: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    unread: tuple[Path, ...] = ()
    foreign: bool = False
    named: str = ""
    beside: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.named or printable(self.path.name)


def official_part(folder: str) -> str | None:
    """The part of an official split that a folder of this name holds: ``train``, ``calibration``, ``test``; or None."""
    match = _PART_OF_SPLIT.fullmatch(folder.lower())
    return OFFICIAL[match[1]] if match else None


def _folders(path: Path) -> list[Path]:
    """Subfolders that may hold classes: not hidden, not Br35H's unlabelled ``pred``, not segmentation masks."""
    return sorted(
        (
            child
            for child in path.iterdir()
            if child.is_dir()
            and not is_hidden(child.name)
            and child.name.lower() != "pred"
            and "mask" not in child.name.lower()
        ),
        key=lambda child: natural_key(child.name),
    )


def _class_folder(path: Path) -> Labelled:
    """The images of a class, directly in its folder or in ``images`` there, with masks beside them or in ``masks``."""
    found, inner = images_in(path), [child for child in _folders(path) if child.name.lower() in _IMAGES]
    read = {path}
    if not found and len(inner) == 1:
        found = images_in(inner[0])
        read.add(inner[0])
    stems = {file.stem: file for file in found}
    masks: dict[Path, list[Path]] = {}
    for file in found:
        match = _MASK.fullmatch(file.stem)
        if match and match["scan"] in stems:
            masks.setdefault(stems[match["scan"]], []).append(file)
    beside = {file for several in masks.values() for file in several}
    for folder in _mask_folders(path):
        read.add(folder)
        for file in images_in(folder):
            match = _MASK.fullmatch(file.stem)
            scan = stems.get(file.stem) or (stems.get(match["scan"]) if match else None)
            if scan:
                masks.setdefault(scan, []).append(file)
    images = tuple(file for file in found if file not in beside)
    known = {*found, *read}
    unread = tuple(
        child
        for folder in sorted(read)
        if folder.is_relative_to(path)
        for child in sorted(folder.iterdir())
        if child not in known
        and not is_hidden(child.name)
        and child.name.lower() not in ("thumbs.db", "desktop.ini")
        and not (folder.name.lower() in _MASKS and child.is_file())
    )
    return Labelled(path, images, masks={scan: tuple(files) for scan, files in masks.items()}, unread=unread)


def _mask_folders(path: Path) -> list[Path]:
    """``class/masks``, or ``masks/class`` next to ``images/class``."""
    inside = [child for child in path.iterdir() if child.is_dir() and child.name.lower() in _MASKS]
    if path.parent.name.lower() in _IMAGES:
        beside = (child for child in path.parent.parent.iterdir() if child.is_dir() and child.name.lower() in _MASKS)
        inside += [child / path.name for child in beside if (child / path.name).is_dir()]
    return inside


def _class_folders(path: Path) -> list[Labelled]:
    """Class folders directly in ``path``; [] unless at least one holds images.

    A folder of folders beside them is another copy of the collection (Navoneel's zip has one), not a class; an empty
    folder is an empty class, which the caller reports.
    """
    found = [_class_folder(child) for child in _folders(path)]
    if not any(item.files for item in found):
        return []
    if volumes := [item for item in found if _LGG.fullmatch(item.path.name)]:
        raise DataError(f"{path} holds volumes of patients ({volumes[0].path.name}), not class folders; is it 'lgg'?")
    kept = [item for item in found if item.files or not _folders(item.path)]
    if all(_PART.fullmatch(item.path.name) for item in kept):
        names = ", ".join(item.name for item in kept[:3])
        raise DataError(
            f"{path} holds parts of one collection ({names}), not class folders; labels in a table are read by the "
            "data set 'table'"
        )
    return kept


def _collection(path: Path) -> list[Labelled]:
    """Class folders of ``path``, with or without an official split or sites between; [] if it is not a collection."""
    parts = [(child, part) for child in _folders(path) if (part := official_part(child.name))]
    pooled = [replace(item, split=split) for child, split in parts for item in (_class_folders(child) or _sites(child))]
    if pooled:
        others = (child for child in _folders(path) if not official_part(child.name))
        beside = tuple(child for child in others if any(images_in(each) for each in (child, *_folders(child))))
        return [replace(pooled[0], beside=beside), *pooled[1:]]
    return _class_folders(path) or _splits_inside(path)


def _splits_inside(path: Path) -> list[Labelled]:
    """``class/train``, ``class/test``; [] unless every folder with images is one of these."""
    made: list[Labelled] = []
    for child in _folders(path):
        inner = [(folder, official_part(folder.name)) for folder in _folders(child)]
        if official_part(child.name) or not inner or not all(part for _, part in inner):
            return []
        made += [
            replace(_class_folder(folder), split=part or "", named=printable(child.name)) for folder, part in inner
        ]
    return made if len({item.name for item in made}) > 1 and any(item.files for item in made) else []


def _sites(path: Path) -> list[Labelled]:
    """``site/class``: several collections with classes in common; [] where there are none.

    Raises:
        DataError: there are several collections that share no class.
    """
    found = [(child, items) for child in _folders(path) if (items := _collection(child))]
    if len(found) < 2:
        return []
    classes = [{item.name.casefold() for item in items} for _, items in found]
    held = Counter(name for names in classes for name in names)
    if any(all(held[name] == 1 for name in names) for names in classes):
        names = ", ".join(printable(child.name) for child, _ in found)
        raise DataError(
            f"several image collections under {path}: {names}; give the folder of one (hospitals would share classes)"
        )
    return [replace(item, site=printable(child.name)) for child, items in found for item in items]


def find_classes(root: Path, test: Path | None = None) -> list[Labelled]:
    """The class folders under ``root``: there, one folder deeper, in official splits, in a folder for each site.

    Those under the folder ``test`` are official test images, if it is given; then the others are for training.

    Raises:
        DataError: there are none, there are several collections, or names of classes differ in case only.
    """
    found = _found(root)
    if test is not None:
        if any(item.split == "test" for item in found):
            raise DataError(f"{root} has test images of its own; give its training folder, or leave out --test-folder")
        found = [replace(item, split=item.split or "train") for item in found]
        found += [replace(item, split="test", foreign=True) for item in _found(test)]
    where: dict[str, str] = {}
    for item in found:
        where.setdefault(item.name, printable(item.path))
    refuse_similar(where)
    return found


def _found(root: Path) -> list[Labelled]:
    found = _collection(root) or _sites(root)
    below = found or next((items for child in _folders(root) if (items := _collection(child) or _sites(child))), [])
    if not below:
        other = unread_note([_class_folder(child) for child in _folders(root)])
        raise NothingFound(
            "class folders with images",
            root,
            ": expected <class>/<image>, <class>/images/<image>, <site>/<class>/<image>, the same one folder deeper, "
            "train|val|test/<class>/<image>, or <class>/train|val|test/<image>"
            + "".join(f"; {line}" for line in other),
        )
    return below


def refuse_similar(classes: Mapping[str, object]) -> None:
    """Raise `DataError` for names of classes that differ only in how they are written; values say where.

    In case, spaces or punctuation; in the form of Unicode, as names from a Mac do; and 1 from 1.0.
    """
    seen: dict[str, str] = {}
    for name in classes:
        key = _plain(name)
        if key in seen:
            one, other = seen[key], name
            raise DataError(
                f"classes {one!r} ({classes[one]}) and {other!r} ({classes[other]}) differ only in how they are "
                "written (case, punctuation, form of Unicode, decimals); give them one name"
            )
        seen[key] = name


def _plain(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold()
    try:
        return f"number {float(text):g}"
    except ValueError:
        return re.sub(r"[\s_.-]+", "", text) or name


def unread_note(found: Sequence[Labelled]) -> list[str]:
    """A line that counts what lies in class folders and is not read, by extension."""
    kinds: dict[str, list[Path]] = {}
    for path in (path for item in found for path in item.unread):
        kinds.setdefault("folder" if path.is_dir() else _extension(path), []).append(path)
    if not kinds:
        return []
    counts = ", ".join(f"{len(paths)} {kind}" for kind, paths in sorted(kinds.items()))
    example = next(iter(kinds.values()))[0]
    return [f"left out of the class folders, as no known images: {counts} ({printable(example)} for example)"]


def _extension(path: Path) -> str:
    """``.dcm``, ``.nii.gz``; for a name without one, ``without extension``."""
    suffixes = path.suffixes[-2:] if path.suffix.lower() in (".gz", ".bz2", ".xz", ".zip") else path.suffixes[-1:]
    return "".join(suffixes).lower() or "without extension"
