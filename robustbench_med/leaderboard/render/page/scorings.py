"""The ways in which the answers of a row were counted."""

from __future__ import annotations

from robustbench_med.leaderboard.schema import Entry, Figure
from robustbench_med.records.scorings import MEAN, OTHERS, Scoring


def counted(entry: Entry) -> list[tuple[Scoring, Figure | None, Figure | None]]:
    """Each way, clean and under attack; empty where there is only the mean."""
    found = entry.scorings
    rows = [(each, found.get(each.clean), found.get(each.robust)) for each in OTHERS]
    rows = [row for row in rows if row[1] or row[2]]
    return [(MEAN, entry.clean, entry.worst), *rows] if rows else []
