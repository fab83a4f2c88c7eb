"""Where pages are: of boards, and of rows, most of which have one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_med.leaderboard.schema import Board, Entry


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
