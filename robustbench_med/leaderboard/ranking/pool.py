"""The records of all folds of a system as one record of all patients (`robustbench_med.leaderboard.ranking.folds`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from robustbench_med.leaderboard.ranking import identity
from robustbench_med.leaderboard.ranking.rows import newest
from robustbench_med.leaderboard.sources.image_results import ImageResults, Shares
from robustbench_med.plugins.references import PartRef, format_ref, parse
from robustbench_med.records.record import Figures, Record
from robustbench_med.records.sections.dataset import DatasetSection
from robustbench_med.records.sections.defense import DefenseSection
from robustbench_med.records.sections.results import DiagnosticsSection, RoundSection, RungSection, SpentSection
from robustbench_med.statistics.intervals import share_interval

#: Row r of the test split of fold k is row ``k * STRIDE + r`` of the pool.
STRIDE = 2**31
#: Metrics that are shares of other images than all: they follow from the pooled answers, or are not known.
_OF_SOME = (
    *("sensitivity", "specificity", "hidden_lesion", "fake_lesion"),
    *("clean_balanced_accuracy", "robust_balanced_accuracy"),
)


#: What all folds of a row have in common, beside what is in its key.
_ALIKE: Mapping[str, Callable[[Record], object]] = {
    "noise draws": lambda record: (record.draws, record.eot),
    "revisions of the data set": lambda record: record.dataset.revision,
    "parameters or revisions of the defense": lambda record: _made_of(record.defense),
    "attacks": lambda record: sorted(
        (rung.access, rung.evasion, rung.name, rung.revision, str(rung.params)) for rung in record.attack.rungs
    ),
    "options of the attack": lambda record: (record.attack.revision, record.attack.asked),
    "surrogates": lambda record: record.surrogate and (record.surrogate.name, record.surrogate.params),
}


def _made_of(defense: DefenseSection) -> object:
    parts = defense.parts
    named = [parts.model, parts.strategy, parts.detector, parts.purifier]
    each = [part and (part.name, part.params, part.revision) for part in named]
    return defense.revision, defense.params, each, parts.fpr, parts.strength


class Pooled(Record):
    """The folds of one system under one protocol as one record.

    ``members`` are their records in the order of the folds, ``folds`` says how many there should be, and ``gaps`` why
    the pool is not whole; empty where it is.
    """

    members: tuple[Record, ...]
    folds: int
    gaps: tuple[str, ...] = ()


def cells(records: Iterable[Record]) -> list[Record]:
    """The records that were measured, those of each fold of a pool."""
    return [each for record in records for each in (record.members if isinstance(record, Pooled) else (record,))]


def gaps(record: Record) -> tuple[str, ...]:
    """Why a pool of folds is not whole; empty for other records."""
    return record.gaps if isinstance(record, Pooled) else ()


def number_of(record: Record) -> int:
    """The number of a record's fold."""
    return record.dataset.fold.number if record.dataset.fold else 0


def whole(data: DatasetSection) -> DatasetSection:
    """The data set of all folds together, as ``rbmed run`` is asked for it: without ``fold``."""
    facts = data.model_dump()
    fold = facts.pop("fold")
    facts["digest"] = fold["pool"]
    facts["params_passed"] = {name: value for name, value in data.params_passed.items() if name != "fold"}
    if data.asked is not None and data.asked.dataset is not None:
        ref = parse(data.asked.dataset)
        params = {name: value for name, value in ref.params.items() if name != "fold"}
        facts["asked"] = {**facts["asked"], "dataset": format_ref(PartRef(ref.name, params))}
    return DatasetSection.model_validate(facts)


def pool(members: Sequence[Record], kept: Sequence[ImageResults | None]) -> tuple[Pooled, ImageResults | None]:
    """The record of a pool and its per-image results; None where those of a fold are missing."""
    first, folds = members[0], members[0].dataset.fold.of if members[0].dataset.fold else 0
    cell = identity.digest_of("folds", [member.cell_id for member in members])
    measured = [member.status == "ok" for member in members]
    parts = [(number_of(member), each) for member, each in zip(members, kept, strict=True) if each is not None]
    joined = joined_of(cell, parts) if len(parts) == len(members) else None
    digests = [member.defense.weights.digest or "" for member in members]
    weights = {"digest": identity.digest_of(digests) if all(digests) else None}
    notes = [note for note in first.dataset.notes if all(note in member.dataset.notes for member in members)]
    patients = [member.patients for member in members]
    changes: dict[str, Any] = {
        "cell_id": cell,
        "dataset": whole(first.dataset).model_copy(update={"notes": notes}),
        "defense": first.defense.model_copy(update={"weights": first.defense.weights.model_copy(update=weights)}),
        "clients": sorted({client for member in members for client in member.clients}),
        "draws": min(member.draws for member in members),
        "n": sum(member.n for member in members),
        "patients": None if None in patients else sum(each or 0 for each in patients),
        "seconds": math.fsum(member.seconds for member in members),
        "peak_memory_mib": max((member.peak_memory_mib or 0.0 for member in members), default=None) or None,
        "created": max(members, key=newest).created,
        "between_clients": {},
        "worst_client": None,
        "members": tuple(members),
        "folds": folds,
        "gaps": tuple(_gaps(members, folds, kept)),
    }
    if all(measured):
        changes |= _figures(members, joined)
    else:
        reasons = [f"fold {number_of(each)}: {each.reason or each.status}" for each in members if each.status != "ok"]
        failed = any(member.status == "failed" for member in members)
        changes |= {"status": "failed" if failed else "skipped", "reason": "; ".join(reasons)}
    return Pooled(**{name: getattr(first, name) for name in Record.model_fields} | changes), joined


