"""Robust accuracy against the gradients that the attacks have spent: whether more of them would break more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from robustbench_med.leaderboard.render.page import charts
from robustbench_med.leaderboard.render.page.figures import count, percent
from robustbench_med.records.record import Record


def saturation(records: Sequence[Record]) -> Markup | None:
    """The curve of each record of a ladder, the first one filled; None where they hold fewer than three points."""
    curves = [points for record in records if len(points := list(_points(record))) > 2]
    if not curves:
        return None
    most = max(points[-1][0] for points in curves) or 1.0
    drawn = [
        charts.Line("", "line-d thin", path=[(spent / most, left) for spent, left, _ in points])
        for points in curves[1:]
    ]
    marks = [
        charts.Point(spent / most, left, f"{name}, {count(spent)}: {percent(left)} %")
        for spent, left, name in curves[0]
    ]
    drawn.append(charts.Line("", "line-a thin", marks))
    ticks = [(share, count(round(share * most))) for share in (0, 0.25, 0.5, 0.75, 1)]
    title = "Robust accuracy against gradients spent on an image; each attacker's figure is in the table"
    return charts.lines(drawn, ticks, "gradients spent per image", "still correct %", title)


def _points(record: Record) -> Iterator[tuple[float, float, str]]:
    """Gradients for each image of the cell so far, what remains robust, and after which attack."""
    clean = record.metrics.get("clean_accuracy")
    if not record.attack.is_ladder or not record.n or clean is None:
        return
    yield 0.0, clean, "no attack"
    spent = 0.0
    for rung in record.rungs:
        if rung.left is None:
            continue
        for each in rung.rounds[:-1]:
            yield spent + each.gradients, each.withstanding, rung.rung
        spent += rung.gradients_mean * rung.attacked / record.n
        yield spent, rung.left, rung.rung
