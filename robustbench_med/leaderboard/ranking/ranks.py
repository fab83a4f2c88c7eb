"""Ranks: which rows are significantly better than others.

A row is *better* than another if its worst case is significantly higher: by a test that takes the patient as unit, on
the images of both where per-image results are kept, else by their intervals (`robustbench_med.statistics.comparison`).
All pairs of a table are tested, corrected by Holm's method at 5 %. A rank is one plus the number of rows that are
better, so rows without a significant difference share it; and no row ranks above one with a higher figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustbench_med.statistics.comparison import holm, p_value_of_intervals, p_values


@dataclass(frozen=True)
class RankInput:
    """What the rank of a row depends on.

    Attributes:
        value, low, high: worst-case accuracy and its interval.
        images: (N,), for each image the share of draws and seeds that are withstood; None where that is not kept.
        index: (N,), rows of the test split.
        patients: (N,), whose each image is; where that is not recorded, each is taken as of another patient.
    """

    value: float
    low: float
    high: float
    images: npt.NDArray[np.float64] | None = None
    index: tuple[int, ...] = ()
    patients: Sequence[object] = ()


@dataclass(frozen=True)
class Rank:
    """A rank from 1, and the number of other rows without a significant difference."""

    rank: int
    tied: int


def rank_text(rank: int | None, tied: int) -> str:
    """``1``, or ``1=`` where others are not significantly different; "" for no rank."""
    return "" if rank is None else f"{rank}{'=' if tied else ''}"


def ranks(inputs: Sequence[RankInput]) -> list[Rank]:
    """The rank of each; the order of ``inputs`` does not matter."""
    if not inputs:
        return []
    values = np.array([each.value for each in inputs])
    better = significant(inputs) & (values[:, None] > values)
    losses, wins = better.sum(0), better.sum(1)
    order = np.argsort(-values, kind="stable")
    found = np.empty(len(inputs), dtype=int)
    # Of equal figures each gets the best rank among them, and none a better one than a higher figure.
    floor = 1
    for start, stop in _runs(values[order]):
        same = order[start:stop]
        floor = max(floor, 1 + int(losses[same].min()))
        found[same] = floor
    return [Rank(int(found[at]), int(len(inputs) - 1 - losses[at] - wins[at])) for at in range(len(inputs))]


def significant(inputs: Sequence[RankInput]) -> npt.NDArray[np.bool_]:
    """(M, M): which pairs of rows differ significantly, corrected for all pairs."""
    found = _of_intervals(inputs)
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, each in enumerate(inputs):
        if each.images is not None:
            groups.setdefault(each.index, []).append(at)
    for rows in groups.values():
        # Where one row does not know the patients of the images, another does.
        owners = min((inputs[at].patients for at in rows), key=lambda each: len(set(each)))
        patients = {patient: number for number, patient in enumerate(dict.fromkeys(owners))}
        codes = [patients[patient] for patient in owners]
        sums = np.zeros((len(rows), len(patients)))
        for place, at in enumerate(rows):
            np.add.at(sums[place], codes, np.asarray(inputs[at].images))
        found[np.ix_(rows, rows)] = p_values(sums)
    first, second = np.triu_indices(len(inputs), 1)
    better = np.zeros(found.shape, dtype=bool)
    better[first, second] = holm(found[first, second])
    return better | better.T


def _of_intervals(inputs: Sequence[RankInput]) -> npt.NDArray[np.float64]:
    """(M, M): p-values of pairs with other images, or without results of each."""
    found = np.ones((len(inputs), len(inputs)))
    numbers: dict[object, int] = {}
    kinds = [numbers.setdefault(at if one.images is None else one.index, len(numbers)) for at, one in enumerate(inputs)]
    for a, b in np.argwhere(np.triu(np.not_equal.outer(kinds, kinds))).tolist():
        one, two = inputs[a], inputs[b]
        p = p_value_of_intervals((one.value, one.low, one.high), (two.value, two.low, two.high))
        found[a, b] = found[b, a] = p
    return found


def _runs(values: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Stretches of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(itertools.pairwise(edges))
