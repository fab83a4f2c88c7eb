"""Attacks compared on the same systems, images and budget: which one leaves least robust accuracy, and what it costs.

An attack is *better* than another if the images that it breaks, over all systems together, are significantly more, by
the test with which rows are ranked (`robustbench_med.leaderboard.ranking.ranks`). The unit is the patient: all images
of a patient, attacked on all systems.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.folds import Pools, whole_folds
from robustbench_med.leaderboard.ranking.ranks import RankInput, ranks
from robustbench_med.leaderboard.ranking.rows import newest
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted
from robustbench_med.statistics.intervals import share_interval

Shares = npt.NDArray[np.float64]
#: Fewer systems or attacks are no comparison.
LEAST = 2


@dataclass(frozen=True)
class Result:
    """An attack on one system.

    Attributes:
        left: robust accuracy that it leaves.
        gradients, queries: that it spent on an image, mean.
        seconds: for each image.
    """

    left: float
    gradients: float
    queries: float
    seconds: float


@dataclass(frozen=True)
class RankedAttack:
    """An attack on all systems of a comparison.

    Attributes:
        name: as on the command line.
        control: it is no attack, and must rank last.
        left: mean robust accuracy that it leaves over the systems, with its 95 % interval over patients.
        gap: mean over the systems of what it leaves above the attack that leaves least there; 0 for one that is best
            on all.
        best_on: on how many systems no attack leaves less.
        results: of each system, in the order of `AttackBoard.systems`; None where it did not run.
        rank: from 1; None if it did not run on all systems.
        tied: other attacks that are not significantly better or worse.
        records: what it was made from.
    """

    name: str
    control: bool
    left: float
    low: float
    high: float
    gap: float
    best_on: int
    results: tuple[Result | None, ...]
    rank: int | None = None
    tied: int = 0
    records: tuple[Record, ...] = field(default=(), repr=False)

    def mean(self, what: str) -> float:
        """The mean of a figure of `Result` over the systems on which it ran."""
        return float(np.mean([getattr(each, what) for each in self.results if each is not None]))


@dataclass(frozen=True)
class AttackBoard:
    """A comparison of attacks.

    Attributes:
        title: data set and threat model.
        budget: what each attack might spend on an image, by kind of call.
        images, patients: how many, on each system.
        systems: that were attacked, as on the command line.
        attacks: the best first; those without a rank last.
    """

    title: str
    budget: Mapping[str, int]
    images: int
    patients: int | None
    systems: tuple[str, ...]
    attacks: tuple[RankedAttack, ...]


def attack_boards(records: Iterable[Record], outcomes: Mapping[str, ImageResults]) -> list[AttackBoard]:
    """The comparisons that records allow, those of most attacks first.

    Cells of one attack with a budget count; of a cell that was measured several times, the latest. Cells are compared
    that have data set, threat model, budget, images and seed in common.

    Raises:
        DataError: of a cross-validation not all folds can be pooled: two that lack a fold may be of other images.
    """
    cells = {record.cell_id: record for record in records if not record.attack.is_ladder and record.budget.limits}
    pools = whole_folds(Pools(list(cells.values()), outcomes))
    groups: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in pools.records:
        if record.status == "ok":
            limits = tuple(sorted(record.budget.limits.items()))
            groups[(identity.board_key(record), limits, identity.images(record), record.seed)].append(record)
    found = filter(None, (_board(group, pools.outcomes) for group in groups.values()))
    return sorted(found, key=lambda board: (-len(board.attacks), board.title))


def _board(group: Sequence[Record], outcomes: Mapping[str, ImageResults]) -> AttackBoard | None:
    """The comparison of one group; None where there are too few systems or attacks."""
    cells: dict[str, dict[tuple[str, str], Record]] = defaultdict(dict)
    for record in sorted(group, key=newest):
        cells[formatted(record.attack)][identity.system_name(record), record.threat.access] = record
    counts = Counter(system for of in cells.values() for system in of)
    systems = sorted(system for system, count in counts.items() if count >= max(LEAST, len(cells) / 2))
    cells = {name: of for name, of in cells.items() if any(system in of for system in systems)}
    if len(systems) < LEAST or len(cells) < LEAST:
        return None
    least = [min(_left(of[system]) for of in cells.values() if system in of) for system in systems]
    rows, inputs = [], []
    for name, of in cells.items():
        there = [of.get(system) for system in systems]
        rows.append(_row(name, there, least))
        if all(there):
            inputs.append((len(rows) - 1, _input([each for each in there if each is not None], outcomes)))
    for (at, given), rank in zip(inputs, ranks([each for _, each in inputs]), strict=True):
        low, high = 1 - given.high, 1 - given.low
        rows[at] = replace(rows[at], low=low, high=high, rank=rank.rank, tied=rank.tied)
    rows.sort(key=lambda row: (row.rank is None, row.rank or 0, row.left, row.name))
    first = group[0]
    threat = f"{first.threat.norm.capitalize()} {identity.eps_text(first)}"
    goal = "" if first.threat.goal == "untargeted" else f", {first.threat.goal}"
    title = f"{first.dataset.name}{' (synthetic)' if first.dataset.synthetic else ''}   {threat}{goal}"
    names = tuple(f"{name} ({access})" if name in _twice(systems) else name for name, access in systems)
    return AttackBoard(title, first.budget.limits, first.n, first.patients, names, tuple(rows))


def _twice(systems: Sequence[tuple[str, str]]) -> set[str]:
    """Systems that were attacked from several rungs."""
    counts = Counter(name for name, _ in systems)
    return {name for name, count in counts.items() if count > 1}


def _left(record: Record) -> float:
    return record.metrics.get("robust_accuracy") or 0.0


def _row(name: str, there: Sequence[Record | None], least: Sequence[float]) -> RankedAttack:
    ran = [(each, best) for each, best in zip(there, least, strict=True) if each is not None]
    gaps = [_left(each) - best for each, best in ran]
    left = float(np.mean([_left(each) for each, _ in ran]))
    results = tuple(None if each is None else _result(each) for each in there)
    control = any(each.attack.is_control for each, _ in ran)
    best_on = sum(gap < 1e-9 for gap in gaps)
    records = tuple(each for each, _ in ran)
    return RankedAttack(name, control, left, left, left, float(np.mean(gaps)), best_on, results, records=records)


def _result(record: Record) -> Result:
    spent = record.spent
    images = max(record.n, 1)
    return Result(_left(record), spent.gradients_mean or 0.0, spent.queries_mean or 0.0, record.seconds / images)


def _input(there: Sequence[Record], outcomes: Mapping[str, ImageResults]) -> RankInput:
    """What the rank depends on: images broken, over all systems. The more, the better."""
    value = 1 - float(np.mean([_left(each) for each in there]))
    answers = [outcomes[each.cell_id] for each in there if each.cell_id in outcomes]
    if len(answers) < len(there) or len({each.index for each in answers}) > 1:
        bounds = [each.intervals.get("robust_accuracy", (0.0, 1.0)) for each in there]
        low, high = (float(np.mean([bound[side] for bound in bounds])) for side in (0, 1))
        return RankInput(value, 1 - high, 1 - low)
    broken: Shares = 1 - np.concatenate([each.robust for each in answers])
    index = answers[0].index
    owners = answers[0].patients or tuple(map(str, index))
    patients = [*owners] * len(answers)
    interval = share_interval(broken, patients)
    rows = tuple(row + part * (max(index) + 1) for part in range(len(answers)) for row in index)
    return RankInput(value, interval.low, interval.high, broken, rows, patients)
