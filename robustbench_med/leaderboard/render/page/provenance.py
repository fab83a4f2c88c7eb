"""Where the records of a row come from."""

from __future__ import annotations

from collections.abc import Sequence

from robustbench_med.leaderboard.render.page.figures import DASH, listed
from robustbench_med.plugins.references import format_params
from robustbench_med.records.record import Record


def provenance(records: Sequence[Record]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Facts by name: each value once, with the cells that it is of, or "" where it is of all."""
    kept = {record.cell_id: dict(_facts(record)) for record in records}
    rows = []
    for name in dict.fromkeys(name for facts in kept.values() for name in facts):
        cells: dict[str, list[str]] = {}
        for cell, facts in kept.items():
            if name in facts:
                cells.setdefault(facts[name], []).append(cell[:8])
        alone = len(cells) == 1 and len(next(iter(cells.values()))) == len(kept)
        rows.append((name, [(text, "" if alone else ", ".join(of)) for text, of in cells.items()]))
    return rows


def _facts(record: Record) -> list[tuple[str, str]]:
    made_with, weights, data = record.provenance, record.defense.weights, record.dataset
    hardware, seed = made_with.hardware, weights.seed
    threads = "?" if hardware.threads is None else hardware.threads
    machine = [hardware.gpu, hardware.processor, f"{threads} threads"]
    released = record.defense.distribution.split(" ")[-1]
    others = [f"{name} {number}" for name, number in made_with.versions.items() if number != released]
    facts = [
        ("Cell", record.cell_id),
        ("Attack", f"{record.attack.name} {format_params(record.attack.params_passed)} {record.threat.access}".strip()),
        ("Role", "" if record.role == "cell" else record.role),
        ("Images", f"{record.n} of {', '.join(record.clients)}"),
        ("Noise draws", f"{record.draws} to score, {record.eot} in each gradient"),
        ("Seeds", f"{record.seed} of attack and scoring, {DASH if seed is None else seed} of training"),
        ("Defense", f"{record.defense.distribution or DASH}; {format_params(record.defense.params_passed)}"),
        ("Weights", f"{weights.digest or DASH}, trained {(weights.trained or DASH)[:10]}"),
        ("Weights from", weights.source),
        ("Data", data.digest or DASH),
        ("Commit", made_with.commit or ""),
        ("Machine", f"{made_with.device or DASH}: {', '.join(part for part in machine if part)}"),
        ("Versions", listed(others)),
        ("Measured", record.created[:10]),
    ]
    return [(name, text) for name, text in facts if text]
