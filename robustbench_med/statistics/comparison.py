"""Which of two systems is better on the same images, where several images are of one patient.

The unit is the patient. For each patient the images on which one system is right and the other is not are counted, one
way minus the other way. Under the null hypothesis the sign of each of these differences is a coin toss.

- With up to `EXACT` patients that differ, the test is the exact sign-flip (randomisation) test: every pattern of signs
  is counted (Fisher 1935, The Design of Experiments, section 21; for paired clustered data Gail et al. 1996, Statistics
  in Medicine 15:1069-1092). With one image of each patient it is the exact McNemar test.
- With more, the statistic of the clustered McNemar test is compared with the normal distribution: the sum of the
  differences over the root of the sum of their squares (Durkalski et al. 2003, Statistics in Medicine 22:2417-2428;
  each patient weighs as many images as there are, as in Obuchowski 1998, Statistics in Medicine 17:1495-1507, since the
  figures that are compared are shares of images).

Many pairs are compared in one table, so that their p-values are corrected by Holm 1979 (Scandinavian Journal of
Statistics 6:65-70): with probability 95 % no difference of a table is declared by chance. It holds for pairs that
depend on one another, as those of a table do.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from robustbench_med.statistics.intervals import Shares, Z

#: Two-sided level of a comparison, and of all of a table together.
LEVEL = 0.05
#: Patients that differ up to which every pattern of signs is counted (2 ** 24, by halves).
EXACT = 24
#: Sums of shares that differ by less are equal.
_EQUAL = 1e-9


def p_value(differences: Shares) -> float:
    """Two-sided p-value that the sum of (P,) differences between two systems, one of each patient, is by chance."""
    kept = np.sort(np.abs(differences[np.abs(differences) > _EQUAL]))
    total = abs(float(differences.sum()))
    if len(kept) == 0 or total <= _EQUAL:
        return 1.0
    if len(kept) > EXACT:
        return math.erfc(total / math.sqrt(2 * float((kept**2).sum())))
    return min(1.0, 2 * _tail(kept, total))


def p_values(sums: Shares) -> Shares:
    """(M, M): two-sided p-values of all pairs of M systems, from (M, P) images withstood of each patient.

    Sums of signs that lie within their standard deviation cannot be significant at 5 % (they do in at least a tenth of
    the patterns), and have the p-value 1 here; equal systems and equal differences are tested once.
    """
    sums, which = np.unique(sums, axis=0, return_inverse=True)
    found = np.ones((len(sums), len(sums)))
    known: dict[bytes, float] = {}
    for at, one in enumerate(sums):
        gaps = sums[at + 1 :] - one
        totals = gaps.sum(1)
        others = np.flatnonzero(totals**2 > (gaps**2).sum(1) + _EQUAL)
        keys = np.sort(np.round(gaps[others] * np.sign(totals[others])[:, None], 9), axis=1)
        for other, key in zip(others.tolist(), map(np.ndarray.tobytes, keys), strict=True):
            if key not in known:
                known[key] = p_value(gaps[other])
            found[at, at + 1 + other] = found[at + 1 + other, at] = known[key]
    return found[np.ix_(which.ravel(), which.ravel())]


def _tail(sizes: Shares, total: float) -> float:
    """Probability that the sum of ``sizes`` with random signs is at least ``total``, from the sums of two halves."""
    one, two = _sums(sizes[: len(sizes) // 2]), np.sort(_sums(sizes[len(sizes) // 2 :]))
    reached = len(two) - np.searchsorted(two, total - one - _EQUAL)
    return float(reached.sum()) / (len(one) * len(two))


def _sums(sizes: Shares) -> Shares:
    """(2 ** M,): the sum of M sizes for every pattern of signs."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums - size, sums + size])
    return sums


def p_value_of_intervals(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    """Two-sided p-value that two shares differ, each with its 95 % interval (value, low, high); for different images.

    The intervals are combined by the square-and-add method (Newcombe 1998, Statistics in Medicine 17:873-890).
    """
    (better, low, _), (worse, _, high) = (one, two) if one[0] >= two[0] else (two, one)
    error = math.hypot(better - low, high - worse) / Z
    gap = better - worse
    return 1.0 if gap <= 0 else 0.0 if error == 0 else math.erfc(gap / error / math.sqrt(2))


def holm(p_values: Shares) -> npt.NDArray[np.bool_]:
    """(M,): which of M hypotheses are rejected, so that with probability 1 - `LEVEL` none is rejected wrongly."""
    order = np.argsort(p_values, kind="stable")
    passed = np.cumprod(p_values[order] <= LEVEL / np.arange(len(p_values), 0, -1)).astype(bool)
    rejected = np.zeros(len(p_values), dtype=bool)
    rejected[order] = passed
    return rejected
