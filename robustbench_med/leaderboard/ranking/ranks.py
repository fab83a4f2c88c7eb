"""Ranks: which rows are significantly better than others.

A row is *better* than another if its worst case is significantly higher: by an exact McNemar test on the images of both
where per-image results are kept (two-sided, 5 %; of shares over noise draws or seeds, the sign test, which McNemar's
test is for single answers), else if its 95 % interval lies above the other's. A rank is one plus the number of rows
that are better, so rows without a significant difference share it; and no row ranks above one with a higher figure.

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
class RankInput:
    """What the rank of a row depends on.

    Attributes:
        value, low, high: worst-case accuracy and its interval.
        images: (N,), for each image the share of draws and seeds that are robust; None where that is not kept.
    """

    value: float
    low: float
    high: float
    images: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Rank:
    """A rank from 1, and the number of other rows without a significant difference."""

    rank: int
    tied: int


def ranks(inputs: Sequence[RankInput]) -> list[Rank]:
    """The rank of each; the order of ``inputs`` does not matter. All have the same images, in the same order."""
    if not inputs:
        return []
    values, lows, highs = (np.array([getattr(each, what) for each in inputs]) for what in ("value", "low", "high"))
    kept = [(at, each.images) for at, each in enumerate(inputs) if each.images is not None]
    known = np.array([at for at, _ in kept], dtype=int)
    answers = np.stack([images for _, images in kept]) if kept else np.zeros((0, 0))
    needed = discordant(answers.shape[1])
    losses = np.zeros(len(inputs), dtype=int)  # better ones
    wins = np.zeros(len(inputs), dtype=int)
    for at in range(len(inputs)):
        beaten_by = lows > highs[at]
        if (own := inputs[at].images) is not None:
            more = (answers > own).sum(1)
            beaten_by[known] = more >= needed[more + (answers < own).sum(1)]
        beaten_by &= values > values[at]
        losses[at] = beaten_by.sum()
        wins += beaten_by
    order = np.argsort(-values, kind="stable")
    found = np.empty(len(inputs), dtype=int)
    # Of equal figures each gets the best rank among them, and none a better one than a higher figure.
    floor = 1
    for start, stop in _runs(values[order]):
        same = order[start:stop]
        floor = max(floor, 1 + int(losses[same].min()))
        found[same] = floor
    return [Rank(int(found[at]), int(len(inputs) - 1 - losses[at] - wins[at])) for at in range(len(inputs))]


def discordant(most: int) -> npt.NDArray[np.int64]:
    """For 0 to ``most`` images on which two rows differ, on how many of them one must be better to be significantly so.

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


def _runs(values: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Stretches of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(itertools.pairwise(edges))
