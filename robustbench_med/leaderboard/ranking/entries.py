"""The `Entry` of a row, made from its records, without the rank."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from robustbench_med.leaderboard.entry import TRACKS, Claim, Entry, Figure, Paper, RungFigure
from robustbench_med.leaderboard.ranking import figures, identity
from robustbench_med.leaderboard.ranking.answers import Answers
from robustbench_med.leaderboard.ranking.claims import claimed
from robustbench_med.leaderboard.ranking.clients import DETECTOR, METRICS, per_client, worst_client
from robustbench_med.leaderboard.ranking.eligibility import earlier, faults, single_faults
from robustbench_med.leaderboard.ranking.pool import Pooled, cells
from robustbench_med.leaderboard.ranking.rows import RowRecords, grouped, oblivious, outcomes_of
from robustbench_med.leaderboard.ranking.worst_case import Against, lowered_by, worst_cases
from robustbench_med.leaderboard.sources.claims import Publications
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.leaderboard.sources.names import Names, architecture_of, training_of
from robustbench_med.leaderboard.sources.verified import Word
from robustbench_med.records.record import Record
from robustbench_med.records.scorings import OTHERS

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True)
class Known:
    """What is known besides the records.

    Attributes:
        outcomes: per-image results by cell.
        published: claims and papers.
        evidence: that on the row's board.
        lesion: class of lesions of the data set.
        system: key of the system after which the row is called.
        owners: the submission of a cell that was not measured here.
        words: of maintainers, by cell.
        owner: the submission that the row is of; "" where it was measured here.
        names: of components, for people.
    """

    outcomes: Mapping[str, ImageResults]
    published: Publications
    evidence: Sequence[Against]
    lesion: int | None = None
    system: str = ""
    owners: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Word] = field(default_factory=dict)
    owner: str = ""
    names: Names = field(default_factory=dict)


def entry(row: RowRecords, known: Known) -> Entry:
    """The entry of a row, without rank."""
    row = _vouched(row, known)
    records = row.records
    own = outcomes_of(records, known.outcomes)
    measured = all(record.status == "ok" for record in records)
    claims = oblivious(row) if measured else ()
    cases = worst_cases(row, claims, known.outcomes, known.evidence) if measured else []
    answers = [each.answers for each in cases if each.answers is not None]
    answers = answers if len(answers) == len(cases) else []
    changed = bool(answers) and not all(each.unchanged for each in cases)
    rungs = _single_rungs(records) if row.single else figures.rungs(records)
    told = figures.answered(answers, known.lesion) if answers else {}
    counted = records if answers or row.single else _lowest(records)
    worst = _worst(row, counted, told.get("", {})) if measured else None
    if worst is None:
        told = {"": {name: figure for name, figure in told.get("", {}).items() if name.startswith("clean")}}
    claim = claimed(row, claims, cases, worst, () if records[0].attack.is_control else rungs)
    if claim.worst is not worst:  # the claim's attack is the worst that is known
        counted = claims
    reasons = [*(single_faults(records, own) if row.single else faults(records)), *_unverified(records, known)]
    why_not = "; ".join(dict.fromkeys(reasons))
    before = {fault for record in cells(records) for fault in earlier(record)}
    return Entry(
        **_names(row, known),
        verified=_verified(records, known),
        **_fresh(records, known),
        **(_figures(row.single, counted, answers, told, changed) if measured else {}),
        ranked=not why_not,
        why_not=why_not,
        earlier=bool(reasons) and before.issuperset(reasons),
        patients=_patients(records, answers),
        worst=claim.worst,
        claim=claim.claim,
        claim_attack=claim.attack,
        claim_all=claim.every,
        claim_images=claim.images,
        drop=claim.drop,
        rungs=rungs,
        marks=figures.marks(records),
        paper=_paper(records[0], known.published),
        claims=_claims_of(records[0], known.published),
        lowered=lowered_by(cases) if worst else (),
        records=records,
        outcomes=own,
        answers=tuple(answers),
        claim_records=claims,
    )


def _worst(row: RowRecords, counted: Sequence[Record], found: Mapping[str, Figure]) -> Figure | None:
    """The worst case; None for a single rung, since no worse attack was tried."""
    if row.single:
        return found.get("worst") if len({record.threat.access for record in row.records}) > 1 else None
    return found.get("worst") or figures.figure(counted, "robust_accuracy")


def _lowest(records: Sequence[Record]) -> tuple[Record, ...]:
    """Of records whose answers are not kept, for each set of weights the one with the lowest accuracy."""
    return tuple(min(own, key=_accuracy) for own in grouped(records, identity.weights).values())


def _accuracy(record: Record) -> float:
    value = record.metrics.get("robust_accuracy")
    return 1.0 if value is None else value


def _patients(records: Sequence[Record], answers: Sequence[Answers]) -> int | None:
    """How many patients the images are of; None where that is not recorded."""
    if answers:
        return min(len(set(each.patients)) for each in answers) or None
    counts = [record.patients for record in records if record.patients is not None]
    return min(counts) if len(counts) == len(records) else None


def _unverified(records: Sequence[Record], known: Known) -> Iterator[str]:
    """Why a submission has no rank: figures that no maintainer has seen again prove nothing."""
    if known.owner and any(record.cell_id not in known.words for record in records):
        yield f"submitted as {known.owner}, and not verified by a maintainer yet"


def _vouched(row: RowRecords, known: Known) -> RowRecords:
    """The row without further records of a submission that no maintainer has verified: they decide nothing.

    They could give it any claim, and answers by which the worst attack on each image is chosen.
    """
    if not known.owner:
        return row
    return replace(row, others=tuple(each for each in row.others if each.cell_id in known.words))


def _verified(records: Sequence[Record], known: Known) -> str:
    """What maintainers say of all records of a row; "" where one has no word, as rows measured here."""
    found = [known.words.get(record.cell_id) for record in records]
    return "; ".join(sorted({word.text for word in found if word is not None})) if all(found) else ""


def _fresh(records: Sequence[Record], known: Known) -> dict[str, Any]:
    """Accuracy under the row's attack on images that nobody had seen, over the records of which it is known."""
    words = (known.words.get(record.cell_id) for record in records)
    found = [word.fresh for word in words if word is not None and word.fresh is not None]
    if not found:
        return {}
    return {
        "fresh": figures.over(
            [each.robust for each in found],
            [(each.low, each.high) for each in found],
            any(each.patients is None for each in found),
        ),
        "fresh_images": "; ".join(dict.fromkeys(f"{each.n} of {each.source}" for each in found)),
    }


