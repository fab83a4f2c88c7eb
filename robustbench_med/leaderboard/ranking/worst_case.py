"""The worst case per image: every known attack on the same weights, combined by one rule for all systems.

An attacker takes the attack that works best on each image. Which one that is, is *chosen* on some noise draws and
*scored* on others, in rotation: for draw 1 the attack is chosen by the answers on draws 2, 3, ..., and so on. So chance
does not count as success (cross-fitting; the bias of choosing and scoring on the same data is that of Cawley & Talbot
2010, JMLR 11:2079-2107). A system without noise has one draw, which is the same each time: there the lowest counts.

An attacker may also use one attack for all images, chosen in the same rotation, or the one that does not know the
defense. The lowest of the three is the worst case: no attack that is added can raise it above the claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.answers import Answers, Classes, Shares, withstood
from robustbench_med.leaderboard.ranking.identical import same_deployed
from robustbench_med.leaderboard.ranking.pool import Pooled, joined_of, number_of
from robustbench_med.leaderboard.ranking.rows import RowRecords, grouped, outcomes_of, same_weights
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record

#: Evidence, with the record of the cell that it is against.
Against = tuple[Record, Evidence]


@dataclass(frozen=True)
class WorstCase:
    """The worst case of one set of weights.

    Attributes:
        answers: on the images of the row, under the worst attack; None where an image's results are not kept.
        claim: the same under the attacker who does not know the defense; None where that was not measured on them.
        lowered: other attacks that broke images, and how many.
        unchanged: the answers are those of the only record.
    """

    answers: Answers | None
    claim: Answers | None = None
    lowered: tuple[tuple[str, int], ...] = ()
    unchanged: bool = False


@dataclass(frozen=True, eq=False)
class _Attack:
    """The answers to one attack.

    Attributes:
        name: what it is.
        rows: (M,), which images of the row it was run on.
        attacked: (draws, M), answers.
        choice: (draws, M), by which it is chosen for a draw: a share of draws withstood, of other draws.
    """

    name: str
    rows: npt.NDArray[np.int64]
    attacked: Classes
    choice: Shares


def worst_cases(
    row: RowRecords,
    claims: Sequence[Record],
    outcomes: Mapping[str, ImageResults],
    evidence: Sequence[Against],
) -> list[WorstCase]:
    """The worst case for each set of weights of a row, in the order of its records.

    ``claims`` are the records of attackers who do not know the defense, ``evidence`` is that of the board.
    """
    return [
        _worst_case(row, own, [each for each in claims if identity.weights(each) == key], outcomes, evidence)
        for key, own in grouped(row.records, identity.weights).items()
    ]


def _worst_case(
    row: RowRecords,
    own: Sequence[Record],
    claims: Sequence[Record],
    outcomes: Mapping[str, ImageResults],
    evidence: Sequence[Against],
) -> WorstCase:
    kept = outcomes_of(own, outcomes)
    first = kept[0]
    if first is None or any(each is None or each.index != first.index for each in kept):
        return WorstCase(None)
    base = replace(Answers.of(first), clean=np.concatenate([each.clean for each in kept if each is not None]))
    others = [other for other in same_weights(row, own[0]) if other.cell_id not in {record.cell_id for record in own}]
    noisy = identity.track(own[0]) == "randomized test-time"
    found = [(identity.protocol(r), each, None) for r, each in zip(own, kept, strict=True) if each is not None]
    for other, each in zip(others, outcomes_of(others, outcomes), strict=True):
        if each is not None:
            found.append((identity.protocol(other), each, None))
    found += _of_some_folds(row, own[0], outcomes)
    against = _against(row, own[0], evidence)
    told = [(f"{each.attack} ({each.paper.text})", each.outcome, each.choice) for each in against]
    attacks = list(_attacks(base, [*found, *told], noisy))
    claim = next((claim for each in outcomes_of(claims, outcomes) if (claim := _on(base, each)) is not None), None)
    attacked, lowered = _lowest(base, attacks, claim)
    answers = replace(base, attacked=attacked)
    return WorstCase(answers, claim, lowered, len(own) == 1 and np.array_equal(attacked, base.attacked))


def _of_some_folds(
    row: RowRecords, record: Record, outcomes: Mapping[str, ImageResults]
) -> Iterator[tuple[str, ImageResults, None]]:
    """Attacks on the weights of some folds of a row, not of all: they count on the images that they saw."""
    if not isinstance(record, Pooled):
        return
    own = {number_of(member): identity.weights(member) for member in record.members}
    for other in row.others:
        whole = identity.weights(other) == identity.weights(record) and other.cell_id in outcomes
        if whole or not isinstance(other, Pooled) or other.attack.is_control:
            continue
        same = [each for each in other.members if own.get(number_of(each)) == identity.weights(each)]
        found = zip(same, outcomes_of(same, outcomes), strict=True)
        kept = [(number_of(each), one) for each, one in found if each.status == "ok" and one is not None]
        if kept:
            yield identity.protocol(other), joined_of(other.cell_id, kept), None


def _against(row: RowRecords, record: Record, evidence: Sequence[Against]) -> list[Evidence]:
    """Evidence against the weights of a record, deployed as in its row: another system may hold the same weights."""
    own = {each.cell_id for each in (*row.records, *row.others)}
    return [
        each
        for target, each in evidence
        if identity.weights(target) == identity.weights(record)
        and (target.cell_id in own or same_deployed(target, record))
    ]


def _attacks(
    base: Answers, found: Sequence[tuple[str, ImageResults, ImageResults | None]], noisy: bool
) -> Iterator[_Attack]:
    """The attacks on images of a row, each with the answers that choose it; the first is the row's own.

    A single random draw cannot both choose and score, so that it is left out, unless it is all there is.
    """
    for at, (name, outcome, choice) in enumerate(found):
        rows, place = _shared(base.index, outcome.index)
        draws = len(outcome.attacked)
        if not len(rows) or (noisy and draws == 1 and choice is None and at > 0):
            continue
        labels, right = base.labels[rows], base.right[rows]
        attacked = outcome.attacked[:, place]
        left = withstood(attacked, labels, right)
        if choice is not None:
            other = withstood(choice.attacked[:, place], labels, right).mean(0)
            left = np.broadcast_to(other, left.shape)
        elif draws > 1:
            left = (left.sum(0) - left) / (draws - 1)
        yield _Attack(name, rows, attacked, left)


def _on(base: Answers, outcome: ImageResults | None) -> Answers | None:
    """The answers to another attack on the images of a row; None unless it was run on all of them."""
    if outcome is None:
        return None
    rows, place = _shared(base.index, outcome.index)
    return replace(base, attacked=outcome.attacked[:, place]) if len(rows) == len(base.index) else None


def _shared(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the images that both have stand in the one and in the other; nearly always these are the same images."""
    if one == two:
        return np.arange(len(one)), np.arange(len(one))
    _, first, second = np.intersect1d(one, two, assume_unique=True, return_indices=True)
    return first, second


