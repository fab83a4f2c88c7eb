"""What may be published of a test split: facts of its card, and label, hashed patient and client of each image."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_med.datasets.loading import open_dataset
from robustbench_med.datasets.patients import patient_codes
from robustbench_med.errors import DataError
from robustbench_med.plugins.references import parse

if TYPE_CHECKING:
    from robustbench_med.interfaces import Dataset
    from robustbench_med.plugins.registry import Registry

_CLASSES = string.digits + string.ascii_lowercase


def facts_of(dataset: Dataset, partition: str | None = None) -> dict[str, Any]:
    """The attributes of `robustbench_med.leaderboard.sources.test_split.TestSplit` of a data set.

    ``partition`` says how clients were made of it.
    """
    card, test = dataset.card(), dataset.split("test")
    if card.task == "multi-label":
        raise DataError(f"data set {card.name!r} has several findings for each image; the leaderboard holds one answer")
    return {
        "dataset": card.name,
        "digest": card.digest,
        "partition": partition or "",
        "labels": "".join(_CLASSES[label] for label in test.labels.tolist()),
        "patients": patient_codes(test, test.patients) if card.patients_known else (),
        "sites": test.sites,
        "classes": card.classes,
        "lesion_class": card.lesion_class,
        "synthetic": card.synthetic,
        "licence": card.licence,
        "fold": None if card.fold is None else (card.fold.number, card.fold.of, card.fold.pool),
    }


def opened(
    registry: Registry, dataset: str, partition: str | None, root: Path | None, unseen: tuple[str, ...] = ()
) -> Dataset:
    """A data set by its references.

    Raises:
        UnknownName, AmbiguousName, BadParameter: a reference is wrong.
        DataError: the images are needed and not found.
    """
    return open_dataset(
        registry, parse(dataset), root, partition=parse(partition) if partition else None, unseen=unseen
    )
