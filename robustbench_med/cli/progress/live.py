"""The view of a run on a terminal: finished cells scroll up, and below them is the state of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from robustbench_med.cli.progress.state import (
    COLOURS,
    RunningCell,
    RunState,
    duration,
    finished_line,
    shortened,
    summary,
)
from robustbench_med.interfaces.plural import plural

#: Running cells that are shown; the others are counted.
SHOWN = 8
#: Cells with a line of their own when they end; of the others there may be thousands, and they are counted.
PRINTED = ("ok", "failed")


class Display(Protocol):
    """Where the view is drawn, together with the bars that are open."""

    console: Console

    def enter(self, grid: LiveGrid | None = None) -> object:
        """Start showing the view."""

    def leave(self, grid: LiveGrid | None = None) -> None:
        """Stop showing it."""


class LiveGrid(RunState):
    """The cells of one run.

    Args:
        owner: draws it.
        total: cells.
        clock: seconds, monotonic.
    """

    def __init__(self, owner: Display, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(total, clock)
        self.owner = owner

    def __enter__(self) -> LiveGrid:
        self.owner.enter(self)
        return self

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        """A cell ended."""
        cell = self.end(cell_id, status)
        if status in PRINTED:
            seconds = self.clock() - cell.began if cell else 0.0
            # A failure is printed in full; the title of the others is cut to one line.
            short = title if status == "failed" else shortened(title, max(20, self.owner.console.width - 38))
            self.owner.console.print(finished_line(short, status, reason, resumed, cell, seconds), soft_wrap=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.owner.leave(self)
        self.owner.console.print(summary(self, stopped=kind is not None))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        running = list(self.running.values())
        parts: list[RenderableType] = [Text(""), self._whole(options.max_width)]
        if running:
            parts.append(self._cells(running[:SHOWN], options.max_width))
        if len(running) > SHOWN:
            parts.append(Text(f"and {len(running) - SHOWN} more", style="dim"))
        yield Group(*parts)

    def _whole(self, width: int) -> RenderableType:
        """Counts, a bar over all cells, pace and time left."""
        counts = Text("   ").join(_counts(self))
        facts = [f"{pace:.3g} images/s" if (pace := self.pace()) is not None else "", duration(self.elapsed)]
        facts += [f"about {duration(left)} left" if (left := self.left()) is not None else ""]
        line = Table.grid(padding=(0, 2))
        line.add_row(
            _bar(self.share(), 1.0, min(40, width // 3)),
            Text(f"{self.over()} of {plural(self.total, 'cell')}"),
            Text("   ".join(filter(None, facts)), style="dim"),
        )
        return Group(line, counts)

    def _cells(self, cells: list[RunningCell], width: int) -> Table:
        made = Table.grid(padding=(0, 2))
        made.add_column(no_wrap=True)
        for _ in range(2):
            made.add_column(no_wrap=True, justify="right")
        made.add_column(no_wrap=True)
        for cell in cells:
            robust = "" if cell.robust is None else f"{100 * cell.robust:.1f} %"
            made.add_row(
                _bar(cell.done, max(1, cell.images), 16),
                Text(f"{cell.done}/{cell.images}", style="dim"),
                Text(robust, style="bold"),
                Text(shortened(cell.title, max(20, width - 42))),
            )
        return made


def _bar(done: float, total: float, width: int) -> ProgressBar:
    return ProgressBar(total, done, width, style="bright_black", complete_style="cyan", finished_style="green")


def _counts(state: RunState) -> Iterator[Text]:
    for status, number in (
        ("ok", state.ended["ok"]),
        ("running", len(state.running)),
        ("failed", state.ended["failed"]),
        ("skipped", state.ended["skipped"]),
        ("done", state.ended["done"]),
    ):
        if number or status in ("ok", "running"):
            name = "done before" if status == "done" else status
            yield Text.assemble((f"{number} ", COLOURS[status]), (name, "dim"))
    if any(cell.robust is not None for cell in list(state.running.values())):
        yield Text("%: robust accuracy so far", style="dim")
