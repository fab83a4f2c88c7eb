"""What is the same of every study: rows measured on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from robustbench_med.records.record import Record

Row = TypeVar("Row")


@dataclass(frozen=True)
class StudyBoard(Generic[Row]):
    """Rows of a study, measured on the same images.

    Attributes:
        title: data set and threat.
        images, patients: how many; None where patients are not recorded.
        rows: in the order in which they are shown.
    """

    title: str
    images: int
    patients: int | None
    rows: tuple[Row, ...]


def size(records: Sequence[Record]) -> tuple[int, int | None]:
    """Of how many images and patients records of the same images are."""
    return records[0].n, min((record.patients for record in records if record.patients is not None), default=None)
