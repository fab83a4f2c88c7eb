"""The curve of a row over the size or the contrast of lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robustbench_med.interfaces.lesions import LESIONS
from robustbench_med.leaderboard.ranking.lesions import LesionRange
from robustbench_med.leaderboard.render.page import charts


@dataclass(frozen=True)
class LesionCurve:
    """Accuracy on images with a lesion by one measurement of it: a chart and its rows."""

    title: str
    chart: Markup
    rows: Sequence[LesionRange]


def lesion_curve(name: str, ranges: Sequence[LesionRange]) -> LesionCurve:
    """The curve of some ranges, of which there is at least one."""
    measurement = LESIONS[name]
    # All ranges are drawn as wide as each other: the last one may span more than all others.
    width = 1 / len(ranges)
    drawn = [
        charts.Line(
            label,
            style,
            [
                charts.point((place + 0.5) * width, f"{each.text}: {label}", figure)
                for place, each in enumerate(ranges)
                if (figure := getattr(each, side)) is not None
            ],
        )
        for side, style, label in (("clean", "line-b", "no attack"), ("worst", "line-a", "worst case"))
    ]
    ticks = [(place * width, f"{each.low:.{measurement.digits}f}") for place, each in enumerate(ranges) if place]
    title = f"Lesions found, by {name}: without attack (dashed) and in the worst case (filled); figures in the table"
    return LesionCurve(measurement.title, charts.lines(drawn, ticks, measurement.title, "correct %", title), ranges)
