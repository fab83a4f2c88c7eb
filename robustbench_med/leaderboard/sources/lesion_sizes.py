"""Measurements of lesions are those of the data set: the same in the results of every cell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from robustbench_med.errors import DataError
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record

#: Results have three digits.
ROUNDED = 2e-3


def checked_lesions(records: Iterable[Record], outcomes: Mapping[str, ImageResults]) -> None:
    """Refuse other measurements of the lesion of one image: a page draws them against what was found.

    Those whose cell comes first are taken.

    Raises:
        DataError: which cell has others.
    """
    known: dict[tuple[str, str], tuple[str, dict[int, float]]] = {}
    for record in records:
        outcome = outcomes.get(record.cell_id)
        if outcome is None:
            continue
        for name, values in outcome.lesions.items():
            first, sizes = known.setdefault((record.dataset.digest or "", name), (record.cell_id, {}))
            for row, value in zip(outcome.index, values, strict=True):
                before = sizes.setdefault(row, value)
                if not (math.isnan(before) and math.isnan(value)) and not abs(before - value) <= ROUNDED:
                    raise DataError(
                        f"cell {record.cell_id} says that {name} of the lesion of image {row} is {value:g}, and cell "
                        f"{first} of the same images that it is {before:g}"
                    )
