"""Charts as SVG, small and without a library.

A chart of matplotlib takes a few tenths of a second; a board has thousands. These are written like the rest of the
page, take their colours from its style sheet (so they follow light and dark), keep their text as text, and are the same
bytes each time. Every chart stands beside a table with the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from robustbench_med.leaderboard.model import Figure
from robustbench_med.leaderboard.page.figures import percent

#: Of a line chart: size, and the room for the axes' labels. Small enough for a phone as it is.
WIDE, HIGH, LEFT, RIGHT, TOP, BELOW = 340, 230, 36, 22, 10, 38


@dataclass(frozen=True)
class Point:
    """A point of a line: ``x`` in [0, 1] of the axis, ``y`` a share, its interval, and what a reader is told of it."""

    x: float
    y: float
    told: str
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """Points that belong together; ``style`` is a class of the style sheet: colour, dashes, marker."""

    name: str
    style: str
    points: Sequence[Point]


def summary_bar(clean: float | None, claim: float | None, worst: float | None, drop: float | None) -> Markup:
    """A row's bar, 0 to 100 %: filled up to the worst case, thin for the drop, ticks at claim and clean accuracy.

    Claim and worst case may be of different images: then there is no drop.
    """
    parts = [Markup('<rect class="ground" width="100" height="12"/>')]
    if drop is not None and worst is not None and drop > 0:
        parts.append(Markup('<rect class="drop" x="{}" y="4" width="{}" height="4"/>').format(
            _n(100 * worst), _n(100 * drop)))  # fmt: skip
    if worst is not None:
        parts.append(Markup('<rect class="worst" width="{}" height="12"/>').format(_n(100 * worst)))
    if claim is not None:
        parts.append(_tick("claim-tick", claim, 1, 11))
    if clean is not None:
        parts.append(_tick("clean-tick", clean, 0, 12))
    return _bar(parts)


def interval_bar(figure: Figure | None, style: str = "worst", before: float | None = None) -> Markup:
    """One share as a bar with its 95 % interval; ``before`` is drawn thin behind it."""
    if figure is None:
        return Markup("")
    parts = [Markup('<rect class="ground" width="100" height="12"/>')]
    if before is not None and before > figure.value:
        parts.append(Markup('<rect class="drop" x="{}" y="4" width="{}" height="4"/>').format(
            _n(100 * figure.value), _n(100 * (before - figure.value))))  # fmt: skip
    parts.append(Markup('<rect class="{}" width="{}" height="12"/>').format(style, _n(100 * figure.value)))
    if figure.interval is not None:
        low, high = figure.interval
        parts.append(Markup('<path class="whisker" d="M{} 6H{}"/>').format(_n(100 * low), _n(100 * high)))
        parts += [_tick("whisker", low, 3, 9), _tick("whisker", high, 3, 9)]
    return _bar(parts)


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
    out = [Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDE, HIGH, title)]
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _y(share)
        out.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, y, WIDE - RIGHT))
        out.append(Markup('<text x="{}" y="{}" text-anchor="end" dy=".32em">{:.0f}</text>').format(
            LEFT - 6, y, 100 * share))  # fmt: skip
    for x, text in x_ticks:
        out.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(_x(x), HIGH - BELOW + 15, text))
    out.append(Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>').format(
        (LEFT + WIDE - RIGHT) / 2, HIGH - 5, x_label))  # fmt: skip
    upright = Markup('<text class="axis" transform="translate(10 {}) rotate(-90)" text-anchor="middle">{}</text>')
    out.append(upright.format((TOP + HIGH - BELOW) / 2, y_label))
    out += [_line(line) for line in drawn]
    named = [line for line in drawn if line.name]
    legend = [
        Markup('<li><svg class="key {}" viewBox="0 0 22 12" aria-hidden="true"><polyline points="0,6 22,6"/>'
               '<circle cx="11" cy="6" r="3.5"/></svg> {}</li>').format(line.style, line.name)
        for line in named
    ]  # fmt: skip
    below = [Markup('<ul class="legend">'), *legend, Markup("</ul>")] if len(named) > 1 else []
    return Markup('<div class="drawn">') + Markup("").join([*out, Markup("</svg>"), *below, Markup("</div>")])


def _line(line: Line) -> Markup:
    path = " ".join(f"{_x(point.x)},{_y(point.y)}" for point in line.points)
    out = [Markup('<g class="{}"><polyline points="{}"/>').format(line.style, path)]
    for point in line.points:
        if point.interval is not None:
            low, high = point.interval
            out.append(Markup('<path class="whisker" d="M{0} {1}V{2}"/>').format(_x(point.x), _y(low), _y(high)))
        if point.told:
            out.append(Markup('<circle cx="{}" cy="{}" r="3.5"><title>{}</title></circle>').format(
                _x(point.x), _y(point.y), point.told))  # fmt: skip
    return Markup("").join([*out, Markup("</g>")])


def told(name: str, figure: Figure) -> str:
    """``worst case 75.0 % (47 to 91)``."""
    bounds = figure.interval
    return f"{name} {percent(figure.value)} %" + (
        f" ({100 * bounds[0]:.0f} to {100 * bounds[1]:.0f})" if bounds else ""
    )


def _bar(parts: Sequence[Markup]) -> Markup:
    start = Markup('<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">')
    return Markup("").join([start, *parts, Markup("</svg>")])


def _tick(style: str, share: float, top: float, bottom: float) -> Markup:
    return Markup('<path class="{}" d="M{} {}V{}"/>').format(escape(style), _n(100 * share), _n(top), _n(bottom))


def _x(share: float) -> str:
    return _n(LEFT + share * (WIDE - LEFT - RIGHT))


def _y(share: float) -> str:
    return _n(TOP + (1 - share) * (HIGH - TOP - BELOW))


def _n(value: float) -> str:
    """As few digits as a screen can show."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
