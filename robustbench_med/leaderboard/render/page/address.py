"""Where pages are: of boards, and of rows, most of which have one of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustbench_med.leaderboard.schema import Board, Entry


def has_page(board: Board, entry: Entry) -> bool:
    """Whether a row has a page of its own.

    One of an earlier revision on simulated images has its row on the board only: no one can verify it, and one command
    measures it again. Images of patients are not everyone's to measure, so that those rows keep theirs.
    """
    return not (entry.earlier and board.synthetic)


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
        """Those of these boards."""
        return cls({entry.id: board.id for board in boards for entry in board.entries if not has_page(board, entry)})

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
