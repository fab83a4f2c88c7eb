"""Who is better than whom, and the ranks that follow.

A row is *better* than another if its worst case is higher and that is no accident: by an exact McNemar test on the
images of both where per-image outcomes are there (two-sided, 5 %; of shares over noise draws or seeds, the sign test
that McNemar's is of single answers), else if its 95 % interval lies above the other's. A rank is one plus the number
of rows that are better, so rows that cannot be told apart share it; and no row ranks above one with a higher figure.

References: McNemar 1947, Psychometrika 12:153-157; Dietterich 1998, Neural Computation 10:1895-1923.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Two-sided level of the test.
LEVEL = 0.05


@dataclass(frozen=True)
class Rival:
    """What decides a rank.

    Attributes:
        value, low, high: worst-case accuracy and its interval.
        images: per image the share of draws and seeds that withstood, (N,); None where that is not kept.
    """

    value: float
    low: float
    high: float
    images: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Rank:
    """A rank from 1, and the number of others that the row cannot be told from."""

    rank: int
    tied: int


def ranks(rivals: Sequence[Rival]) -> list[Rank]:
    """The rank of each; the order of ``rivals`` does not matter. Images of all rivals are the same, in one order."""
    if not rivals:
        return []
    values, lows, highs = (np.array([getattr(each, what) for each in rivals]) for what in ("value", "low", "high"))
    kept = [(at, each.images) for at, each in enumerate(rivals) if each.images is not None]
    known = np.array([at for at, _ in kept], dtype=int)
    answers = np.stack([images for _, images in kept]) if kept else np.zeros((0, 0))
    needed = discordant(answers.shape[1])
    losses = np.zeros(len(rivals), dtype=int)  # better ones
    wins = np.zeros(len(rivals), dtype=int)
    for at in range(len(rivals)):
        beaten_by = lows > highs[at]
        if (own := rivals[at].images) is not None:
            more = (answers > own).sum(1)
            beaten_by[known] = more >= needed[more + (answers < own).sum(1)]
        beaten_by &= values > values[at]
        losses[at] = beaten_by.sum()
        wins += beaten_by
    order = np.argsort(-values, kind="stable")
    found = np.empty(len(rivals), dtype=int)
    # Of equal figures each gets the best rank among them, and none a better one than a higher figure.
    floor = 1
    for start, stop in _runs(values[order]):
        same = order[start:stop]
        floor = max(floor, 1 + int(losses[same].min()))
        found[same] = floor
    return [Rank(int(found[at]), int(len(rivals) - 1 - losses[at] - wins[at])) for at in range(len(rivals))]


def discordant(most: int) -> npt.NDArray[np.int64]:
    """For 0 to ``most`` images on which two rows differ, how many of them the better one must win.

    More than there are where no such number is significant (fewer than six images).
    """
    needed = np.empty(most + 1, dtype=np.int64)
    for n in range(most + 1):
        tail, k = 0, n + 1
        # Exact, in whole numbers: the smallest k with P(X >= k) <= LEVEL / 2 for X ~ Binomial(n, 1/2).
        while k > 0 and (tail + math.comb(n, k - 1)) * 2 <= LEVEL * 2**n:
            k -= 1
            tail += math.comb(n, k)
        needed[n] = k
    return needed


def mcnemar(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """The exact two-sided p-value that two rows differ on the same images, (N,) each."""
    more, fewer = int((first > second).sum()), int((first < second).sum())
    n = more + fewer
    tail = sum(math.comb(n, k) for k in range(max(more, fewer), n + 1))
    return min(1.0, float(2 * tail / 2**n))


def _runs(values: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Stretches of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(itertools.pairwise(edges))
