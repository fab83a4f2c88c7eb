"""The index that the search over all boards reads: a script, so that it works from a file as well as from a server."""

from __future__ import annotations

import json
from collections.abc import Sequence

from robustbench_med.leaderboard.render.page.address import Addresses
from robustbench_med.leaderboard.render.page.figures import interval, percent
from robustbench_med.leaderboard.render.page.people import People
from robustbench_med.leaderboard.schema import Board


def index(boards: Sequence[Board], people: People, places: Addresses) -> str:
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
