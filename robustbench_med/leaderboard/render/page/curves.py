"""Robust accuracy against eps of the rows that matter on a board."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import TRACKS, Entry
from robustbench_med.leaderboard.render.page import charts, overview
from robustbench_med.leaderboard.render.page.row_names import People

#: For each track, in the colours of the scatter chart; and for the rows that others are compared with.
STYLES = ("line-a", "line-b", "line-c")
PLAIN, TRAINED = "line-e", "line-f"


def over_eps(board: Board, others: Sequence[Board], people: People) -> Markup:
    """The winners of a board and what they are compared with, on every board of the data set with the same norm.

    Empty where there is one eps only.
    """
    beside = sorted(
        (each for each in others if (each.norm, each.goal) == (board.norm, board.goal)), key=lambda b: b.eps
    )
    compared = overview.compared(board, people)
    dashes = {entry.id: PLAIN if people.of(entry).plain else TRAINED for entry in compared}
    shown = [*(winner.entry for winner in overview.winners(board)), *compared]
    most = max(each.eps for each in beside)
    drawn = []
    for entry in shown:
        name = people.of(entry).title
        style = dashes.get(entry.id, STYLES[TRACKS.index(entry.track)])
        found = [(each, row) for each in beside for row in _same(each, entry)]
        points = [charts.point(0.0, f"{name}, 0: clean", entry.clean, whisker=False)] if entry.clean else []
        points += [
            charts.point(each.eps / most, f"{name}, {each.eps_text}", row.worst) for each, row in found if row.worst
        ]
        if len(found) > 1:
            drawn.append(charts.Line(name, style, points))
    if not drawn:
        return Markup("")
    ticks = [(0.0, "0"), *((each.eps / most, each.eps_text) for each in beside)]
    title = f"Worst case of the best rows against eps ({board.norm}); each figure is in the table of its board"
    return charts.lines(drawn, ticks, f"eps ({board.norm.capitalize()})", "worst case %", title)


def _same(board: Board, entry: Entry) -> list[Entry]:
    """The row of the same system, measured in the same way."""
    key = (entry.system, entry.ladder, entry.images, entry.clients)
    return [row for row in board.entries if (row.system, row.ladder, row.images, row.clients) == key][:1]
