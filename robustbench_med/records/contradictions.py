"""Figures of one record that cannot all be true: certificates, shares, counts, calls, severities, privacy."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med.interfaces.plural import plural
from robustbench_med.records.certificates import SLACK, certificate_faults
from robustbench_med.records.record import Record


def contradictions(record: Record) -> Iterator[str]:
    """What cannot be true of a measured cell, a line each; nothing for a cell that was not measured."""
    if record.status != "ok":
        return
    if record.certified is not None:
        yield from certificate_faults(record, record.certified)
    yield from _shares(record)
    yield from _counts(record)
    yield from _spent(record)
    yield from _severity(record)
    yield from _privacy(record)


def _shares(record: Record) -> Iterator[str]:
    """Accuracies, and figures with an interval: in [0, 1] and in their interval, of all clients and of each."""
    every = [("", record.metrics, record.intervals)]
    every += [(f"{name}: ", own, record.client_intervals.get(name, {})) for name, own in record.per_client.items()]
    for whose, figures, intervals in every:
        for name, (low, high) in intervals.items():
            value = figures.get(name)
            if value is None or not -2 * SLACK <= low - SLACK <= value <= high + SLACK <= 1 + 2 * SLACK:
                yield f"{whose}{name} does not lie in its interval"
        for name in ("clean_accuracy", "robust_accuracy"):
            if (value := figures.get(name)) is not None and not -SLACK <= value <= 1 + SLACK:
                yield f"{whose}{name} is {value:g}, which is no share"


def _counts(record: Record) -> Iterator[str]:
    """Images and patients, of all clients and of each."""
    if record.patients is not None and record.patients > record.n:
        yield f"{plural(record.n, 'image is', 'images are')} said to be of {plural(record.patients, 'patient')}"
    images = [count for count, _ in record.client_images.values()]
    if images and sum(images) != record.n:
        yield f"clients are said to have {plural(sum(images), 'image')}, and the record {record.n}"


def _spent(record: Record) -> Iterator[str]:
    for what in ("gradients", "queries"):
        mean, most = (getattr(record.spent, f"{what}_{which}") for which in ("mean", "max"))
        if mean is not None and most is not None and mean > most * (1 + SLACK) + SLACK:
            yield f"the attacks spent {mean:g} {what} on an image on average, and {most:g} at most"
    # The budget is that of one attack: a ladder has several, each in rounds, which may be repeated in float32.
    attacks = sum(max(1, len(rung.rounds)) * (1 + bool(rung.repeated)) for rung in record.rungs if not rung.reason)
    for what, most in record.budget.limits.items():
        said = [getattr(record.spent, f"{what}_{which}") for which in ("mean", "max")]
        spent = max((each for each in said if each is not None), default=0.0)
        if spent > most * max(1, attacks) + SLACK:
            each = f"{most} for each of {attacks} attacks" if attacks > 1 else f"{most}"
            yield f"the attacks spent {spent:g} {what} on an image, and the budget is {each}"


def _severity(record: Record) -> Iterator[str]:
    if record.threat.norm != "corruption":
        return
    eps = record.threat.eps
    said = {**record.attack.params_passed, **record.attack.params}.get("severity")
    if eps not in (1, 2, 3, 4, 5) or (said is not None and str(said) != f"{eps:g}"):
        yield f"a corruption of severity {eps:g}, whose attack says {said}; severities are 1, 2, 3, 4 and 5"


def _privacy(record: Record) -> Iterator[str]:
    federation, part = record.defense.weights.federation, record.defense.parts.strategy
    if federation is None or (federation.epsilon is None and federation.delta is None):
        return
    epsilon, delta = federation.epsilon, federation.delta
    if epsilon is None or delta is None or not (epsilon > 0 and 0 < delta < 1):
        yield f"differential privacy has epsilon {epsilon} and delta {delta}; epsilon is above 0, delta between 0 and 1"
    if part is not None and str(part.params.get("privacy", "none")) == "none":
        yield f"differential privacy of epsilon {epsilon} by a strategy without privacy"
