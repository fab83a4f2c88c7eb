"""What a report adds to the boards: every measured cell as it is, and figures of rows that were attacked once.

A leaderboard shows the worst of several attackers only; who attacked with one still wants to see what it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from robustbench_med.files.escaping import escape_markdown
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.ranking.clients import METRICS, per_client, worst_client
from robustbench_med.leaderboard.ranking.figures import figure
from robustbench_med.records.record import Record
from robustbench_med.records.summary import FIGURES, table


def as_measured(boards: Sequence[Board]) -> list[Board]:
    """The boards, with the figures of the attack that was run where a row has no worst case over several."""
    return [replace(board, unranked=tuple(map(_filled, board.unranked))) for board in boards]


def _filled(entry: Entry) -> Entry:
    """The entry with the figures of the attack that left the fewest images; as it is where it has a worst case."""
    measured = [record for record in entry.records if record.metrics.get("robust_accuracy") is not None]
    if entry.worst is not None or not measured:
        return entry
    lowest = [min(measured, key=lambda record: (record.metrics["robust_accuracy"], record.cell_id))]
    clients, counts = per_client(lowest, (), {}, changed=False)
    name, accuracy = worst_client(clients)
    found: dict[str, Any] = {field: figure(lowest, metric) for field, metric in METRICS.items()}
    found |= {"per_client": clients, "client_images": counts, "worst_client": name, "worst_client_accuracy": accuracy}
    return replace(entry, **{field: value for field, value in found.items() if value and not getattr(entry, field)})


def cells(records: Sequence[Record]) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Headings, each with whether it is of figures, and the rows of `robustbench_med.records.summary.table`."""
    headings, rows = table(records)
    return [(heading, heading in FIGURES) for heading in headings], rows


def md(records: Sequence[Record]) -> list[str]:
    """The measured cells as lines of Markdown; none where nothing was measured."""
    headings, rows = cells(records)
    if not rows:
        return []
    lines = ["## Measured", "", f"| {' | '.join(heading for heading, _ in headings)} |"]
    lines.append(f"|{'|'.join('---:' if right else '---' for _, right in headings)}|")
    for row in rows:
        texts = [text if right else escape_markdown(text) for text, (_, right) in zip(row, headings, strict=True)]
        lines.append(f"| {' | '.join(texts)} |")
    return [*lines, ""]
