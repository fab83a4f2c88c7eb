"""The ways in which answers are counted, by the names of their figures, with a sentence on each.

Needs no torch, so that tables and pages can use it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from robustbench_med.records.record import Record


@dataclass(frozen=True)
class Scoring:
    """One way to count answers.

    Attributes:
        name: for columns and lines.
        clean, robust: figures of a record without and with attack; "" where there is none.
        meaning: a sentence.
    """

    name: str
    clean: str
    robust: str
    meaning: str


MEAN = Scoring(
    "mean", "clean_accuracy", "robust_accuracy", "Share of right answers over images and noise draws: one submission."
)
#: Those that a record has only where the system draws noise, or where they were requested.
OTHERS = (
    Scoring("majority", "clean_majority", "robust_majority", "Images that more than half of the noise draws answer."),
    Scoring(
        "any of n",
        "clean_any_of_n",
        "robust_any_of_n",
        "Images that every noise draw answers: an image is lost if any draw is wrong, as for who may submit it again.",
    ),
    Scoring(
        "fixed noise",
        "clean_fixed_noise",
        "robust_fixed_noise",
        "The same images answered with one noise for all of them, as a system whose seed is fixed; the attack did not "
        "know that noise.",
    ),
    Scoring(
        "8 bits",
        "",
        "robust_8bit",
        "Adversarial images rounded to k/255, as a file holds them, and answered with the noise of the score; rounding "
        "may take them out of the ball.",
    ),
)


def found(record: Record) -> Iterator[tuple[Scoring, float | None, float | None]]:
    """What a record says besides the mean: the scoring, and its figures on clean and on attacked images."""
    for scoring in OTHERS:
        clean, robust = record.metrics.get(scoring.clean), record.metrics.get(scoring.robust)
        if robust is not None:
            yield scoring, clean, robust