def _lowest(
    base: Answers, attacks: Sequence[_Attack], claim: Answers | None
) -> tuple[Classes, tuple[tuple[str, int], ...]]:
    """Answers to the worst of the attacker's three strategies, and which other attacks lowered the row's own."""
    if len(attacks) == 1 and claim is None:  # nearly every row of a large leaderboard
        return base.attacked, ()
    draws = max(len(each.attacked) for each in attacks)
    images = np.arange(len(base.index))
    answers = np.stack([_every(each, each.attacked, draws, len(images), 0) for each in attacks])
    choice = np.stack([_every(each, each.choice, draws, len(images), np.inf) for each in attacks])
    per_image = choice.argmin(0)  # (draws, N): of equal ones the first, which is the row's own
    per_set = np.broadcast_to(choice.mean(2).argmin(0)[:, None], per_image.shape)
    used = [per_image, per_set]
    attacked = [np.take_along_axis(answers, picked[None], 0)[0] for picked in used]
    if claim is not None:
        attacked.append(claim.attacked)
        used.append(np.full(per_image.shape, -1))
    best = int(np.argmin([withstood(each, base.labels, base.right).mean() for each in attacked]))
    own = withstood(base.attacked, base.labels, base.right).mean(0)
    less = withstood(attacked[best], base.labels, base.right).mean(0) < own
    counts: dict[str, int] = {}
    for at, each in enumerate(attacks):
        broke = int((less & (used[best] == at).any(0)).sum())
        if at and broke:
            counts[each.name] = counts.get(each.name, 0) + broke
    return attacked[best].astype(np.int8), tuple(sorted(counts.items()))


def _every(
    attack: _Attack, values: npt.NDArray[np.generic], draws: int, images: int, empty: float
) -> npt.NDArray[np.float64]:
    """(draws, N) from the values of an attack, ``empty`` for images that it was not run on."""
    found = np.full((draws, images), empty, dtype=float)
    found[:, attack.rows] = values[np.arange(draws) % len(values)]
    return found


def lowered_by(found: Sequence[WorstCase]) -> tuple[str, ...]:
    """A line for each other attack that lowered a row: its name, and how many images it broke at most."""
    most: dict[str, int] = {}
    for each in found:
        for name, count in each.lowered:
            most[name] = max(most.get(name, 0), count)
    return tuple(f"{name}: {count} more" for name, count in sorted(most.items()))
