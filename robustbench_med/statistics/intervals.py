"""95 % intervals of shares of images, where several images are of one patient.

Images of one patient are answered alike, so 320 slices of 80 patients say less than 320 patients would. The interval
is Wilson's score interval (Wilson 1927, JASA 22:209-212) with the *effective* number of images in place of their
number, which Dean & Pagano 2015 (Journal of Survey Statistics and Methodology 3:484-503) find among the best for
clustered samples:

- The design effect is that of Kish 1965 (Survey Sampling): ``1 + (size - 1) * correlation``, where ``size`` is the mean
  number of images of the patient of an image, and ``correlation`` that of two answers of one patient.
- The correlation follows from the variance between patients (Rao & Scott 1992, Biometrics 48:577-585). Near 0 % and
  100 % it cannot be estimated, since hardly any patient has the rarer answer. So it is pulled towards 1, as though
  `PRIOR` more patients had been seen whose images are all answered alike. At 0 % and 100 % the patients are counted.
- For few patients the effective number shrinks by the ratio of the normal quantile to that of t with one degree of
  freedom less than there are patients, squared (Korn & Graubard 1998, Survey Methodology 24:193-201).

With one image of every patient it is Wilson's interval. The tests simulate its coverage: at least 95 % for 4 to 80
patients, correlations of 0.05 to 0.84 and shares of 2 % to 98 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Shares = npt.NDArray[np.float64]
#: Two-sided 95 % quantile of the normal distribution.
Z = 1.959963984540054
#: Patients with all images answered alike that the estimate of the correlation is pulled towards.
PRIOR = 2.0


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % interval, and how many images and patients it is of; ``effective``: independent images."""

    value: float
    low: float
    high: float
    images: int
    patients: int
    effective: float

    @property
    def bounds(self) -> tuple[float, float]:
        """``low`` and ``high``."""
        return self.low, self.high


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share of ``n`` independent images; ``n`` need not be whole."""
    if n <= 0:
        return (0.0, 1.0)
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(max(share * (1 - share), 0.0) / n + Z * Z / (4 * n * n))
    # At 0 and 1 a bound equals the share, in spite of rounding.
    return (max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half)))


def clustered(hits: Iterable[float], images: Iterable[int]) -> Interval:
    """The interval from the hits and the number of images of each patient; hits of an image may be a share of draws."""
    counts = np.asarray(list(images), dtype=float)
    kept = counts > 0
    found, counts = np.asarray(list(hits), dtype=float)[kept], counts[kept]
    n, patients = float(counts.sum()), len(counts)
    if patients == 0:
        return Interval(math.nan, 0.0, 1.0, 0, 0, 0.0)
    share = min(max(float(found.sum()) / n, 0.0), 1.0)
    effective = _effective(found, counts, share)
    low, high = wilson(share, effective)
    return Interval(share, low, high, round(n), patients, effective)


def share_interval(shares: Any, patients: Sequence[Any] | npt.NDArray[Any]) -> Interval:
    """The interval of the mean of ``shares``, (N,) in [0, 1], one for each image; ``patients`` says whose each is."""
    values = np.asarray(shares, dtype=float)
    _, codes = np.unique(np.asarray(patients), return_inverse=True)
    return clustered(np.bincount(codes, weights=values), np.bincount(codes).tolist())


def _effective(hits: Shares, counts: Shares, share: float) -> float:
    """How many independent images say as much."""
    n, patients = float(counts.sum()), len(counts)
    if patients == n:  # one image each: nothing to estimate
        return n
    if patients == 1:
        return 0.0
    size = float((counts**2).sum()) / n
    alone = share * (1 - share) / n
    correlation = 1.0
    if alone > 0:
        between = patients / (patients - 1) * float(((hits - share * counts) ** 2).sum()) / n**2
        seen = min(max((between / alone - 1) / (size - 1), 0.0), 1.0)
        rare = min(int((hits > 0).sum()), int((hits < counts).sum()))
        correlation = (rare * seen + PRIOR) / (rare + PRIOR)
    return n / (1 + (size - 1) * correlation) * (Z / t_quantile(patients - 1)) ** 2


def widest(share: float, images: Sequence[int]) -> tuple[float, float]:
    """The widest interval that a share can have whose patients have so many ``images``: all of one answered alike."""
    n, patients = float(sum(images)), len(images)
    if patients == n:
        return wilson(share, n)
    if patients < 2:
        return (0.0, 1.0)
    size = sum(count**2 for count in images) / n
    return wilson(share, n / size * (Z / t_quantile(patients - 1)) ** 2)


def t_quantile(freedom: int, share: float = 0.975) -> float:
    """A quantile of Student's t."""
    from scipy.special import stdtrit  # here, because the command line must start quickly

    return float(stdtrit(freedom, share))
