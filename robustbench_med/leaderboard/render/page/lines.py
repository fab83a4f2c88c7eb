"""Rows of the tables of a row's page, as HTML.

There is a page for each of thousands of rows, and a template takes several times as long for a row of figures. What is
not a number is escaped here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from robustbench_med.files.escaping import escape_html
from robustbench_med.leaderboard.entry import Entry, Figure
from robustbench_med.leaderboard.render.page import charts, texts
from robustbench_med.leaderboard.render.page.columns import Shown
from robustbench_med.leaderboard.render.page.confusion import Confusion
from robustbench_med.leaderboard.render.page.figures import DASH, breakable, count, interval, percent, share

if TYPE_CHECKING:
    from robustbench_med.leaderboard.render.page.details import Page
from robustbench_med.records.summary import images_and_patients, images_of


def attackers(page: Page) -> Markup:
    """A line for clean images, and for each attacker: what it left, what it was given, and what it spent.

    Those that did not run come last, one line for each reason.
    """
    return _joined(_attackers(page))


def _attackers(page: Page) -> Iterator[str]:
    clean = page.entry.clean
    if clean is not None:
        bar = charts.interval_bar(clean, "clean")
        figures = f"<td>{percent(clean.value)}<td><td><td><td>"
        yield f"<tr><th>no attack<small>clean images</small><td>{bar}{figures}"
    left_out: dict[str, list[str]] = {}
    for rung, before, figure in page.ladder:
        if rung.reason and rung.withstanding is None:
            left_out.setdefault(rung.reason, []).append(rung.name)
            continue
        name, spec = page.people.attacker(rung)
        code = f"<code>{breakable(spec)}</code>; " if spec else ""
        head = f"<tr><th>{breakable(name)}<small>{code}{escape_html(texts.RUNGS.get(rung.access, ''))}</small>"
        figures = "<td>".join(map(count, (rung.attacked, rung.broken, rung.gradients, rung.queries)))
        bar = charts.interval_bar(figure, "worst", before)
        yield f"{head}<td>{bar}<td>{percent(rung.withstanding)}<td>{figures}"
    for reason, names in left_out.items():
        why = escape_html(reason.replace("`", ""))  # names are in backquotes on a terminal
        yield f"<tr><th>{breakable(', '.join(names))}<td colspan=6 class=why>not run: {why}"


def clients(entry: Entry) -> Markup:
    """A line for each client: clean, under the worst case with its interval, images and patients."""
    lines = []
    for client, found in entry.per_client.items():
        clean, worst = found.get("clean"), found.get("worst")
        mark = "<small>worst</small>" if client == entry.worst_client else ""
        bar = charts.interval_bar(worst, "worst", clean.value if clean else None)
        lines.append(
            f"<tr><th>{escape_html(client)}{mark}<td>{bar}<td>{share(clean)}<td>{bounded(worst)}"
            f"<td>{_images(entry, client)}"
        )
    return _joined(lines)


def over_eps(page: Page, page_of: Callable[[Entry], str]) -> Markup:
    """A line for each eps at which the system was measured."""
    assert page.eps is not None
    lines = []
    for board, other in page.eps.rows:
        name = escape_html(board.eps_text)
        head = name if other.id == page.entry.id else f'<a href="{escape_html(page_of(other))}">{name}</a>'
        images = images_of(other.images, other.patients)
        lines.append(
            f"<tr><th>{head}<td>{share(other.clean)}<td>{share(other.claim)}<td>{bounded(other.worst)}"
            f"<td class=t>{escape_html(other.ladder)}, {images}"
        )
    return _joined(lines)


def pairs(rows: Iterable[tuple[str, Figure | None, Figure | None]]) -> Markup:
    """Lines of a name and a figure without and under attack, each with its interval."""
    return _joined(
        f"<tr><th>{escape_html(name)}<td>{bounded(clean)}<td>{bounded(attacked)}" for name, clean, attacked in rows
    )


def confusion(side: Confusion) -> Markup:
    """Predictions by truth."""
    lines = []
    for truth, cells in side.rows:
        line = [f"<tr><th>{escape_html(truth)}"]
        for cell in cells:
            style = " class=right" if cell.right else " class=wrong" if cell.share >= 0.005 else ""
            line.append(f"<td{style}>{cell.text}<small>{percent(cell.share)} %</small>")
        lines.append("".join(line))
    return _joined(lines)


def facts(rows: Iterable[tuple[str, str]]) -> Markup:
    """Lines of a name and a text."""
    return _joined(f"<tr><th>{escape_html(name)}<td>{escape_html(text)}" for name, text in rows)


def detector(rows: Iterable[tuple[str, str, str]]) -> Markup:
    """Lines of a name, a figure and its interval or ""."""
    return _joined(
        f"<tr><th>{name}<td>{text}{f'<small>{bounds}</small>' if bounds else ''}" for name, text, bounds in rows
    )


def roc(points: Iterable[tuple[float, Sequence[float]]]) -> Markup:
    """Lines of a share of clean images, and what is flagged of attacked ones."""
    return _joined(
        f"<tr><th>{percent(most)} %<td>{'<td>'.join(percent(share) for share in found)}" for most, found in points
    )


def provenance(rows: Iterable[tuple[str, Sequence[tuple[str, str]]]]) -> Markup:
    """Lines of a fact and its values, each with the cells that it is of where it is not of all."""
    lines = []
    for name, values in rows:
        told = [
            f"{escape_html(text)} <small>{cells}</small>" if cells and name != "Cell" else escape_html(text)
            for text, cells in values
        ]
        lines.append(f"<tr><th>{name}<td>{'<br>'.join(told)}")
    return _joined(lines)


def cells(columns: Sequence[Shown], entry: Entry) -> Markup:
    """The cells of a row of a board."""
    out = []
    for column in columns:
        cell = column.cell(entry)
        value = f' data-v="{escape_html(cell.sorted_by)}"' if cell.sorted_by else ""
        small = f"<small>{escape_html(cell.small)}</small>" if cell.small else ""
        out.append(f"<td class={column.style}{value}>{escape_html(cell.text)}{small}")
    return _joined(out)


def bounded(figure: Figure | None) -> str:
    """A share in percent, its interval below."""
    bounds = interval(figure)
    return f"{share(figure)}<small>{bounds}</small>" if bounds else share(figure)


def _images(entry: Entry, client: str) -> str:
    """``16/12, too few``: images and patients."""
    found = entry.client_images.get(client)
    if found is None:
        return DASH
    return images_and_patients(found.images, found.patients) + (", too few" if found.few else "")


def _joined(lines: Iterable[str]) -> Markup:
    return Markup("\n".join(lines))
