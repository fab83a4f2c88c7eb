"""The templates of the pages, and what they call; whatever comes from a record is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Claim, Entry, Figure
from robustbench_med.leaderboard.render.columns import as_published
from robustbench_med.leaderboard.render.page import charts, columns, figures, lines, overview, texts
from robustbench_med.records.scorings import MEAN, OTHERS, Scoring
from robustbench_med.records.summary import images_of

HERE = Path(__file__).parent
#: Rows of a table that are shown at first; the others wait for a click, so that thousands of rows paint quickly.
FIRST = 100
#: What HTML lets one leave out, since a browser adds it: end tags, spaces at the start of a line, and quotes.
_SPARE = re.compile(r"</(?:td|th|tr|tbody|thead|li|dt|dd|option)>|(?<=\n) +(?=[<{])")
_QUOTED = re.compile(r'(?<= )([a-z-]+)="([A-Za-z0-9_.#-]+)"(?=[ >])')


def _template(name: str) -> str:
    """The source of a template, shortened once: there is a page for each row."""
    text = (HERE / "templates" / name).read_text(encoding="utf-8")
    return _QUOTED.sub(r"\1=\2", _SPARE.sub("", text))


@cache
def environment() -> jinja2.Environment:
    """The templates, and what they call; whatever comes from a record is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {
        "filled": columns.filled,
        "words": texts.TERMS,
        "rungs": texts.RUNGS,
        "tracks": texts.TRACKS,
        "ladders": texts.LADDERS,
        "strength": _strength,
        "glossary_of": texts.GLOSSARY,
        "kinds": texts.KINDS,
        "groups": texts.GROUPS,
        "shown": texts.SHOWN,
        "counted": counted,
        "plural": plural,
        "first": FIRST,
        "percent": figures.percent,
        "breakable": figures.breakable,
        "interval": figures.interval,
        "images_of": images_of,
        "interval_bar": charts.interval_bar,
        "summary_bar": _summary_bar,
        "key": _key,
        "best": overview.best,
        "halves": _halves,
        "rows_of": _rows_of,
        "verdict": _verdict,
        "published": _published,
        "clients": lambda names: json.dumps(list(names)),  # a client's name may hold any character
        "choices": _choices,
        "about": _about,
        "as_published": as_published,
        "whose": _whose,
        "source": _source,
        "share": figures.share,
        "axis": _AXIS,
        "dash": figures.DASH,
        "told_rank": texts.RANK,
        "lines": lines,
    }
    return made


_AXIS = Markup("<span class=axis><i>0</i><i>50</i><i>100&nbsp;%</i></span><span class=sr>Bar</span>")


def _summary_bar(entry: Entry) -> Markup:
    return charts.summary_bar(_value(entry.clean), _value(entry.claim), _value(entry.worst), entry.drop)


def _key(kind: str) -> Markup:
    """The sign of a term, as drawn in the bars."""
    return {
        "clean": Markup('<path class="clean-tick" d="M6 0V12"/>'),
        "claim": Markup('<path class="claim-tick" d="M6 0V12"/>'),
        "worst": Markup('<rect class="worst" width="12" height="12"/>'),
        "drop": Markup('<rect class="drop" y="4" width="12" height="4"/>'),
    }[kind]


def _value(figure: Figure | None) -> float | None:
    return figure.value if figure else None


def _whose(names: Sequence[str], word: str = "of") -> str:
    return f"{word} {names[0]}" if len(names) == 1 else f"{word} {len(names)} clients"


def _strength(ladder: str) -> str:
    """What a ladder is, in a sentence, whatever its revision; "" for one that is of its own."""
    return texts.LADDERS.get(ladder.partition(" (revision")[0], "")


def _rows_of(board: Board) -> str:
    return plural(sum(1 for _ in board.entries), "row")


def _published(board: Board) -> list[Claim]:
    """Claims on data of the board's name, and on its defenses and strategies, each once."""
    claims = [*board.claims, *(claim for entry in board.entries for claim in entry.claims)]
    return list(dict.fromkeys(claims))


def _verdict(answer: str, truth: str) -> str:
    """The style of an answer: an answer withheld is neither right nor wrong."""
    return "" if answer == "no answer" else "right" if answer == truth else "wrong"


def _halves(text: str) -> tuple[str, str]:
    """The first sentence of a text, and the others."""
    first, dot, rest = text.partition(". ")
    return first + dot.strip(), rest


def _choices(boards: Sequence[Board], several: bool) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The menus of the filter: name, label, and each choice with its text; ``several``: also which board."""
    rows = [entry for board in boards for entry in board.entries]
    tracks = dict.fromkeys(entry.track for entry in rows)
    clients = dict.fromkeys(client for entry in rows for client in entry.clients)
    which: Mapping[str, tuple[str, list[str]]] = {
        "dataset": ("Data", list(dict.fromkeys(board.dataset for board in boards))),
        "threat": ("Threat", list(dict.fromkeys(board.threat for board in boards))),
    }
    menus: Mapping[str, tuple[str, list[str]]] = {
        **(which if several else {}),
        "track": ("Kind", [track for track in texts.TRACKS if track in tracks]),
        "client": ("Client", sorted(clients)),
    }
    found = [(name, label, [(text, text) for text in texts]) for name, (label, texts) in menus.items()]
    return [*found, ("marks", "Marks", [("none", "rows without"), ("some", "rows with")])]


def _about(board: Board) -> Markup:
    kind = "Simulated images" if board.synthetic else "Images of patients"
    read = f", read with {board.options}" if board.data and board.options else ""
    partition = f". Its clients are made by {board.partition}, and are no hospitals" if board.partition else ""
    text = f"{kind}{read}{partition}. Licence: {board.licence or 'not given'}."
    paper = board.data.paper if board.data else None
    return escape(text) + Markup(" Published: {}.").format(_source(paper.text, paper.url)) if paper else escape(text)


def _source(text: str, url: str) -> Markup:
    """A link where the address is one of the web, else plain text."""
    if address := figures.web(url):
        return Markup('<a href="{}">{}</a>').format(address, text)
    return Markup("{}").format(text)


def counted(entry: Entry) -> list[tuple[Scoring, Figure | None, Figure | None]]:
    """Each way, clean and under attack; empty where there is only the mean."""
    found = entry.scorings
    rows = [(each, found.get(each.clean), found.get(each.robust)) for each in OTHERS]
    rows = [row for row in rows if row[1] or row[2]]
    return [(MEAN, entry.clean, entry.worst), *rows] if rows else []
