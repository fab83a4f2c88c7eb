"""Progress on stderr: bars and a live view on a terminal, otherwise a few lines for a log."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from robustbench_med.cli import console as style
from robustbench_med.cli.progress.live import LiveGrid
from robustbench_med.cli.progress.log import GridLog, TaskLog
from robustbench_med.progress import Grid, Task


class RichProgress:
    """Opens bars that may overlap, and a view of a run below them. Finished bars stay, except those within a run.

    Args:
        console: where to draw; the default is stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or style.err
        self._live: Live | None = None
        self._bars: Progress | None = None
        self._grid: LiveGrid | None = None
        self._open = 0

    def task(self, description: str, total: int) -> Task:
        """A bar of ``total`` steps, shown while its context is open."""
        return _Bar(self, description, total) if self.console.is_terminal else TaskLog(self.console, description, total)

    def grid(self, total: int) -> Grid:
        """A view of a run of ``total`` cells, shown while its context is open."""
        return LiveGrid(self, total) if self.console.is_terminal else GridLog(self.console, total)

    def enter(self, grid: LiveGrid | None = None) -> Progress:
        """Join the display, which starts it if nothing is shown yet; returns its bars."""
        if self._live is None or self._bars is None:
            # Never started by itself: it is drawn as a part of the display.
            self._bars = _bars(self.console)
            self._live = Live(
                console=self.console,
                get_renderable=self._frame,
                refresh_per_second=5,
                # Results may be piped while bars are drawn; they must not be redirected to the bars' stream.
                redirect_stdout=False,
            )
            self._live.start()
        self._grid = grid or self._grid
        self._open += 1
        return self._bars

    def leave(self, grid: LiveGrid | None = None, bar: TaskID | None = None) -> None:
        """Leave the display; when nothing is left it stops, and its bars stay on the screen."""
        assert self._live is not None
        assert self._bars is not None
        if grid is not None:
            self._grid = None
        if bar is not None and self._grid is not None:
            self._bars.remove_task(bar)
        self._open -= 1
        if self._open == 0:
            self._live.stop()
            self._live = self._bars = None

    def _frame(self) -> Group:
        bars = [self._bars] if self._bars is not None and self._bars.tasks else []
        return Group(*bars, *([self._grid] if self._grid is not None else []))


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
        auto_refresh=False,
    )


class _Bar:
    def __init__(self, owner: RichProgress, description: str, total: int) -> None:
        self.owner, self.description, self.total = owner, description, total

    def __enter__(self) -> _Bar:
        self.display = self.owner.enter()
        self.id = self.display.add_task(self.description, total=self.total, note="")
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        if note:
            self.display.update(self.id, advance=steps, note=note)
        else:
            self.display.update(self.id, advance=steps)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.display.stop_task(self.id)
        self.owner.leave(bar=self.id)
