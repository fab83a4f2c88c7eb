"""What a record was measured with that has another revision here: then its cell is planned here no more."""

from __future__ import annotations

from collections.abc import Iterator

from robustbench_med.defenses.gate_revision import GATE_REVISION
from robustbench_med.errors import UsageError
from robustbench_med.grid.ladder import REVISION
from robustbench_med.plugins.registry import Registry
from robustbench_med.records.record import Record


def other_revisions(record: Record, registry: Registry) -> list[str]:
    """A line for each revision that is another here; plugins that are missing are left out."""
    return list(dict.fromkeys(f"{what}: revision {told} -> {here}" for what, told, here in _pairs(record, registry)))


def _pairs(record: Record, registry: Registry) -> Iterator[tuple[str, int, int]]:
    attack, parts = record.attack, record.defense.parts
    if attack.is_ladder and attack.revision != REVISION:
        yield "ladder", attack.revision, REVISION
    if parts.detector and parts.gate_revision != GATE_REVISION:
        yield "rule of the detector's threshold", parts.gate_revision, GATE_REVISION
    named = [("dataset", record.dataset.name, record.dataset.revision)]
    named += [("defense", record.defense.name, record.defense.revision)]
    named += [("attack", each.name, each.revision) for each in (attack.rungs if attack.is_ladder else [attack])]
    for kind in ("model", "strategy", "detector", "purifier"):
        if (part := getattr(parts, kind)) is not None:
            named.append((kind, part.name, part.revision))
    for kind, name, told in named:
        try:
            here = registry.find(kind, name).spec.revision
        except UsageError:
            continue
        if told != here:
            yield f"{kind} {name}", told, here
