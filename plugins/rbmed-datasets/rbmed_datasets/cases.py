"""Finds volumes and their label maps in the layouts that collections of NIfTI files have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import robustbench_med as rbmed
from rbmed_datasets.files import is_hidden, natural_key
from rbmed_datasets.layout import refuse_similar
from rbmed_datasets.names import printable, some
from rbmed_datasets.volumes import is_volume, stem
from robustbench_med.errors import DataError, NothingFound

#: images/ and labels/, imagesTr/ and labelsTr/ (Medical Segmentation Decathlon, nnU-Net), and their like.
_IMAGES = re.compile(r"(?:images?|imgs?|scans?|volumes?)[ _-]?(?P<part>tr|ts|val)?", re.IGNORECASE)
_LABELS = re.compile(r"(?:labels?|masks?|seg|segs|segmentations?|gt)[ _-]?(?P<part>tr|ts|val)?", re.IGNORECASE)
#: CASE_seg, as in BraTS.
_LABEL = re.compile(r"(?P<case>.+)[_-](?:seg|labels?|masks?|segmentation|gt)", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """One volume.

    Attributes:
        name: unique, for patients and messages.
        scan: the image.
        labels: its label map, or None.
        label: the folder of its class, where there are no label maps.
    """

    name: str
    scan: Path
    labels: Path | None = None
    label: str = ""


@dataclass(frozen=True)
class Found:
    """What `find` gives: the cases, in natural order, and what is left out, as notes."""

    cases: list[Case]
    notes: list[str] = field(default_factory=list)


def find(root: Path, image: str) -> Found:
    """The cases under ``root``; of several images of a case the one called ``image`` (``flair``, ``0000``).

    Raises:
        DataError: there are none, or several images of a case.
    """
    scans, maps = scans_and_maps(root)
    return _paired(root, scans, maps, image) if maps else _classes(root, scans)


def scans_and_maps(root: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The volumes under ``root`` and the label maps, by name.

    Raises:
        DataError: there are no volumes, or two of one name.
    """
    scans: dict[str, Path] = {}
    maps: dict[str, Path] = {}
    for path in _volumes(root):
        key, is_map = _key(root, path)
        into = maps if is_map else scans
        if key in into:
            raise DataError(f"volumes {into[key]} and {path} have one name; keep one of them")
        into[key] = path
    if not scans:
        pairs = next(root.rglob("*.hdr"), None) is not None and not maps
        if maps or pairs:
            more = "label maps" if maps else "pairs of .hdr and .img: convert them to .nii.gz"
            raise DataError(f"no volumes (.nii, .nii.gz) under {root} but {more}")
        raise NothingFound("volumes (.nii, .nii.gz)", root)
    return scans, maps


def _volumes(root: Path) -> Iterator[Path]:
    found = (path for path in root.rglob("*.[nN][iI][iI]*") if is_volume(path))
    shown = (path for path in found if not any(map(is_hidden, path.relative_to(root).parts)))
    yield from sorted(shown, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def _key(root: Path, path: Path) -> tuple[str, bool]:
    """The name of a volume without what says that it is an image or a label map; and whether it is the latter."""
    parts, is_map, name = [], False, stem(path)
    for part in path.relative_to(root).parent.parts:
        match = _LABELS.fullmatch(part) or _IMAGES.fullmatch(part)
        is_map = is_map or bool(_LABELS.fullmatch(part))
        kept = (match["part"] or "") if match else part
        parts += [kept] if kept else []
    if match := _LABEL.fullmatch(name):
        is_map, name = True, match["case"]
    return printable("/".join([*parts, name])), is_map


def _paired(root: Path, scans: dict[str, Path], maps: dict[str, Path], image: str) -> Found:
    of_case: dict[str, dict[str, Path]] = {}
    alone = []
    for key, path in scans.items():
        case, kind = _case_of(key, maps)
        if case is None:
            alone.append(printable(path.relative_to(root)))
        else:
            of_case.setdefault(case, {})[kind] = path
    kinds = sorted({kind for images in of_case.values() for kind in images if kind}, key=natural_key)
    if len(kinds) > 1 and image not in kinds:
        raise DataError(f"cases under {root} have several images; choose one with image=NAME: {', '.join(kinds)}")
    cases, without = [], []
    for case, path in maps.items():
        images = of_case.get(case, {})
        scan = images.get(image) or (next(iter(images.values())) if len(kinds) < 2 and images else None)
        if scan is None:
            without.append(printable(path.relative_to(root)))
        else:
            cases.append(Case(case, scan, path))
    if not cases:
        raise DataError(f"no label map under {root} belongs to an image: {some([*without, *alone])}")
    notes = []
    if without:
        said = ("label map has no image and is left out", "label maps have no image and are left out")
        notes.append(f"{rbmed.plural(len(without), *said)}: {some(without)}")
    if alone:
        said = ("image has no label map and is left out", "images have no label map and are left out")
        notes.append(f"{rbmed.plural(len(alone), *said)}: {some(alone)}")
    return Found(sorted(cases, key=lambda case: natural_key(case.name)), notes)


def _case_of(key: str, maps: dict[str, Path]) -> tuple[str | None, str]:
    """The case of an image and which of its images it is: 'BraTS_1_flair' is 'flair' of 'BraTS_1'."""
    if key in maps:
        return key, ""
    for match in reversed(list(re.finditer("[_-]", key))):
        if key[: match.start()] in maps:
            return key[: match.start()], key[match.end() :]
    return None, ""


def _classes(root: Path, scans: dict[str, Path]) -> Found:
    """Volumes in class folders."""
    base = root
    while len(inner := {path.relative_to(base).parts[0] for path in scans.values()}) == 1:
        base /= inner.pop()
        if base.is_file():
            break
    homes = {path: path.relative_to(base).parts for path in scans.values()} if base.is_dir() else {}
    classes = {printable(parts[0]) for parts in homes.values() if len(parts) > 1}
    if len(classes) < 2 or any(len(parts) == 1 for parts in homes.values()) or any(map(_IMAGES.fullmatch, classes)):
        raise DataError(
            f"no labels for the volumes under {root}: expected label maps in labels/ beside images/ (labelsTr, "
            "imagesTr), or CASE_seg.nii.gz beside CASE.nii.gz, or class folders"
        )
    refuse_similar({name: base / name for name in sorted(classes)})
    return Found([Case(key, path, label=printable(homes[path][0])) for key, path in scans.items()])
