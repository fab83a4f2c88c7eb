"""What a record says of the images that were measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from robustbench_med.attacks import diagnostics
from robustbench_med.attacks.flags import FLAGS
from robustbench_med.errors import HarnessError
from robustbench_med.grid.cell import Cell
from robustbench_med.interfaces.metric import Metric
from robustbench_med.interfaces.rate import Rate
from robustbench_med.interfaces.results import Outcome
from robustbench_med.plugins.calls import named
from robustbench_med.records import fairness
from robustbench_med.records.columns import RESERVED
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
    """The figures of all metrics.

    Raises:
        HarnessError: a metric returns something else than named figures, or names one as another does.
    """
    found: dict[str, Any] = {}
    for metric in metrics:
        # A copy: what a metric changes would be in the figures of the others, and in the results of each image.
        made: Any = metric.compute(copied(outcome))
        who = named("metric", metric)
        if not isinstance(made, Mapping):
            raise HarnessError(f"{who} returned a {type(made).__name__}; valid: a dict of named figures")
        for name, figure in made.items():
            if not (isinstance(name, str) and name.strip() and name.isprintable()):
                raise HarnessError(f"{who} names a figure {name!r:.80}; valid: a text on one line")
            if name in found or name in RESERVED:
                raise HarnessError(f"{who} names a figure {name!r}, as another metric or a column of the table does")
            if not _is_figure(figure):
                raise HarnessError(f"{who}: {name} is {figure!r:.80}; valid: a number, None or a Rate")
        found |= made
    return found


def _is_figure(value: Any) -> bool:
    if value is None or isinstance(value, Rate):
        return True
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim == 0 and not (isinstance(value, Tensor) and value.is_complex())
    return isinstance(value, float | int | np.number)


def copied(value: Any) -> Any:
    """The same with tensors of its own, in data classes, mappings and tuples of these."""
    if isinstance(value, Tensor):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: copied(getattr(value, each.name)) for each in fields(value)})
    if isinstance(value, Mapping):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, tuple) and not all(isinstance(each, str) for each in value):
        return tuple(copied(each) for each in value)
    return value
