"""Progress where there is no terminal: a few complete lines for a log."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from robustbench_med.cli.progress.state import RunState, duration, finished_line, summary
from robustbench_med.interfaces.plural import plural

#: Seconds between two lines on a running cell.
HEARTBEAT = 60.0


class TaskLog:
    """A task: one line when it starts and one when it ends.

    Args:
        console: where to write.
        description: its name.
        total: steps.
    """

    def __init__(self, console: Console, description: str, total: int) -> None:
        self.console, self.description, self.total = console, description, total
        self.done, self.note = 0, ""

    def __enter__(self) -> TaskLog:
        self.started = time.monotonic()
        self._print(f"{self.description}: {plural(self.total, 'step')}")
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count; the last note is shown at the end."""
        self.done += steps
        self.note = note or self.note

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        verb = "done" if kind is None else "stopped"
        note = f", {self.note}" if self.note else ""
        seconds = time.monotonic() - self.started
        self._print(f"{self.description}: {verb}, {self.done} of {self.total} in {seconds:.1f} s{note}")

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


class GridLog(RunState):
    """The cells of a run: one line for each that ends, and every minute one on the running cells.

    Args:
        console: where to write.
        total: cells.
        clock: seconds, monotonic.
    """

    def __init__(self, console: Console, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(total, clock)
        self.console = console
        self._printed = self.clock()

    def __enter__(self) -> GridLog:
        return self

    def advanced(self, cell_id: str, images: int, robust: float | None) -> None:
        """Some of its images are done."""
        super().advanced(cell_id, images, robust)
        if self.clock() - self._printed >= HEARTBEAT:
            self._print(Text(self._progress()))

    def finished(self, cell_id: str, title: str, status: str, reason: str | None, resumed: bool) -> None:
        """A cell ended."""
        cell = self.end(cell_id, status)
        if status == "done":  # there may be thousands; the last line counts them
            return
        total = str(self.total)
        number = f"[{self.over():>{len(total)}}/{total}] "
        seconds = self.clock() - cell.began if cell else 0.0
        self._print(Text(number).append_text(finished_line(title, status, reason, resumed, cell, seconds)))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._print(summary(self, stopped=kind is not None))

    def _progress(self) -> str:
        cells = [
            f"{cell.title} {cell.done}/{cell.images}"
            + (f" robust {100 * cell.robust:.1f} %" if cell.robust is not None else "")
            for cell in self.running.values()
        ]
        pace, left = self.pace(), self.left()
        facts = [
            f"{self.over()} of {plural(self.total, 'cell')}",
            f"{pace:.3g} images/s" if pace is not None else "",
            f"about {duration(left)} left" if left is not None else "",
        ]
        return f"{', '.join(filter(None, facts))}; running: {'; '.join(cells)}"

    def _print(self, line: Text) -> None:
        self._printed = self.clock()
        self.console.print(line, soft_wrap=True)
