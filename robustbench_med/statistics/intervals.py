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
    low, high = _wilson(np.array([share]), np.array([float(n)]))
    return float(low[0]), float(high[0])


def _wilson(share: Shares, n: Shares) -> tuple[Shares, Shares]:
    """As `wilson`, for (K,) shares."""
    known = np.where(n > 0, n, 1.0)
    middle = (share + Z * Z / (2 * known)) / (1 + Z * Z / known)
    half = Z / (1 + Z * Z / known) * np.sqrt(np.maximum(share * (1 - share), 0) / known + Z * Z / (4 * known * known))
    # At 0 and 1 a bound equals the share, in spite of rounding.
    low, high = np.maximum(0.0, np.minimum(share, middle - half)), np.minimum(1.0, np.maximum(share, middle + half))
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def clustered(hits: Iterable[float], images: Iterable[int]) -> Interval:
    """The interval from the hits and the number of images of each patient; hits of an image may be a share of draws."""
    (found,) = intervals(np.array([list(hits)], dtype=float), np.array([list(images)], dtype=float))
    return found


def share_interval(shares: Any, patients: Sequence[Any] | npt.NDArray[Any]) -> Interval:
    """The interval of the mean of ``shares``, (N,) in [0, 1], one for each image; ``patients`` says whose each is."""
    values = np.asarray(shares, dtype=float)
    _, codes = np.unique(np.asarray(patients), return_inverse=True)
    return clustered(np.bincount(codes, weights=values), np.bincount(codes).tolist())


def intervals(hits: Shares, images: Shares) -> list[Interval]:
    """Intervals of K shares at once, from (K, P) hits and numbers of images of each patient."""
    n, patients = images.sum(1), (images > 0).sum(1)
    share = np.clip(hits.sum(1) / np.maximum(n, 1), 0.0, 1.0)
    effective = _effective(hits, images, share)
    columns = (share, *_wilson(share, effective), n, patients, effective)
    return [
        Interval(value if count else math.nan, low, high, round(count), int(people), size)
        for value, low, high, count, people, size in zip(*(column.tolist() for column in columns), strict=True)
    ]


def widest(share: float, images: Sequence[int]) -> tuple[float, float]:
    """The widest interval that a share can have whose patients have so many ``images``: all of one answered alike."""
    n, patients = float(sum(images)), len(images)
    if patients == n:
        return wilson(share, n)
    if patients < 2:
        return (0.0, 1.0)
    size = sum(count**2 for count in images) / n
    return wilson(share, n / size * (Z / float(_t_quantile(np.array([patients - 1.0]))[0])) ** 2)


def of_strata(
    shares: Sequence[float], bounds: Sequence[tuple[float, float]], images: Sequence[int]
) -> tuple[float, float]:
    """The interval of all images of independent strata, from the interval of each.

    The squared distances of the bounds add up (MOVER: Zou & Donner 2008, Statistics in Medicine 27:1693-1702).

    Args:
        shares: of the images of each stratum.
        bounds: their intervals, of the same level.
        images: of each stratum.
    """
    weights = np.array(images) / sum(images)
    values, (low, high) = np.array(shares), np.array(bounds).T
    share = float(weights @ values)
    below, above = (float(np.hypot.reduce(weights * (bound - values))) for bound in (low, high))
    return max(0.0, share - below), min(1.0, share + above)


def _effective(hits: Shares, images: Shares, share: Shares) -> Shares:
    """(K,): how many independent images say as much."""
    n, patients = images.sum(1), (images > 0).sum(1)
    several = np.maximum(n, 1)
    size = (images**2).sum(1) / several
    alone = share * (1 - share) / several
    between = patients / np.maximum(patients - 1, 1) * ((hits - share[:, None] * images) ** 2).sum(1) / several**2
    seen = np.where(alone > 0, between / np.where(alone > 0, alone, 1) - 1, 0.0) / np.maximum(size - 1, 1e-12)
    rare = np.minimum((hits > 0).sum(1), ((images > 0) & (hits < images)).sum(1))
    correlation = (rare * np.clip(seen, 0.0, 1.0) + PRIOR) / (rare + PRIOR)
    few = (Z / _t_quantile(np.maximum(patients - 1, 1))) ** 2
    found = np.where(patients == 1, 0.0, n / np.maximum(1 + (size - 1) * correlation, 1) * few)
    return np.where(patients == n, n, found)  # one image of each patient: nothing to estimate


def _t_quantile(freedom: npt.NDArray[Any]) -> Shares:
    """(K,): 97.5 % quantiles of Student's t."""
    from scipy.special import stdtrit  # here, because the command line must start quickly

    return np.asarray(stdtrit(freedom, 0.975))
