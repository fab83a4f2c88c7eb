"""Charts as SVG, small and without a library.

A chart of matplotlib takes a few tenths of a second; a board has thousands. These are written like the rest of the
page, take their colours from its style sheet (so they follow light and dark), keep their text as text, and are the same
bytes each time. Every chart is shown next to a table with the same figures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robustbench_med.files.escaping import escape_html
from robustbench_med.leaderboard.entry import Figure
from robustbench_med.leaderboard.render.page.figures import percent

#: Of a line chart: size, and the room for the axes' labels. Small enough for a phone as it is.
WIDE, HIGH, LEFT, RIGHT, TOP, BELOW = 340, 230, 36, 22, 10, 38
ACROSS, UP = WIDE - LEFT - RIGHT, HIGH - TOP - BELOW
#: An attribute whose value needs no quotes; within a title it would be escaped.
_QUOTED = re.compile(r'(?<= )([a-z-]+)="([A-Za-z0-9_.-]+)"(?=[ >])')


@dataclass(frozen=True)
class Point:
    """A point of a line: ``x`` in [0, 1] of the axis, ``y`` a share, its interval, and what a reader is told of it."""

    x: float
    y: float
    told: str
    interval: tuple[float, float] | None = None


def point(x: float, name: str, figure: Figure, whisker: bool = True) -> Point:
    """The point of a figure, told by its name; with its interval unless there is to be no ``whisker``."""
    return Point(x, figure.value, told(name, figure), figure.interval if whisker else None)


@dataclass(frozen=True)
class Line:
    """Points that belong together; ``style`` is a class of the style sheet: colour, dashes, marker.

    ``path`` is the line where it has more corners than ``points`` are marked, as x and y in [0, 1].
    """

    name: str
    style: str
    points: Sequence[Point] = ()
    path: Sequence[tuple[float, float]] = ()


def summary_bar(clean: float | None, claim: float | None, worst: float | None, drop: float | None) -> Markup:
    """A row's bar, 0 to 100 %: filled up to the worst case, thin for the drop, ticks at claim and clean accuracy.

    Claim and worst case may be of different images: then there is no drop.
    """
    parts = []
    if drop is not None and worst is not None and drop > 0:
        parts.append(_thin(worst, drop))
    if worst is not None:
        parts.append(_filled("worst", worst))
    if claim is not None:
        parts.append(_tick("claim-tick", claim, 1, 11))
    if clean is not None:
        parts.append(_tick("clean-tick", clean, 0, 12))
    return _bar(parts)


def interval_bar(figure: Figure | None, style: str = "worst", before: float | None = None) -> Markup:
    """One share as a bar with its 95 % interval; ``before`` is drawn thin behind it, ``style`` is worst or clean."""
    if figure is None:
        return Markup("")
    parts = []
    if before is not None and before > figure.value:
        parts.append(_thin(figure.value, before - figure.value))
    parts.append(_filled(style, figure.value))
    return _bar([*parts, *_whisker(figure)])


def bounds_bar(low: Figure | None, high: Figure | None) -> Markup:
    """A lower bound as a bar with its interval, a thin bar from it to the upper bound, and a tick there.

    Without a lower bound the upper one is the bar.
    """
    if low is None or high is None:
        return interval_bar(low or high, "clean" if high is None else "worst")
    parts = [_thin(low.value, high.value - low.value)] if high.value > low.value else []
    return _bar([*parts, _filled("clean", low.value), *_whisker(low), _tick("claim-tick", high.value, 1, 11)])


def lines(
    drawn: Sequence[Line], x_ticks: Sequence[tuple[float, str]], x_label: str, y_label: str, title: str
) -> Markup:
    """A line chart; y goes from 0 to 100 %.

    Args:
        drawn: the lines, each in its style; those with a name are in the legend.
        x_ticks: where, in [0, 1], and what is written there.
        x_label: under the axis.
        y_label: beside the other.
        title: for those who do not see it.
    """
    told = escape_html(title)
    out = [f'<div class="drawn"><svg class="chart" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{told}">']
    shares = (0, 0.25, 0.5, 0.75, 1)
    grid = "".join(f"M{LEFT} {_y(share)}H{WIDE - RIGHT}" for share in shares)
    out.append(f'<path class="grid" d="{grid}"/><g class="y">')
    out += [f"<text x={LEFT - 6} y={_y(share)}>{100 * share:.0f}</text>" for share in shares]
    out.append('</g><g class="x">')
    out += [f"<text x={_x(x)} y={HIGH - BELOW + 15}>{escape_html(text)}</text>" for x, text in x_ticks]
    middle = (LEFT + WIDE - RIGHT) // 2
    out.append(f'<text x="{middle}" y="{HIGH - 5}">{escape_html(x_label)}</text>')
    out.append(f'<text class="up">{escape_html(y_label)}</text></g>')
    out += [*map(_line, drawn), "</svg>"]
    named = [line for line in drawn if line.name]
    if named:
        out += ['<ul class="legend">', *map(_legend, named), "</ul>"]
    return markup([*out, "</div>"])


def corners(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a line without those within a level or an upright piece of it: a ROC curve is full of them."""
    inner = [
        (x, y)
        for (x0, y0), (x, y), (x1, y1) in zip(points, points[1:], points[2:], strict=False)
        if not (x0 == x == x1 or y0 == y == y1)
    ]
    return [points[0], *inner, points[-1]]