def _gaps(members: Sequence[Record], folds: int, kept: Sequence[ImageResults | None]) -> Iterator[str]:
    there = {number_of(member) for member in members}
    if missing := [str(number) for number in range(folds) if number not in there]:
        yield f"incomplete: of {folds} folds, fold {', '.join(missing)} was not measured"
    without = [each for each, outcome in zip(members, kept, strict=True) if each.status == "ok" and outcome is None]
    if without:
        numbers = ", ".join(str(number_of(each)) for each in without)
        yield f"folds cannot be pooled: per-image results of fold {numbers} are missing"
    if any(member.certified is not None for member in members):
        yield "certificates of several folds are not pooled"
    for what, facts in _ALIKE.items():
        said = {number_of(member): facts(member) for member in members if member.status == "ok"}
        first = next(iter(said), 0)
        if other := [str(number) for number, each in said.items() if each != said[first]]:
            yield f"folds cannot be pooled: fold {', '.join(other)} was measured with other {what} than fold {first}"
    yield from _shared_patients(members, kept)
    yield from _shared_weights(members)


def _shared_patients(members: Sequence[Record], kept: Sequence[ImageResults | None]) -> Iterator[str]:
    """Folds test different patients: whoever is in two was also trained on."""
    whose: dict[str, int] = {}
    for member, outcome in zip(members, kept, strict=True):
        number = number_of(member)
        for patient in outcome.patients if outcome is not None else ():
            if whose.setdefault(patient, number) != number:
                yield f"folds cannot be pooled: a patient of fold {whose[patient]} is tested again in fold {number}"
                return


def _shared_weights(members: Sequence[Record]) -> Iterator[str]:
    """What was trained on one fold has seen patients that the others test."""
    whose: dict[str, int] = {}
    for member in members:
        digest, number = member.defense.weights.digest, number_of(member)
        if digest and member.defense.parts.strategy and whose.setdefault(digest, number) != number:
            other = f"fold {number} has the weights of fold {whose[digest]}"
            yield f"folds cannot be pooled: {other}, trained on its patients"


def _figures(members: Sequence[Record], joined: ImageResults | None) -> dict[str, Any]:
    """What was found, over the images of all folds."""
    images = [member.n for member in members]
    intervals = {}
    metrics = _mean([member.metrics for member in members], images)
    if joined is not None:
        owners = joined.patients or joined.index
        for side, shares in (("clean", joined.correct), ("robust", joined.robust)):
            intervals[f"{side}_accuracy"] = share_interval(shares, owners).bounds
            if all(f"{side}_balanced_accuracy" in member.metrics for member in members):
                metrics[f"{side}_balanced_accuracy"] = _balanced(shares, joined)
    # A client may have no test patient in a fold: what the others say of it must not be lost.
    clients = sorted({client for member in members for client in member.per_client})
    having = {client: [member for member in members if client in member.per_client] for client in clients}
    held = {client: [each.client_images.get(client, (0, None)) for each in having[client]] for client in clients}
    return {
        "metrics": metrics,
        "intervals": intervals,
        "per_client": {
            client: _mean([each.per_client[client] for each in own], [count for count, _ in held[client]])
            for client, own in having.items()
        },
        "client_images": {
            client: (
                sum(count for count, _ in counts),
                None if any(people is None for _, people in counts) else sum(people or 0 for _, people in counts),
            )
            for client, counts in held.items()
            if all(client in each.client_images for each in having[client])
        },
        "client_intervals": {},
        "spent": _spent(members, images),
        "rungs": _rungs(members),
        "diagnostics": _diagnostics(members),
    }


def _mean(figures: Sequence[Figures], images: Sequence[int]) -> Figures:
    """Figures that every fold has, weighted by its images, so that a share of all images is that of the pool."""
    found: Figures = {}
    for name in figures[0] if sum(images) else ():
        values = [each.get(name) for each in figures]
        if not any(part in name for part in _OF_SOME) and None not in values:
            found[name] = _weighted([value for value in values if value is not None], images)
    return found


