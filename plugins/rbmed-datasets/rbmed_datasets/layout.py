"""Finds the class folders of an image collection at the usual depths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rbmed_datasets.files import images_in, natural_key
from robustbench_med.errors import DataError

_TRAINING = {"train", "training", "val", "valid", "validation"}
_TESTING = {"test", "testing"}


@dataclass(frozen=True)
class Labelled:
    """The files of one class folder.

    Attributes:
        path: the class folder; its name is the class.
        files: its images, in natural order.
        official_test: True below a folder ``test`` or ``Testing``.
    """

    path: Path
    files: tuple[Path, ...]
    official_test: bool = False


def _folders(path: Path) -> list[Path]:
    """Subfolders that may hold classes: not hidden, not Br35H's unlabelled ``pred``, not segmentation masks."""
    return sorted(
        (
            child
            for child in path.iterdir()
            if child.is_dir()
            and not child.name.startswith((".", "__"))
            and child.name.lower() != "pred"
            and "mask" not in child.name.lower()
        ),
        key=lambda child: natural_key(child.name),
    )


def _class_folders(path: Path) -> list[Labelled]:
    """Class folders directly in ``path``; [] unless at least one holds images.

    A folder of folders beside them is another copy of the collection (Navoneel's zip has one), not a class; an empty
    folder is an empty class, which the caller reports.
    """
    found = [Labelled(child, tuple(images_in(child))) for child in _folders(path)]
    if not any(item.files for item in found):
        return []
    masks = [file for item in found for file in item.files if file.stem.endswith("_mask")]
    if masks:
        raise DataError(f"{path} holds scans with lesion masks ({masks[0].name}), not class folders; is it 'lgg'?")
    return [item for item in found if item.files or not _folders(item.path)]


def _collection(path: Path) -> list[Labelled]:
    """Class folders of ``path``, with or without an official split between; [] if it is not a collection."""
    official = [(child, child.name.lower()) for child in _folders(path)]
    parts = [(child, name in _TESTING) for child, name in official if name in _TRAINING | _TESTING]
    pooled = [
        Labelled(item.path, item.files, official_test=test) for child, test in parts for item in _class_folders(child)
    ]
    return pooled or _class_folders(path)


def find_classes(root: Path) -> list[Labelled]:
    """The class folders under ``root``: there, one folder deeper, or in ``Training`` and ``Testing``.

    Raises:
        DataError: there are none, or there are several collections.
    """
    here = _collection(root)
    if here:
        return here
    below = [(child, found) for child in _folders(root) if (found := _collection(child))]
    if len(below) > 1:
        names = ", ".join(child.name for child, _ in below)
        raise DataError(f"several image collections under {root}: {names}; give the folder of one")
    if not below:
        raise DataError(
            f"no class folders with images under {root}: expected <class>/<image>, one folder deeper, "
            "or Training|Testing/<class>/<image>"
        )
    return below[0][1]
