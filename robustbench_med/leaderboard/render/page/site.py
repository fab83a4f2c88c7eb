"""Boards -> files of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from robustbench_med.files.escaping import straight
from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry, Mark
from robustbench_med.leaderboard.ranking.pool import cells
from robustbench_med.leaderboard.render.page import curves, figures, gallery, overview
from robustbench_med.leaderboard.render.page.address import Addresses, search_index
from robustbench_med.leaderboard.render.page.details import Page
from robustbench_med.leaderboard.render.page.environment import HERE, environment
from robustbench_med.leaderboard.render.page.row_names import People
from robustbench_med.leaderboard.render.studies.view import Study
from robustbench_med.leaderboard.sources.names import Names

#: How the benchmark is cited; the papers of defenses and attacks are named by their rows.
CITATION = """\
@software{robustbench_med,
  title  = {robustbench-med: how robust a medical-imaging model and its defense really are},
  author = {{The robustbench-med authors}},
  year   = {2026},
  note   = {leaderboard of worst-case robustness}
}"""
#: Only the page's own files are loaded: no browser fetches or runs what a record holds.
POLICY = Markup(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
)


def pages(
    boards: Sequence[Board],
    pictures: Path | None = None,
    notice: str = "",
    names: Names | None = None,
    studies: Sequence[Study] = (),
) -> Iterator[tuple[str, Callable[[], str]]]:
    """The files of the page: path below its folder, and what makes its text.

    Args:
        boards: what to show.
        pictures: folder of the rows' galleries, ``<row>/gallery.json``.
        notice: a paragraph on rows without a rank, shown above the boards that have any.
        names: of components, for people.
        studies: what is shown beside the boards.
    """
    people = People.among(boards, names or {})
    for name in ("page.css", "page.js"):
        yield f"assets/{name}", partial((HERE / name).read_text, encoding="utf-8")
    yield "assets/search.js", partial(search_index, boards, people)
    sets = overview.data_sets(boards, people)
    common: dict[str, Any] = {
        "people": people,
        "policy": POLICY,
        "inline": False,
        "foot": foot(boards),
        "notice": notice,
        "studies": studies,
        "menu": sets,
    }
    above = {**common, **_links(Addresses())}
    yield "index.html", partial(_overview, boards, people, above)
    yield "about.html", partial(_rendered, "about.html", **above, marks=marks(boards), citation=CITATION)
    below = {**common, **_links(Addresses("../", "../entries/"))}
    for study in studies:
        yield f"studies/{study.id}.html", partial(_rendered, "study.html", **below, study=study)
    for each in sets:
        for board in each.boards.values():
            yield f"boards/{board.id}.html", partial(_board, board, each, people, below)
    beside = {**common, **_links(Addresses("../", ""))}
    for page in row_pages(boards, pictures, "../gallery", people):
        yield f"entries/{page.entry.id}.html", partial(_rendered, "entry.html", page=page, **beside)


def _overview(boards: Sequence[Board], people: People, common: Mapping[str, Any]) -> str:
    """The first page."""
    panels = overview.panels(boards, people)
    return _rendered(
        "index.html",
        **common,
        panels=panels,
        answer=overview.on_patients(panels[0], people) if panels else None,
        threats=overview.threats(boards),
        every_threat=list(dict.fromkeys(board.threat for board in boards)),
        example=example(boards),
    )


def _board(board: Board, data: overview.DataSet, people: People, common: Mapping[str, Any]) -> str:
    """The page of a board, beside the others of its data set."""
    unranked = any(not entry.ranked for entry in board.entries)
    return _rendered(
        "board.html",
        **{**common, "notice": common["notice"] if unranked else ""},
        board=board,
        siblings=data.boards,
        card=overview.card(board, people),
        curves=curves.over_eps(board, list(data.boards.values()), people),
        marks=marks([board]),
    )


def _rendered(name: str, **facts: Any) -> str:
    return straight(environment().get_template(name).render(**facts))


def _links(places: Addresses) -> dict[str, Any]:
    """How a page reaches the others."""
    names = ("root", "page_of", "board_page")
    return {name: getattr(places, name) for name in names}


def row_pages(
    boards: Sequence[Board], pictures: Path | None, linked: str | None = None, people: People | None = None
) -> Iterator[Page]:
    """What the page of each row shows; images as links into the folder ``linked``, or within the page."""
    systems: dict[str, list[tuple[Board, Entry]]] = {}
    for board in boards:
        for entry in board.entries:
            systems.setdefault(entry.system, []).append((board, entry))
    for board in boards:
        for section, entry in board.placed:
            shown = gallery.find(pictures, entry.id, linked) if pictures is not None else None
            yield Page(board, section, entry, systems[entry.system], shown, people or People())


def example(boards: Sequence[Board]) -> dict[str, Any] | None:
    """The ranked row with the largest drop: what the terms mean, shown on a real case."""
    rows = [
        (board, entry)
        for board in boards
        for section in board.sections
        for entry in section.entries
        if entry.drop is not None and entry.drop > 0 and entry.claim and entry.worst
    ]
    if not rows:
        return None
    board, entry = max(rows, key=lambda row: (row[1].drop, row[1].id))
    assert entry.claim is not None
    assert entry.worst is not None
    told = [
        ("Clean", "clean", figures.percent(entry.clean.value if entry.clean else None), "%"),
        ("Claim", "claim", figures.percent(entry.claim.value), "%"),
        ("Worst case", "worst", figures.percent(entry.worst.value), "%"),
        ("Drop", "drop", figures.percent(entry.drop), "points"),
    ]
    return {"board": board, "entry": entry, "figures": told}


def marks(boards: Sequence[Board]) -> list[Mark]:
    """Every mark that a row carries, once, by name."""
    found = {mark.flag: mark for board in boards for entry in board.entries for mark in entry.marks}
    return [found[flag] for flag in sorted(found)]


def foot(boards: Sequence[Board]) -> str:
    """What was counted, in a sentence."""
    rows = [entry for board in boards for entry in board.entries]
    newest = max((entry.date for entry in rows), default="")
    records = {record.cell_id for entry in rows for record in cells([*entry.records, *entry.claim_records])}
    counted = {"row": rows, "record": records, "board": boards}
    row, record, board = (plural(len(each), name) for name, each in counted.items())
    text = f"{row} from {record} on {board}."
    return f"{text} Newest record: {newest}." if newest else text
