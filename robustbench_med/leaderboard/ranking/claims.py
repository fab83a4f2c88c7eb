"""The claim of a row, on the images of its worst case, and the drop between the two.

Claim and worst case are shares of the same images with the same weights of images, draws and seeds, so that the drop
that is shown is the difference of what is shown, and is never negative: an attacker who knows the defense can always do
what one does who does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustbench_med.leaderboard.entry import Figure, RungFigure
from robustbench_med.leaderboard.ranking import figures, identity
from robustbench_med.leaderboard.ranking.answers import Answers
from robustbench_med.leaderboard.ranking.rows import RowRecords
from robustbench_med.leaderboard.ranking.worst_case import WorstCase
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted


@dataclass(frozen=True)
class ClaimFigures:
    """The claim of a row.

    Attributes:
        claim: on the images of the row.
        worst: the worst case, not above the claim.
        attack: with which attack.
        every, images: the claim on all images on which it was measured, and how many these are; None and 0 where they
            are those of the row.
        same: claim and worst case are of the same images.
    """

    claim: Figure | None
    worst: Figure | None
    attack: str = ""
    every: Figure | None = None
    images: int = 0
    same: bool = False

    @property
    def drop(self) -> float | None:
        """Claim minus worst case; None where they are of other images."""
        return self.claim.value - self.worst.value if self.same and self.claim and self.worst else None


def claimed(
    row: RowRecords,
    found: Sequence[Record],
    cases: Sequence[WorstCase],
    worst: Figure | None,
    rungs: Sequence[RungFigure],
) -> ClaimFigures:
    """The claim of a row.

    It is that of the records ``found`` where their answers to the row's images are kept, or they have the same images;
    else that of the ladder's own rung `oblivious`; else, without a drop, that on other images.
    """
    here = {identity.images(record) for record in row.records}
    attack = " / ".join(sorted({formatted(record.attack) for record in found}))
    every = figures.figure(found, "robust_accuracy") if found else None
    images = min((record.n for record in found), default=0)
    elsewhere = {identity.images(record) for record in found} != here
    told, count = (every, images) if elsewhere and every is not None else (None, 0)
    answers = [each.claim for each in cases if each.claim is not None]
    if found and answers and len(answers) == len(cases):
        return ClaimFigures(_of(answers), worst, attack, told, count, same=worst is not None)
    if found and not elsewhere and every is not None:
        return ClaimFigures(every, _capped(worst, every), attack, same=worst is not None)
    rung = next(
        (rung for rung in reversed(rungs) if rung.access == "oblivious" and rung.withstanding is not None), None
    )
    if rung is not None and not row.single:
        # On other draws than the worst case, so that by chance it may come out below.
        value = max(float(rung.withstanding or 0), worst.value if worst else 0.0)
        return ClaimFigures(Figure(value), worst, rung.name.partition(" ")[2], told, count, same=worst is not None)
    return ClaimFigures(every, worst, attack, images=images if elsewhere else 0)


def _of(answers: Sequence[Answers]) -> Figure | None:
    every = np.ones(len(answers[0].index), dtype=bool)
    found = [each.intervals({"claim": (each.withstood, every)})["claim"] for each in answers]
    return figures.over(
        [each.value for each in found], [each.bounds for each in found], not all(each.patients for each in answers)
    )


def _capped(worst: Figure | None, claim: Figure) -> Figure | None:
    """The worst case of records whose answers are not kept, not above the claim on the same images."""
    return claim if worst is not None and worst.value > claim.value else worst
