"""What a record says of the images that were measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robustbench_med.attacks import diagnostics
from robustbench_med.attacks.flags import FLAGS
from robustbench_med.grid.cell import Cell
from robustbench_med.interfaces.metric import Metric
from robustbench_med.interfaces.results import Outcome
from robustbench_med.records import fairness
from robustbench_med.records.record import flatten
from robustbench_med.records.sections.results import RungSection, SpentSection
from robustbench_med.runner.checkpoints import Chunk, RunningTotals


def measured(
    cell: Cell,
    chunk: Chunk,
    totals: RunningTotals,
    metrics: Iterable[Metric],
    level: str,
    told: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Fields of the record: the figures of every metric, over all clients and for each, and what the attack spent.

    Args:
        cell: what was measured.
        chunk: the results of all images.
        totals: what the controls found.
        metrics: compute the figures.
        level: of the diagnostics.
        told: by flag, what is to be said of the calibration of gates and of certificates, a line each.
    """
    outcome = chunk.outcome
    known = bool(outcome.codes)
    figures, intervals = flatten(computed(outcome, metrics), known)
    clients = {site: outcome.at(site) for site in sorted(set(outcome.sites))}
    of_clients = {site: flatten(computed(own, metrics), known) for site, own in clients.items()}
    per_client = {site: found for site, (found, _) in of_clients.items()}
    fields: dict[str, Any] = {
        "status": "ok",
        "clients": list(clients),
        "n": len(outcome.labels),
        "patients": len(set(outcome.patients)) if known else None,
        "client_images": {
            site: (len(own.labels), len(set(own.patients)) if known else None) for site, own in clients.items()
        },
        "metrics": figures,
        "intervals": intervals,
        "per_client": per_client,
        "client_intervals": {site: bounds for site, (_, bounds) in of_clients.items()},
        "between_clients": fairness.between(per_client),
        "worst_client": fairness.worst_client(per_client),
        "seconds": chunk.seconds + totals.controls_seconds,
        "spent": SpentSection.of(outcome),
        "rungs": [
            *(RungSection.of(rung, len(outcome.rungs) > 1) for rung in outcome.rungs),
            *map(RungSection.left_out, cell.left_out),
        ],
        "diagnostics": {},
    }
    if level != "off":
        fields["diagnostics"] = diagnostics.report(
            level, outcome, figures, totals.controls, totals.controls_seconds, cell.threat.goal
        )
    if told:  # said even where no control was run: it is about the defense
        found = {"level": level, "flags": [], "notes": [], **fields["diagnostics"]}
        flags = [flag for flag in FLAGS if flag in {*found["flags"], *told}]
        notes = [line for lines in told.values() for line in lines]
        fields["diagnostics"] = found | {"flags": flags, "notes": [*found["notes"], *notes]}
    return fields


def computed(outcome: Outcome, metrics: Iterable[Metric]) -> dict[str, Any]:
    """The figures of all metrics."""
    found: dict[str, Any] = {}
    for metric in metrics:
        found |= metric.compute(outcome)
    return found