def told(name: str, figure: Figure) -> str:
    """``worst case 75.0 % (47 to 91)``."""
    bounds = figure.interval
    text = f" ({100 * bounds[0]:.0f} to {100 * bounds[1]:.0f})" if bounds else ""
    return f"{name} {percent(figure.value)} %{text}"


# Below, whatever is not a number is ours or escaped; the pieces become `Markup` once, where they are put together.


def _line(line: Line) -> str:
    corners = line.path or [(point.x, point.y) for point in line.points]
    numbers = [number for x, y in corners for number in (LEFT + ACROSS * x, HIGH - BELOW - UP * y)]
    path = ("%.4g,%.4g " * len(corners))[:-1] % tuple(numbers)
    out = [f'<g class="{line.style}"><polyline points="{path}"/>']
    bounded = [(_x(point.x), *map(_y, point.interval)) for point in line.points if point.interval is not None]
    if bounded:
        out.append(f'<path class=whisker d="{"".join(f"M{x} {low}V{high}" for x, low, high in bounded)}"/>')
    for point in line.points:
        if point.told:
            told = f"<title>{escape_html(point.told)}</title>"
            out.append(f"<circle cx={_x(point.x)} cy={_y(point.y)}>{told}</circle>")
    return "".join([*out, "</g>"])


def _legend(line: Line) -> str:
    return f'<li class="{line.style}">{escape_html(line.name)}</li>'


def _bar(parts: Sequence[str]) -> Markup:
    start = '<svg class=bar viewBox="0 0 100 12" preserveAspectRatio=none aria-hidden=true>'
    return markup([start, *parts, "</svg>"])


def markup(parts: Sequence[str]) -> Markup:
    """The parts together, without the quotes that HTML does not need: there are tens of thousands of charts."""
    return Markup(_QUOTED.sub(r"\1=\2", "".join(parts)))


def _filled(style: str, share: float) -> str:
    return f'<path class={style} d="M0 6H{_n(100 * share)}"/>'


def _whisker(figure: Figure) -> list[str]:
    if figure.interval is None:
        return []
    left, right = (_n(100 * bound) for bound in figure.interval)
    return [f'<path class=whisker d="M{left} 6H{right}M{left} 3v6M{right} 3v6"/>']


def _thin(start: float, share: float) -> str:
    return f'<path class=drop d="M{_n(100 * start)} 6h{_n(100 * share)}"/>'


def _tick(style: str, share: float, top: float, bottom: float) -> str:
    return f'<path class={style} d="M{_n(100 * share)} {_n(top)}V{_n(bottom)}"/>'


def _x(share: float) -> str:
    return _n(LEFT + share * ACROSS)


def _y(share: float) -> str:
    return _n(TOP + (1 - share) * UP)


def _n(value: float) -> str:
    """As few digits as a screen can show."""
    return f"{value:.1f}".removesuffix(".0")
