"""Clean against robust accuracy of the rows of a board, each with the interval of its worst case, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from robustbench_med.leaderboard.entry import TRACKS, Entry
from robustbench_med.leaderboard.render.page import charts, texts
from robustbench_med.leaderboard.render.page.figures import percent

#: Size, and the room for the axes' labels.
WIDE, HIGH, LEFT, RIGHT, TOP, BELOW = 440, 300, 38, 14, 12, 40
#: Height of a line of text, and what a letter takes at most, so that names are kept apart.
LINE, LETTER = 13, 6.4
#: The line on which nothing is lost, in the legend.
EVEN = '<svg class="key" viewBox="0 0 12 12" aria-hidden="true"><path class="even" d="M0 12L12 0"/></svg>'


@dataclass(frozen=True)
class Dot:
    """A row: its name, and whether the name is written beside it."""

    entry: Entry
    name: str
    labelled: bool = False


def scatter(dots: Sequence[Dot], title: str) -> Markup:
    """The chart; "" where no row has both figures.

    The shape of a dot says its track; a legend names those that occur.
    """
    shown = [dot for dot in dots if dot.entry.clean is not None and dot.entry.worst is not None]
    if not shown:
        return Markup("")
    least = min(dot.entry.clean.value for dot in shown if dot.entry.clean is not None)
    start = min(0.9, math.floor(10 * least) / 10)
    view = f'viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(title)}"'
    out = [f'<div class="drawn wide"><svg class="chart" {view}>']
    shares = (0, 0.25, 0.5, 0.75, 1)
    grid = "".join(f"M{LEFT} {_y(share)}H{WIDE - RIGHT}" for share in shares)
    out.append(f'<path class="grid" d="{grid}"/><g class="y">')
    out += [f'<text x="{LEFT - 6}" y="{_y(share)}">{100 * share:.0f}</text>' for share in shares]
    out.append('</g><g class="x">')
    out += [f'<text x="{_x(share, start)}" y="{HIGH - BELOW + 16}">{100 * share:.0f}</text>' for share in _ticks(start)]
    # Where nothing is lost: clean accuracy kept under attack.
    out.append(f'<path class="even" d="M{_x(start, start)} {_y(start)}L{_x(1, start)} {_y(1)}"/>')
    middle = (LEFT + WIDE - RIGHT) // 2
    out.append(f'<text x="{middle}" y="{HIGH - 6}">clean accuracy %</text>')
    out.append('<text class="up">worst case %</text></g>')
    out += [_dot(dot, start) for dot in sorted(shown, key=lambda dot: dot.labelled)]
    out += [*_labels(shown, start), "</svg>"]
    tracks = [track for track in TRACKS if any(dot.entry.track == track for dot in shown)]
    out += ['<ul class="legend">', *map(_legend, tracks), f"<li>{EVEN} nothing lost</li></ul></div>"]
    return charts.markup(out)


def _dot(dot: Dot, start: float) -> str:
    clean, worst = dot.entry.clean, dot.entry.worst
    assert clean is not None
    assert worst is not None
    x, y = _x(clean.value, start), _y(worst.value)
    whisker = ""
    if worst.interval:
        low, high = worst.interval
        whisker = f'<path class="whisker" d="M{x} {_y(low)}V{_y(high)}"/>'
    told = escape(f"{dot.name}: clean {percent(clean.value)} %, {charts.told('worst case', worst)}")
    number = TRACKS.index(dot.entry.track)
    main = " main" if dot.labelled else ""
    return f'<g class="dot t{number}{main}">{whisker}{_mark(number, float(x), float(y), told)}</g>'


def _mark(number: int, x: float, y: float, told: str = "") -> str:
    """A circle, a square or a triangle, so that tracks differ by more than colour."""
    title = f"<title>{told}</title>" if told else ""
    if number == 0:
        return f'<circle cx="{_n(x)}" cy="{_n(y)}">{title}</circle>'
    if number == 1:
        return f'<rect x="{_n(x - 3.6)}" y="{_n(y - 3.6)}" width="7.2" height="7.2">{title}</rect>'
    return f'<path class="shape" d="M{_n(x)} {_n(y - 5)}l4.8 8.6h-9.6z">{title}</path>'


def _labels(dots: Sequence[Dot], start: float) -> list[str]:
    """Names beside dots, each where it covers neither a named dot nor another name, and no other dot if that can be."""
    out: list[str] = []
    places = {id(dot): _place(dot, start) for dot in dots}
    boxes = {key: (x - 6, y - 6, x + 6, y + 6) for key, (x, y) in places.items()}
    taken = [boxes[id(dot)] for dot in dots if dot.labelled]
    others = [boxes[id(dot)] for dot in dots if not dot.labelled]
    for dot in sorted((dot for dot in dots if dot.labelled), key=lambda dot: places[id(dot)][1]):
        x, y = places[id(dot)]
        every = _candidates(dot.name, x, y)
        free = [label for label in every if not any(_meet(label.box, box) for box in taken)]
        best = [label for label in free if not any(_meet(label.box, box) for box in others)]
        label = (best or free or every)[0]
        taken.append(label.box)
        if abs(label.y - y) > 4:
            out.append(
                f'<path class="lead" d="M{_n(x + label.shift / 2)} {_n(y)}L{_n(x + label.shift)} {_n(label.y)}"/>'
            )
        anchor = "start" if label.shift > 0 else "end"
        where = f'x="{_n(x + label.shift)}" y="{_n(label.y)}" text-anchor="{anchor}"'
        out.append(f'<text class="name" {where}>{escape(label.text)}</text>')
    return out


@dataclass(frozen=True)
class _Label:
    """A name at a height, so far beside its dot, and the rectangle that it covers: left, top, right, bottom."""

    text: str
    y: float
    shift: float
    box: tuple[float, float, float, float]


def _candidates(name: str, x: float, y: float) -> list[_Label]:
    """Where the name of a dot may go, the best first: at its height, then further away, on the side with more room."""
    found = []
    right = x <= (LEFT + WIDE) / 2
    for lines in (0, 1, -1, 2, -2, 3, -3, 4, -4):
        at = y + lines * LINE
        if not TOP - 6 <= at <= HIGH - BELOW - 3:
            continue
        for shift in (9, -9) if right else (-9, 9):
            room = (WIDE - x if shift > 0 else x - LEFT) - 12
            text = _shortened(name, room)
            whole = text == name
            wide, edge = len(text) * LETTER, x + shift
            left = edge if shift > 0 else edge - wide
            if whole or (shift > 0) == right:
                found.append(_Label(text, at, shift, (left, at - LINE / 2 + 1, left + wide, at + LINE / 2 - 1)))
    return found


def _shortened(name: str, room: float) -> str:
    """As many parts of a name as there is room for; of one that is too long alone, its beginning."""
    parts, more = name.split(", "), "\N{HORIZONTAL ELLIPSIS}"
    for count in range(len(parts), 0, -1):
        text = ", ".join(parts[:count]) + (more if count < len(parts) else "")
        if len(text) * LETTER <= room:
            return text
    return name[: max(8, int(room / LETTER) - 1)].rstrip(", ") + more


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _place(dot: Dot, start: float) -> tuple[float, float]:
    assert dot.entry.clean is not None
    assert dot.entry.worst is not None
    return float(_x(dot.entry.clean.value, start)), float(_y(dot.entry.worst.value))


def _legend(track: str) -> str:
    number = TRACKS.index(track)
    key = f'<svg class="key dot t{number}" viewBox="0 0 12 12" aria-hidden="true">{_mark(number, 6, 6)}</svg>'
    return f"<li>{key} {escape(texts.KINDS[track])}</li>"


def _ticks(start: float) -> list[float]:
    step = 0.1 if start >= 0.5 else 0.25
    first = math.ceil(start / step - 1e-9)
    return [round(step * at, 4) for at in range(first, round(1 / step) + 1)]


def _x(share: float, start: float) -> str:
    # A little room at the right edge, so that dots at 100 % are whole.
    return _n(LEFT + 8 + (share - start) / (1 - start) * (WIDE - LEFT - RIGHT - 16))


def _y(share: float) -> str:
    return _n(TOP + (1 - share) * (HIGH - TOP - BELOW))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
