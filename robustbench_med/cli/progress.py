"""Progress bars on stderr; where that is no terminal, one line when a task starts and one when it ends."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from robustbench_med.cli import style
from robustbench_med.progress import Grid, Silent, Task


class RichProgress:
    """Opens bars that may overlap; finished ones stay on the screen.

    Args:
        console: where to draw; the default is stderr.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or style.err
        self._display: Progress | None = None
        self._open = 0

    def task(self, description: str, total: int) -> Task:
        """A bar of ``total`` steps, shown while its context is open."""
        return _Bar(self, description, total) if self.console.is_terminal else _Lines(self.console, description, total)

    def grid(self, total: int) -> Grid:
        """Cells are not shown one by one."""
        return Silent().grid(total)

    def enter(self) -> Progress:
        """Join the display, starting it for the first bar."""
        if self._display is None:
            self._display = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left", style="dim"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", style="dim", markup=False),
                console=self.console,
                # Results may be piped while bars are drawn; they must not be redirected to the bars' stream.
                redirect_stdout=False,
            )
            self._display.start()
        self._open += 1
        return self._display

    def leave(self) -> None:
        """Leave the display; the last bar to leave stops it, and what it shows stays."""
        self._open -= 1
        if self._open == 0 and self._display is not None:
            self._display.stop()
            self._display = None


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.stop_task(self.id)
        self.owner.leave()


class _Lines:
    def __init__(self, console: Console, description: str, total: int) -> None:
        self.console, self.description, self.total = console, description, total
        self.done, self.note = 0, ""

    def __enter__(self) -> _Lines:
        self.started = time.monotonic()
        self._say(f"{self.description}: {self.total} steps")
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.note = note or self.note

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        verb = "done" if kind is None else "stopped"
        note = f", {self.note}" if self.note else ""
        seconds = time.monotonic() - self.started
        self._say(f"{self.description}: {verb}, {self.done} of {self.total} in {seconds:.1f} s{note}")

    def _say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)
