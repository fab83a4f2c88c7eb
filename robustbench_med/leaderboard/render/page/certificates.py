"""Certified and attacked accuracy together: what no attack in L2 can take, and what one left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robustbench_med.interfaces.plural import plural
from robustbench_med.leaderboard.board import Board
from robustbench_med.leaderboard.entry import Entry, Figure
from robustbench_med.leaderboard.render.page import charts
from robustbench_med.records.record import Record


@dataclass(frozen=True)
class Certificates:
    """Certified accuracy over the radius, of the first record that holds it: a chart and its rows.

    Attributes:
        told: how it was certified.
        rows: radius, certified accuracy, and the accuracy that an attack of this size left; None where there was none.
    """

    told: str
    chart: Markup
    rows: Sequence[tuple[str, Figure, Figure | None]]


def certificates(board: Board, others: Sequence[tuple[Board, Entry]], records: Sequence[Record]) -> Certificates | None:
    """Of a row's records; ``others`` are rows of the same system, whose worst case in L2 is shown beside it.

    None where nothing was certified.
    """
    found = next((record.certified for record in records if record.certified is not None), None)
    if found is None or not found.curve:
        return None
    same = [
        (each.eps, row.worst)
        for each, row in others
        if row.worst is not None and each.norm == "l2" and (each.digest, each.goal) == (board.digest, board.goal)
    ]
    attacked = sorted(dict(same).items())
    certified = [(point.radius, Figure(point.accuracy, point.low, point.high)) for point in found.curve]
    chart = together({"": certified}, {"": attacked})
    rows: list[tuple[str, Figure, Figure | None]] = [(f"{at:.3g}", figure, None) for at, figure in certified]
    # An attack of some size is held against the certificate of the next larger radius: a lower bound of both.
    for eps, figure in attacked:
        beyond = next((at for at, (radius, _) in enumerate(certified) if radius >= eps), None)
        if beyond is not None:
            rows.append((f"{eps:.3g}", certified[beyond][1], figure))
    told = (
        f"By {found.method}: noise of {found.sigma:g}, {found.n:,} samples of each image; a certificate does not hold "
        f"with a chance of {found.alpha:g} at most. Median radius {found.median:.3g}; nothing was certified for "
        f"{plural(found.abstained, 'image')}."
    )
    return Certificates(told, chart, sorted(rows, key=lambda row: float(row[0])))


def together(
    certified: Mapping[str, Sequence[tuple[float, Figure]]], attacked: Mapping[str, Sequence[tuple[float, Figure]]]
) -> Markup:
    """A chart of certified accuracy over the radius and of what attacks left at theirs, by the name of the system.

    Names stand in the legend where there are several systems. One that is only attacked has a line of its own.
    """
    every = [*certified.values(), *attacked.values()]
    most = max((radius for points in every for radius, _ in points), default=0.0) or 1.0
    several = len({*certified, *attacked}) > 1
    drawn = []
    for label, found in (("certified", certified), ("attacked", attacked)):
        for at, (name, points) in enumerate(found.items()):
            style = (
                "line-c" if label == "certified" else "line-a" if name in certified else "line-e"
            ) + " thin" * bool(at)
            title = f"{name}, {label}" if several else label
            drawn.append(
                charts.Line(
                    title, style, [charts.point(at_ / most, f"{at_:.3g}: {title}", each) for at_, each in points]
                )
            )
    ticks = [(value / most, f"{value:g}") for value in round_ticks(most)]
    title = "Certified accuracy against the L2 radius, and the worst case of attacks in L2; figures in the table"
    return charts.lines([line for line in drawn if line.points], ticks, "radius (L2)", "accuracy %", title)


def round_ticks(most: float) -> list[float]:
    """Round numbers from 0 to at most ``most`` > 0 at equal distances, six or fewer: if possible up to ``most``."""
    power = 10.0 ** math.floor(math.log10(most))
    steps = [power * each for each in (0.2, 0.25, 0.5, 1, 2, 2.5)]
    found = [[at * step for at in range(int(most / step * (1 + 1e-9)) + 1)] for step in steps]
    return max((each for each in found if len(each) <= 6), key=lambda each: (math.isclose(each[-1], most), len(each)))