def _balanced(shares: Shares, joined: ImageResults) -> float | None:
    """The mean over the classes that occur of a share of their images, of all folds."""
    rates = [float(shares[joined.labels == label].mean()) for label in np.unique(joined.labels)]
    return float(np.mean(rates)) if rates else None


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float:
    total = math.fsum(weights)
    return math.fsum(value * weight for value, weight in zip(values, weights, strict=True)) / total if total else 0.0


def _spent(members: Sequence[Record], images: Sequence[int]) -> SpentSection:
    made = {}
    for name in ("gradients", "queries"):
        for what, over in (("mean", lambda values: _weighted(values, images)), ("max", max)):
            values = [getattr(member.spent, f"{name}_{what}") for member in members]
            if None not in values:
                made[f"{name}_{what}"] = over(values)
    return SpentSection(**made)


def _rungs(members: Sequence[Record]) -> list[RungSection]:
    """Each attack over all folds; one that did not run in a fold did not run."""
    found = []
    for name in dict.fromkeys(rung.rung for member in members for rung in member.rungs):
        ran = [(member.n, rung) for member in members for rung in member.rungs if rung.rung == name]
        first = ran[0][1]
        reasons = list(dict.fromkeys(rung.reason for _, rung in ran if rung.reason))
        if reasons or len(ran) < len(members):
            found.append(RungSection(rung=name, access=first.access, reason="; ".join(reasons) or "not in every fold"))
            continue
        images, rungs = [n for n, _ in ran], [rung for _, rung in ran]
        attacked = [rung.attacked for rung in rungs]
        left = [rung.withstanding for rung in rungs]
        broken = [rung.broken for rung in rungs]
        found.append(
            RungSection(
                rung=name,
                access=first.access,
                attacked=sum(attacked),
                withstanding=None if None in left else _weighted([each or 0.0 for each in left], images),
                broken=None if None in broken else sum(each or 0 for each in broken),
                gradients_mean=_weighted([rung.gradients_mean for rung in rungs], attacked),
                queries_mean=_weighted([rung.queries_mean for rung in rungs], attacked),
                seconds=math.fsum(rung.seconds for rung in rungs),
                reason=None,
                gradients_max=max(rung.gradients_max for rung in rungs),
                rounds=_rounds(rungs, images),
            )
        )
    return found


def _rounds(rungs: Sequence[RungSection], images: Sequence[int]) -> list[RoundSection]:
    """Round by round over all folds; a fold whose attack had ended stays where it was."""
    ended = [rung.rounds or [RoundSection(gradients=0.0, withstanding=rung.withstanding or 0.0)] for rung in rungs]
    made = []
    for at in range(max(len(rung.rounds) for rung in rungs)):
        points = [each[min(at, len(each) - 1)] for each in ended]
        gradients, left = ([getattr(point, what) for point in points] for what in ("gradients", "withstanding"))
        made.append(RoundSection(gradients=_weighted(gradients, images), withstanding=_weighted(left, images)))
    return made


def _diagnostics(members: Sequence[Record]) -> DiagnosticsSection:
    """The flags of all folds; what only one fold says is in its own record."""
    levels = [member.diagnostics.level for member in members]
    return DiagnosticsSection(
        level="off" if "off" in levels else min(levels),
        flags=sorted({flag for member in members for flag in member.diagnostics.flags}),
        notes=[f"fold {number_of(each)}: {note}" for each in members for note in each.diagnostics.notes],
        seconds=math.fsum(member.diagnostics.seconds for member in members),
    )


def joined_of(cell: str, parts: Sequence[tuple[int, ImageResults]]) -> ImageResults:
    """The per-image results of folds, in their order."""
    each = [outcome for _, outcome in parts]
    names = set.intersection(*(set(outcome.lesions) for outcome in each))
    people = [outcome.patients for outcome in each]
    sites = [outcome.sites for outcome in each]
    return ImageResults(
        cell_id=cell,
        index=tuple(number * STRIDE + row for number, outcome in parts for row in outcome.index),
        labels=np.concatenate([outcome.labels for outcome in each]),
        clean=_draws([outcome.clean for outcome in each]),
        attacked=_draws([outcome.attacked for outcome in each]),
        patients=tuple(code for own in people for code in own) if all(people) else (),
        sites=tuple(site for own in sites for site in own) if all(sites) else (),
        lesions={name: tuple(value for outcome in each for value in outcome.lesions[name]) for name in sorted(names)},
    )


def _draws(answers: Sequence[Any]) -> Any:
    """(draws, N) side by side, as many draws as every fold has."""
    draws = min(len(each) for each in answers)
    return np.concatenate([each[:draws] for each in answers], axis=1)
