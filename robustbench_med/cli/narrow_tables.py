"""A table for a narrow terminal: it leaves out columns, and says which, before it breaks a name or a figure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

#: Width that text with spaces is folded to at least; narrower, it would be a word a line.
PROSE = 24
#: After which signs names go on in a new line: at first, and where that is not enough.
ENDS = (",", ",:", ",:=")


class FittingTable(Table):
    """A table whose columns are left out, one after the other, until the rest fits the width.

    Names go on in a new line after a comma; those of the first column only where they would take more than half the
    width. Where the columns that stay (the first, and those in `keep`) do not fit, they also do after a colon, and
    then after an equals sign. Words are never broken otherwise, unless these do not fit either.
    """

    keep: Sequence[str] = ()
    first_to_go: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, and below it what was left out."""
        every = list(self.columns)
        self.columns = [_gives_way(column, options.max_width) for column in every]
        for column in self._order(list(self.columns)):
            if self._space() + sum(map(_least, self.columns)) <= options.max_width:
                break
            self.columns.remove(column)
        kept = list(self.columns)
        narrowed = self._narrowed(kept, options.max_width - self._space())
        # rich takes the padding of a column from its number, also where columns before it are gone.
        self.columns = [replace(column, _index=at) for at, column in enumerate(narrowed)]
        try:
            yield from super().__rich_console__(console, options)
        finally:
            self.columns = every
        stayed = {"", *map(_heading, kept)}
        names = [name for name in map(_heading, every) if name not in stayed]
        if names:
            yield Text(f"left out in {options.max_width} columns: {', '.join(names)}", style="dim")

    def _order(self, columns: Sequence[Column]) -> Iterable[Column]:
        """The columns that may be left out, the least important first."""
        free = [column for column in columns[1:] if _heading(column) not in self.keep]
        named = [column for name in self.first_to_go for column in free if _heading(column) == name]
        return [*named, *(column for column in reversed(free) if column not in named)]

    def _space(self) -> int:
        """The width of what is between the columns."""
        _, right, _, left = self.padding
        between = len(self.columns) - 1
        return (left + right + (self.box is not None)) * between

    def _narrowed(self, columns: Sequence[Column], room: int) -> list[Column]:
        """The columns with widths that fit: the widest of those that can be folded gives way."""
        ends = ENDS[0]
        if sum(map(_least, columns)) > room:  # names are folded: a column that must not be would lose letters
            columns = [replace(column, no_wrap=column.justify == "right") for column in columns]
            fitting = (ends for ends in ENDS if sum(_least(column, ends) for column in columns) <= room)
            ends = next(fitting, ENDS[-1])
        least, widths = [_least(column, ends) for column in columns], list(map(_whole, columns))
        if sum(least) > room:
            return list(columns)
        if sum(widths) <= room:
            return list(columns)
        while sum(widths) > room:
            widest = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at]))
            widths[widest] -= 1
        return [
            replace(
                column,
                width=width,
                _cells=[_folded(cell, width, ends) for cell in column.cells] if _folds(column) else column._cells,
            )
            for column, width in zip(columns, widths, strict=True)
        ]


def _gives_way(column: Column, width: int) -> Column:
    """A column of names that would take more than half the width is folded, so that others need not be left out."""
    return replace(column, no_wrap=False) if _whole(column) > width // 2 and column.justify != "right" else column


def _heading(column: Column) -> str:
    return str(column.header)


def _texts(column: Column) -> list[str]:
    return [_heading(column), *(cell.plain if isinstance(cell, Text) else str(cell) for cell in column.cells)]


def _whole(column: Column) -> int:
    """The width at which nothing is folded."""
    return max(map(cell_len, _texts(column)))


def _least(column: Column, ends: str = ENDS[0]) -> int:
    """The width at which no word is broken; names go on in a new line after one of ``ends``."""
    if column.no_wrap:
        return _whole(column)
    texts = _texts(column)
    words = (word for text in texts for word in (_words(text, ends) if _folds(column) else text.split()))
    prose = PROSE if any(" " in text for text in texts[1:]) else 0
    return max(max(map(cell_len, words), default=0), min(_whole(column), prose))


def _folds(column: Column) -> bool:
    """Whether it holds names and prose; figures, such as intervals, stay in a line."""
    return column.justify != "right" and not column.no_wrap


def _words(text: str, ends: str) -> list[str]:
    """What stays in a line: ``shielded:jpeg,quality=50`` may go on after the comma."""
    return [word for word in re.split(rf"(?<=[{ends}])(?=\S)|\s+", text) if word]


def _folded(cell: RenderableType, width: int, ends: str) -> RenderableType:
    """The cell with line breaks after ``ends`` where its words are too long; rich breaks lines at spaces by itself."""
    if not isinstance(cell, str | Text):
        return cell
    plain, breaks, used = cell.plain if isinstance(cell, Text) else cell, [], 0
    for found in re.finditer(rf"[^\s{ends}]*(?:[{ends}]+|\s+|$)", plain):
        word = cell_len(found[0].rstrip())
        if used + word > width:
            used = 0
            if found.start() and plain[found.start() - 1] in ends:
                breaks.append(found.start())
        used += cell_len(found[0])
    if isinstance(cell, Text):
        return Text("\n").join(cell.divide(breaks)) if breaks else cell
    return "\n".join(cell[start:stop] for start, stop in zip([0, *breaks], [*breaks, len(cell)], strict=True))
