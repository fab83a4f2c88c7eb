"""What may be published of a test split: label, hashed patient and client of each image."""

from __future__ import annotations

import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustbench_med.datasets.loading import open_dataset
from robustbench_med.datasets.patients import patient_codes
from robustbench_med.plugins.references import parse

if TYPE_CHECKING:
    from robustbench_med.plugins.registry import Registry

_CLASSES = string.digits + string.ascii_lowercase


def facts_of(registry: Registry, dataset: str, partition: str | None, root: Path | None) -> dict[str, Any]:
    """The attributes of `robustbench_med.leaderboard.sources.test_split.TestSplit` of a data set.

    Raises:
        UnknownName, AmbiguousName, BadParameter: a reference is wrong.
        DataError: the images are needed and not found.
    """
    ref = parse(dataset)
    found = open_dataset(registry, ref, root, partition=parse(partition) if partition else None)
    card, test = found.card(), found.split("test")
    return {
        "dataset": card.name,
        "digest": card.digest,
        "partition": partition or "",
        "labels": "".join(_CLASSES[label] for label in test.labels.tolist()),
        "patients": patient_codes(test, test.patients) if card.patients_known else (),
        "sites": test.sites,
    }
