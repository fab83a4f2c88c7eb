"""The worst case per image: every known attack on the weights of a row, combined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from robustbench_med.leaderboard.ranking import figures, identity
from robustbench_med.leaderboard.ranking.rows import RowRecords, outcomes_of, same_weights
from robustbench_med.leaderboard.schema import Figure
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record

#: (N,), a share of noise draws for each image.
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WorstShares:
    """For each record of a row, the share of draws on which each image is robust, (N,), after the worst known attack.

    Attributes:
        shares: one array for each record; None where a record's images are not kept.
        lowered: other attacks that broke images which are robust to the record's own, and how many.
    """

    shares: tuple[Shares | None, ...]
    lowered: tuple[str, ...]

    @property
    def images(self) -> Shares | None:
        """(N,), mean over the records."""
        known = [share for share in self.shares if share is not None]
        return np.mean(known, axis=0) if known and len(known) == len(self.shares) else None


def worst_shares(
    row: RowRecords,
    own: Sequence[ImageResults | None],
    outcomes: Mapping[str, ImageResults],
    evidence: Mapping[str, Sequence[Evidence]],
) -> WorstShares:
    """An image counts as broken if any attack on the same weights has broken it, also one of another record.

    Not so where answers are random: the lower of two shares of a few draws is biased by the selection. Evidence has
    separate draws for the choice.
    """
    shares: list[Shares | None] = []
    lowered: dict[str, int] = {}
    for record, outcome in zip(row.records, own, strict=True):
        share = None if outcome is None else outcome.robust.copy()
        if outcome is not None and share is not None:
            place = {index: at for at, index in enumerate(outcome.index)}
            for what, found, choice in _attacks(row, record, outcomes, evidence):
                rows = [(place[index], at) for at, index in enumerate(found.index) if index in place]
                here, there = (np.array(side, dtype=int) for side in (zip(*rows, strict=True) if rows else ((), ())))
                less = choice.robust[there] < share[here]
                share[here[less]] = found.robust[there[less]]
                if less.any():  # the same images, whichever of the row's records they are counted in
                    lowered[what] = max(lowered.get(what, 0), int(less.sum()))
        shares.append(share)
    return WorstShares(tuple(shares), tuple(f"{what}: {n} more" for what, n in sorted(lowered.items())))


def _attacks(
    row: RowRecords, record: Record, outcomes: Mapping[str, ImageResults], evidence: Mapping[str, Sequence[Evidence]]
) -> Iterator[tuple[str, ImageResults, ImageResults]]:
    """Other attacks on the weights of a record: a name, the answers that count, and those that choose."""
    if identity.track(record) != "randomized test-time":
        for other in same_weights(row, record):
            found = outcomes_of([other], outcomes)[0]
            if found is not None:
                yield identity.protocol(other), found, found
    for each in evidence.get(str(identity.weights(record)[1]), ()):
        yield f"{each.attack} ({each.paper.text})", each.outcome, each.choice


def combined_rungs(row: RowRecords, own: Sequence[ImageResults | None]) -> WorstShares:
    """Single rungs of the same weights combined, image by image; one array for each training seed and seed."""
    groups: dict[tuple[int, int], list[Shares | None]] = {}
    for record, outcome in zip(row.records, own, strict=True):
        groups.setdefault((identity.train_seed(record), record.seed), []).append(outcome.robust if outcome else None)
    shares: list[Shares | None] = []
    for group in groups.values():
        known = [share for share in group if share is not None]
        same = len(known) == len(group) and len({len(share) for share in known}) == 1
        shares.append(np.minimum.reduce(known) if same else None)
    return WorstShares(tuple(shares), ())


def worst_case(row: RowRecords, left: WorstShares) -> Figure | None:
    """The worst case; None for a single rung, since no worse attack was tried."""
    n = row.records[0].n
    if row.single:
        rungs = {record.threat.access for record in row.records}
        values = [float(share.mean()) for share in left.shares if share is not None]
        return figures.share(values, n) if len(rungs) > 1 and len(values) == len(left.shares) else None
    if left.lowered:
        lowest = [
            record.metrics.get("robust_accuracy") if share is None else float(share.mean())
            for record, share in zip(row.records, left.shares, strict=True)
        ]
        known = [value for value in lowest if value is not None]
        return figures.share(known, n) if len(known) == len(lowest) else None
    return figures.figure(row.records, "robust_accuracy")


def accuracy_on(outcome: ImageResults | None, rows: Sequence[int]) -> float | None:
    """Share of these images that are robust; None unless all of them are known."""
    place = {} if outcome is None else {row: at for at, row in enumerate(outcome.index)}
    if outcome is None or not place.keys() >= set(rows):
        return None
    return float(outcome.robust[[place[row] for row in rows]].mean())
