"""From counts of answers to certified radii and smoothed answers (Cohen et al. 2019, arXiv:1902.02918).

Everything works on whole arrays of images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def lower_bound(hits: Counts, n: int, alpha: float) -> Floats:
    """One-sided Clopper-Pearson bound of a probability, (N,): it is lower with probability ``alpha`` at most.

    Args:
        hits: successes of ``n`` independent trials, (N,).
        n: number of trials.
        alpha: chance that the bound does not hold.
    """
    from scipy.stats import beta  # where it is needed: it takes longer to import than the rest of this package

    found = beta.ppf(alpha, np.maximum(hits, 1), n - hits + 1)
    return np.where(hits > 0, found, 0.0)


def radius(bound: Floats, sigma: float) -> Floats:
    """The certified L2 radius, (N,), of answers whose probability under the noise is at least ``bound``.

    sigma * Phi^-1(bound), which uses that all other classes together have at most 1 - bound; 0 where the bound is no
    more than one half and nothing is certified.
    """
    from scipy.stats import norm

    return np.where(bound > 0.5, sigma * norm.ppf(np.maximum(bound, 0.5)), 0.0)


def largest_radius(n: int, alpha: float, sigma: float) -> float:
    """The radius of an image that every one of ``n`` samples answers alike: no image gets a larger one."""
    return float(radius(lower_bound(np.array([n]), n, alpha), sigma)[0])


def significant(first: Counts, second: Counts, alpha: float) -> npt.NDArray[np.bool_]:
    """Whether the most frequent answer was drawn more often than the second for another reason than chance, (N,).

    The two-sided binomial test of ``first`` successes in ``first + second`` fair trials at level ``alpha``, as PREDICT
    of Cohen et al. makes it.
    """
    from scipy.stats import binom

    pvalue = np.minimum(1.0, 2 * binom.sf(first - 1, first + second, 0.5))
    return np.asarray(pvalue <= alpha)
