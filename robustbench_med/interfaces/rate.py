"""Shares, their confidence intervals and their text."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """A share ``hits`` / ``n``; records keep it with its Wilson 95 % interval."""

    hits: float
    n: int


def wilson(rate: Rate, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson score interval (95 %) of a share.

    `scipy.stats.binomtest` needs whole hits, and a mean over noise draws has fractions of them. Draws of one image are
    not independent trials, so ``n`` counts images only, which makes the interval wider.
    """
    if rate.n == 0:
        return (0.0, 1.0)
    p, n = rate.hits / rate.n, rate.n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At p = 0 and p = 1 the bounds equal p, in spite of rounding.
    return (max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half)))


def percent(share: float | None) -> str:
    """``89.1`` for 0.8906, without the sign; never ``-0.0``, and nothing for None or NaN."""
    return "" if share is None or math.isnan(share) else f"{100 * share:z.1f}"