def _names(row: RowRecords, known: Known) -> dict[str, Any]:
    """What was measured, and what that cost."""
    records, system, owner = row.records, known.system, known.owner
    first = next((record for record in records if identity.system_key(record) == system), records[0])
    short, full = identity.strategy(first)
    own = _called(first, known.names)
    named = {identity.system_key(record): _called(record, known.names) for record in (first, *records, *row.others)}
    system = system or identity.system_key(first)
    dates = [found[0] for record in records if (found := _DATE.match(record.created))]
    facts = (identity.board_key(first), system, row.protocol, identity.images(first), *([owner] if owner else []))
    return {
        "id": slugged(first, first.defense.name, short) + "-" + identity.digest_of(*facts),
        "system": system,
        "also": tuple(sorted({name for key, name in named.items() if name != own})),
        "defense": identity.defense(first),
        "defense_name": first.defense.name,
        "strategy": training_of(first, known.names),
        "strategy_full": full,
        "model": identity.model(first),
        "architecture": architecture_of(first, known.names),
        "track": identity.track(first),
        "ladder": row.protocol,
        "images": first.n,
        "folds": first.folds if isinstance(first, Pooled) else 0,
        "measured_folds": sum(each.status == "ok" for each in first.members) if isinstance(first, Pooled) else 0,
        "clients": tuple(sorted(first.clients)),
        "unseen": tuple(first.unseen),
        "gradients": figures.mean_spent(records, "gradients_mean"),
        "queries": figures.mean_spent(records, "queries_mean"),
        "ms": figures.ms(records),
        "parameters": identity.parameters(first),
        "train_seeds": tuple(sorted({identity.train_seed(record) for record in records})),
        "seeds": tuple(sorted({record.seed for record in records})),
        "draws": max(record.draws for record in records),
        "date": max(dates, default=""),
    }


