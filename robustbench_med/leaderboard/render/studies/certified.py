"""The page of certificates: a lower bound that no attack can pass, beside the upper bound that one has reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.ranking.certified import Bounds, certified_boards, curves
from robustbench_med.leaderboard.ranking.studies import StudyBoard
from robustbench_med.leaderboard.render.columns import with_interval
from robustbench_med.leaderboard.render.page import certificates, charts
from robustbench_med.leaderboard.render.studies.rerun import again, cells, measured_with
from robustbench_med.leaderboard.render.studies.view import (
    Column,
    Line,
    Study,
    Table,
    Titles,
    figure_facts,
    number,
    points,
    share,
)
from robustbench_med.leaderboard.sources.studies import CERTIFIED, StudySources
from robustbench_med.records.record import Record
from robustbench_med.records.summary import images_of

COLUMNS = (
    Column("L2 radius", "Largest change of the whole image, in units of pixels in [0, 1]."),
    Column("Certified %", "Lower bound: right, and provably so for every change within the radius."),
    Column("Attacked %", "Upper bound: still right after the attack that is named."),
    Column("Gap", "Attacked minus certified: what neither bound decides."),
    Column("Clean %", "Accuracy without an attack; of a smoothed system, of its smoothed answers."),
    Column("No certificate", "Images for which nothing was certified; they count as errors of the lower bound."),
    Column("Contradictions", "Images that the attack broke inside their certified radius: none, unless it is wrong."),
)
READ = (
    "The true robust accuracy of a smoothed system lies between the two bounds. More samples raise the lower one, a "
    "better attack lowers the upper one.",
    "A system that is not smoothed has no lower bound: its row shows what the attack takes where nothing is certified.",
    "A control changes images by noise or not at all. It must leave everything that is right without an attack.",
)


def certified_study(source: StudySources, titles: Titles) -> Study | None:
    """The page; None where nothing was certified."""
    boards = certified_boards(source.records)
    if not boards:
        return None
    return Study(
        id=CERTIFIED,
        title="Certified and attacked",
        question="How much is proven, and how much could still be taken?",
        learned=_learned(boards, titles),
        read=READ,
        tables=[_table(board, titles) for board in boards],
        measured=measured_with([record for board in boards for row in board.rows for record in row.records]),
        docs="certify.md",
        facts=[_facts(board, row) for board in boards for row in board.rows],
    )


def _learned(boards: Sequence[StudyBoard[Bounds]], titles: Titles) -> str:
    """Of the row whose bounds say most: the largest radius at which half of the images or more are certified.

    On images of patients, where there are any.
    """
    every = (
        (board, [row for row in board.rows if row.certified and row.attacked and not row.control]) for board in boards
    )
    board, rows = next(((board, rows) for board, rows in every if rows), (boards[0], []))
    if not rows:
        return "Certified lower bounds, without an attack yet."
    best = max(rows, key=lambda row: (row.certified is not None and row.certified.value >= 0.5, row.eps))
    assert best.certified is not None
    return (
        f"{titles.board(board.title)}: no attack within {best.eps_text} can leave less than "
        f"{with_interval(best.certified)} % of the images of {titles.of(best.system)}; the best that was tried left "
        f"{with_interval(best.attacked)} %."
    )


def _table(board: StudyBoard[Bounds], titles: Titles) -> Table:
    first = next((row.how for row in board.rows if row.how is not None), None)
    how = "" if first is None else _how(board, titles)
    return Table(
        titles.board(board.title),
        f"{images_of(board.images, board.patients)}. {how}",
        "System and attack",
        COLUMNS,
        [_line(row, titles) for row in board.rows],
        chart(board, titles),
        [
            (f"{titles.both(system)}, {titles.of(attack)}", again(_of(board, system, attack)))
            for system, attack in _named(board)
        ],
    )


def _named(board: StudyBoard[Bounds]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.system, row.attack) for row in board.rows))


def _of(board: StudyBoard[Bounds], system: str, attack: str) -> list[Record]:
    return [record for row in board.rows if (row.system, row.attack) == (system, attack) for record in row.records]


def _how(board: StudyBoard[Bounds], titles: Titles) -> str:
    """How the systems were certified, each way once."""
    ways = dict.fromkeys(
        f"{titles.of(row.system)}: noise of {row.how.sigma:g}, {row.how.n:,} samples of each image, and "
        f"{row.how.n0:,} to choose the class; each certificate holds with a probability of {1 - row.how.alpha:g}"
        for row in board.rows
        if row.how is not None
    )
    return f"{'. '.join(ways)}."


def _line(row: Bounds, titles: Titles) -> Line:
    none = row.how is None
    return Line(
        row.system,
        [
            number(row.eps, "g"),
            share(row.certified),
            share(row.attacked),
            points(row.gap),
            share(row.clean),
            number(None if none else row.abstained),
            number(None if none else row.contradicted),
        ],
        f"{titles.both(row.attack)}, {row.access}",
        charts.bounds_bar(row.certified, row.attacked),
        row.control,
        title=titles.other(row.system),
    )


def chart(board: StudyBoard[Bounds], titles: Titles) -> Markup:
    """Certified accuracy over the radius, and what attacks left at theirs, of all systems of a board."""
    certified = {
        titles.of(system): [(point.radius, Figure(point.accuracy, point.low, point.high)) for point in section.curve]
        for system, section in curves(board.rows).items()
    }
    attacked: dict[str, dict[float, Figure]] = {}
    for row in board.rows:
        if row.attacked is not None and not row.control:
            own = attacked.setdefault(titles.of(row.system), {})
            before = own.get(row.eps)
            own[row.eps] = row.attacked if before is None or row.attacked.value < before.value else before
            if row.clean is not None and row.certified is None:
                own.setdefault(0.0, row.clean)
    return certificates.together(certified, {system: sorted(found.items()) for system, found in attacked.items()})


def _facts(board: StudyBoard[Bounds], row: Bounds) -> dict[str, Any]:
    how = row.how
    return {
        "board": board.title,
        "images": board.images,
        "patients": board.patients,
        "system": row.system,
        "attack": row.attack,
        "access": row.access,
        "control": row.control,
        "eps": row.eps,
        **figure_facts("clean", row.clean),
        **figure_facts("certified", row.certified),
        **figure_facts("attacked", row.attacked),
        "gap": row.gap,
        "sigma": how.sigma if how else None,
        "samples": how.n if how else None,
        "alpha": how.alpha if how else None,
        "abstained": row.abstained if how else None,
        "contradicted": row.contradicted if how else None,
        "records": cells(row.records),
    }
