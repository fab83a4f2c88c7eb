"""What the page of a study shows, whatever the format: tables of figures, and how to measure them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustbench_med.interfaces.rate import percent
from robustbench_med.leaderboard.entry import Figure


@dataclass(frozen=True)
class Cell:
    """A text, or a share with its interval, a smaller line, and whether nothing in its column is better."""

    text: str = ""
    figure: Figure | None = None
    small: str = ""
    best: bool = False


def share(figure: Figure | None) -> Cell:
    """A share in percent, with its interval."""
    return Cell(percent(figure.value) if figure else "", figure)


def number(value: float | None, form: str = ",.0f") -> Cell:
    """A number; nothing for None."""
    return Cell("" if value is None else format(value, form))


def points(value: float | None) -> Cell:
    """A difference of shares, in points."""
    return Cell(percent(value))


@dataclass(frozen=True)
class Column:
    """A heading, what it means in a sentence, and its name on the command line, where it has one."""

    heading: str
    meaning: str = ""
    spec: str = ""


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        name: what it is of, as on the command line.
        title: the same for people; "" where there is no other name.
        small: more of it.
        bar: its chart, as HTML; "" for none.
        cells: in the order of the columns.
        control: it must show nothing, or everything: what the others are held against.
        rank, tied: where rows are ranked, and how many others are not significantly different; None for no rank.
    """

    name: str
    cells: Sequence[Cell]
    small: str = ""
    bar: str = ""
    control: bool = False
    rank: int | None = None
    tied: int = 0
    title: str = ""


@dataclass(frozen=True)
class Titles:
    """Names for people of what is in records.

    Attributes:
        known: of systems, attacks and data sets, by the name on the command line.
    """

    known: Mapping[str, str] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """The name for people; that of the command line where there is no other."""
        return self.known.get(name) or name

    def other(self, name: str) -> str:
        """The name for people, where it is another one, else ""."""
        found = self.of(name)
        return "" if found == name else found

    def both(self, name: str) -> str:
        """The name for people with that of the command line behind it."""
        found = self.other(name)
        return f"{found} ({name})" if found else name

    def board(self, title: str) -> str:
        """The title of a board, which begins with its data set."""
        name = max((name for name in self.known if title.startswith(name)), key=len, default="")
        return (self.of(name) + title.removeprefix(name)).replace(") (synthetic)", ", synthetic)")


@dataclass(frozen=True)
class Table:
    """A table with a heading.

    Attributes:
        title, told: what was measured, on how many images of how many patients.
        head: above the names.
        columns: all but the names and bars.
        lines: its rows.
        chart: above it, as HTML; "" for none.
        again: name and commands of what is measured again together.
    """

    title: str
    told: str
    head: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    chart: str = ""
    again: Sequence[tuple[str, Sequence[str]]] = ()

    @property
    def ranked(self) -> bool:
        """Whether rows have ranks."""
        return any(line.rank for line in self.lines)


@dataclass(frozen=True)
class Study:
    """The page of a study.

    Attributes:
        id: names its file.
        title, question: what it is about.
        learned: what a reader learns from these records, in a sentence; the door to it on the overview.
        read: how to read it, a sentence each.
        tables: what was measured.
        measured: commands that the records were measured with.
        docs: its page of the documentation.
        facts: each row as plain values, shares in [0, 1], for CSV and JSON.
    """

    id: str
    title: str
    question: str
    learned: str
    read: Sequence[str]
    tables: Sequence[Table]
    measured: Sequence[str] = ()
    docs: str = ""
    facts: Sequence[dict[str, Any]] = field(default=(), repr=False)

    @property
    def chart(self) -> str:
        """The first chart of its tables; "" for none."""
        return next((table.chart for table in self.tables if table.chart), "")


def figure_facts(name: str, figure: Figure | None) -> dict[str, float | None]:
    """A share and its interval as columns."""
    low, high = (figure.interval if figure else None) or (None, None)
    return {name: figure.value if figure else None, f"{name}_low": low, f"{name}_high": high}
