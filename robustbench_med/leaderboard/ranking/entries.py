"""The `Entry` of a row, made from its records, without the rank."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from robustbench_med.leaderboard.ranking import figures, identity
from robustbench_med.leaderboard.ranking.eligibility import faults, single_faults
from robustbench_med.leaderboard.ranking.rows import RowRecords, oblivious, outcomes_of
from robustbench_med.leaderboard.ranking.worst_case import Shares, accuracy_on, combined_rungs, worst_case, worst_shares
from robustbench_med.leaderboard.schema import TRACKS, Claim, Entry, Figure, Paper, RungFigure
from robustbench_med.leaderboard.sources.claims import Publications
from robustbench_med.leaderboard.sources.evidence import Evidence
from robustbench_med.leaderboard.sources.image_results import ImageResults
from robustbench_med.records.record import Record
from robustbench_med.records.scorings import OTHERS
from robustbench_med.records.sections.base import formatted

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
#: Figures of an entry, and the metrics of records that they are.
METRICS = {
    "sensitivity": "robust_sensitivity",
    "specificity": "robust_specificity",
    "hidden_lesion": "hidden_lesion_rate",
    "fake_lesion": "fake_lesion_rate",
    "fpr": "detector_fpr",
    "tpr": "detector_tpr",
    "auroc": "detector_auroc",
}


def entry(
    row: RowRecords,
    outcomes: Mapping[str, ImageResults],
    published: Publications,
    evidence: Mapping[str, Sequence[Evidence]],
) -> tuple[Entry, Shares | None]:
    """The entry of a row, without rank, and its worst case per image, (N,), where that is known for every record.

    ``evidence`` is that on the row's board, by the digest of the weights.
    """
    first, records = row.records[0], row.records
    own = outcomes_of(records, outcomes)
    left = combined_rungs(row, own) if row.single else worst_shares(row, own, outcomes, evidence)
    measured = all(record.status == "ok" for record in records)
    claim_records = oblivious(row) if measured else ()
    worst = worst_case(row, left) if measured else None
    rungs = _single_rungs(records) if row.single else figures.rungs(records)
    claim, attack, n = _claim(claim_records, () if first.attack.is_control else rungs, first)
    why_not = "; ".join(dict.fromkeys(single_faults(records, own) if row.single else faults(records)))
    made = Entry(
        **_names(row),
        **(_figures(records) if measured and not row.single else {}),
        ranked=not why_not,
        why_not=why_not,
        clean=figures.figure(records, "clean_accuracy") if measured else None,
        worst=worst,
        claim=claim,
        claim_attack=attack,
        claim_images=n,
        drop=_drop(row, claim_records, left.images, own, outcomes, claim, worst, rungs),
        rungs=rungs,
        marks=figures.marks(records),
        paper=_paper(first, published),
        claims=_claims_of(first, published),
        lowered=left.lowered,
        records=records,
        outcomes=own,
        claim_records=claim_records,
    )
    return made, left.images if worst else None


def _names(row: RowRecords) -> dict[str, Any]:
    """What was measured, and what that cost."""
    first, records = row.records[0], row.records
    short, full = identity.strategy(first)
    system = identity.system_key(first)
    dates = [found[0] for record in records if (found := _DATE.match(record.created))]
    facts = (identity.board_key(first), system, row.protocol, identity.images(first))
    return {
        "id": slugged(first, first.defense.name, short) + "-" + identity.digest_of(*facts),
        "system": system,
        "defense": identity.defense(first),
        "defense_name": first.defense.name,
        "strategy": short,
        "strategy_full": full,
        "model": identity.model(first),
        "track": identity.track(first),
        "ladder": row.protocol,
        "images": first.n,
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


def _figures(records: Sequence[Record]) -> dict[str, Any]:
    """Figures under the worst attack, which records of a ladder hold."""
    worst_client, at_worst = figures.worst_client(records)
    return {
        **{name: figures.figure(records, metric) for name, metric in METRICS.items()},
        "scorings": scorings(records),
        "worst_client": worst_client,
        "worst_client_accuracy": at_worst,
        "per_client": figures.per_client(records),
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


def slugged(record: Record, *words: str) -> str:
    """Readable part of a permanent name."""
    name, _, partition, norm, _, goal = identity.board_key(record)
    eps = identity.eps_text(record).replace("/", "-")
    return identity.slug(name, partition.partition(":")[0], norm, eps, "" if goal == "untargeted" else goal, *words)


def _claim(found: Sequence[Record], rungs: Sequence[RungFigure], first: Record) -> tuple[Figure | None, str, int]:
    """Accuracy under an attacker who does not know the defense, with which attack, and on how many images."""
    if found:
        attacks = sorted({formatted(record.attack) for record in found})
        return figures.figure(found, "robust_accuracy"), " / ".join(attacks), min(record.n for record in found)
    rung = _oblivious_rung(rungs)
    if rung is None:
        return None, "", 0
    return Figure(float(rung.withstanding or 0)), rung.name.partition(" ")[2], first.n


def _drop(
    row: RowRecords,
    found: Sequence[Record],
    images: Shares | None,
    own: Sequence[ImageResults | None],
    outcomes: Mapping[str, ImageResults],
    claim: Figure | None,
    worst: Figure | None,
    rungs: Sequence[RungFigure],
) -> float | None:
    """The claim minus the worst case on the same images; None where there are none.

    Where the claim was measured on other images, the ladder's own rung `oblivious` takes its place.
    """
    if claim is None or worst is None:
        return None
    here = {identity.images(record) for record in row.records}
    if not found or {identity.images(record) for record in found} == here:
        return claim.value - worst.value
    index = {outcome.index for outcome in own if outcome is not None}
    if images is not None and len(index) == 1:
        (rows,) = index
        claimed = [accuracy_on(outcome, rows) for outcome in outcomes_of(found, outcomes)]
        known = [share for share in claimed if share is not None]
        if len(known) == len(claimed):
            return sum(known) / len(known) - float(images.mean())
    left = _oblivious_rung(rungs)
    return None if left is None or row.single else float(left.withstanding or 0) - worst.value


def _oblivious_rung(rungs: Sequence[RungFigure]) -> RungFigure | None:
    """The last step of a ladder that does not know the defense."""
    ran = [rung for rung in rungs if rung.access == "oblivious" and rung.withstanding is not None]
    return ran[-1] if ran else None


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
