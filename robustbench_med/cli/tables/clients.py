"""Fairness across the clients of a federation: the worst client, the spread, and what each client sends."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from robustbench_med.cli import console
from robustbench_med.cli.tables.records import contrast
from robustbench_med.interfaces.rate import percent
from robustbench_med.plugins.references import without_shared_params
from robustbench_med.records.record import Record
from robustbench_med.records.sections.base import formatted
from robustbench_med.records.summary import attack_of


def show(records: Sequence[Record]) -> Table | console.Lines | None:
    """One row for each record of several clients, in 80 columns; None where there is none. Figures in percent."""
    rows = [record for record in records if record.status == "ok" and record.between_clients]
    if not rows:
        return None
    varies = contrast(rows)
    extra = {"kB": [_sent(record) for record in rows], "suspected": [_suspected(record) for record in rows]}
    extra = {name: cells for name, cells in extra.items() if any(cells)}
    figures = ("clean", "worst", "spread", "robust", "worst", "spread")
    defenses, _ = without_shared_params([formatted(record.defense) for record in rows])
    # What is the same in all rows is said once, in the title.
    told = any(varies) and len(set(defenses)) == 1
    note = "spread: best - worst" + ("; kB: sent by each per round" if "kB" in extra else "")
    title = f"{defenses[0]}: between clients ({note})" if told else f"Between clients ({note})"
    attacks = len({_attack(record) for record in rows}) > 1
    names = ("attack",) if attacks else ()
    columns, right = (" ".join(varies[0]) if told else "defense", *names, *figures, *extra), (*figures, "kB")
    found = []
    for at, record in enumerate(rows):
        label = " ".join(filter(None, ["" if told else defenses[at], *varies[at].values()]))
        cells = [_attack(record)] if attacks else []
        for name in ("clean_accuracy", "robust_accuracy"):
            figure = record.between_clients.get(name)
            cells += map(percent, (figure.mean, figure.worst, figure.spread)) if figure else [""] * 3
        found.append([label, *cells, *(column[at] for column in extra.values())])
    return console.filled(title, columns, found, right, first_to_go=("suspected", "kB", "spread"))


def _attack(record: Record) -> str:
    return "probe" if record.role == "probe" else f"{attack_of(record)} {record.threat.access}"


def _sent(record: Record) -> str:
    facts = record.defense.weights.federation
    return f"{facts.bytes_sent_per_round / facts.clients / 1000:.0f}" if facts and facts.clients else ""


def _suspected(record: Record) -> str:
    """``hospital-3 11/12``: in eleven of twelve rounds."""
    facts = record.defense.weights.federation
    often = sorted(facts.suspected.items(), key=lambda item: (-item[1], item[0])) if facts else ()
    return ", ".join(f"{client} {count}/{facts.rounds}" for client, count in often if facts)
