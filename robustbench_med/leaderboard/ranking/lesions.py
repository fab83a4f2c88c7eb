"""Results by the size and the contrast of lesions: at what size does an attack hide one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking.figures import over
from robustbench_med.statistics.intervals import Shares, share_interval

if TYPE_CHECKING:
    from robustbench_med.leaderboard.ranking.answers import Answers
    from robustbench_med.leaderboard.sources.image_results import ImageResults

Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LesionRange:
    """Images whose lesion is in one range of a measurement.

    Attributes:
        text: the range: ``6 to 9``.
        low, high: its bounds, or the least and the largest value found where it is open.
        images: how many.
        clean, worst: share classified correctly without an attack; and under it, abstentions included.
    """

    text: str
    low: float
    high: float
    images: int
    clean: Figure | None
    worst: Figure | None


def by_lesion(outcomes: Sequence[ImageResults | Answers | None], name: str) -> list[LesionRange]:
    """The ranges of a measurement that have images; means over the seeds of a row, or of the answers to its worst case.

    Empty if an outcome is missing or does not have the measurement. Images without a lesion are left out.
    """
    kept = [outcome for outcome in outcomes if outcome is not None and name in outcome.lesions]
    if not kept or len(kept) < len(outcomes):
        return []
    measurement = LESIONS[name]
    values = np.asarray(kept[0].lesions[name])
    found = values[~np.isnan(values)]
    if not len(found):
        return []
    bounds = (float(found.min()), *measurement.edges, float(found.max()))
    ranges = []
    for number, text in enumerate(measurement.ranges):
        low, high = bounds[number], bounds[number + 1]
        inside = [_inside(np.asarray(outcome.lesions[name]), measurement.edges, number) for outcome in kept]
        if images := int(inside[0].sum()):
            clean, worst = (
                over([value for value, _ in shares], [interval for _, interval in shares], not kept[0].patients)
                for shares in (
                    [_share(outcome, side, rows) for outcome, rows in zip(kept, inside, strict=True)]
                    for side in ("correct", "robust")
                )
            )
            ranges.append(LesionRange(text, low, high, images, clean, worst))
    return ranges


def _inside(values: Shares, edges: Sequence[float], number: int) -> Rows:
    return np.asarray((np.searchsorted(edges, values, side="right") == number) & ~np.isnan(values))


def _share(outcome: ImageResults | Answers, side: str, rows: Rows) -> tuple[float | None, tuple[float, float] | None]:
    """The share of some images, and its interval: of their patients where they are known."""
    if not rows.any():
        return None, None
    owners = np.asarray(outcome.patients if outcome.patients else outcome.index)[rows]
    sides = {"correct": "right", "robust": "withstood"} if hasattr(outcome, "withstood") else {}
    found = share_interval(getattr(outcome, sides.get(side, side))[rows], owners)
    return found.value, found.bounds
