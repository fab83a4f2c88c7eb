"""Output of the command line: results on stdout, errors and progress on stderr; ``NO_COLOR`` is respected."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.narrow_tables import FittingTable
from robustbench_med.files import escaping
from robustbench_med.interfaces.plural import plural


class PlainConsole(Console):
    """A console on which no text is a command: only our own styles reach the terminal.

    Records, plugins and file names hold text of others: escape sequences are left out, and controls that turn the
    direction of writing are shown.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `rich.console.Console`."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else escaping.lines(text), style, control)


def _console(stderr: bool) -> Console:
    console = PlainConsole(stderr=stderr, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 120  # a pipe has no width of its own, and 80 columns would fold most summaries
    return console


#: Rows up to which a table is drawn; more are written as `Lines`.
MANY = 500
out = _console(stderr=False)
err = _console(stderr=True)


#: What is written where the encoding of the output lacks a character of ours.
_PLAIN = str.maketrans("█▓▒░━─│\N{MINUS SIGN}\N{EN DASH}—→", "#=-.--|--->")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    r"""Bars and lines as ASCII characters of the same width, other characters (of names) as ``\u0142``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error("rbmed", _replaced)


def write_anything() -> None:
    """Let every text be written whatever the encoding of the console: a name never ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="rbmed")


def table(
    *columns: str,
    title: str = "",
    right: tuple[str, ...] = (),
    keep: Sequence[str] = (),
    first_to_go: Sequence[str] = (),
) -> FittingTable:
    """An empty table; the first column is emphasised and never folded, those named in ``right`` are aligned right.

    Where they do not fit, columns are left out: those of ``first_to_go``, then from the right, never those of ``keep``.
    """
    made = FittingTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    made.keep, made.first_to_go = keep, first_to_go
    made.title, made.title_justify = Text(title, style="bold") if title else None, "left"  # it is not read as markup
    for at, name in enumerate(columns):
        made.add_column(
            Text(name),
            style="cyan" if at == 0 else None,
            no_wrap=at == 0 or name in right,
            justify="right" if name in right else "left",
            overflow="fold",
        )
    return made


class Lines:
    """A table or list of so many rows that a `Table` would take minutes: columns are aligned and never folded."""

    def __init__(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
        self.title, self.columns, self.rows = title, tuple(columns), rows
        self.right = [name in right for name in columns]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """The whole as text."""
        columns = list(zip(self.columns, *self.rows, strict=True))
        wide = [max(map(len, column)) for column in columns]
        ways = [str.rjust if right else str.ljust for right in self.right]

        def text(cells: Sequence[str]) -> str:
            return "  ".join(way(cell, width) for way, cell, width in zip(ways, cells, wide, strict=True)).rstrip()

        title = f"{self.title}\n" if self.title else ""
        yield Segment(f"{title}{text(self.columns)}\n", Style(bold=True))
        yield Segment("".join(f"{text(cells)}\n" for cells in self.rows))


def filled(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: tuple[str, ...],
    keep: Sequence[str] = (),
    first_to_go: Sequence[str] = (),
    dim: Collection[int] = (),
) -> FittingTable | Lines:
    """A `table` of these rows, close together, some of them ``dim``; as `Lines` where they are too many to be drawn."""
    if len(rows) > MANY:
        return Lines(title, columns, rows, right)
    made = table(*columns, title=title, right=right, keep=keep, first_to_go=first_to_go)
    made.padding = (0, 1, 0, 0)
    for at, each in enumerate(rows):
        row(made, *each, style="dim" if at in dim else "")
    return made


def telling_apart(columns: Sequence[str], rows: Sequence[Sequence[str]], but: Sequence[str]) -> list[str]:
    """The columns, ``but`` these, in which rows of one defense differ: without them no one can tell which is which."""
    of: dict[str, list[Sequence[str]]] = {}
    for each in rows:
        of.setdefault(each[columns.index("defense")], []).append(each)
    differ = {at for alike in of.values() for at, cells in enumerate(zip(*alike, strict=True)) if len(set(cells)) > 1}
    return [columns[at] for at in sorted(differ) if columns[at] not in but]


def show_table(made: Table | Lines) -> None:
    """Print a table on stdout."""
    out.print(made, soft_wrap=isinstance(made, Lines), end="" if isinstance(made, Lines) else "\n")


def row(made: Table, *cells: object, style: str = "") -> None:
    """Add a row of plain text: it is not read as markup."""
    made.add_row(*(Text(str(cell)) for cell in cells), style=style or None)


def facts(pairs: Mapping[str, object]) -> Table:
    """Names and values without lines, empty values left out."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in ("", None, ()):
            made.add_row(Text(name), Text(str(value)))
    return made


def heading(name: str, summary: str) -> Text:
    """A name and its summary."""
    return Text.assemble((name, "bold cyan"), "  ", summary)


def plain(line: str) -> None:
    """One line on stdout, never folded; it is not read as markup."""
    out.print(Text(line), soft_wrap=True)


def notes(lines: Sequence[str], most: int = 8) -> None:
    """Indented lines below a cell; of a long list the first ones."""
    for line in lines[:most]:
        plain(f"           {line}")
    if len(lines) > most:
        plain(f"           and {plural(len(lines) - most, 'more difference')} (--json shows all)")


def emit_json(value: Any) -> None:
    """Machine output on stdout, never folded or coloured."""
    print(json.dumps(value, indent=2, default=str))


def error(message: str) -> None:
    """One line on stderr."""
    _line("error: ", "bold red", message)


def warn(message: str) -> None:
    """One line on stderr."""
    _line("warning: ", "bold yellow", message)


def note(message: str) -> None:
    """One line on stderr."""
    _line("note: ", "bold cyan", message)


def _line(label: str, style: str, message: str) -> None:
    err.print(Text.assemble((label, style), escaping.line(message)), soft_wrap=True)
