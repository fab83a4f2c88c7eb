"""The test split of a data set, as the leaderboard knows it: label, patient and client of each row, without images.

``splits/<data set>-<digest>.json`` is made from the data set (``rbmed leaderboard split``), not from results, so that a
submission cannot say whose images it answered. It also gives records of formats before 5 their patients.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pydantic

from robustbench_med.errors import DataError
from robustbench_med.files.atomic import write_text
from robustbench_med.files.strict_json import strict_file
from robustbench_med.leaderboard.sources.compact_labels import classes_of, owners_by_row, rows_by_owner, text_of
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.reading import reading
from robustbench_med.records.sections.base import Count, Name
from robustbench_med.records.sections.dataset import DatasetSection

FORMAT = 1
#: What the file has of the data set's card.
_CARD = ("classes", "lesion_class", "synthetic", "licence")
_FOLD = ("number", "of", "pool")


@dataclass(frozen=True)
class TestSplit:
    """What is known of each row of a test split.

    Attributes:
        dataset, digest, partition: of which data set and partition; the digest identifies both.
        labels: a letter for each row, as in outcomes.
        patients: (N,) hashed patient of each row; empty where patients are not known.
        sites: (N,) client of each row.
        classes, lesion_class, synthetic, licence: as in the data set's card.
        fold: of a cross-validation its number, how many there are, and the digest of all; None for a single split.
    """

    __test__ = False  # not a test, whatever pytest thinks of its name

    dataset: str
    digest: str
    partition: str
    labels: str
    patients: tuple[str, ...]
    sites: tuple[str, ...]
    classes: tuple[str, ...]
    lesion_class: int | None
    synthetic: bool
    licence: str
    fold: tuple[int, int, str] | None = None

    @cached_property
    def classes_by_row(self) -> npt.NDArray[np.int8]:
        """(N,): the labels as classes."""
        return classes_of(self.labels, len(self.labels))


def named(split: TestSplit) -> str:
    """The name of its file."""
    return f"{split.dataset}-{split.digest[:8]}.json"


def write(path: Path, split: TestSplit) -> None:
    """Write a file.

    Raises:
        StoreError: it cannot be written.
    """
    rows = range(len(split.labels))
    facts = {
        "format": FORMAT,
        "dataset": split.dataset,
        "digest": split.digest,
        "partition": split.partition,
        **{name: getattr(split, name) for name in _CARD},
        "labels": split.labels,
        "patients": rows_by_owner(rows, split.patients) if split.patients else None,
        "sites": rows_by_owner(rows, split.sites),
        **({} if split.fold is None else {"fold": dict(zip(_FOLD, split.fold, strict=True))}),
    }
    write_text(path, json.dumps(facts, indent=1) + "\n")


def read(path: Path) -> TestSplit:
    """Read a file.

    Raises:
        DataError: it is none; the first thing that is wrong is named.
    """
    with reading(path, "test split"):
        return _parsed(_File.model_validate(strict_file(path)))


class _Fold(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    number: Count
    of: Count
    pool: Name


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    format: Literal[1]
    dataset: Name
    digest: Name
    partition: Name
    classes: list[Name]
    lesion_class: Count | None
    synthetic: bool
    licence: Name
    labels: str
    patients: dict[str, str] | None
    sites: dict[str, str]
    fold: _Fold | None = None


def _parsed(file: _File) -> TestSplit:
    if (classes_of(file.labels, len(file.labels)) < 0).any():
        raise ValueError("a label is no class")
    rows, fold = range(len(file.labels)), file.fold
    return TestSplit(
        dataset=file.dataset,
        digest=file.digest,
        partition=file.partition,
        labels=file.labels,
        patients=() if file.patients is None else owners_by_row(file.patients, rows),
        sites=owners_by_row(file.sites, rows),
        classes=tuple(file.classes),
        lesion_class=file.lesion_class,
        synthetic=file.synthetic,
        licence=file.licence,
        fold=None if fold is None else (fold.number, fold.of, fold.pool),
    )


def completed(outcome: ImageResults, split: TestSplit, origin: str) -> ImageResults:
    """An outcome with the patients and clients of the data set, whatever it says itself.

    Raises:
        DataError: it is of other images, or says that they have other labels.
    """
    if outcome.index[-1] >= len(split.labels):
        raise DataError(
            f"{origin}: cell {outcome.cell_id} has image {outcome.index[-1]}; there are {len(split.labels)}"
        )
    other = np.flatnonzero(split.classes_by_row[list(outcome.index)] != outcome.labels)
    if len(other):
        at = int(other[0])
        row = outcome.index[at]
        raise DataError(
            f"{origin}: cell {outcome.cell_id} gives image {row} the label {text_of(outcome.labels[[at]])}; in "
            f"{split.dataset} it is {split.labels[row]}"
        )
    patients = _at(split.patients, outcome.index) if split.patients else outcome.patients
    return replace(outcome, patients=patients, sites=_at(split.sites, outcome.index))


@lru_cache(maxsize=16)
def _at(owners: tuple[str, ...], rows: tuple[int, ...]) -> tuple[str, ...]:
    """Whose these rows are; thousands of results are of the same rows."""
    return tuple(owners[row] for row in rows)


def checked_data(data: DatasetSection, splits: Mapping[str, TestSplit], origin: str) -> None:
    """Compare the data set, clients and fold that a record says with those of its digest, as far as that is known.

    Boards are called after the data set, and folds are pooled by their number.

    Raises:
        DataError: they are others.
    """
    split = splits.get(data.digest or "")
    names = (
        [" ".join(filter(None, each)) for each in ((data.name, data.partition), (split.dataset, split.partition))]
        if split
        else []
    )
    if len(set(names)) > 1:
        raise DataError(f"{origin} is said to be of {names[0]}; the digest of its data set is that of {names[1]}")
    said = None if data.fold is None else (data.fold.number, data.fold.of, data.fold.pool)
    if split is not None and said != split.fold:
        one, two = ("a single split" if each is None else f"fold {each[0]} of {each[1]}" for each in (said, split.fold))
        other = ", of another cross-validation" if one == two else ""
        raise DataError(f"{origin} is said to be of {one}{other}; its data set is {two}")


def read_all(folder: Path) -> Mapping[str, TestSplit]:
    """The splits of a folder, by the digest of their data set.

    Raises:
        DataError: one is none, is called otherwise than after its data set, or is of the same images as another, whose
            place it would take.
    """
    found: dict[str, TestSplit] = {}
    for path in sorted(folder.glob("*.json")):
        split = read(path)
        if path.name != named(split):
            raise DataError(f"{path} is the test split of {split.dataset}, whose file is called {named(split)}")
        if (before := found.setdefault(split.digest, split)) is not split:
            raise DataError(f"{path} is of the images of {named(before)}, by their digest; keep one of them")
    return found
