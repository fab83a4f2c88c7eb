"""The first page: who wins on which data set, under which threat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robustbench_med.leaderboard.board import Board, Section
from robustbench_med.leaderboard.entry import Entry
from robustbench_med.leaderboard.ranking.identity import slug
from robustbench_med.leaderboard.ranking.rows import grouped
from robustbench_med.leaderboard.render.page import scatter
from robustbench_med.leaderboard.render.page.row_names import People

#: The threat that most papers report, shown first where it was measured.
USUAL = "Linf 4/255"


@dataclass(frozen=True)
class Winner:
    """The best row of a track."""

    section: Section
    entry: Entry


@dataclass(frozen=True)
class Card:
    """A board in short: the best row of each track, what to compare them with, and all rows in a chart."""

    board: Board
    winners: Sequence[Winner]
    compared: Sequence[Entry]
    chart: Markup

    @property
    def earlier(self) -> bool:
        """Whether all that it names was measured with an earlier revision."""
        return all(winner.entry.earlier for winner in self.winners)


@dataclass(frozen=True)
class Panel:
    """Every data set under one threat."""

    threat: str
    id: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Answer:
    """Who wins on images of patients, and the row without a defense beside it: the first thing that is read."""

    card: Card
    best: Winner
    plain: Entry | None


@dataclass(frozen=True)
class DataSet:
    """The boards of one data set, by threat."""

    name: str
    synthetic: bool
    boards: dict[str, Board]

    @property
    def few(self) -> bool:
        """Whether all of its boards are of few patients."""
        return all(board.few for board in self.boards.values())


def data_sets(boards: Sequence[Board], people: People) -> list[DataSet]:
    """Boards of one data set together, in the order of the first of each."""
    groups = grouped(boards, lambda each: each.same_data).values()
    return [
        DataSet(people.data(group[0]), group[0].synthetic, {each.threat: each for each in group}) for group in groups
    ]


def threats(boards: Sequence[Board]) -> list[str]:
    """Threats under which rows have a rank, in the order of boards; the usual one first in `panels` only."""
    return list(dict.fromkeys(board.threat for board in boards if board.sections))


def usual(boards: Sequence[Board]) -> str:
    """The threat that is shown first: `USUAL`, else the one with the most boards."""
    counts = Counter(board.threat for board in boards if board.sections)
    return USUAL if counts[USUAL] or not counts else counts.most_common(1)[0][0]


def panels(boards: Sequence[Board], people: People) -> list[Panel]:
    """A panel for each threat, the usual one first."""
    first, sets = usual(boards), data_sets(boards, people)
    order = sorted(threats(boards), key=lambda name: name != first)
    return [
        Panel(
            name,
            slug(name),
            [card(found, people) for each in sets if (found := each.boards.get(name)) and found.sections],
        )
        for name in order
    ]


def card(board: Board, people: People) -> Card:
    """A board in short."""
    return Card(board, winners(board), compared(board, people), chart(board, people))


def winners(board: Board) -> list[Winner]:
    """The first row of each track, of its strongest ladder; the one with the highest worst case first."""
    first: dict[str, Winner] = {}
    for section in board.sections:
        first.setdefault(section.track, Winner(section, section.entries[0]))
    return sorted(first.values(), key=lambda each: -each.entry.worst.value if each.entry.worst else 0.0)


def compared(board: Board, people: People) -> list[Entry]:
    """The best row with adversarial training alone and the best without a defense, where they are no winners."""
    first = {winner.entry.id for winner in winners(board)}
    rows = [entry for section in board.sections for entry in section.entries]
    trained = next((entry for entry in rows if people.of(entry).trained), None)
    plain = next((entry for entry in rows if people.of(entry).plain), None)
    return [entry for entry in (trained, plain) if entry is not None and entry.id not in first]


def chart(board: Board, people: People) -> Markup:
    """All rows with a rank; winners and what they are compared with have their name written beside them."""
    named = {entry.id for entry in (*(winner.entry for winner in winners(board)), *compared(board, people))}
    dots = [
        scatter.Dot(entry, people.of(entry).title, entry.id in named)
        for section in board.sections
        for entry in section.entries
    ]
    title = (
        f"{people.board(board)}: worst case against clean accuracy, with 95 % intervals; figures in the board's tables"
    )
    return scatter.scatter(dots, title)


def on_patients(panel: Panel, people: People) -> Answer | None:
    """The winner of the first board of patients that has rows of today's revision; None where there is none."""
    for each in panel.cards:
        if each.board.synthetic or each.earlier:
            continue
        won = each.winners[0]
        same = [other for other in each.board.sections if _measured_alike(other, won.section)]
        rows = (entry for section in same for entry in section.entries if people.of(entry).plain)
        return Answer(each, won, next((entry for entry in rows if entry.id != won.entry.id), None))
    return None


def _measured_alike(one: Section, other: Section) -> bool:
    return (one.ladder, one.images, one.clients) == (other.ladder, other.images, other.clients)


def best(board: Board) -> Entry | None:
    """The row with the highest worst case of all tracks."""
    return next((winner.entry for winner in winners(board)), None)
