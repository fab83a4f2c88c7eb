"""Everything that is said of records in a terminal, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustbench_med.cli.console import MANY, err, out, plain, show_table
from robustbench_med.cli.tables import certificates, lines
from robustbench_med.cli.tables import clients as between
from robustbench_med.cli.tables import records as results
from robustbench_med.cli.tables.explanation import explain
from robustbench_med.records.record import Record


def show(records: Sequence[Record], samples: Path) -> None:
    """Print the tables, what they mean, what was not measured, and the warnings.

    ``samples`` is the folder of per-image results.
    """
    show_table(results.show(records))
    for line in (*lines.folds(records, samples), *results.clients_and_patients(records), *results.unseen(records)):
        plain(line)
    for line in (*lines.scorings(records), *lines.tasks(records)):
        plain(line)
    if (certified := certificates.show(records)) is not None:
        out.print()
        show_table(certified)
        for line in certificates.lines(records):
            plain(line)
    if (clients := between.show(records)) is not None:
        out.print()
        show_table(clients)
    if len(records) > MANY:
        for line in results.in_short(records):
            plain(line)
        plain("rung by rung, with marks and reasons: rbmed report")
        return
    said: set[str] = set()
    for record, facts in zip(records, results.contrast(records), strict=True):
        if (ladder := results.ladder(record, facts)) is not None:
            out.print(ladder)
        for line in results.left_out(record):
            if line not in said:  # once for all folds and seeds
                plain(line)
            said.add(line)
    for line in explain(records, samples):
        out.print(line, soft_wrap=line.startswith("[dim]"))  # a command to copy must stay one line
    for line in results.unmeasured(records):
        plain(line)
    for line in results.warnings(records):
        err.print(f"warning: {line}", style="yellow", markup=False, soft_wrap=True)
