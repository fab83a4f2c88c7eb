"""Records without what no table shows, so that tens of thousands of them fit into memory."""

from __future__ import annotations

from functools import cache

from robustbench_med.records.record import Record
from robustbench_med.records.sections.results import DiagnosticsSection, SpentSection

#: Of the figures between clients, those that are shown.
BETWEEN = ("clean_accuracy", "robust_accuracy")
#: Of the intervals of the worst client, those that are shown.
SHOWN = ("robust_accuracy",)


def lean(record: Record) -> Record:
    """The record with the figures of its worst client only, and without those of its rungs, controls and calls."""
    worst, between = record.worst_client, record.between_clients
    bounds = {} if worst is None else record.client_intervals.get(worst, {})
    return record.model_copy(
        update={
            "per_client": {} if worst is None else {worst: record.per_client[worst]},
            "client_intervals": {worst: {name: bounds[name] for name in SHOWN if name in bounds}} if bounds else {},
            "between_clients": {name: between[name] for name in BETWEEN if name in between},
            "spent": _NOTHING,
            "rungs": [rung for rung in record.rungs if rung.reason],
            "diagnostics": _flags(record.diagnostics.level, tuple(record.diagnostics.flags)),
        }
    )


_NOTHING = SpentSection()


@cache
def _flags(level: str, flags: tuple[str, ...]) -> DiagnosticsSection:
    return DiagnosticsSection(level=level, flags=list(flags))
