"""What may be published of a test split: facts of its card, and label, hashed patient and client of each image."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from robustbench_med.datasets.loading import open_dataset
from robustbench_med.errors import DataError
from robustbench_med.interfaces.dataset import Split
from robustbench_med.plugins.references import parse

if TYPE_CHECKING:
    from robustbench_med.interfaces.dataset import Dataset
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


def patient_codes(test: Split, patients: Iterable[str]) -> tuple[str, ...]:
    """A code for each patient, 12 hex digits; equal for equal patients of one data set.

    Ids of patients are short numbers, so that a plain hash, or one with a published salt, is undone by trying them all.
    The salt is made of the first test image, which the leaderboard does not hold: whoever has it has the ids as well.
    Grey levels are rounded to bytes, so that machines agree.
    """
    image = (test.images[:1] * 255).round().clamp(0, 255).to(torch.uint8)
    salt = hashlib.blake2b(image.cpu().contiguous().numpy().tobytes(), digest_size=32).digest()
    codes = {
        patient: hashlib.blake2b(patient.encode(), key=salt, digest_size=6).hexdigest() for patient in set(patients)
    }
    return tuple(codes[patient] for patient in patients)
