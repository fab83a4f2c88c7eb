"""Where pages are, of boards and of rows; and the index that the search reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.render.page.figures import interval, percent
from robustbench_med.leaderboard.render.page.row_names import People


@dataclass(frozen=True)
class Addresses:
    """The addresses of a site.

    Attributes:
        root: leads to the folder of the site.
        entries: leads to the folder of pages of rows.
    """

    root: str = ""
    entries: str = "entries/"

    def page_of(self, entry: Entry) -> str:
        """The page of a row."""
        return f"{self.entries}{entry.id}.html"

    def board_page(self, board: Board) -> str:
        """The page of a board."""
        return f"{self.root}boards/{board.id}.html"


def search_index(boards: Sequence[Board], people: People) -> str:
    """``searchIndex = {boards, papers, rows}``.

    A row: number of its board, id, name, other words, number of its papers, rank, worst case, interval.
    """
    rows = []
    for number, board in enumerate(boards):
        for entry in board.entries:
            called = people.of(entry)
            papers = " ".join(f"{paper.title} {paper.venue}" for paper in called.papers)
            words = " ".join(filter(None, [called.spec, called.training, *entry.also, entry.track]))
            worst = entry.worst
            figure = percent(worst.value) if worst else ""
            rows.append([number, entry.id, called.title, words, papers, entry.rank or 0, figure, interval(worst)])
    every = sorted({str(row[4]) for row in rows})
    place = {text: at for at, text in enumerate(every)}
    kept = [[*row[:4], place[str(row[4])], *row[5:]] for row in rows]
    facts = {"boards": [people.board(board) for board in boards], "papers": every, "rows": kept}
    return f"searchIndex = {json.dumps(facts, ensure_ascii=True, separators=(',', ':'))};\n"
