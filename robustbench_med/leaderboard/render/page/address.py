"""Where pages are: of boards, and of rows, most of which have one of their own; and the index that the search reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.render.page.figures import interval, percent
from robustbench_med.leaderboard.render.page.people import People


@dataclass(frozen=True)
class Addresses:
    """The addresses of a site.

    Attributes:
        within: by row without a page, the board that it is on.
        root: leads to the folder of the site.
        entries: leads to the folder of pages of rows.
    """

    within: dict[str, str]
    root: str = ""
    entries: str = "entries/"

    @classmethod
    def of(cls, boards: Sequence[Board]) -> Addresses:
        """Those of these boards.

        A row of an earlier revision has no page where images are simulated, or rows of the data set have a rank: no one
        can verify it. Other images of patients are not everyone's to measure, so that those rows keep theirs.
        """
        measured = {board.dataset for board in boards if any(entry.ranked for entry in board.entries)}
        alone = [board for board in boards if board.synthetic or board.dataset in measured]
        return cls({entry.id: board.id for board in alone for entry in board.entries if entry.earlier})

    def page_of(self, entry: Entry) -> str:
        """The page of a row, else its place on its board."""
        board = self.within.get(entry.id)
        return f"{self.entries}{entry.id}.html" if board is None else f"{self.root}boards/{board}.html#{entry.id}"

    def board_page(self, board: Board) -> str:
        """The page of a board."""
        return f"{self.root}boards/{board.id}.html"

    def paged(self, entry: Entry) -> bool:
        """Whether a row has a page of its own."""
        return entry.id not in self.within


def search_index(boards: Sequence[Board], people: People, places: Addresses) -> str:
    """``searchIndex = {boards, papers, rows}``.

    A row: number of its board, id, name, other words, number of its papers, rank, worst case, interval; and 1 where it
    has no page of its own.
    """
    rows = []
    for number, board in enumerate(boards):
        for entry in board.entries:
            called = people.of(entry)
            papers = " ".join(f"{paper.title} {paper.venue}" for paper in called.papers)
            words = " ".join(filter(None, [called.spec, called.training, *entry.also, entry.track]))
            worst = entry.worst
            figure = percent(worst.value) if worst else ""
            row = [number, entry.id, called.title, words, papers, entry.rank or 0, figure, interval(worst)]
            rows.append(row if places.paged(entry) else [*row, 1])
    every = sorted({str(row[4]) for row in rows})
    place = {text: at for at, text in enumerate(every)}
    kept = [[*row[:4], place[str(row[4])], *row[5:]] for row in rows]
    facts = {"boards": [[board.id, people.board(board)] for board in boards], "papers": every, "rows": kept}
    return f"searchIndex = {json.dumps(facts, ensure_ascii=True, separators=(',', ':'))};\n"
