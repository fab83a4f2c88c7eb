"""Shares, their confidence intervals and their text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Images of a client below which its figure is called too few.
FEW = 20
#: Patients below which figures are a first look: the interval of a share of them spans a third of the scale.
FEW_PATIENTS = 30


@dataclass(frozen=True)
class Rate:
    """A share ``hits`` / ``n``; records keep it with its 95 % interval.

    Attributes:
        hits, n: of images; the hits of an image are a share where it was answered several times.
        patients: hits and images of each patient. Without them the interval treats images as independent, which is too
            narrow where several are of one patient.
    """

    hits: float
    n: int
    patients: tuple[tuple[float, int], ...] = ()

    @classmethod
    def of(cls, shares: Iterable[float], patients: Sequence[str]) -> Rate:
        """From the share of each image, in [0, 1], and its patient."""
        sums: dict[str, tuple[float, int]] = {}
        for share, patient in zip(shares, patients, strict=True):
            hits, n = sums.get(patient, (0.0, 0))
            sums[patient] = (hits + share, n + 1)
        return cls(sum(hits for hits, _ in sums.values()), len(patients), tuple(sums.values()))


def wilson(rate: Rate) -> tuple[float, float]:
    """Wilson score interval (95 %) of a share of independent images.

    `scipy.stats.binomtest` needs whole hits, and a mean over noise draws has fractions of them. Draws of one image are
    not independent trials, so ``n`` counts images only, which makes the interval wider.
    """
    from robustbench_med.statistics import intervals  # numpy, which the command line does without

    return intervals.wilson(rate.hits / rate.n, rate.n) if rate.n else (0.0, 1.0)


def interval(rate: Rate) -> tuple[float, float]:
    """95 % interval of a share: of the patients where they are known (`robustbench_med.statistics.intervals`)."""
    from robustbench_med.statistics import intervals

    if not rate.patients:
        return wilson(rate)
    hits, images = zip(*rate.patients, strict=True)
    return intervals.clustered(hits, images).bounds


def percent(share: float | None) -> str:
    """``89.1`` for 0.8906, without the sign; never ``-0.0``, and nothing for None or NaN."""
    return "" if share is None or math.isnan(share) else f"{100 * share:z.1f}"
