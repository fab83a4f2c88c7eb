"""Which images stay in one split: those of one patient, and near-duplicates; and what the data card says about it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import robustbench_med as rbmed
from rbmed_datasets import neardup
from rbmed_datasets.decode import THUMBNAIL
from rbmed_datasets.folder import PictureParams
from rbmed_datasets.names import some

if TYPE_CHECKING:
    from robustbench_med.progress import Progress

#: Copies that the card names.
_NAMED = 5
_TRAINING, _TEST = ("train", "calibration"), "test"


class GroupingParams(PictureParams):
    """Parameters of data sets whose images are grouped before they are split."""

    near_duplicate_threshold: float = rbmed.Field(
        0.995, gt=0, lt=1, description="Images correlating more than this at 64 px are twins and stay in one split."
    )
    similar: float | None = rbmed.Field(
        None,
        gt=0,
        lt=1,
        description="Where patients are unknown: images correlating more than this (0.9, say) are treated as one "
        "patient's; the card reports the groups. Empty: near-duplicates only.",
    )


@dataclass(frozen=True)
class Grouped:
    """Images that are to be grouped.

    Attributes:
        names: of the images, unique.
        thumbnails: (N, 64, 64), grey.
        labels: int64 (N,).
        classes: class names, in label order.
        patients: known patient ids, or None.
        files: id of the file of each image; images of one file stay together.
        official: the split that comes with the data set, from `rbmed_datasets.splits.SPLITS`, or None.
        kept: the official split is the one to use.
    """

    names: Sequence[str]
    thumbnails: NDArray[Any]
    labels: NDArray[np.int64]
    classes: Sequence[str]
    patients: Sequence[str] | None
    files: Sequence[str]
    official: NDArray[np.str_] | None
    kept: bool


@dataclass(frozen=True)
class Groups:
    """What `group` gives: ids of patients and of what stays in one split, both (N,), and notes for the data card."""

    patients: tuple[str, ...]
    units: tuple[str, ...]
    notes: tuple[str, ...]


def group(pictures: Grouped, params: GroupingParams, progress: Progress) -> Groups:
    """Patients and the units of the split.

    Where patients are unknown, a group of near-duplicates takes the place of one. An official split that is kept is not
    changed by near-duplicates across it: they are counted, and grouped within each of its parts.
    """
    count = len(pictures.names)
    least = params.near_duplicate_threshold
    similar = params.similar if pictures.patients is None else None
    with progress.task("comparing images", count) as task:
        found = neardup.near_duplicate_pairs(pictures.thumbnails, min(least, similar or 1), task.advance)
    pairs = neardup.above(pictures.thumbnails, found, least) if similar and similar < least else found
    linked = found if similar else pairs
    if pictures.kept and pictures.official is not None:
        linked = linked[pictures.official[linked[:, 0]] == pictures.official[linked[:, 1]]]
    same = pictures.files if pictures.patients is None else pictures.patients
    unit = neardup.groups(np.concatenate([linked, _chain(same)]), count)
    # A group is named by its first file, so that its name, and the split, do not depend on the order of the groups.
    first = np.unique(unit, return_index=True)[1]
    units = tuple(pictures.names[i] for i in first[unit])
    patients = units if pictures.patients is None else tuple(pictures.patients)
    notes = [
        _on_patients(pictures, unit, pairs, params),
        *_on_spelling(pictures.patients),
        *_on_leaks(pictures, pairs),
        *_on_labels(pictures, pairs),
    ]
    return Groups(patients, units, tuple(notes))


def _chain(ids: Sequence[str]) -> NDArray[np.int64]:
    """Pairs that link each image to the one before of the same id, (P, 2)."""
    last: dict[str, int] = {}
    pairs = []
    for at, name in enumerate(ids):
        if name in last:
            pairs.append((last[name], at))
        last[name] = at
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _on_patients(pictures: Grouped, unit: NDArray[np.int64], pairs: NDArray[np.int64], params: GroupingParams) -> str:
    sizes, count = np.bincount(unit), len(pictures.names)
    alike = sizes[sizes > 1]
    grouped = "none found"
    if len(alike):
        grouped = f"{alike.sum()} images in {rbmed.plural(len(alike), 'group')}, the largest of {alike.max()}"
    twins = f"near-duplicates (correlation > {params.near_duplicate_threshold:g} at {THUMBNAIL} px)"
    if pictures.patients is not None:
        who = np.unique(np.asarray(pictures.patients), return_inverse=True)[1]
        across = int((who[pairs[:, 0]] != who[pairs[:, 1]]).sum())
        join = "joins" if across == 1 else "join"
        said = f"; {rbmed.plural(across, 'pair')} of {twins} {join} patients, who then stay in one split"
        joined = said if across else ""
        return f"{rbmed.plural(count, 'image')} of {rbmed.plural(who.max() + 1, 'patient')}, split by patient{joined}"
    ways = "give patient=REGEX, ids=FILE.csv or the data set 'table' if ids are known"
    if params.similar is None:
        return (
            f"{rbmed.plural(count, 'image')}; no patient ids, so {twins} are kept together: "
            f"{grouped}. This finds copies, not other "
            f"images of a patient, who may be in several splits: {ways}, or similar=0.9"
        )
    chained = "; they are chained into few large groups, so a higher value is better" if sizes.max() > count / 5 else ""
    return (
        f"{rbmed.plural(count, 'image')}; no patient ids, so images with a correlation > "
        f"{params.similar:g} at {THUMBNAIL} px are "
        f"treated as one patient's, {len(sizes)} in all: {grouped}{chained}. A patient may still be in "
        f"several splits: {ways}"
    )


def _on_spelling(patients: Sequence[str] | None) -> list[str]:
    """A line where ids of patients differ in how they are written only: they may be those of one patient."""
    known: dict[str, set[str]] = {}
    for name in set(patients or ()):
        plain = unicodedata.normalize("NFKC", name).casefold().removesuffix(".0")
        known.setdefault(re.sub(r"\s+|(?<!\d)0+(?=\d)", "", plain), set()).add(name)
    alike = sorted(sorted(names) for names in known.values() if len(names) > 1)
    if not alike:
        return []
    pairs = some([" = ".join(map(repr, names)) for names in alike], _NAMED)
    return [
        f"{rbmed.plural(len(alike), 'id of patients is', 'ids of patients are')} written in "
        f"several ways ({pairs}?) and count as several patients, who may "
        "be in several splits; write each in one way if they are one"
    ]


def _on_leaks(pictures: Grouped, pairs: NDArray[np.int64]) -> list[str]:
    if pictures.official is None:
        return []
    test = pictures.official == _TEST
    state = "is kept" if pictures.kept else rbmed.SPLIT_NOT_USED
    if not test.any() or test.all():
        return [f"the official split {state}"]
    leaked = neardup.twins_across(pairs, test)
    if not leaked.any():
        return [f"the official split {state}; its test images have no near-duplicates in its training images"]
    share = leaked.sum() / test.sum()
    by_class = ", ".join(
        f"{name} {leaked[chosen].sum()}/{chosen.sum()}"
        for label, name in enumerate(pictures.classes)
        if (chosen := test & (pictures.labels == label)).any()
    )
    return [
        f"the official split leaks and {state}: {leaked.sum()} of {test.sum()} official test images "
        f"({share:{'.1%' if share >= 0.001 else '.2%'}}) have a near-twin in official training ({by_class})"
    ]


def _on_labels(pictures: Grouped, pairs: NDArray[np.int64]) -> list[str]:
    across = pairs[pictures.labels[pairs[:, 0]] != pictures.labels[pairs[:, 1]]]
    if not len(across):
        return []
    named = [f"{pictures.names[one]} = {pictures.names[other]}" for one, other in across]
    return [
        f"{rbmed.plural(len(np.unique(across)), 'image has', 'images have')} a near-twin of "
        "another class: labels contradict each other "
        f"({some(named, _NAMED)})"
    ]