def _figures(
    single: bool,
    records: Sequence[Record],
    answers: Sequence[Answers],
    found: Mapping[str, Mapping[str, Figure]],
    changed: bool,
) -> dict[str, Any]:
    """Figures under the worst case: from its answers, or where these are not known, from the records it is that of."""
    told = {} if single else {name: figures.figure(records, metric) for name, metric in METRICS.items()}
    kept = ("clean", *DETECTOR) if changed or answers else tuple(METRICS)
    shown: dict[str, Figure | None] = {name: told.get(name) for name in kept}
    if not answers and single:
        shown["clean"] = figures.figure(records, "clean_accuracy")
    if answers and not changed:  # where the class of lesions is not known, the record has its figures
        shown |= {name: told.get(name) for name in METRICS}
    shown |= found.get("", {})
    clients, counts = ({}, {}) if single else per_client(records, answers, found, changed)
    worst, at_worst = worst_client(clients)
    shown.pop("worst", None)
    return {
        **shown,
        "scorings": {} if single or changed else scorings(records),
        "per_client": clients,
        "client_images": counts,
        "worst_client": worst,
        "worst_client_accuracy": at_worst,
    }


def scorings(records: Sequence[Record]) -> dict[str, Figure]:
    """Other ways to count answers; none for records that are older than the whole set."""
    names = [name for scoring in OTHERS for name in (scoring.clean, scoring.robust) if name]
    found = {name: value for name in names if (value := figures.figure(records, name)) is not None}
    return found if found.keys() & {"clean_any_of_n", "robust_fixed_noise", "robust_8bit"} else {}


def _claims_of(first: Record, published: Publications) -> tuple[Claim, ...]:
    """Published figures of the row's defense, and of the strategy of a classifier without one."""
    # What is published of a strategy is of its classifier alone.
    strategy = identity.strategy_name(first) if identity.track(first) == TRACKS[0] else ""
    return tuple(
        claim
        for claim in published.claims
        if (claim.defense and claim.defense == first.defense.name) or (claim.strategy and claim.strategy == strategy)
    )


def _called(record: Record, names: Names) -> str:
    """The name of a system: defense and training."""
    return ", ".join(filter(None, [identity.defense(record), training_of(record, names)]))


def slugged(record: Record, *words: str) -> str:
    """Readable part of a permanent name."""
    name, _, partition, norm, _, goal = identity.board_key(record)
    eps = identity.eps_text(record).replace("/", "-")
    return identity.slug(name, partition.partition(":")[0], norm, eps, "" if goal == "untargeted" else goal, *words)


def _single_rungs(records: Sequence[Record]) -> tuple[RungFigure, ...]:
    """Each attack by itself, over its seeds."""
    names = dict.fromkeys(identity.protocol(record) for record in records)
    found = []
    for name in names:
        group = [record for record in records if identity.protocol(record) == name]
        figure, first = figures.figure(group, "robust_accuracy"), group[0]
        clean = figures.figure(group, "clean_accuracy")
        gradients, queries = (figures.mean_spent(group, what) or 0.0 for what in ("gradients_mean", "queries_mean"))
        why = "" if figure else next((record.reason for record in group if record.reason), None) or "not measured"
        left = figure.value if figure else None
        broken = max(0.0, clean.value - figure.value) * first.n if clean and figure else 0.0
        found.append(RungFigure(name, first.threat.access, left, float(first.n), broken, gradients, queries, why))
    return tuple(found)


def _paper(record: Record, published: Publications) -> Paper | None:
    """From the leaderboard's file of claims, else from the submission, else from the plugin."""
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
