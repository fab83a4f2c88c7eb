"""A row's records -> its `Entry`, without the rank."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robustbench_med.leaderboard.ranking import figures, identity
from robustbench_med.leaderboard.ranking.eligibility import faults, single_faults
from robustbench_med.leaderboard.ranking.rows import Row, oblivious, outcomes_of, same_weights
from robustbench_med.leaderboard.schema import TRACKS, Entry, Figure, Paper, RungFigure
from robustbench_med.leaderboard.sources.claims import Published
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import Outcome
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted

Shares = npt.NDArray[np.float64]
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Standing:
    """Per record of a row, which share of draws each image withstood, (N,), after the worst attack that is known.

    Attributes:
        shares: one array for each record; None where a record's images are not kept.
        lowered: other attacks that broke images which the record's own had left, and how many.
    """

    shares: tuple[Shares | None, ...]
    lowered: tuple[str, ...]

    @property
    def images(self) -> Shares | None:
        """(N,), mean over the records."""
        known = [share for share in self.shares if share is not None]
        return np.mean(known, axis=0) if known and len(known) == len(self.shares) else None


def entry(
    row: Row, outcomes: Mapping[str, Outcome], published: Published, evidence: Mapping[str, Sequence[Evidence]]
) -> tuple[Entry, Shares | None]:
    """The entry of a row, without rank, and its worst case per image, (N,), where that is known for every record.

    ``evidence`` is that on the row's board, by the digest of the weights.
    """
    first, records = row.records[0], row.records
    own = outcomes_of(records, outcomes)
    standing = _combined(row, own) if row.single else _standing(row, own, outcomes, evidence)
    measured = all(record.status == "ok" for record in records)
    why_not = "; ".join(dict.fromkeys(single_faults(row.records, own) if row.single else faults(records)))
    claim_records = oblivious(row) if measured else ()
    worst = _worst(row, standing) if measured else None
    rungs = _single_rungs(records) if row.single else figures.rungs(records)
    claim, attack, n = _claim(claim_records, () if first.attack.is_control else rungs, first)
    short, full = identity.strategy(first)
    worst_client, at_worst = figures.worst_client(records) if measured and not row.single else (None, None)
    name = first.defense.name
    facts = [identity.board_key(first), identity.system_key(first), row.protocol, identity.images(first)]
    static = identity.track(first) == TRACKS[0]
    dates = [found[0] for record in records if (found := _DATE.match(record.created))]

    def metric(what: str) -> Figure | None:
        return figures.figure(records, what) if measured and not row.single else None

    made = Entry(
        id=slugged(first, name, short) + "-" + identity.digest_of(*facts),
        system=identity.system_key(first),
        ranked=not why_not,
        why_not=why_not,
        defense=identity.defense(first),
        defense_name=name,
        strategy=short,
        strategy_full=full,
        model=identity.model(first),
        track=identity.track(first),
        ladder=row.protocol,
        images=first.n,
        clients=tuple(sorted(first.clients)),
        unseen=tuple(first.unseen),
        clean=figures.figure(records, "clean_accuracy") if measured else None,
        worst=worst,
        claim=claim,
        claim_attack=attack,
        claim_images=n,
        drop=_drop(row, claim_records, standing.images, own, outcomes, claim, worst, rungs),
        rungs=rungs,
        sensitivity=metric("robust_sensitivity"),
        specificity=metric("robust_specificity"),
        hidden_lesion=metric("hidden_lesion_rate"),
        fake_lesion=metric("fake_lesion_rate"),
        fpr=metric("detector_fpr"),
        tpr=metric("detector_tpr"),
        auroc=metric("detector_auroc"),
        worst_client=worst_client,
        worst_client_accuracy=at_worst,
        per_client=figures.per_client(records) if measured and not row.single else {},
        gradients=figures.mean_spent(records, "gradients_mean"),
        queries=figures.mean_spent(records, "queries_mean"),
        ms=figures.ms(records),
        parameters=identity.parameters(first),
        train_seeds=tuple(sorted({identity.train_seed(record) for record in records})),
        seeds=tuple(sorted({record.seed for record in records})),
        draws=max(record.draws for record in records),
        marks=figures.marks(records),
        paper=_paper(first, published),
        claims=tuple(
            each
            for each in published.claims
            if (each.defense and each.defense == name)
            # A claim of a strategy is one of its classifier, and says nothing of what others put around it.
            or (each.strategy and static and each.strategy == identity.strategy_name(first))
        ),
        lowered=standing.lowered,
        date=max(dates, default=""),
        records=records,
        outcomes=own,
        claim_records=claim_records,
    )
    return made, standing.images if worst else None


def slugged(record: Record, *words: str) -> str:
    """Readable part of a permanent name."""
    name, _, partition, norm, _, goal = identity.board_key(record)
    eps = identity.eps_text(record).replace("/", "-")
    return identity.slug(name, partition.partition(":")[0], norm, eps, "" if goal == "untargeted" else goal, *words)


def _standing(
    row: Row, own: Sequence[Outcome | None], outcomes: Mapping[str, Outcome], evidence: Mapping[str, Sequence[Evidence]]
) -> Standing:
    """An image that any attack on the same weights has broken is broken, also where another record says so.

    Not so where answers are random: the lower of two shares of a few draws would count luck as success. Evidence has
    draws of its own for the choice.
    """
    shares: list[Shares | None] = []
    lowered: dict[str, int] = {}
    for record, outcome in zip(row.records, own, strict=True):
        share = None if outcome is None else outcome.safe.copy()
        if outcome is not None and share is not None:
            place = {index: at for at, index in enumerate(outcome.index)}
            for what, found, choice in _attacks(row, record, outcomes, evidence):
                rows = [(place[index], at) for at, index in enumerate(found.index) if index in place]
                here, there = (np.array(side, dtype=int) for side in (zip(*rows, strict=True) if rows else ((), ())))
                less = choice.safe[there] < share[here]
                share[here[less]] = found.safe[there[less]]
                if less.any():  # the same images, whichever of the row's records they are counted in
                    lowered[what] = max(lowered.get(what, 0), int(less.sum()))
        shares.append(share)
    return Standing(tuple(shares), tuple(f"{what}: {n} more" for what, n in sorted(lowered.items())))


def _attacks(
    row: Row, record: Record, outcomes: Mapping[str, Outcome], evidence: Mapping[str, Sequence[Evidence]]
) -> Iterator[tuple[str, Outcome, Outcome]]:
    """Other attacks on the weights of a record: a name, the answers that count, and those that choose."""
    if identity.track(record) != "randomized test-time":
        for other in same_weights(row, record):
            found = outcomes_of([other], outcomes)[0]
            if found is not None:
                yield identity.protocol(other), found, found
    for each in evidence.get(str(identity.weights(record)[1]), ()):
        yield f"{each.attack} ({each.paper.text})", each.outcome, each.choice


def _combined(row: Row, own: Sequence[Outcome | None]) -> Standing:
    """Single rungs of the same weights combined, image by image; one array for each training seed and seed."""
    groups: dict[tuple[int, int], list[Shares | None]] = {}
    for record, outcome in zip(row.records, own, strict=True):
        groups.setdefault((identity.train_seed(record), record.seed), []).append(outcome.safe if outcome else None)
    shares: list[Shares | None] = []
    for group in groups.values():
        known = [share for share in group if share is not None]
        same = len(known) == len(group) and len({len(share) for share in known}) == 1
        shares.append(np.minimum.reduce(known) if same else None)
    return Standing(tuple(shares), ())


def _worst(row: Row, standing: Standing) -> Figure | None:
    """The worst case; of a single rung None, since nobody looked for a worse one."""
    n = row.records[0].n
    if row.single:
        rungs = {record.threat.access for record in row.records}
        values = [float(share.mean()) for share in standing.shares if share is not None]
        return figures.share(values, n) if len(rungs) > 1 and len(values) == len(standing.shares) else None
    if standing.lowered:
        lowest = [
            record.metrics.get("robust_accuracy") if share is None else float(share.mean())
            for record, share in zip(row.records, standing.shares, strict=True)
        ]
        known = [value for value in lowest if value is not None]
        return figures.share(known, n) if len(known) == len(lowest) else None
    return figures.figure(row.records, "robust_accuracy")


def _claim(found: Sequence[Record], rungs: Sequence[RungFigure], first: Record) -> tuple[Figure | None, str, int]:
    """What an attacker leaves who does not know the defense, with which attack, on how many images."""
    if found:
        attacks = sorted({formatted(record.attack) for record in found})
        return figures.figure(found, "robust_accuracy"), " / ".join(attacks), min(record.n for record in found)
    rung = _oblivious_rung(rungs)
    if rung is None:
        return None, "", 0
    return Figure(float(rung.withstanding or 0)), rung.name.partition(" ")[2], first.n


def _drop(
    row: Row, found: Sequence[Record], images: Shares | None, own: Sequence[Outcome | None],
    outcomes: Mapping[str, Outcome], claim: Figure | None, worst: Figure | None, rungs: Sequence[RungFigure],
) -> float | None:  # fmt: skip
    """How much of the claim an attacker takes who knows the defense, on the same images; None where there are none.

    Where the claim was measured on others, the ladder's own attack by one who does not know the defense stands for it.
    """
    if claim is None or worst is None:
        return None
    here = {identity.images(record) for record in row.records}
    if not found or {identity.images(record) for record in found} == here:
        return claim.value - worst.value
    index = {outcome.index for outcome in own if outcome is not None}
    if images is not None and len(index) == 1:
        (rows,) = index
        claimed = [_on(outcome, rows) for outcome in outcomes_of(found, outcomes)]
        known = [share for share in claimed if share is not None]
        if len(known) == len(claimed):
            return sum(known) / len(known) - float(images.mean())
    left = _oblivious_rung(rungs)
    return None if left is None or row.single else float(left.withstanding or 0) - worst.value


def _oblivious_rung(rungs: Sequence[RungFigure]) -> RungFigure | None:
    """The last step of a ladder that does not know the defense."""
    climbed = [rung for rung in rungs if rung.access == "oblivious" and rung.withstanding is not None]
    return climbed[-1] if climbed else None


def _on(outcome: Outcome | None, rows: Sequence[int]) -> float | None:
    """Share that withstood on some images; None unless all of them are known."""
    place = {} if outcome is None else {row: at for at, row in enumerate(outcome.index)}
    if outcome is None or not place.keys() >= set(rows):
        return None
    return float(outcome.safe[[place[row] for row in rows]].mean())


def _single_rungs(records: Sequence[Record]) -> tuple[RungFigure, ...]:
    """Each attack by itself, over its seeds."""
    names = dict.fromkeys(identity.protocol(record) for record in records)
    found = []
    for name in names:
        group = [record for record in records if identity.protocol(record) == name]
        figure, first = figures.figure(group, "robust_accuracy"), group[0]
        gradients, queries = (figures.mean_spent(group, what) or 0.0 for what in ("gradients_mean", "queries_mean"))
        why = "" if figure else next((record.reason for record in group if record.reason), None) or "not measured"
        left = figure.value if figure else None
        found.append(RungFigure(name, first.threat.access, left, float(first.n), 0.0, gradients, queries, why))
    return tuple(found)


def _paper(record: Record, published: Published) -> Paper | None:
    """As the maintainers filed it, else as it was handed in, else as the plugin says in the record."""
    defense = record.defense
    for key in (("defense", defense.name), ("cell", record.cell_id), ("strategy", identity.strategy_name(record))):
        if key in published.papers:
            return published.papers[key]
    return Paper(defense.reference) if defense.reference else None


def separate(found: Sequence[Entry]) -> Iterator[Entry]:
    """The entries of a board, with the strategy in full where two of them would otherwise read alike."""
    forms: dict[tuple[str, ...], set[str]] = {}
    for each in found:
        forms.setdefault((each.defense, each.strategy, each.model), set()).add(each.strategy_full)
    for each in found:
        alike = len(forms[each.defense, each.strategy, each.model]) > 1
        yield replace(each, strategy=each.strategy_full) if alike else each
